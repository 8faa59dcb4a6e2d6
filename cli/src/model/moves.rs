//! `safari model promote`, `rollback`, `history` and `approve`: aliases, and who moved them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use jobs::Services;
use jobs::promote::{Wanted, promote as move_alias};
use model_registry::VersionNumber;
use model_registry::client::Source;
use model_registry::promotion::{ApprovalRequest, Expected, GateResult, Gates, Promotion, RollbackRequest};
use platform::config::Config;

use super::table::{Table, moment, short};
use super::{Format, open, print_json, source};
use crate::error::{Error, Result};
use crate::runs::print;

/// The alias of the version that is used.
const CHAMPION: &str = "champion";

const PROMOTE_NOTES: &str = "The alias is moved only if it still names what it named when the gates were looked at: of two \
people who promote at once one wins, and the other is told who. A refusal says which gate refused, with the numbers.";

#[derive(Debug, Args)]
#[command(after_help = PROMOTE_NOTES)]
pub(crate) struct PromoteArgs {
    /// The version, such as wildlife/7 or wildlife@challenger
    #[arg(value_name = "MODEL", value_parser = source)]
    target: Source,
    /// The alias
    #[arg(long, value_name = "ALIAS", default_value = CHAMPION)]
    to: String,
    /// A file of gates [default: none]
    #[arg(long, value_name = "FILE")]
    gates: Option<PathBuf>,
    #[command(flatten)]
    who: Who,
    /// How it is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// The registered model
    #[arg(value_name = "NAME")]
    name: String,
    /// The alias
    #[arg(long, value_name = "ALIAS", default_value = CHAMPION)]
    alias: String,
    #[command(flatten)]
    who: Who,
    /// How it is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The registered model
    #[arg(value_name = "NAME")]
    name: String,
    /// Only of this alias
    #[arg(long, value_name = "ALIAS")]
    alias: Option<String>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// How it is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// The version, such as wildlife/7
    #[arg(value_name = "MODEL", value_parser = source)]
    target: Source,
    /// The alias that it may get
    #[arg(long, value_name = "ALIAS", default_value = CHAMPION)]
    alias: String,
    /// Anything
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
    /// The role in which you say yes
    #[arg(long, value_name = "ROLE")]
    role: String,
    /// Who says yes [default: the user of this machine]
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
}

/// Who asks, and why.
#[derive(Debug, Args)]
pub(crate) struct Who {
    /// Why; written down with the move
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Who moves it [default: the user of this machine]
    #[arg(id = "actor", long = "as", value_name = "NAME")]
    name: Option<String>,
}

pub(crate) async fn promote(args: PromoteArgs, config: Config) -> Result<ExitCode> {
    let gates = match &args.gates {
        None => Gates::default(),
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|_| Error::MissingPath(file.clone()))?;
            Gates::parse(&file.display().to_string(), &text)?
        }
    };
    let client = open(&config, args.who.name.as_deref(), &[]).await?;
    let version = client.find_version(&args.target).await?;
    let wanted = Wanted {
        model: version.name.clone(),
        alias: args.to.clone(),
        version: version.version,
        gates,
        reason: args.who.reason,
    };
    let services = Arc::new(Services::new(config));
    match move_alias(&services, &client, &wanted).await? {
        Some(promotion) => tell(&promotion, args.format),
        None => print(&format!("alias {} of {} names version {} already", args.to, version.name, version.version)),
    }
}

pub(crate) async fn roll_back(args: RollbackArgs, config: &Config) -> Result<ExitCode> {
    let client = open(config, args.who.name.as_deref(), &[]).await?;
    let current = client.version_by_alias(&args.name, &args.alias).await?.map(|version| version.version);
    let request = RollbackRequest { alias: args.alias, expected: Expected::Is(current), reason: args.who.reason };
    tell(&client.roll_back(&args.name, &request).await?, args.format)
}

pub(crate) async fn history(args: HistoryArgs, config: &Config) -> Result<ExitCode> {
    let client = open(config, None, &[]).await?;
    let moves = client.promotions(&args.name, args.alias.as_deref(), args.limit).await?;
    if args.format == Format::Json {
        return print_json(&moves);
    }
    let mut table = Table::new(&["WHEN", "ALIAS", "WHAT", "FROM", "TO", "OUTCOME", "WHO", "WHY"]);
    for one in &moves {
        table.row(vec![
            moment(one.at),
            one.alias.clone(),
            word(&one.kind),
            number(one.from),
            number(one.to),
            word(&one.outcome),
            one.actor.clone(),
            short(&one.reason, 60),
        ]);
        for gate in &one.gates {
            table.row(vec![String::new(), String::new(), String::new(), String::new(), String::new(), seen(gate)]);
        }
    }
    print(&table.text())
}

pub(crate) async fn approve(args: ApproveArgs, config: &Config) -> Result<ExitCode> {
    let client = open(config, args.name.as_deref(), std::slice::from_ref(&args.role)).await?;
    let version = client.find_version(&args.target).await?;
    let request =
        ApprovalRequest { alias: args.alias, version: version.version, role: args.role, comment: args.comment };
    let approval = client.approve(&version.name, &request).await?;
    print(&format!(
        "{} approves of {}/{} for {} as {}",
        approval.actor, approval.model, approval.version, approval.alias, approval.role
    ))
}

fn tell(promotion: &Promotion, format: Format) -> Result<ExitCode> {
    if format == Format::Json {
        return print_json(promotion);
    }
    for gate in &promotion.gates {
        print(&seen(gate))?;
    }
    let Promotion { model, alias, .. } = promotion;
    print(&format!(
        "alias {alias} of {model} names version {}, before {}",
        number(promotion.to),
        number(promotion.from)
    ))
}

fn seen(gate: &GateResult) -> String {
    format!("{} {gate}", if gate.passed { "passed:" } else { "refused:" })
}

fn number(version: Option<VersionNumber>) -> String {
    version.map_or_else(|| "-".to_owned(), |version| version.to_string())
}

/// A word of the API, such as `promote`.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
