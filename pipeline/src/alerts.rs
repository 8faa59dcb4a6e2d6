//! Tells people and programs what happened in runs, as the `alerts` of a DAG say. A webhook is called by the job kind
//! `http`, a program run by `command`: what holds for tasks of these kinds holds for alerts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::clock::Timestamp;
use crate::dag::AlertTarget;
use crate::error::{Error, Result};
use crate::job::{Cancel, JobContext, JobRegistry, ProgressSink};
use crate::logs::{MaskedLog, TracingLog};
use crate::mask::KnownSecrets;
use crate::runner::{RunnerOptions, Secrets};
use crate::state::{DueAlert, Store, Told};
use crate::telemetry::trace;
use crate::template;

/// Alerts told at the same time.
const AT_ONCE: u32 = 16;
/// How long telling one may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// So often is one tried. The waits between grow from five seconds to some twenty minutes.
const MOST_TRIES: u32 = 8;
const FIRST_WAIT: Duration = Duration::from_secs(5);

/// Tells alerts. Any number of processes may: each alert is taken by one of them.
#[derive(Clone)]
pub struct Alerts {
    store: Store,
    registry: JobRegistry,
    secrets: Secrets,
    known_secrets: KnownSecrets,
    home: PathBuf,
    poll: Duration,
}

impl Alerts {
    /// Tells alerts with the jobs `http` and `command` of a registry.
    pub fn new(store: Store, registry: JobRegistry, options: &RunnerOptions) -> Self {
        let RunnerOptions { secrets, known_secrets, home, poll, .. } = options.clone();
        Self { store, registry, secrets, known_secrets, home, poll }
    }

    /// Tells what is due until `stop` is set. A database that fails now may do better later: it goes on.
    pub async fn serve(&self, mut stop: watch::Receiver<bool>) {
        let mut changed = self.store.changed();
        while !*stop.borrow_and_update() {
            let failed = match self.tell_due(Timestamp::now()).await {
                Ok(0) => false,
                Ok(_) => continue,
                Err(error) => {
                    warn!(%error, "alerts could not be told; they are tried again");
                    true
                }
            };
            tokio::select! {
                Ok(()) = changed.changed(), if !failed => {}
                Ok(()) = stop.changed() => {}
                // The scheduler looks as often for what becomes late.
                () = tokio::time::sleep(self.poll) => {}
            }
        }
    }

    /// Tells what is due at `now`, several at once; gives how many that were.
    ///
    /// # Errors
    /// When the database fails. An alert that cannot be told is no error: it is tried again, and given up in the end.
    pub async fn tell_due(&self, now: Timestamp) -> Result<usize> {
        let mut telling = JoinSet::new();
        for alert in self.store.due_alerts(now, AT_ONCE).await? {
            if self.store.take_alert(&alert, now.plus(PATIENCE * 2)).await? {
                let own = self.clone();
                telling.spawn(async move { own.tell(alert).await });
            }
        }
        let mut told = 0;
        while let Some(done) = telling.join_next().await {
            done.map_err(|error| Error::Corrupt { what: format!("an alert whose telling broke off ({error})") })??;
            told += 1;
        }
        Ok(told)
    }

    async fn tell(&self, alert: DueAlert) -> Result<()> {
        let event = alert.message.get("event").and_then(Value::as_str).unwrap_or_default().to_owned();
        let told = match self.call(&alert).await? {
            Ok(()) => {
                info!(run = %alert.run, event, "alert told");
                Told::Yes
            }
            Err(error) if alert.tries + 1 >= MOST_TRIES => {
                error!(run = %alert.run, event, error, "alert given up");
                Told::GivenUp { error }
            }
            Err(error) => {
                warn!(run = %alert.run, event, error, "alert not told, will be tried again");
                let wait = FIRST_WAIT * (1 << (2 * alert.tries.min(4)));
                Told::Again { error, at: Timestamp::now().plus(wait) }
            }
        };
        self.store.alert_told(alert.id, told, Timestamp::now()).await
    }

    /// Calls whom the alert names; the inner error says why that did not work.
    async fn call(&self, alert: &DueAlert) -> Result<std::result::Result<(), String>> {
        let plan = self.store.plan(alert.run).await?;
        let Some(entry) = plan.dag.alerts.get(alert.entry) else {
            return Ok(Err(format!("the dag has no alert {}", alert.entry)));
        };
        let secrets = self.secrets.of(&entry.secret_uses);
        let masker = self.known_secrets.learn(secrets.values().cloned());
        let scope = match plan.scope.with_secrets(&entry.secret_uses, &|name| secrets.get(name).cloned()) {
            Ok(scope) => scope,
            Err(error) => return Ok(Err(error)),
        };
        let (kind, with) = match &entry.target {
            AlertTarget::Webhook(url) => ("http", json!({ "url": url, "method": "POST", "output": "none" })),
            AlertTarget::Command(command) => ("command", json!({ "command": command, "output": "none" })),
        };
        let Some(job) = self.registry.get(kind) else {
            return Ok(Err(format!("this program has no job kind `{kind}`, which alerts need")));
        };
        let mut with = match template::render(&with, &scope) {
            Ok(with) => with,
            Err(error) => return Ok(Err(masker.mask(&error).into_owned())),
        };
        // Added after the rendering: what an error says is no template.
        match &entry.target {
            AlertTarget::Webhook(_) => with["body"] = alert.message.clone(),
            AlertTarget::Command(_) => with["stdin"] = Value::String(alert.message.to_string()),
        }
        let work_dir = self.home.join("runs").join(alert.run.to_string());
        std::fs::create_dir_all(&work_dir).map_err(|source| Error::home(work_dir.clone(), source))?;
        let (stop, cancel) = Cancel::new();
        let context = JobContext {
            run_id: alert.run,
            dag: plan.dag.name.clone(),
            task: "alert".to_owned(),
            map_index: None,
            attempt: alert.tries + 1,
            idempotency_key: format!("{}/alert/{}", alert.run, alert.id),
            traceparent: trace::traceparent(alert.run, "alert", None, alert.tries + 1),
            cancel,
            progress: ProgressSink::default(),
            work_dir,
            log: Arc::new(MaskedLog { log: Arc::new(TracingLog), masker: masker.clone() }),
            masker: masker.clone(),
        };
        let job = Arc::clone(&job);
        let told = tokio::time::timeout(PATIENCE, job.run(context, with)).await;
        drop(stop);
        Ok(match told {
            Ok(Ok(_)) => Ok(()),
            // It is kept in the state.
            Ok(Err(error)) => Err(masker.mask(&error.message).into_owned()),
            Err(_) => Err(format!("not told within {PATIENCE:?}")),
        })
    }
}
