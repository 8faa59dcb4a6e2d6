//! A simulation: schedulers and workers over many runs, with a virtual clock and random faults, all from one seed.
//!
//! After every step the tables must hold what the module `state` promises. `SIMULATION_HISTORIES=5000` plays more
//! histories than the test does, `SIMULATION_SEED=7` other ones, and `SIMULATION_ONLY=123` that history alone.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::advance::upstream;
use super::on_sqlite::{Random, empty_database};
use super::*;
use crate::dag::{Decision, Upstream};
use crate::scheduler::Scheduler;
use platform::database::Statement;

const LEASE: Duration = Duration::from_secs(30);
const WORKERS: usize = 3;
/// Steps after which faults end, and after which a history must have ended.
const FAULTY: usize = 30;
const PATIENCE: usize = 3000;
const POOL_SLOTS: u32 = 3;
/// What the test plays.
const HISTORIES: usize = 600;
/// Histories that a database holds before the next is taken: the fewer runs it has, the faster the checks.
const HISTORIES_OF_A_DATABASE: usize = 12;

/// What was done to the system and what came of it.
#[derive(Debug, Default)]
struct Counts {
    histories: usize,
    steps: usize,
    runs: usize,
    scheduled: usize,
    deaths: usize,
    outages: usize,
    cancels: usize,
    reopened: usize,
    fenced: usize,
    lost: usize,
    ends: BTreeMap<&'static str, usize>,
}

impl Counts {
    fn add(&mut self, other: Self) {
        let Self { histories, steps, runs, scheduled, deaths, outages, cancels, reopened, fenced, lost, ends } = other;
        self.histories += histories;
        self.steps += steps;
        self.runs += runs;
        self.scheduled += scheduled;
        self.deaths += deaths;
        self.outages += outages;
        self.cancels += cancels;
        self.reopened += reopened;
        self.fenced += fenced;
        self.lost += lost;
        for (end, count) in ends {
            *self.ends.entry(end).or_default() += count;
        }
    }
}

/// A run as the checks look at it.
struct Seen {
    id: RunId,
    dag: Arc<Dag>,
    state: RunState,
    cause: RunCause,
    interval_start: Option<i64>,
}

/// A task instance as the checks look at it, and the numbers of its running attempts.
struct SeenInstance {
    task: String,
    map_index: i64,
    kind: InstanceKind,
    state: TaskState,
    attempts: i64,
    running: Vec<i64>,
}

struct Worker {
    life: usize,
    holds: Vec<Claimed>,
    /// The answer to its last step was lost.
    unsure: bool,
    /// It sends no heartbeats.
    frozen: bool,
}

struct World {
    store: Store,
    number: usize,
    now: Timestamp,
    dags: Vec<Arc<Dag>>,
    workers: Vec<Worker>,
    /// Claims of dead and fenced workers, whose answers come late.
    stale: Vec<(String, Claimed)>,
    /// Runs that were told to stop or let go on, in which tasks may be cancelled.
    touched: BTreeSet<RunId>,
    /// Runs that were looked at when they had ended: nothing changes in them.
    settled: BTreeSet<RunId>,
    /// What a follower was told, and how far.
    told: BTreeMap<RunId, Vec<RunState>>,
    told_until: i64,
}

#[test]
fn random_histories_of_many_runs_keep_every_promise() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<usize>().ok());
    let seed = number("SIMULATION_SEED").unwrap_or(1);
    let histories: Vec<usize> = match number("SIMULATION_ONLY") {
        Some(one) => vec![one],
        None => (0..number("SIMULATION_HISTORIES").unwrap_or(HISTORIES)).collect(),
    };
    let is_whole = histories.len() >= HISTORIES;
    let (began, mut counts) = (Instant::now(), Counts::default());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let lanes: Vec<_> = (0..cores)
        .map(|core| {
            let own: Vec<usize> = histories.iter().copied().skip(core).step_by(cores).collect();
            std::thread::spawn(move || {
                stay_on(core);
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(play_all(own, seed))
            })
        })
        .collect();
    for lane in lanes {
        counts.add(lane.join().unwrap());
    }
    let took = began.elapsed().as_secs_f64();
    println!("{took:.1} s, {:.0} histories a second: {counts:?}", counts.histories as f64 / took);
    if !is_whole {
        return;
    }
    assert!(counts.fenced > 10 && counts.lost > 10 && counts.outages > 10 && counts.scheduled > 10, "{counts:?}");
    assert!(counts.cancels > 10 && counts.reopened > 10 && counts.ends.len() >= 3, "{counts:?}");
}

