//! The scheduler: makes runs when their time has come, lets queued runs begin, and stops those that take too long.
//!
//! It keeps nothing in memory that matters: every decision is a compare-and-set in the state database, so that any number
//! of schedulers may run at once and any of them may die.

mod folder;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

pub(crate) use folder::find_dag;
pub use folder::{DagFolder, Loaded};

use crate::clock::Timestamp;
use crate::dag::{Continuous, Dag, DagSchedule};
use crate::error::Result;
use crate::state::{BackfillRecord, Begin, ClaimRequest, DagRecord, Origin, Owner, RunStep, Step, Stop, Store};

/// Runs that one schedule makes in one pass: after a long pause with `catch_up` the others follow in the next passes.
const MOST_AT_ONCE: usize = 100;

/// Queued runs that begin in one pass.
const MOST_BEGIN: u32 = 500;

/// Runs that begin in one transaction.
const BEGIN_TOGETHER: usize = 50;

/// A pass that takes longer was asking on a connection that is dead. What it did stays done, and the next goes on.
const LONGEST_PASS: Duration = Duration::from_secs(300);

/// How long it waits after a failure of the database.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);

/// Decides when runs are made and begin.
#[derive(Clone, Debug)]
pub struct Scheduler {
    store: Store,
    /// How often it looks for what other processes did.
    poll: Duration,
}

impl Scheduler {
    /// A scheduler that looks at the database at least this often.
    pub fn new(store: Store, poll: Duration) -> Self {
        Self { store, poll }
    }

