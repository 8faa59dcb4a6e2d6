//! The same history on the real store: every call of the model is made there too, and its answers and rows are read in
//! the model's words.

use std::collections::BTreeMap;

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::super::*;
use super::check::Verdict;
use super::model::{Answer, AnswerOfRun, Asked, AskedOfRun, Claim};
use super::rows::{
    AttemptName, AttemptRow, DagRow, HOST, InstanceRow, PID, PoolRow, Rows, RunFacts, RunNumber, RunRow, Stopped,
};
use super::world::same;
use crate::scheduler::Scheduler;
use platform::database::Statement;

const RUNS: &str = "SELECT id, dag, cause, interval_start, interval_end, state, stop_at, stop_error, timeout_at,
    failures, error, started_at, finished_at FROM run WHERE dag IN ";
const INSTANCES: &str = "SELECT t.run_id, t.position, t.map_index, t.kind, t.state, t.ready_at, t.attempts, t.failed,
    t.lost_in_a_row, t.instances, t.output, t.failures, t.error, t.started_at, t.finished_at,
    a.number AS a_number, a.state AS a_state, a.owner_key AS a_owner, a.lease_until AS a_lease, a.finished_at AS a_end
    FROM task_instance t LEFT JOIN attempt a ON a.task_instance_id = t.id WHERE t.run_id IN ";

/// A history on a store, which may hold others that have ended.
#[derive(Debug)]
pub(super) struct Sql {
    store: Store,
    dags: Vec<Arc<Dag>>,
    /// By number.
    runs: Vec<RunId>,
    plans: BTreeMap<RunNumber, Arc<Plan>>,
    claims: BTreeMap<AttemptName, Claimed>,
    /// What a follower was told, and how far.
    told: BTreeMap<RunId, Vec<RunState>>,
    told_until: i64,
}

impl Sql {
    pub(super) async fn new(store: Store, dags: &[Arc<Dag>], pools: &[(&str, u32)], now: Timestamp) -> Self {
        for (name, slots) in pools {
            store.set_pool(name, *slots).await.unwrap();
        }
        for dag in dags {
            store.register(dag, now).await.unwrap();
        }
        let (runs, plans, claims) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self { store, dags: dags.to_vec(), runs, plans, claims, told: BTreeMap::new(), told_until: 0 }
    }

    pub(super) async fn create_run(&mut self, dag: usize, now: Timestamp) {
        let dag = Arc::clone(&self.dags[dag]);
        self.store.create_run(&dag, &dag.params(&[]).unwrap(), now).await.unwrap();
    }

    /// One scheduler does what is due, or two at once.
    pub(super) async fn pass(&mut self, now: Timestamp, two: bool) {
        let scheduler = || Scheduler::new(self.store.clone(), Duration::from_secs(30));
        let (one, other) = (scheduler(), scheduler());
        if two {
            let (a, b) = tokio::join!(one.pass(now), other.pass(now));
            a.and(b).unwrap();
        } else {
            one.pass(now).await.unwrap();
        }
    }

    pub(super) async fn make_scheduled(&mut self, dag: usize, interval: DataInterval, now: Timestamp) {
        let dag = Arc::clone(&self.dags[dag]);
        let params = dag.params(&[]).unwrap();
        self.store.create(&dag, &params, Origin::Schedule, Some(interval), now).await.unwrap();
        self.store.schedule_done(&dag.name, interval.end.into()).await.unwrap();
    }

    pub(super) async fn begin(&mut self, runs: &[RunNumber], now: Timestamp) {
        let mut steps = Vec::new();
        for run in runs {
            let plan = self.plan(*run).await;
            steps.push(RunStep { plan, begin: Begin::IfAllowed, lost: None, ended: Arc::default() });
        }
        let owner = Owner { host: String::new(), pid: PID, key: String::new() };
        let step = Step { owner, now, lease: Duration::ZERO, runs: steps, claim: ClaimRequest::default() };
        self.store.step(step).await.unwrap();
    }

    pub(super) async fn pause(&mut self, dag: usize) {
        self.store.pause(&self.dags[dag].name, true).await.unwrap();
    }