/// Keeps this thread, and those that it starts, on one core: a history goes back and forth between the threads of its
/// database, and waking one on another core takes longer than its work. Without `taskset` the histories are slower.
fn stay_on(core: usize) {
    let thread = std::fs::read_link("/proc/thread-self").ok();
    let Some(thread) = thread.as_deref().and_then(std::path::Path::file_name) else { return };
    drop(std::process::Command::new("taskset").args(["-cp", &core.to_string()]).arg(thread).output());
}

/// Plays histories one after the other.
async fn play_all(histories: Vec<usize>, seed: usize) -> Counts {
    let mut counts = Counts::default();
    for some in histories.chunks(HISTORIES_OF_A_DATABASE) {
        let home = tempfile::tempdir().unwrap();
        let store = empty_store(home.path()).await;
        for history in some {
            // Its own numbers, whatever was played before it.
            let mixed = (*history as u64 + 1).wrapping_mul(0xd134_2543_de82_ef95);
            let mut random = Random((seed as u64).wrapping_mul(0x9e37_79b9).wrapping_add(1) ^ mixed);
            World::new(store.clone(), *history, &mut random).await.play(&mut random, &mut counts).await;
            counts.histories += 1;
        }
    }
    counts
}

async fn empty_store(home: &std::path::Path) -> Store {
    let store = Store::open(empty_database(home).await).await.unwrap();
    store.set_pool("p", POOL_SLOTS).await.unwrap();
    store
}