    /// Works until `stop` is set. A database that fails now may do better later: it goes on.
    pub async fn serve(&self, mut stop: watch::Receiver<bool>) {
        let mut changed = self.store.changed();
        while !*stop.borrow_and_update() {
            let now = Timestamp::now();
            let (wait, failed) = match tokio::time::timeout(LONGEST_PASS, self.pass(now)).await {
                Ok(Ok(next)) => (next.map_or(self.poll, |next| next.since(now).min(self.poll)), false),
                Ok(Err(error)) => {
                    warn!(%error, "the scheduler could not do its work; it tries again");
                    (PAUSE_AFTER_ERROR, true)
                }
                Err(_) => {
                    warn!("the scheduler had no answer for minutes; it begins anew");
                    (PAUSE_AFTER_ERROR, true)
                }
            };
            tokio::select! {
                Ok(()) = changed.changed(), if !failed => {}
                Ok(()) = stop.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Does everything that is due at `now`; gives when a schedule is due next.
    ///
    /// # Errors
    /// When the database fails. What was done before stays done.
    pub async fn pass(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        // Somebody may have just made one, and waits for it.
        self.begin_runs(now).await?;
        let made = self.store.changed();
        let next = self.make_scheduled_runs(now).await?;
        for backfill in self.store.running_backfills().await? {
            self.make_runs_of_backfill(backfill, now).await?;
        }
        self.stop_overdue_runs(now).await?;
        self.store.note_missed_deadlines(now).await?;
        if made.has_changed().unwrap_or(true) {
            self.begin_runs(now).await?;
        }
        Ok(next)
    }

    async fn make_scheduled_runs(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        let mut next: Option<Timestamp> = None;
        for record in self.store.dags().await? {
            if record.paused || record.file.is_none() {
                continue;
            }
            let dag = self.store.dag_version(record.version).await?;
            let due = match &dag.continuous {
                Some(continuous) => self.make_batches_of(&dag, continuous, now).await?,
                None => self.make_runs_of(&dag, &record, now).await?,
            };
            if let Some(due) = due {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        Ok(next)
    }

    /// Makes the runs that a schedule owes; gives when it owes the next.
    async fn make_runs_of(&self, dag: &Arc<Dag>, record: &DagRecord, now: Timestamp) -> Result<Option<Timestamp>> {
        let timetable = match &dag.schedule {
            DagSchedule::Time(timetable) => timetable,
            DagSchedule::Manual => return Ok(None),
            DagSchedule::AllAssets(assets) => {
                let updated = self.store.updated_assets(&dag.name).await?;
                let all = assets.iter().all(|asset| updated.contains(asset));
                self.make_run_of_assets(dag, if all { updated } else { Vec::new() }, now).await?;
                return Ok(None);
            }
            DagSchedule::AnyAsset(_) => {
                let updated = self.store.updated_assets(&dag.name).await?;
                self.make_run_of_assets(dag, updated, now).await?;
                return Ok(None);
            }
        };
        let done_until = record.done_until.map(Timestamp::time);
        let mut last = done_until;
        for interval in timetable.due(done_until, now.time()).take(MOST_AT_ONCE) {
            match dag.params(&[]) {
                Ok(params) => {
                    let made = self.store.create(dag, &params, Origin::Schedule, Some(interval), now).await?;
                    if let Some(run) = made {
                        info!(dag = dag.name, %run, start = %interval.start, end = %interval.end, "scheduled run made");
                    }
                }
                Err(error) => warn!(dag = dag.name, %error, "a scheduled run needs a default for every parameter"),
            }
            last = Some(interval.end);
            self.store.schedule_done(&dag.name, interval.end.into()).await?;
        }
        match timetable.next_due(last, now.time()) {
            Ok(due) => Ok(due.map(Timestamp::from)),
            Err(error) => {
                warn!(dag = dag.name, %error, "the schedule has no further tick");
                Ok(None)
            }
        }
    }

    /// Cuts what has come in for a continuous DAG into batches that are due; gives when the next will be.
    async fn make_batches_of(
        &self,
        dag: &Arc<Dag>,
        continuous: &Continuous,
        now: Timestamp,
    ) -> Result<Option<Timestamp>> {
        while let Some(due) = self.store.batch_due(&dag.name, continuous).await? {
            if due > now {
                return Ok(Some(due));
            }
            let params = match dag.params(&[]) {
                Ok(params) => params,
                Err(error) => {
                    warn!(dag = dag.name, %error, "a continuous dag needs a default for every parameter");
                    return Ok(None);
                }
            };
            let Some(run) = self.store.create(dag, &params, Origin::Stream, None, now).await? else { return Ok(None) };
            info!(dag = dag.name, %run, "batch made");
        }
        Ok(None)
    }

    /// Makes a run for updates of assets, if there are any. Further updates until then count as one.
    async fn make_run_of_assets(&self, dag: &Arc<Dag>, assets: Vec<String>, now: Timestamp) -> Result<()> {
        if assets.is_empty() {
            return Ok(());
        }
        let params = match dag.params(&[]) {
            Ok(params) => params,
            Err(error) => {
                warn!(dag = dag.name, %error, "a run started by assets needs a default for every parameter");
                return Ok(());
            }
        };
        let names = assets.join(", ");
        if let Some(run) = self.store.create(dag, &params, Origin::Assets(assets), None, now).await? {
            info!(dag = dag.name, %run, assets = names, "run made because of assets");
        }
        Ok(())
    }

    /// Makes as many runs of a backfill as may be active. Two schedulers at once try for the same intervals, so that
    /// together they make no more.
    async fn make_runs_of_backfill(&self, mut backfill: BackfillRecord, now: Timestamp) -> Result<()> {
        let dag = self.store.dag_version(backfill.version).await?;
        let mut room = backfill.max_active.saturating_sub(backfill.active);
        while room > 0 {
            let Some(interval) = backfill.next_interval(&dag) else {
                if backfill.active == 0 {
                    self.store.end_backfill(backfill.id, now).await?;
                    info!(backfill = %backfill.id, dag = dag.name, "backfill ended");
                }
                return Ok(());
            };
            let wanted = self.store.wants_backfill(&backfill, interval).await?;
            if wanted {
                let origin = Origin::Backfill(backfill.id);
                let made = self.store.create(&dag, &backfill.params, origin, Some(interval), now).await?;
                if let Some(run) = made {
                    info!(backfill = %backfill.id, %run, start = %interval.start, "run of a backfill made");
                }
                backfill.active += 1;
                room -= 1;
            }
            backfill.done_until = interval.end.into();
            self.store.backfill_done(backfill.id, backfill.done_until, !wanted).await?;
        }
        Ok(())
    }

    async fn stop_overdue_runs(&self, now: Timestamp) -> Result<()> {
        for run in self.store.overdue_runs(now).await? {
            let plan = self.store.plan(run).await?;
            let limit = plan.dag.timeout.unwrap_or_default();
            let error = format!("the run took longer than its `timeout` of {limit:?}");
            warn!(%run, dag = plan.dag.name, error, "run stopped");
            self.store.stop(plan, Stop { error: Some(error), now }).await?;
        }
        Ok(())
    }

    async fn begin_runs(&self, now: Timestamp) -> Result<()> {
        let runs = self.store.startable_runs(MOST_BEGIN).await?;
        // Steps need an owner only for the attempts that they claim; these claim none.
        let owner = Owner { host: String::new(), pid: std::process::id(), key: String::new() };
        for some in runs.chunks(BEGIN_TOGETHER) {
            let mut steps = Vec::with_capacity(some.len());
            for run in some {
                let plan = self.store.plan(*run).await?;
                steps.push(RunStep { plan, begin: Begin::IfAllowed, lost: None, ended: Arc::default() });
            }
            let step =
                Step { owner: owner.clone(), now, lease: Duration::ZERO, runs: steps, claim: ClaimRequest::default() };
            self.store.step(step).await?;
        }
        Ok(())
    }
}
