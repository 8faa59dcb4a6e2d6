//! `safari rollout`: brings a version of a model to serving replicas step by step, or takes it away again.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use model_registry::client::{Client, Source};
use platform::config::Config;
use rollout::fleet::{Place, Target};
use rollout::plan::{Changes, parse_time};
use rollout::{Access, Event, NewRollout, Pace, Phase, Plan, Rollout, RolloutId, Rollouts, Tokens, store};
use url::Url;

use crate::credentials;
use crate::error::{Error, Result};
use crate::model::table::{Table, moment, short};
use crate::model::{Format, asked, print_json, source};
use crate::runs::print;
use crate::signals::Signals;

const NOTES: &str = "A rollout is kept in the state database. Commands drive it to its end unless another process does; whoever \
is killed in the middle is replaced: by `safari server`, or by `safari rollout resume ID`. Replicas follow the alias \
(`safari serve --model models:/NAME@ALIAS`); tokens for them are those of `safari login` or SAFARI_TOKEN.";

#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct RolloutArgs {
    /// The registry to ask [default: registry.url, MLFLOW_TRACKING_URI, or this machine's registry without a server]
    #[arg(long, global = true, value_name = "URL")]
    registry: Option<String>,
    #[command(subcommand)]
    command: RolloutCommand,
}

#[derive(Debug, Subcommand)]
enum RolloutCommand {
    /// Bring a version to the replicas of an alias step by step, then move the alias to it
    Start(Box<StartArgs>),
    /// Show how rollouts stand, or one with what happened to it
    Status(StatusArgs),
    /// Let a rollout stay at its step; it is watched still
    Pause(TurnArgs),
    /// Let a rollout go on, and drive it if nobody does
    Resume(DriveArgs),
    /// Take the candidate away again
    Abort(DriveArgs),
    /// Let the alias name the version before again
    Undo(DriveArgs),
}

#[derive(Debug, Args)]
struct StartArgs {
    /// The version, such as wildlife/8 or wildlife@challenger
    #[arg(value_name = "MODEL", value_parser = source)]
    target: Source,
    /// The alias that the replicas follow
    #[arg(long, value_name = "ALIAS", default_value = "champion")]
    alias: String,
    /// A replica, such as http://127.0.0.1:8080; may be given several times. A name with several addresses is several replicas
    #[arg(long, value_name = "URL")]
    replica: Vec<Url>,
    #[command(flatten)]
    kubernetes: KubernetesArgs,
    /// A file with steps and limits [default: the usual ones]
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Percents of the requests, such as 5,25,50,100
    #[arg(long, value_name = "PERCENTS", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=100))]
    steps: Option<Vec<u8>>,
    /// How long each step is watched, such as 60s
    #[arg(long, value_name = "TIME", value_parser = time)]
    pause: Option<Duration>,
    /// How much longer a step may wait for replicas and for enough answers
    #[arg(long, value_name = "TIME", value_parser = time)]
    patience: Option<Duration>,
    /// Share of the candidate's answers that may fail, such as 0.01
    #[arg(long, value_name = "SHARE")]
    max_error_rate: Option<f64>,
    /// 99 of 100 answers of the candidate come within this time, such as 500ms
    #[arg(long, value_name = "TIME", value_parser = time)]
    max_p99: Option<Duration>,
    /// Population stability index between the scores of the two versions, such as 0.25
    #[arg(long, value_name = "INDEX")]
    max_drift: Option<f64>,
    /// With fewer answers of the candidate nothing is judged
    #[arg(long, value_name = "N")]
    min_answers: Option<u64>,
    /// The Prometheus server that has counted what the candidate is judged by [default: rollout.prometheus, or the replicas
    /// themselves]
    #[arg(long, value_name = "URL")]
    prometheus: Option<String>,
    /// What its series must fit, such as 'namespace="safari"'
    #[arg(long, value_name = "MATCHERS")]
    prometheus_match: Option<String>,
    /// Who asks [default: the user of this machine]
    #[arg(id = "actor", long = "as", value_name = "NAME")]
    name: Option<String>,
    /// Only write it down; `safari server` or `safari rollout resume` drives it
    #[arg(long)]
    detach: bool,
}

