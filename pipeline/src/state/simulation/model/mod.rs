//! The orchestrator in memory: the transitions of the module `state` and the scheduler's decisions on plain rows, plain
//! enough to be read and fast enough for thousands of histories. It asks the same functions for its decisions as the SQL
//! does; what the SQL says in its own words (which rows move, which attempts are lost, whose turn it is) is told again here.

mod run;

use serde_json::json;

use self::run::Transaction;
use super::super::claim::SUSPECT;
use super::super::pools::Room;
use super::super::rules::turn;
use super::super::*;
use super::rows::{AttemptName, AttemptRow, DagRow, InstanceRow, PoolRow, Rows, RunFacts, RunNumber, RunRow};
use crate::dag::DagSchedule;

/// The model, and what it remembers beside its rows.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) rows: Rows,
    /// What a follower of the runs is told, by run.
    pub(super) told: Vec<Vec<RunState>>,
    /// What templates know without outputs, by DAG.
    scopes: Vec<Scope>,
    /// Instances so far.
    made: u64,
    flaw: Option<Flaw>,
}

/// A mistake that is made on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// An answer counts though its attempt was given up.
    NoFencing,
    /// A lease that has run out is not taken for a death.
    NoLossIsSeen,
    /// A lost attempt keeps its slots.
    SlotsAreNotGivenBack,
    /// Tasks are claimed though their pool is full.
    PoolsOverflow,
    /// A task goes when one of those that it needs has ended.
    TooEarly,
    /// The last end of a task lets none go that comes after it.
    NothingFollows,
    /// Runs begin however many are active.
    TooManyRuns,
    /// Two schedulers make two runs for an interval.
    IntervalsTwice,
    /// A scheduler says that an interval is done whose run it has not made.
    IntervalsAreLost,
    /// The attempts of an instance that is done again begin with 1.
    NumbersGoBack,
    /// A task that was stopped is tried again.
    CancelledTasksGoOn,
    /// More items go than may at once.
    TooManyItems,
}

impl Flaw {
    pub(super) const ALL: [Self; 12] = [
        Self::NoFencing,
        Self::NoLossIsSeen,
        Self::SlotsAreNotGivenBack,
        Self::PoolsOverflow,
        Self::TooEarly,
        Self::NothingFollows,
        Self::TooManyRuns,
        Self::IntervalsTwice,
        Self::IntervalsAreLost,
        Self::NumbersGoBack,
        Self::CancelledTasksGoOn,
        Self::TooManyItems,
    ];
}

/// An attempt that is a worker's to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) name: AttemptName,
    /// Earlier attempts that count against the retries.
    pub(super) failed: u32,
    pub(super) alone: bool,
    pub(super) pool: Option<String>,
    pub(super) slots: i64,
}

/// What a worker asks: see [`Step`].
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) owner: String,
    pub(super) now: Timestamp,
    pub(super) lease: Duration,
    pub(super) runs: Vec<AskedOfRun>,
    pub(super) free: usize,
    pub(super) idle: bool,
}

/// What happens to one run in a step: see [`RunStep`].
#[derive(Debug)]
pub(super) struct AskedOfRun {
    pub(super) run: RunNumber,
    pub(super) begin: Begin,
    /// So many lost attempts in a row fail an instance; none: nothing is given up.
    pub(super) most_lost: Option<u32>,
    /// All attempts that the worker knows to be its own, if it is not sure.
    pub(super) known: Option<Vec<AttemptName>>,
    pub(super) ended: Vec<(Claim, End)>,
}

/// What came of a step.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) runs: Vec<AnswerOfRun>,
    pub(super) claimed: Vec<Claim>,
    pub(super) next_ready: Option<Timestamp>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct AnswerOfRun {
    pub(super) counted: Vec<bool>,
    /// Attempts that were lost, in order of their names, and whether that failed their instances.
    pub(super) lost: Vec<(usize, Option<u32>, bool)>,
    pub(super) state: RunState,
}

