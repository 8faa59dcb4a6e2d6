//! `safari registry`: the tracking and registry server, alone or as a part of `safari server`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use clap::{Args, Subcommand};
use model_registry::gc::gc;
use model_registry::serve::{self, Options, Places, Service};
use pipeline::dag::parse_duration;
use platform::config::Config;
use platform::database::Address;
use platform::object_store::Location;
use platform::serve::Entrance;
use tokio::sync::watch;
use tracing::info;

use crate::error::{Error, Result};
use crate::model::{Format, print_json};
use crate::runs::print;
use crate::signals::Signals;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Where the registry listens if nobody says: MLflow's own port.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5000);

const NOTES: &str = "Clients of MLflow find it by MLFLOW_TRACKING_URI=http://127.0.0.1:5000. SIGTERM and Ctrl-C let answers \
under way end. On PostgreSQL run `safari migrate` first; SQLite's tables are brought up to date by themselves.";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = NOTES)]
pub(crate) struct RegistryArgs {
    /// Address; port 0 takes any free one [default: registry.listen]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Option<RegistryCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Remove what was deleted long ago: rows of runs, models and experiments, and their files
    Gc {
        /// How long ago it was deleted, such as 30d [default: registry.grace_days]
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        older_than: Option<Duration>,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
        /// How it is told
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        place: Place,
    },
}

/// Where tables and files are.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// sqlite:///PATH or postgres://USER:PASSWORD@HOST/DATABASE [default: registry.database]
    #[arg(long, value_name = "URL", value_parser = database)]
    database: Option<Address>,
    /// A folder, file:///PATH or s3://BUCKET/PREFIX [default: registry.artifacts]
    #[arg(long, value_name = "URL")]
    artifacts: Option<Location>,
}

impl Place {
    pub(crate) fn database(&self, config: &Config) -> Address {
        self.database.clone().unwrap_or_else(|| config.registry_address())
    }

    fn places(&self, config: &Config) -> Result<Places> {
        let mut places = Places::of(config)?;
        places.database = self.database(config);
        if let Some(artifacts) = &self.artifacts {
            places.artifacts = artifacts.clone();
        }
        Ok(places)
    }
}

/// Answers until it is told to end.
pub(crate) async fn run(args: RegistryArgs, config: &Config) -> Result<ExitCode> {
    if let Some(RegistryCommand::Gc { older_than, dry_run, format, place }) = args.command {
        return collect(older_than, dry_run, format, &place, config).await;
    }
    let listen = args.listen.or(config.registry.listen).unwrap_or(LISTEN);
    let options = Options { listen, entrance: Entrance::of(config).await?, places: args.place.places(config)? };
    let mut signals = Signals::new()?;
    let (stop, stopped) = watch::channel(false);
    let service = Service::open(&options).await?;
    tokio::spawn(async move {
        signals.next().await;
        info!("no more connections are taken");
        stop.send_replace(true);
        // A second one does not wait for answers under way.
        signals.next().await;
        std::process::exit(1);
    });
    service.run(stopped).await;
    Ok(ExitCode::SUCCESS)
}

/// What `safari server` is to answer as a registry; none if it is not to.
pub(crate) fn options_of_server(given: Option<&str>, entrance: &Entrance, config: &Config) -> Result<Option<Options>> {
    let listen = match given {
        Some("off") => None,
        Some(address) => Some(address.parse().map_err(|_| Error::NoRegistryAddress(address.to_owned()))?),
        None => config.registry.listen,
    };
    let Some(listen) = listen else { return Ok(None) };
    Ok(Some(Options { listen, entrance: entrance.clone(), places: Places::of(config)? }))
}

/// Removes what was deleted long ago, and what uploads that broke off a day ago left behind.
async fn collect(
    older_than: Option<Duration>,
    dry_run: bool,
    format: Format,
    place: &Place,
    config: &Config,
) -> Result<ExitCode> {
    let app = serve::open(&place.places(config)?).await?;
    let older_than = older_than.unwrap_or(DAY * config.registry.grace_days);
    let report = gc(&app.store, &app.artifacts, older_than, dry_run).await?;
    if !dry_run {
        let before = Utc::now() - TimeDelta::hours(serve::UPLOAD_HOURS);
        app.artifacts.clean(&app.store, before).await?;
    }
    match format {
        Format::Json => print_json(&report),
        Format::Table => {
            for kept in &report.kept {
                print(&format!("{} stays: {}", kept.what, kept.reason))?;
            }
            print(&report.to_string())
        }
    }
}

/// Begins to answer beside other roles, until `stopped`.
pub(crate) async fn serving(options: &Options, stopped: watch::Receiver<bool>) -> Result<tokio::task::JoinHandle<()>> {
    let service = Service::open(options).await?;
    Ok(tokio::spawn(service.run(stopped)))
}

pub(crate) fn database(text: &str) -> std::result::Result<Address, String> {
    platform::config::database_address(text).ok_or_else(|| {
        "give sqlite:///absolute/path.db, sqlite:path.db or postgres://USER:PASSWORD@HOST/DATABASE".to_owned()
    })
}
