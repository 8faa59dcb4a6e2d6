//! `safari serve`: live detections.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use platform::config::Config;
use platform::database::Address;
#[cfg(feature = "torch")]
use {
    crate::credentials::{server_of, token_for},
    crate::signals::Signals,
    jobs::services::configured_device,
    platform::identity::Secret,
    platform::serve::Entrance,
    serving::{Options, Service},
    tokio::sync::watch,
    tracing::info,
};

use crate::error::Result;
use crate::registry_server::database;

const NOTES: &str = "Which model answers is said by --model (MODEL_PATH): models:/NAME@ALIAS or models:/NAME/VERSION of the \
registry, a model folder, a TorchScript .pt file with a signature beside it, or nothing for the one that is shipped. An alias \
is followed. The page at / shows what a photograph's answer looks like, and /openapi.json describes the API. SIGTERM and \
Ctrl-C let requests under way end and refuse new ones; a second one ends at once.";

#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct ServeArgs {
    /// Port 0 takes any free one; other addresses than loopback need identity [default: serve.listen]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// People's collections: sqlite:///PATH or postgres://USER:PASSWORD@HOST/DATABASE [default: collections.database]
    #[arg(long, value_name = "URL", value_parser = database)]
    collections: Option<Address>,
}

/// Says that this program has no networks.
#[cfg(not(feature = "torch"))]
pub(crate) async fn run(_args: ServeArgs, _config: Config) -> Result<ExitCode> {
    Err(detector::Error::NoNetworks.into())
}

/// Answers until it is told to end.
#[cfg(feature = "torch")]
pub(crate) async fn run(args: ServeArgs, config: Config) -> Result<ExitCode> {
    let mut options = Options::of(&config)?;
    options.listen = args.listen.unwrap_or(options.listen);
    if let (Some(address), Some(collections)) = (args.collections, &mut options.collections) {
        collections.database = address;
    }
    options.pipeline_token =
        options.pipeline.as_ref().and_then(|url| token_for(server_of(url), &config.home)).map(Secret::new);
    options.entrance = Entrance::of(&config).await?;
    let device = configured_device(&config)?;
    let mut signals = Signals::new()?;
    let (stop, stopped) = watch::channel(false);
    let service = Service::open(options, config, device).await?;
    tokio::spawn(async move {
        signals.next().await;
        info!("new requests are refused; those under way may end");
        stop.send_replace(true);
        // A second one does not wait for them.
        signals.next().await;
        std::process::exit(1);
    });
    service.run(stopped).await?;
    Ok(ExitCode::SUCCESS)
}