#[derive(Debug, Args)]
struct KubernetesArgs {
    /// A Deployment of Kubernetes in the place of replicas by their addresses
    #[arg(long, value_name = "NAME", conflicts_with = "replica")]
    deployment: Option<String>,
    /// Its namespace [default: kubernetes.namespace, or that of the pod or of the kubeconfig]
    #[arg(long, value_name = "NAME", requires = "deployment")]
    namespace: Option<String>,
    /// The Service of its pods [default: the Deployment's name]
    #[arg(long, value_name = "NAME", requires = "deployment")]
    service: Option<String>,
    /// The HTTPRoute that sends requests to the Service [default: the Deployment's name]
    #[arg(long, value_name = "NAME", requires = "deployment")]
    route: Option<String>,
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// The rollout [default: the newest ones]
    #[arg(value_name = "ID")]
    id: Option<RolloutId>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// How it is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
struct TurnArgs {
    /// The rollout
    #[arg(value_name = "ID")]
    id: RolloutId,
    /// Why; written down
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, Args)]
struct DriveArgs {
    #[command(flatten)]
    turn: TurnArgs,
    /// Only write it down; whoever drives the rollout does it
    #[arg(long)]
    detach: bool,
}

/// Does what the command says.
pub(crate) async fn run(args: RolloutArgs, config: Config) -> Result<ExitCode> {
    let config = asked(config, args.registry)?;
    match args.command {
        RolloutCommand::Start(args) => start(*args, &config).await,
        RolloutCommand::Status(args) => status(args, &config).await,
        RolloutCommand::Pause(TurnArgs { id, reason }) => {
            let paused = open(&config).await?.pause(id, &said(reason, "paused by hand")).await?;
            print(&line(&paused))
        }
        RolloutCommand::Resume(DriveArgs { turn, detach }) => {
            let rollouts = open(&config).await?;
            let now = rollouts.resume(turn.id, &said(turn.reason, "goes on by hand")).await?;
            let end = match now.phase {
                Phase::Aborting => Phase::Aborted,
                Phase::Undoing => Phase::Undone,
                _ => Phase::Promoted,
            };
            drive(&rollouts, turn.id, detach, end).await
        }
        RolloutCommand::Abort(DriveArgs { turn, detach }) => {
            let rollouts = open(&config).await?;
            rollouts.abort(turn.id, &said(turn.reason, "aborted by hand")).await?;
            drive(&rollouts, turn.id, detach, Phase::Aborted).await
        }
        RolloutCommand::Undo(DriveArgs { turn, detach }) => {
            let rollouts = open(&config).await?;
            rollouts.undo(turn.id, &said(turn.reason, "undone by hand")).await?;
            drive(&rollouts, turn.id, detach, Phase::Undone).await
        }
    }
}

/// Tokens for replicas: those that this program keeps.
pub(crate) fn tokens(config: &Config) -> Tokens {
    let home = config.home.clone();
    Tokens::new(move |server| credentials::token_for(server.to_owned(), &home))
}

async fn open(config: &Config) -> Result<Rollouts> {
    Ok(Rollouts::open(config, tokens(config)).await?)
}

async fn start(args: StartArgs, config: &Config) -> Result<ExitCode> {
    let plan = match &args.plan {
        None => Plan::default(),
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|_| Error::MissingPath(file.clone()))?;
            Plan::parse(&file.display().to_string(), &text)?
        }
    };
    let plan = plan.with(&Changes {
        steps: args.steps,
        pause: args.pause,
        patience: args.patience,
        max_error_rate: args.max_error_rate,
        max_p99: args.max_p99,
        max_drift: args.max_drift,
        min_answers: args.min_answers,
        prometheus: args.prometheus,
        prometheus_match: args.prometheus_match,
    })?;
    let fleet = place(args.replica, args.kubernetes, &plan)?;
    let client = Client::open(config).await?;
    let version = client.find_version(&args.target).await?;
    let store = store::Store::open(&config.state_address()).await?;
    let rollouts = Rollouts::new(store, client, Access::of(config, tokens(config))?, Pace::default());
    let person = || ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let begun = rollouts
        .start(&NewRollout {
            model: version.name.clone(),
            alias: args.alias,
            candidate: version.version,
            plan,
            fleet,
            actor: args.name.or_else(person).unwrap_or_else(|| "somebody".to_owned()),
            key: None,
        })
        .await?;
    print(&format!("rollout {}", begun.id))?;
    drive(&rollouts, begun.id, args.detach, Phase::Promoted).await
}