impl Model {
    /// Knows DAGs, in order of their names, and pools with their slots; nothing has happened yet.
    pub(super) fn new(dags: &[Arc<Dag>], pools: &[(&str, u32)], now: Timestamp, flaw: Option<Flaw>) -> Self {
        let row = |dag: &Arc<Dag>| DagRow {
            dag: Arc::clone(dag),
            active_runs: 0,
            paused: false,
            done_until: dag.schedule_begins(now.time()).map(Timestamp::from),
        };
        let pools = pools.iter().map(|(name, slots)| {
            let row = PoolRow { slots: i64::from(*slots), used: 0 };
            ((*name).to_owned(), row)
        });
        Self {
            rows: Rows { dags: dags.iter().map(row).collect(), runs: Vec::new(), pools: pools.collect() },
            told: Vec::new(),
            scopes: dags.iter().map(|_| Scope::new(&json!({}), &json!({}))).collect(),
            made: 0,
            flaw,
        }
    }

    /// Makes a run by hand.
    pub(super) fn create_run(&mut self, dag: usize, now: Timestamp) {
        let interval = self.rows.dags[dag].dag.interval_at(now.time());
        self.create(dag, RunCause::Manual, interval, now);
    }

    /// The intervals that schedules owe a run for.
    pub(super) fn due(&self, now: Timestamp) -> Vec<(usize, DataInterval)> {
        let mut due = Vec::new();
        for (at, row) in self.rows.dags.iter().enumerate() {
            if let (DagSchedule::Time(timetable), false) = (&row.dag.schedule, row.paused) {
                let intervals = timetable.due(row.done_until.map(Timestamp::time), now.time());
                due.extend(intervals.map(|interval| (at, interval)));
            }
        }
        due
    }

    /// Makes the run of an interval unless there is one, and notes that the schedule has come so far.
    pub(super) fn make_scheduled(&mut self, dag: usize, interval: DataInterval, now: Timestamp) {
        let is_there = self.rows.runs.iter().any(|run| {
            let of_interval = run.facts.interval.is_some_and(|(start, _)| start == interval.start.timestamp_millis());
            run.dag == dag && run.facts.cause == RunCause::Schedule && of_interval
        });
        let lost = self.has(Flaw::IntervalsAreLost) && self.made.is_multiple_of(3);
        if (!is_there || self.has(Flaw::IntervalsTwice)) && !lost {
            self.create(dag, RunCause::Schedule, interval, now);
        }
        let row = &mut self.rows.dags[dag];
        // Nothing is before everything.
        row.done_until = row.done_until.max(Some(interval.end.into()));
    }

    /// Queued runs whose DAG allows more active ones.
    pub(super) fn startable(&self) -> Vec<RunNumber> {
        let is_startable = |run: &RunRow| {
            let row = &self.rows.dags[run.dag];
            run.facts.state == RunState::Queued && row.active_runs < u64::from(row.dag.max_active_runs)
        };
        (0..self.rows.runs.len()).filter(|run| is_startable(&self.rows.runs[*run])).collect()
    }

    /// Lets queued runs begin as far as their DAGs allow.
    pub(super) fn begin(&mut self, runs: &[RunNumber], now: Timestamp) {
        let runs = runs.iter().map(|run| AskedOfRun {
            run: *run,
            begin: Begin::IfAllowed,
            most_lost: None,
            known: None,
            ended: Vec::new(),
        });
        let (owner, lease) = (String::new(), Duration::ZERO);
        self.step(&Asked { owner, now, lease, runs: runs.collect(), free: 0, idle: false });
    }

    /// A scheduler does everything that is due.
    pub(super) fn pass(&mut self, now: Timestamp) {
        for (dag, interval) in self.due(now) {
            self.make_scheduled(dag, interval, now);
        }
        for run in self.overdue(now) {
            let limit = self.rows.dags[self.rows.runs[run].dag].dag.timeout.unwrap_or_default();
            self.stop(run, Some(&format!("the run took longer than its `timeout` of {limit:?}")), now);
        }
        self.begin(&self.startable(), now);
    }