    pub(super) async fn stop(&mut self, run: RunNumber, now: Timestamp) {
        self.store.cancel(self.runs[run], now).await.unwrap();
    }

    pub(super) async fn reopen(&mut self, run: RunNumber, again: &Again, now: Timestamp) -> bool {
        match self.store.reopen(self.runs[run], again.clone(), now).await {
            Ok(_) => true,
            Err(Error::NothingFailed(_)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// The leases of living workers, renewed at once; what is still theirs.
    pub(super) async fn renew(&mut self, owners: &[String], now: Timestamp, lease: Duration) -> Vec<Vec<AttemptName>> {
        let renewals = owners.iter().map(|owner| self.store.renew(owner, now, lease));
        let kept = futures::future::try_join_all(renewals).await.unwrap();
        let name = |attempt: &AttemptId| {
            let claim = self.claims.iter().find(|(_, claim)| claim.attempt == *attempt);
            claim.map(|(name, _)| *name).expect("an attempt that somebody claimed")
        };
        let names = kept.iter().map(|kept| {
            let mut names: Vec<AttemptName> = kept.iter().map(name).collect();
            names.sort_unstable();
            names
        });
        names.collect()
    }

    pub(super) async fn runs_with_lost_attempts(&self, now: Timestamp) -> Vec<RunNumber> {
        self.numbers(self.store.runs_with_lost_attempts(now).await.unwrap())
    }

    pub(super) async fn runs_of_owner(&self, owner: &str) -> Vec<RunNumber> {
        self.numbers(self.store.runs_of_owner(owner).await.unwrap())
    }

    pub(super) async fn step(&mut self, asked: &Asked) -> Answer {
        let mut runs = Vec::new();
        for one in &asked.runs {
            runs.push(self.asked_of_run(one).await);
        }
        let step = Step {
            owner: Owner { host: HOST.to_owned(), pid: PID, key: asked.owner.clone() },
            now: asked.now,
            lease: asked.lease,
            runs,
            claim: ClaimRequest { free: asked.free, idle: asked.idle, ..ClaimRequest::default() },
        };
        let StepDone { runs, claimed, next_ready, .. } = self.store.step(step).await.unwrap();
        let runs = runs.into_iter().map(|run| {
            let lost = run.changes.iter().filter_map(|change| match change {
                Change::Lost { position, map_index, failed, .. } => Some((*position, *map_index, *failed)),
                _ => None,
            });
            let mut lost: Vec<_> = lost.collect();
            lost.sort_unstable();
            AnswerOfRun { counted: run.counted, lost, state: run.state }
        });
        let runs = runs.collect();
        let claimed = claimed.into_iter().map(|claim| self.keep(claim)).collect();
        Answer { runs, claimed, next_ready }
    }

    /// Compares every row with the model's. Of runs that `is_settled` only their own row is read.
    pub(super) async fn compare(
        &mut self,
        model: &Rows,
        told: &[Vec<RunState>],
        is_settled: impl Fn(RunNumber) -> bool,
    ) -> Verdict {
        let rows = self.read(&is_settled).await;
        same("the number of runs", &rows.runs.len(), &model.runs.len())?;
        for (number, (sql, model)) in rows.runs.iter().zip(&model.runs).enumerate() {
            same(&format!("run {number}"), &(sql.dag, &sql.facts), &(model.dag, &model.facts))?;
            if is_settled(number) {
                continue;
            }
            same(&format!("instances of run {number}"), &sql.instances.len(), &model.instances.len())?;
            for (sql, model) in sql.instances.iter().zip(&model.instances) {
                same(&format!("run {number}"), &sql.comparable(), &model.comparable())?;
            }
            if model.facts.state.is_finished() {
                self.hear().await;
                same(&format!("told of run {number}"), &self.told.get(&self.runs[number]), &Some(&told[number]))?;
            }
        }
        for (sql, model) in rows.dags.iter().zip(&model.dags) {
            let facts = |row: &DagRow| (row.dag.name.clone(), row.active_runs, row.paused, row.done_until);
            same("a dag", &facts(sql), &facts(model))?;
        }
        same("the pools", &rows.pools, &model.pools)
    }

    /// Finds runs that were made since the last time.
    pub(super) async fn find_runs(&mut self) {
        let query = self.of_dags(Statement::new("SELECT id FROM run WHERE dag IN "));
        let rows: Vec<(String,)> = query.query_as().fetch_all(self.store.pool()).await.unwrap();
        self.runs = rows.iter().map(|(id,)| id.parse().unwrap()).collect();
        // In the order of their making.
        self.runs.sort_unstable();
    }

    async fn plan(&mut self, run: RunNumber) -> Arc<Plan> {
        if !self.plans.contains_key(&run) {
            let plan = self.store.plan(self.runs[run]).await.unwrap();
            self.plans.insert(run, plan);
        }
        Arc::clone(&self.plans[&run])
    }

    fn numbers(&self, runs: Vec<RunId>) -> Vec<RunNumber> {
        let number = |run: RunId| self.runs.binary_search(&run).expect("a run of this history");
        let mut numbers: Vec<RunNumber> = runs.into_iter().map(number).collect();
        numbers.sort_unstable();
        numbers
    }

    async fn asked_of_run(&mut self, asked: &AskedOfRun) -> RunStep {
        let attempts = |names: &Vec<AttemptName>| {
            let attempts = names.iter().map(|name| self.claims[name].attempt);
            Arc::new(attempts.collect::<Vec<_>>())
        };
        let known = asked.known.as_ref().map(attempts);
        let lost = asked.most_lost.map(|most_in_a_row| LostRule { take_over: false, most_in_a_row, known, gone: None });
        let ended = asked.ended.iter().map(|(claim, end)| {
            let claim = self.claims[&claim.name].clone();
            Ended { claim, end: end.clone(), items: 0 }
        });
        let ended = Arc::new(ended.collect::<Vec<_>>());
        RunStep { plan: self.plan(asked.run).await, begin: asked.begin, lost, ended }
    }

    /// Keeps a claim under its name.
    fn keep(&mut self, claim: Claimed) -> Claim {
        let name = AttemptName {
            run: self.runs.binary_search(&claim.run).expect("a run of this history"),
            position: claim.position,
            map_index: claim.map_index,
            number: claim.number,
        };
        let (failed, alone, pool, slots) = (claim.failed, claim.alone, claim.pool.clone(), claim.slots);
        self.claims.insert(name, claim);
        Claim { name, failed, alone, pool, slots }
    }

    /// Follows the runs.
    async fn hear(&mut self) {
        self.store.place_changes().await.unwrap();
        for change in self.store.changes_after(self.told_until, 100_000).await.unwrap() {
            self.told_until = change.position;
            self.told.entry(change.run).or_default().push(change.state);
        }
    }

    fn of_dags(&self, mut query: Statement) -> Statement {
        query.row();
        for dag in &self.dags {
            query.text(dag.name.as_str());
        }
        query.end_row();
        query
    }

    async fn read(&mut self, is_settled: &impl Fn(RunNumber) -> bool) -> Rows {
        let mut runs = self.read_runs().await;
        let live: Vec<RunNumber> = (0..runs.len()).filter(|run| !is_settled(*run)).collect();
        if !live.is_empty() {
            let mut query = Statement::new(INSTANCES);
            query.row();
            for run in &live {
                query.text(self.runs[*run].to_string());
            }
            query.end_row().push(" ORDER BY t.run_id, t.position, t.map_index, a.number");
            for row in query.query().fetch_all(self.store.pool()).await.unwrap() {
                let run: RunId = row.text("run_id").parse().unwrap();
                let run = &mut runs[self.runs.binary_search(&run).unwrap()];
                let one = read_instance(&row);
                let is_new = run
                    .instances
                    .last()
                    .is_none_or(|last| (last.position, last.map_index) != (one.position, one.map_index));
                if is_new {
                    run.instances.push(one);
                }
                run.instances.last_mut().unwrap().tries.extend(read_attempt(&row));
            }
        }
        let query =
            self.of_dags(Statement::new("SELECT name, active_runs, paused, done_until FROM dag WHERE name IN "));
        let mut dags = Vec::new();
        for row in query.query().fetch_all(self.store.pool()).await.unwrap() {
            let dag = self.dags.iter().find(|dag| dag.name == row.text("name")).unwrap();
            dags.push(DagRow {
                dag: Arc::clone(dag),
                active_runs: row.number("active_runs") as u64,
                paused: row.number("paused") == 1,
                done_until: row.moment("done_until"),
            });
        }
        dags.sort_by(|a, b| a.dag.name.cmp(&b.dag.name));
        let pools = self.store.pools().await.unwrap().into_iter();
        let pools = pools.map(|(name, slots, used)| (name, PoolRow { slots: slots.into(), used: used.into() }));
        Rows { dags, runs, pools: pools.collect() }
    }

    async fn read_runs(&mut self) -> Vec<RunRow> {
        let query = self.of_dags(Statement::new(RUNS));
        let mut found = Vec::new();
        for row in query.query().fetch_all(self.store.pool()).await.unwrap() {
            let id: RunId = row.text("id").parse().unwrap();
            let stopped = row.moment("stop_at").map(|at| Stopped { at, error: row.maybe_text("stop_error") });
            let facts = RunFacts {
                cause: RunCause::read(&row.text("cause")).unwrap(),
                interval: row.maybe_number("interval_start").zip(row.maybe_number("interval_end")),
                state: RunState::read(&row.text("state")).unwrap(),
                stopped,
                timeout_at: row.moment("timeout_at"),
                failures: row.number("failures"),
                error: row.maybe_text("error"),
                started_at: row.moment("started_at"),
                finished_at: row.moment("finished_at"),
            };
            let dag = self.dags.iter().position(|dag| dag.name == row.text("dag")).unwrap();
            found.push((id, RunRow { dag, facts, instances: Vec::new() }));
        }
        // In the order of their making.
        found.sort_unstable_by_key(|(id, _)| *id);
        let (ids, runs) = found.into_iter().unzip();
        self.runs = ids;
        runs
    }
}

fn read_instance(row: &AnyRow) -> InstanceRow {
    InstanceRow {
        position: row.number("position") as usize,
        map_index: u32::try_from(row.number("map_index")).ok(),
        kind: InstanceKind::read(&row.text("kind")).unwrap(),
        state: TaskState::read(&row.text("state")).unwrap(),
        ready_at: row.moment("ready_at").unwrap(),
        attempts: row.number("attempts") as u32,
        failed: row.number("failed") as u32,
        lost_in_a_row: row.number("lost_in_a_row"),
        items: row.maybe_number("instances").map(|count| count as u64),
        output: row.maybe_text("output"),
        failures: row.number("failures"),
        error: row.maybe_text("error"),
        started_at: row.moment("started_at"),
        finished_at: row.moment("finished_at"),
        tries: Vec::new(),
        made: 0,
    }
}

/// The attempt beside an instance, if it has one.
fn read_attempt(row: &AnyRow) -> Option<AttemptRow> {
    Some(AttemptRow {
        number: row.maybe_number("a_number")? as u32,
        state: AttemptState::read(&row.text("a_state")).unwrap(),
        owner: row.text("a_owner"),
        lease_until: row.moment("a_lease").unwrap(),
        finished_at: row.moment("a_end"),
    })
}

/// Columns of a row.
trait Columns {
    fn maybe_text(&self, name: &str) -> Option<String>;
    fn maybe_number(&self, name: &str) -> Option<i64>;

    fn text(&self, name: &str) -> String {
        self.maybe_text(name).unwrap()
    }

    fn number(&self, name: &str) -> i64 {
        self.maybe_number(name).unwrap()
    }

    fn moment(&self, name: &str) -> Option<Timestamp> {
        self.maybe_number(name).map(Timestamp::from_millis)
    }
}

impl Columns for AnyRow {
    fn maybe_text(&self, name: &str) -> Option<String> {
        self.try_get(name).unwrap()
    }

    fn maybe_number(&self, name: &str) -> Option<i64> {
        self.try_get(name).unwrap()
    }
}