impl World {
    async fn new(store: Store, number: usize, random: &mut Random) -> Self {
        let now = Timestamp::from_millis(1_772_409_600_000);
        let mut dags = Vec::new();
        for one in 0..1 + random.below(3) {
            let yaml = random_dag(random, &format!("h{number}_{one}"));
            let dag = Dag::parse("test.yaml", &yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
            store.register(&dag, now).await.unwrap();
            for _ in 0..random.below(3) {
                store.create_run(&dag, &dag.params(&[]).unwrap(), now).await.unwrap();
            }
            dags.push(Arc::new(dag));
        }
        let worker = || Worker { life: 0, holds: Vec::new(), unsure: false, frozen: false };
        let workers = (0..WORKERS).map(|_| worker()).collect();
        Self {
            store,
            number,
            now,
            dags,
            workers,
            stale: Vec::new(),
            touched: BTreeSet::new(),
            settled: BTreeSet::new(),
            told: BTreeMap::new(),
            told_until: 0,
        }
    }

    fn key(&self, who: usize) -> String {
        format!("{}/{who}/{}", self.number, self.workers[who].life)
    }

    async fn play(mut self, random: &mut Random, counts: &mut Counts) {
        for step in 0.. {
            assert!(step < PATIENCE, "history {} does not end", self.number);
            let faulty = step < FAULTY;
            if step == FAULTY {
                for dag in &self.dags {
                    self.store.pause(&dag.name, true).await.unwrap();
                }
                self.workers.iter_mut().for_each(|worker| worker.frozen = false);
            }
            counts.steps += 1;
            self.now = self.now.plus(Duration::from_secs(random.below(if faulty { 9 } else { 20 }) as u64));
            if faulty && random.below(20) == 0 {
                // The clock is set back, or ahead past every lease.
                let ahead = random.below(2) == 0;
                self.now = Timestamp::from_millis(self.now.millis() + if ahead { 90_000 } else { -4_000 });
            }
            match random.below(3) {
                0 => self.schedule(random).await,
                _ => self.work(random, faulty, counts).await,
            }
            if faulty {
                self.disturb(random, counts).await;
            }
            let alive: Vec<usize> =
                (0..WORKERS).filter(|who| !self.workers[*who].frozen && random.below(10) > 0).collect();
            let keys: Vec<String> = alive.iter().map(|who| self.key(*who)).collect();
            let renewals = keys.iter().map(|key| self.store.renew(key, self.now, LEASE));
            let kept = futures::future::try_join_all(renewals).await.unwrap();
            for ((who, key), kept) in alive.into_iter().zip(keys).zip(kept) {
                if !self.workers[who].holds.is_empty() {
                    // What a living worker no longer owns it gives up; its answer comes late all the same.
                    let fenced = self.workers[who].holds.extract_if(.., |claim| !kept.contains(&claim.attempt));
                    self.stale.extend(fenced.map(|claim| (key.clone(), claim)));
                }
            }
            let runs = self.seen().await;
            self.check(&runs).await;
            if step > FAULTY && runs.iter().all(|run| run.state.is_finished()) {
                break;
            }
        }
        for run in self.seen().await {
            counts.runs += 1;
            counts.scheduled += usize::from(run.cause == RunCause::Schedule);
            *counts.ends.entry(run.state.as_str()).or_default() += 1;
        }
        let used: i64 = self.store.pools().await.unwrap().iter().map(|(_, _, used)| i64::from(*used)).sum();
        assert_eq!(used, 0, "all slots are back");
    }

    /// One scheduler looks, or two at once.
    async fn schedule(&self, random: &mut Random) {
        let (one, two) = (Scheduler::new(self.store.clone(), LEASE), Scheduler::new(self.store.clone(), LEASE));
        if random.below(2) == 0 {
            one.pass(self.now).await.unwrap();
            return;
        }
        let (a, b) = tokio::join!(one.pass(self.now), two.pass(self.now));
        a.and(b).unwrap();
    }

    /// One worker says what ended and claims more; the answer may be lost.
    async fn work(&mut self, random: &mut Random, faulty: bool, counts: &mut Counts) {
        let who = random.below(WORKERS);
        let owner = Owner { host: "host".to_owned(), pid: 1, key: self.key(who) };
        let mut ended = Vec::new();
        for _ in 0..random.below(4) {
            let Some(claim) = self.workers[who].holds.pop() else { break };
            if random.below(5) == 0 {
                self.stale.push((owner.key.clone(), claim.clone()));
            }
            ended.push(self.end(claim, random, faulty));
        }
        let from_hand = ended.len();
        let late = self.stale.iter().position(|(key, _)| *key == owner.key).filter(|_| random.below(2) == 0);
        if let Some(at) = late {
            let (_, claim) = self.stale.swap_remove(at);
            ended.push(self.end(claim, random, faulty));
        }
        let known = self.workers[who].unsure.then(|| {
            let held = self.workers[who].holds.iter().chain(ended.iter().map(|end| &end.claim));
            Arc::new(held.map(|claim| claim.attempt).collect::<Vec<_>>())
        });
        let mut by_run: BTreeMap<RunId, Vec<Ended>> = BTreeMap::new();
        for end in &ended {
            by_run.entry(end.claim.run).or_default().push(end.clone());
        }
        for run in self.store.runs_with_lost_attempts(self.now).await.unwrap() {
            by_run.entry(run).or_default();
        }
        if known.is_some() {
            for run in self.store.runs_of_owner(&owner.key).await.unwrap() {
                by_run.entry(run).or_default();
            }
        }
        let mut runs = Vec::new();
        for (run, ended) in by_run {
            let lost = Some(LostRule { take_over: false, most_in_a_row: 5, known: known.clone() });
            runs.push(RunStep {
                plan: self.store.plan(run).await.unwrap(),
                begin: Begin::No,
                lost,
                ended: Arc::new(ended),
            });
        }
        let idle = self.workers[who].holds.is_empty();
        let claim = ClaimRequest { free: 1 + random.below(4), idle, ..ClaimRequest::default() };
        let step = Step { owner, now: self.now, lease: LEASE, runs, claim };
        let done = self.store.step(step).await.unwrap();
        let worker = &mut self.workers[who];
        if faulty && random.below(12) == 0 {
            // The database went away after the commit: the worker knows of no claim, and says its ends again.
            counts.outages += 1;
            worker.unsure = true;
            let key = self.key(who);
            self.stale.extend(ended.into_iter().take(from_hand).map(|end| (key.clone(), end.claim)));
            return;
        }
        worker.unsure = false;
        worker.holds.extend(done.claimed);
        counts.fenced += done.runs.iter().flat_map(|run| &run.counted).filter(|counted| !**counted).count();
        let is_lost = |change: &&Change| matches!(change, Change::Lost { .. });
        counts.lost += done.runs.iter().flat_map(|run| &run.changes).filter(is_lost).count();
    }

    fn end(&self, claim: Claimed, random: &mut Random, faulty: bool) -> Ended {
        let soon = self.now.plus(Duration::from_secs(random.below(40) as u64));
        let end = match random.below(if faulty { 10 } else { 30 }) {
            0 => End::Failed { error: "no".to_owned(), retry_at: None },
            1 => End::Failed { error: "no".to_owned(), retry_at: Some(soon) },
            2 => End::Later { note: "not yet".to_owned(), at: soon },
            3 => End::Interrupted,
            _ => End::Succeeded {
                output: "[1, 2]".to_owned(),
                failures: 0,
                summary: String::new(),
                caching: Caching::None,
            },
        };
        Ended { claim, end, items: 0 }
    }

    /// Deaths, frozen workers, runs that are cancelled or let go on.
    async fn disturb(&mut self, random: &mut Random, counts: &mut Counts) {
        let who = random.below(WORKERS);
        match random.below(24) {
            0 | 1 => {
                counts.deaths += 1;
                let key = self.key(who);
                let held = std::mem::take(&mut self.workers[who].holds);
                self.stale.extend(held.into_iter().map(|claim| (key.clone(), claim)));
                self.workers[who].life += 1;
                self.workers[who].unsure = false;
            }
            2 => self.workers[who].frozen = !self.workers[who].frozen,
            3 => {
                let runs = self.runs().await;
                if let Some(run) = runs.get(random.below(runs.len().max(1))) {
                    counts.cancels += usize::from(!run.state.is_finished());
                    self.touched.insert(run.id);
                    self.store.cancel(run.id, self.now).await.unwrap();
                }
            }
            4 | 5 => {
                let runs = self.runs().await;
                if let Some(run) = runs.iter().find(|run| run.state.is_finished()) {
                    self.touched.insert(run.id);
                    let task = self.store.dag(run).await.unwrap().tasks()[0].id.clone();
                    let again = match random.below(2) {
                        0 => Again::Failed,
                        _ => Again::Task { task, downstream: random.below(2) == 0 },
                    };
                    // Nothing may have failed.
                    counts.reopened += usize::from(self.store.reopen(run.id, again, self.now).await.is_ok());
                    self.settled.remove(&run.id);
                }
            }
            _ => {}
        }
    }

    async fn runs(&self) -> Vec<RunRecord> {
        let runs = self.store.runs(200).await.unwrap();
        runs.into_iter().filter(|run| self.dags.iter().any(|dag| dag.name == run.dag)).collect()
    }

    /// The runs of this history.
    async fn seen(&self) -> Vec<Seen> {
        let mut query = Statement::new("SELECT id, dag, state, cause, interval_start FROM run WHERE dag IN ");
        query.row();
        for dag in &self.dags {
            query.text(dag.name.as_str());
        }
        query.end_row();
        type Row = (String, String, String, String, Option<i64>);
        let rows: Vec<Row> = query.query_as().fetch_all(self.store.pool()).await.unwrap();
        let seen = rows.into_iter().map(|(id, dag, state, cause, interval_start)| Seen {
            id: id.parse().unwrap(),
            dag: Arc::clone(self.dags.iter().find(|one| one.name == dag).unwrap()),
            state: RunState::read(&state).unwrap(),
            cause: RunCause::read(&cause).unwrap(),
            interval_start,
        });
        seen.collect()
    }

    /// The task instances of some runs.
    async fn seen_instances(&self, runs: &[&Seen]) -> BTreeMap<RunId, Vec<SeenInstance>> {
        if runs.is_empty() {
            return BTreeMap::new();
        }
        let of_runs = |mut query: Statement| {
            query.row();
            for run in runs {
                query.text(run.id.to_string());
            }
            query.end_row();
            query
        };
        let query = of_runs(Statement::new(
            "SELECT a.task_instance_id, a.number FROM attempt a JOIN task_instance t ON t.id = a.task_instance_id
             WHERE a.state = 'running' AND t.run_id IN ",
        ));
        let attempts: Vec<(String, i64)> = query.query_as().fetch_all(self.store.pool()).await.unwrap();
        let mut running: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for (instance, number) in attempts {
            running.entry(instance).or_default().push(number);
        }
        let query = of_runs(Statement::new(
            "SELECT id, run_id, task, map_index, kind, state, attempts FROM task_instance WHERE run_id IN ",
        ));
        type Row = (String, String, String, i64, String, String, i64);
        let rows: Vec<Row> = query.query_as().fetch_all(self.store.pool()).await.unwrap();
        let mut seen: BTreeMap<RunId, Vec<SeenInstance>> = BTreeMap::new();
        for (id, run, task, map_index, kind, state, attempts) in rows {
            let (kind, state) = (InstanceKind::read(&kind).unwrap(), TaskState::read(&state).unwrap());
            let running = running.remove(&id).unwrap_or_default();
            let one = SeenInstance { task, map_index, kind, state, attempts, running };
            seen.entry(run.parse().unwrap()).or_default().push(one);
        }
        assert!(running.is_empty(), "attempts of no instance are running: {running:?}");
        seen
    }

    async fn check(&mut self, runs: &[Seen]) {
        let mut intervals = BTreeSet::new();
        for run in runs {
            if let (RunCause::Schedule, Some(start)) = (run.cause, run.interval_start) {
                assert!(intervals.insert((run.dag.name.clone(), start)), "two runs for the interval from {start}");
            }
        }
        let live: Vec<&Seen> = runs.iter().filter(|run| !self.settled.contains(&run.id)).collect();
        let mut instances = self.seen_instances(&live).await;
        let mut in_pool = 0;
        for run in live {
            in_pool += self.check_run(run, &instances.remove(&run.id).unwrap_or_default());
            if run.state.is_finished() {
                self.settled.insert(run.id);
                self.check_changes(run).await;
            }
        }
        for record in self.store.dags().await.unwrap() {
            let Some(dag) = self.dags.iter().find(|dag| dag.name == record.name) else { continue };
            let of_dag = runs.iter().filter(|run| run.dag.name == dag.name);
            let running = of_dag.filter(|run| run.state == RunState::Running).count() as u64;
            assert_eq!(record.active_runs, running, "{}", dag.name);
            assert!(running <= u64::from(dag.max_active_runs), "{}: {running} runs are active", dag.name);
        }
        let pools = self.store.pools().await.unwrap();
        assert_eq!(pools, [("p".to_owned(), POOL_SLOTS, in_pool)]);
        assert!(in_pool <= POOL_SLOTS, "{in_pool} slots are used");
    }

    /// All that a run came to is told to those who follow it.
    async fn check_changes(&mut self, run: &Seen) {
        self.store.place_changes().await.unwrap();
        for change in self.store.changes_after(self.told_until, 100_000).await.unwrap() {
            self.told_until = change.position;
            self.told.entry(change.run).or_default().push(change.state);
        }
        let told = self.told.get(&run.id).cloned().unwrap_or_default();
        assert_eq!((told.first(), told.last()), (Some(&RunState::Queued), Some(&run.state)), "{told:?}");
        for (before, after) in told.iter().zip(&told[1..]) {
            let possible = match before {
                RunState::Queued => *after == RunState::Running || after.is_finished(),
                RunState::Running => after.is_finished(),
                _ => *after == RunState::Queued,
            };
            assert!(possible, "{told:?}");
        }
    }

    /// Checks one run; gives the slots of the pool that its attempts hold.
    fn check_run(&self, run: &Seen, instances: &[SeenInstance]) -> u32 {
        let whole = |task: &str| instances.iter().find(|one| one.task == task && one.map_index < 0).unwrap().state;
        let mut slots = 0;
        for one in instances {
            let at = || {
                let dag = &run.dag;
                format!("{} {}[{}] in {} ({})\n{}", dag.name, one.task, one.map_index, run.id, run.state, dag.yaml())
            };
            let at_work = one.state == TaskState::Running && one.kind != InstanceKind::Map;
            let wanted = if at_work { vec![one.attempts] } else { Vec::new() };
            assert_eq!(one.running, wanted, "one live attempt, the newest: {}", at());
            assert!(one.state.is_finished() || !run.state.is_finished(), "a run ended before its tasks: {}", at());
            let task = run.dag.task(&one.task).unwrap();
            if at_work && task.pool == "p" {
                slots += task.slots;
            }
            let needs: Vec<Upstream> = task.needs.iter().map(|need| upstream(whole(need))).collect();
            let decision = task.trigger.decide(&needs);
            let is_untouched = run.state == RunState::Running && !self.touched.contains(&run.id);
            if is_untouched && one.map_index < 0 {
                let (state, waits) = (one.state, one.state == TaskState::Waiting);
                assert_eq!(
                    waits,
                    decision == Decision::Wait,
                    "{state:?} although its needs say {decision:?}: {}",
                    at()
                );
                let went = !matches!(state, TaskState::Waiting | TaskState::Skipped | TaskState::UpstreamFailed);
                assert_eq!(went, decision == Decision::Go, "{state:?} although its needs say {decision:?}: {}", at());
            }
        }
        slots
    }
}

fn random_dag(random: &mut Random, name: &str) -> String {
    let mut yaml = format!("dag: {name}\nmax_active_runs: {}\n", 1 + random.below(2));
    if random.below(2) == 0 {
        yaml.push_str(&format!(
            "schedule: {{every: {}s, catch_up: {}}}\n",
            60 + random.below(60),
            random.below(2) == 0
        ));
    }
    yaml.push_str("tasks:\n");
    for task in 0..1 + random.below(5) {
        let needs: Vec<String> = (0..task).filter(|_| random.below(2) == 0).map(|need| format!("t{need}")).collect();
        let mut keys = vec!["job: x".to_owned(), format!("priority: {}", random.below(3))];
        if !needs.is_empty() {
            keys.push(format!("needs: [{}]", needs.join(", ")));
            let rules = ["all_success", "all_done", "none_failed", "one_success", "one_failed"];
            keys.push(format!("trigger: {}", rules[random.below(rules.len())]));
        }
        if random.below(4) == 0 {
            keys.push(format!("map: '{{{{ range({}) | list }}}}'", random.below(4)));
        }
        if random.below(4) == 0 {
            keys.push("parallelism: 1".to_owned());
        }
        if random.below(3) == 0 {
            keys.push(format!("pool: p, slots: {}", 1 + random.below(2)));
        }
        yaml.push_str(&format!("  t{task}: {{{}}}\n", keys.join(", ")));
    }
    yaml
}