/// Where the flags say, else where the plan's file says.
fn place(replicas: Vec<Url>, kubernetes: KubernetesArgs, plan: &Plan) -> Result<Place> {
    let KubernetesArgs { deployment, namespace, service, route } = kubernetes;
    if let Some(deployment) = deployment {
        return Ok(Place::Kubernetes(Target { namespace, deployment, service, route }));
    }
    if !replicas.is_empty() {
        return Ok(Place::Replicas(replicas));
    }
    let none =
        || rollout::Error::Plan("no replica is named: give --replica http://HOST:PORT or --deployment NAME".to_owned());
    Ok(Place::Kubernetes(plan.kubernetes.clone().ok_or_else(none)?))
}

/// Follows a rollout to its end, telling what happens, and drives it whenever nobody else does.
async fn drive(rollouts: &Rollouts, id: RolloutId, detach: bool, wanted: Phase) -> Result<ExitCode> {
    if detach {
        return print(&line(&rollouts.store().get(id).await?));
    }
    let mut signals = Signals::new()?;
    let mut told = Ok(ExitCode::SUCCESS);
    let followed = rollouts.follow(id, |event| {
        if told.is_ok() {
            told = print(&event_line(event));
        }
    });
    let ended = tokio::select! {
        ended = followed => ended?,
        () = signals.next() => return Err(Error::RolloutLeft(id)),
    };
    told?;
    if ended.phase == wanted { Ok(ExitCode::SUCCESS) } else { Err(Error::RolloutFailed(line(&ended))) }
}

async fn status(args: StatusArgs, config: &Config) -> Result<ExitCode> {
    let store = store::Store::open(&config.state_address()).await?;
    let Some(id) = args.id else {
        let rollouts = store.list(args.limit).await?;
        if args.format == Format::Json {
            return print_json(&rollouts);
        }
        let mut table = Table::new(&["ID", "MODEL", "ALIAS", "FROM", "TO", "PHASE", "PERCENT", "SINCE", "WHY"]);
        for one in &rollouts {
            table.row(vec![
                one.id.to_string(),
                one.model.clone(),
                one.alias.clone(),
                one.stable.to_string(),
                one.candidate.to_string(),
                one.phase.to_string(),
                one.percent().to_string(),
                moment(one.updated_at),
                short(&one.note, 60),
            ]);
        }
        return print(&table.text());
    };
    let rollout = store.get(id).await?;
    let events = store.events(id, 0).await?;
    if args.format == Format::Json {
        return print_json(&serde_json::json!({ "rollout": rollout, "events": events }));
    }
    print(&line(&rollout))?;
    for event in &events {
        print(&event_line(event))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn line(rollout: &Rollout) -> String {
    let Rollout { id, model, alias, stable, candidate, phase, note, .. } = rollout;
    let at = if phase.is_end() { String::new() } else { format!(" at {} percent", rollout.percent()) };
    let why = if note.is_empty() { String::new() } else { format!(": {note}") };
    format!("rollout {id} of {model} for `{alias}`, version {candidate} after {stable}, is {phase}{at}{why}")
}

fn event_line(event: &Event) -> String {
    format!("{}  {:<9}  {}", moment(event.at), event.phase.as_str(), event.text)
}

fn said(reason: Option<String>, usual: &str) -> String {
    reason.filter(|reason| !reason.is_empty()).unwrap_or_else(|| usual.to_owned())
}

fn time(text: &str) -> std::result::Result<Duration, String> {
    parse_time(text).map_err(|error| error.to_string())
}