    /// Runs whose time is up.
    pub(super) fn overdue(&self, now: Timestamp) -> Vec<RunNumber> {
        let is_overdue = |run: &RunNumber| {
            let facts = &self.rows.runs[*run].facts;
            facts.state == RunState::Running
                && facts.stopped.is_none()
                && facts.timeout_at.is_some_and(|timeout| timeout <= now)
        };
        (0..self.rows.runs.len()).filter(is_overdue).collect()
    }

    /// Tells a run to stop; one that has ended, or was told before, stays as it is.
    pub(super) fn stop(&mut self, run: RunNumber, error: Option<&str>, now: Timestamp) {
        let facts = &self.rows.runs[run].facts;
        if !facts.state.is_finished() && facts.stopped.is_none() {
            Transaction::new(self, run, now).stop(error);
        }
    }

    /// Lets a run that has ended go on; false when nothing in it failed.
    pub(super) fn reopen(&mut self, run: RunNumber, again: &Again, now: Timestamp) -> bool {
        Transaction::new(self, run, now).reopen(again)
    }

    /// Takes a step.
    pub(super) fn step(&mut self, asked: &Asked) -> Answer {
        let mut runs = Vec::with_capacity(asked.runs.len());
        for one in &asked.runs {
            runs.push(Transaction::new(self, one.run, asked.now).step(&asked.owner, one));
        }
        let claimed = if asked.free > 0 { self.claim(asked) } else { Vec::new() };
        let next_ready = if asked.free > 0 && claimed.is_empty() { self.next_ready(asked.now) } else { None };
        Answer { runs, claimed, next_ready }
    }

    /// Renews the leases of an owner's attempts; gives those that are still its own.
    pub(super) fn renew(&mut self, owner: &str, until: Timestamp) -> Vec<AttemptName> {
        let mut kept = Vec::new();
        for (name, attempt) in self.running_mut() {
            if attempt.owner == owner {
                attempt.lease_until = until;
                kept.push(name);
            }
        }
        kept
    }

    /// Runs with an attempt whose lease has run out.
    pub(super) fn runs_with_lost_attempts(&mut self, now: Timestamp) -> Vec<RunNumber> {
        self.runs_where(|attempt| attempt.lease_until < now)
    }

