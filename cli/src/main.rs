//! The `safari` program: a subcommand for each role. It wires the crates together and holds no logic of its own.

mod args;
mod asset;
mod attempt;
mod backend;
mod backfill;
mod backup;
mod cache;
mod config;
mod credentials;
mod dag;
mod detect;
mod error;
mod export;
mod history;
mod image;
mod kubernetes;
mod login;
mod logs;
mod migrate;
mod model;
mod progress;
mod registry;
mod registry_server;
mod rollout;
mod run;
mod runs;
mod serve;
mod server;
mod signals;
mod sql;
mod stream;
mod summary;
mod task;
mod token;
mod train;
mod user;
mod versions;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tokio::runtime::Runtime;

use args::{Args, Command};
use error::{Error, Result};

fn main() -> ExitCode {
    // Before any thread has an arena.
    detector::allocator::tune();
    let args = Args::parse();
    let code = match execute(args) {
        Ok(code) => code,
        // A reader that has seen enough (`safari sql … | head`) is no error.
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    };
    detector::process::leave(code)
}

fn execute(args: Args) -> Result<ExitCode> {
    if let Command::Completions { shell } = args.command {
        clap_complete::generate(shell, &mut Args::command(), "safari", &mut std::io::stdout());
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::Config { command: config::ConfigCommand::Sample } = args.command {
        return config::sample();
    }
    let configuration = args.configuration()?;
    if configuration.detector.gpu_memory_fraction < 1.0 {
        // This process has one thread yet.
        detector::device::limit_gpu_memory(configuration.detector.gpu_memory_fraction);
    }
    progress::start_logging(&configuration.log.level, registry::known_secrets(&configuration))?;
    if let Command::Train(options) = args.command {
        return train::run(options, &configuration);
    }
    let runtime = Runtime::new().map_err(Error::Runtime)?;
    runtime.block_on(async {
        // Half of a restoration is nothing that a command may see.
        backup::finish_interrupted(&configuration).await?;
        match args.command {
            Command::Run(run) => run::run(run, configuration).await,
            Command::Trigger(trigger) => runs::trigger(trigger, &configuration).await,
            Command::Backfill(backfill) => backfill::run(backfill, &configuration).await,
            Command::Asset { command } => asset::run(command, &configuration).await,
            Command::Attempt { command } => attempt::run(command, configuration).await,
            Command::Task { command } => task::run(command, &configuration).await,
            Command::Cache { command } => cache::run(command, &configuration).await,
            Command::Dag { command } => dag::run(command, configuration).await,
            Command::Stream { command } => stream::run(command, &configuration).await,
            Command::Logs(options) => logs::run(options, &configuration).await,
            Command::History { command } => history::run(command, &configuration).await,
            Command::Server(server) => server::server(server, configuration).await,
            Command::Api(api) => server::api(api, configuration).await,
            Command::Registry(registry) => registry_server::run(registry, &configuration).await,
            Command::Model(model) => model::run(model, configuration).await,
            Command::Image(options) => image::run(options, &configuration).await,
            Command::Rollout(options) => rollout::run(options, configuration).await,
            Command::User { command } => user::run(command, &configuration).await,
            Command::Token { command } => token::run(command, &configuration).await,
            Command::Roles(options) => user::roles(options),
            Command::Login(options) => login::run(options, &configuration).await,
            Command::Migrate(migrate) => migrate::run(migrate, &configuration).await,
            Command::Backup { command } => backup::run(command, configuration).await,
            Command::Restore(options) => backup::restore(options, &configuration).await,
            Command::Scheduler(scheduler) => server::scheduler(scheduler, configuration).await,
            Command::Worker(worker) => server::worker(worker, configuration).await,
            Command::Serve(serve) => serve::run(serve, configuration).await,
            Command::Detect(detect) => detect::detect(detect, configuration).await,
            Command::Sql(query) => sql::sql(query, &configuration).await,
            Command::Export(options) => export::export(options, &configuration).await,
            Command::Config { .. } => config::show(&configuration),
            Command::Train(_) | Command::Completions { .. } => Ok(ExitCode::SUCCESS),
        }
    })
}
