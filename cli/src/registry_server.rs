//! `safari registry`: the tracking and registry server, alone or as a part of `safari server`.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use model_registry::serve::{Options, Service};
use platform::config::Config;
use platform::database::Address;
use platform::object_store::Location;
use tokio::sync::watch;
use tracing::{error, info};

use crate::error::Result;
use crate::signals::Signals;

/// Where the registry listens if nobody says: MLflow's own port.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5000);

const NOTES: &str = "Clients of MLflow find it by MLFLOW_TRACKING_URI=http://127.0.0.1:5000. SIGTERM and Ctrl-C let answers \
under way end. On PostgreSQL run `safari migrate` first; SQLite's tables are brought up to date by themselves.";

#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct RegistryArgs {
    /// Loopback address; port 0 takes any free one [default: registry.listen]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    place: Place,
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

    pub(crate) fn artifacts(&self, config: &Config) -> Result<Location> {
        match &self.artifacts {
            Some(artifacts) => Ok(artifacts.clone()),
            None => Ok(Location::parse(&config.artifacts_url())?),
        }
    }
}

/// Answers until it is told to end.
pub(crate) async fn run(args: RegistryArgs, config: &Config) -> Result<ExitCode> {
    let listen = args.listen.or(config.registry.listen).unwrap_or(LISTEN);
    let options = Options { listen, database: args.place.database(config), artifacts: args.place.artifacts(config)? };
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
    service.run(stopped).await?;
    Ok(ExitCode::SUCCESS)
}

/// What `safari server` is to answer as a registry; none if it is not to.
pub(crate) fn options_of_server(given: &Option<String>, config: &Config) -> Result<Option<Options>> {
    let listen = match given.as_deref() {
        Some("off") => None,
        Some(address) => Some(address.parse().map_err(|_| crate::error::Error::Param(format!("registry={address}")))?),
        None => config.registry.listen,
    };
    let Some(listen) = listen else { return Ok(None) };
    let artifacts = Location::parse(&config.artifacts_url())?;
    Ok(Some(Options { listen, database: config.registry_address(), artifacts }))
}

/// Begins to answer beside other roles, until `stopped`.
pub(crate) async fn serving(options: &Options, stopped: watch::Receiver<bool>) -> Result<tokio::task::JoinHandle<()>> {
    let service = Service::open(options).await?;
    Ok(tokio::spawn(async move {
        if let Err(error) = service.run(stopped).await {
            error!(%error, "the registry has stopped");
        }
    }))
}

fn database(text: &str) -> std::result::Result<Address, String> {
    platform::config::database_address(text).ok_or_else(|| {
        "give sqlite:///absolute/path.db, sqlite:path.db or postgres://USER:PASSWORD@HOST/DATABASE".to_owned()
    })
}