    /// Runs with an attempt of this owner under way.
    pub(super) fn runs_of_owner(&mut self, owner: &str) -> Vec<RunNumber> {
        self.runs_where(|attempt| attempt.owner == owner)
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn create(&mut self, dag: usize, cause: RunCause, interval: DataInterval, now: Timestamp) {
        let facts = RunFacts {
            cause,
            interval: Some((interval.start.timestamp_millis(), interval.end.timestamp_millis())),
            state: RunState::Queued,
            stopped: None,
            timeout_at: None,
            failures: 0,
            error: None,
            started_at: None,
            finished_at: None,
        };
        let mut instances = Vec::new();
        for (position, task) in self.rows.dags[dag].dag.tasks().iter().enumerate() {
            let kind = if task.map.is_some() { InstanceKind::Map } else { InstanceKind::Single };
            instances.push(InstanceRow::new(position, None, kind, now, self.made));
            self.made += 1;
        }
        self.rows.runs.push(RunRow { dag, facts, instances });
        self.told.push(vec![RunState::Queued]);
    }

    /// Attempts under way.
    fn running_mut(&mut self) -> impl Iterator<Item = (AttemptName, &mut AttemptRow)> {
        let runs = self.rows.runs.iter_mut().enumerate().filter(|(_, run)| !run.facts.state.is_finished());
        let instances = runs.flat_map(|(run, row)| row.instances.iter_mut().map(move |one| (run, one)));
        instances.filter(|(_, one)| one.is_at_work()).flat_map(|(run, one)| {
            let InstanceRow { position, map_index, tries, .. } = one;
            let running = tries.iter_mut().filter(|attempt| attempt.state == AttemptState::Running);
            let (position, map_index) = (*position, *map_index);
            running.map(move |attempt| (AttemptName { run, position, map_index, number: attempt.number }, attempt))
        })
    }

    fn runs_where(&mut self, wanted: impl Fn(&AttemptRow) -> bool) -> Vec<RunNumber> {
        let found = self.running_mut().filter(|(_, attempt)| wanted(attempt)).map(|(name, _)| name.run);
        let mut runs: Vec<RunNumber> = found.collect();
        runs.dedup();
        runs
    }

    /// Claims ready instances: the longest waiting first, a step of priority counting as a minute, within the room of
    /// their pools; a suspect only when nothing else is left, and only for a worker without any.
    fn claim(&mut self, asked: &Asked) -> Vec<Claim> {
        let mut room = Room::default();
        for (name, pool) in &self.rows.pools {
            room.know(name.clone(), pool.slots, pool.used);
        }
        let mut claimed = Vec::new();
        for at in self.ready(asked.now, false) {
            if claimed.len() < asked.free {
                claimed.extend(self.take_if_fitting(at, &mut room, asked));
            }
        }
        if claimed.is_empty() && asked.idle {
            let may_go = |at: &(RunNumber, usize)| {
                let (pool, _) = self.pool_of(*at);
                pool.is_none_or(|pool| !room.closed().contains(&pool))
            };
            let suspect = self.ready(asked.now, true).into_iter().find(may_go);
            claimed.extend(suspect.and_then(|at| self.take_if_fitting(at, &mut room, asked)));
        }
        claimed
    }

    /// Instances that are ready at `now`, by run and place in it, in order of their turns.
    fn ready(&self, now: Timestamp, suspects: bool) -> Vec<(RunNumber, usize)> {
        let mut found = Vec::new();
        for (run, row) in self.rows.runs.iter().enumerate().filter(|(_, row)| !row.facts.state.is_finished()) {
            let tasks = self.rows.dags[row.dag].dag.tasks();
            for (place, one) in row.instances.iter().enumerate() {
                let is_suspect = one.lost_in_a_row >= SUSPECT;
                if one.state == TaskState::Ready && one.ready_at <= now && is_suspect == suspects {
                    let turn = turn(one.ready_at, tasks[one.position].priority);
                    // Whose turns are equal go in the order of their making, as SQLite keeps them.
                    found.push(((turn, one.position, one.map_index, one.made), (run, place)));
                }
            }
        }
        found.sort_unstable();
        found.into_iter().map(|(_, at)| at).collect()
    }

    /// The pool that an instance takes slots of, and how many.
    fn pool_of(&self, (run, place): (RunNumber, usize)) -> (Option<String>, i64) {
        let row = &self.rows.runs[run];
        let task = &self.rows.dags[row.dag].dag.tasks()[row.instances[place].position];
        (create::pool_of(task).map(str::to_owned), i64::from(task.slots))
    }

    /// Gives an instance an attempt if its pool has room.
    fn take_if_fitting(&mut self, at: (RunNumber, usize), room: &mut Room, asked: &Asked) -> Option<Claim> {
        let (pool, slots) = self.pool_of(at);
        if let Some(pool) = &pool {
            if !room.has(pool, slots) && !self.has(Flaw::PoolsOverflow) {
                return None;
            }
            room.take(pool, slots);
            self.rows.pools.get_mut(pool)?.used += slots;
        }
        let (run, place) = at;
        let one = &mut self.rows.runs[run].instances[place];
        one.state = TaskState::Running;
        one.attempts += 1;
        one.started_at.get_or_insert(asked.now);
        one.tries.push(AttemptRow {
            number: one.attempts,
            state: AttemptState::Running,
            owner: asked.owner.clone(),
            lease_until: asked.now.plus(asked.lease),
            finished_at: None,
        });
        let name = AttemptName { run, position: one.position, map_index: one.map_index, number: one.attempts };
        Some(Claim { name, failed: one.failed, alone: one.lost_in_a_row >= SUSPECT, pool, slots })
    }

    /// When the first of the instances that wait for their time is ready.
    fn next_ready(&self, now: Timestamp) -> Option<Timestamp> {
        let runs = self.rows.runs.iter().filter(|run| !run.facts.state.is_finished());
        let ready = runs.flat_map(|run| &run.instances).filter(|one| one.state == TaskState::Ready);
        ready.map(|one| one.ready_at).filter(|at| *at > now).min()
    }
}
