//! The store's transitions one by one, and a seeded model: random DAGs, random owners, random faults, and after every
//! step the invariants of the tables.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use platform::database::{Address, Engine};
use serde_json::json;
use sqlx::any::AnyPoolOptions;
use tokio::sync::OnceCell;

use super::*;

#[path = "tests_others.rs"]
#[allow(clippy::duplicate_mod, reason = "two databases")]
mod others;
#[path = "tests_pods.rs"]
#[allow(clippy::duplicate_mod, reason = "two databases")]
mod pods;
#[path = "tests_turns.rs"]
#[allow(clippy::duplicate_mod, reason = "two databases")]
mod turns;

const LEASE: Duration = Duration::from_secs(30);

/// What came of a step of the world's only run.
#[derive(Debug)]
struct Stepped {
    claimed: Vec<Claimed>,
    counted: Vec<bool>,
    changes: Vec<Change>,
    state: RunState,
    next_ready: Option<Timestamp>,
}

struct World {
    store: Store,
    plan: Arc<Plan>,
    now: Timestamp,
    home: tempfile::TempDir,
}

/// The server of all tests of this module.
static SERVER: OnceCell<e2e::postgres::Server> = OnceCell::const_new();

/// Where the state of these tests is.
fn engine() -> Engine {
    if module_path!().ends_with("on_postgres") { Engine::Postgres } else { Engine::Sqlite }
}

pub(super) async fn empty_database(home: &std::path::Path) -> Database {
    if engine() == Engine::Postgres {
        let server = SERVER.get_or_init(|| async { e2e::postgres::Server::start().await.unwrap() }).await;
        return Database::open(&Address::Postgres(server.database().await.unwrap())).await.unwrap();
    }
    sqlx::any::install_default_drivers();
    let pool = AnyPoolOptions::new()
        .max_connections(3)
        .after_connect(|connection, _| {
            Box::pin(async move {
                sqlx::query("PRAGMA journal_mode = WAL").execute(&mut *connection).await?;
                // Nothing here dies; without flushes thousands of steps take seconds.
                sqlx::query("PRAGMA synchronous = OFF").execute(connection).await.map(drop)
            })
        })
        .connect(&format!("sqlite://{}/state.db?mode=rwc", home.display()))
        .await
        .unwrap();
    Database::new(pool, Engine::Sqlite)
}

impl World {
    async fn new(yaml: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(empty_database(home.path()).await).await.unwrap();
        let dag = Dag::parse("test.yaml", yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
        let now = Timestamp::from_millis(1_000_000);
        let run = store.create_run(&dag, &dag.params(&[]).unwrap(), now).await.unwrap();
        let plan = store.plan(run).await.unwrap();
        Self { store, plan, now, home }
    }

    async fn step(&self, owner: &Owner, free: usize, ended: Vec<Ended>, lost: Option<LostRule>) -> Stepped {
        let run = RunStep { plan: self.plan.clone(), begin: Begin::Now, lost, ended: Arc::new(ended) };
        let claim =
            ClaimRequest { free, idle: true, run: Some(self.plan.run), queues: Vec::new(), ..ClaimRequest::default() };
        let step = Step { owner: owner.clone(), now: self.now, lease: LEASE, runs: vec![run], claim };
        let StepDone { mut runs, claimed, next_ready, .. } = self.store.step(step).await.unwrap();
        let RunDone { counted, changes, state } = runs.remove(0);
        Stepped { claimed, counted, changes, state, next_ready }
    }

    async fn begin(&self, owner: &Owner, free: usize) -> Stepped {
        self.step(owner, free, Vec::new(), Some(rule(false))).await
    }

    async fn state(&self, task: &str) -> TaskState {
        let tasks = self.store.tasks(self.plan.run).await.unwrap();
        tasks.iter().find(|found| found.task == task).unwrap().state
    }

    fn sleep(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
    }
}

fn owner(name: &str) -> Owner {
    Owner { host: "host".to_string(), pid: 1, key: name.to_string() }
}

fn rule(take_over: bool) -> LostRule {
    LostRule { take_over, most_in_a_row: 5, known: None, gone: None }
}

fn ok(claim: &Claimed, output: &str) -> Ended {
    let end =
        End::Succeeded { output: output.to_string(), failures: 0, summary: String::new(), caching: Caching::None };
    Ended { claim: claim.clone(), end, items: 1 }
}

fn bad(claim: &Claimed, retry_at: Option<Timestamp>) -> Ended {
    Ended { claim: claim.clone(), end: End::Failed { error: "no".to_string(), retry_at }, items: 0 }
}

const PAIR: &str = "dag: d\ntasks:\n  a: {job: x}\n  b: {job: x, needs: [a]}\n";

#[tokio::test]
async fn a_ready_instance_is_claimed_once() {
    let world = World::new(PAIR).await;
    let first = world.begin(&owner("one"), 5).await;
    assert_eq!(first.claimed.len(), 1);
    assert_eq!((first.claimed[0].number, first.claimed[0].position), (1, 0));
    assert!(world.begin(&owner("two"), 5).await.claimed.is_empty());
    assert_eq!((world.state("a").await, world.state("b").await), (TaskState::Running, TaskState::Waiting));
}

#[tokio::test]
async fn an_end_counts_once_and_lets_downstream_go_in_the_same_step() {
    let world = World::new(PAIR).await;
    let one = owner("one");
    let claim = world.begin(&one, 1).await.claimed.remove(0);
    let done = world.step(&one, 1, vec![ok(&claim, "7"), ok(&claim, "8")], None).await;
    assert_eq!(done.counted, [true, false]);
    assert_eq!(done.claimed[0].position, 1);
    assert_eq!(world.store.output(world.plan.run, "a").await.unwrap(), Some(json!(7)));
    let done = world.step(&one, 1, vec![ok(&done.claimed[0], "9")], None).await;
    assert_eq!(done.state, RunState::Succeeded);
    // Nothing moves an ended run.
    let late = world.step(&one, 1, vec![ok(&claim, "10"), bad(&claim, None)], Some(rule(true))).await;
    assert_eq!((late.counted, late.state), (vec![false, false], RunState::Succeeded));
    assert_eq!(world.store.output(world.plan.run, "a").await.unwrap(), Some(json!(7)));
}

#[tokio::test]
async fn an_answer_of_another_owner_or_number_is_fenced() {
    let world = World::new(PAIR).await;
    let claim = world.begin(&owner("one"), 1).await.claimed.remove(0);
    assert_eq!(world.step(&owner("two"), 0, vec![ok(&claim, "1")], None).await.counted, [false]);
    let wrong = Claimed { number: 2, ..claim.clone() };
    assert_eq!(world.step(&owner("one"), 0, vec![ok(&wrong, "1")], None).await.counted, [false]);
    assert_eq!(world.state("a").await, TaskState::Running);
}

#[tokio::test]
async fn an_expired_lease_is_taken_over_and_the_late_answer_fenced() {
    let mut world = World::new(PAIR).await;
    let (one, two) = (owner("one"), owner("two"));
    let stale = world.begin(&one, 1).await.claimed.remove(0);
    world.sleep(29);
    assert!(world.begin(&two, 1).await.claimed.is_empty(), "the lease has not run out");
    world.sleep(2);
    // Its own sweep never takes an attempt from a runner that is slow but alive.
    assert!(world.begin(&one, 0).await.changes.is_empty());
    let done = world.begin(&two, 1).await;
    assert!(matches!(done.changes[..], [Change::Lost { failed: false, .. }]), "{:?}", done.changes);
    assert_eq!(done.claimed[0].number, 2);
    assert_eq!(world.step(&one, 1, vec![ok(&stale, "1")], None).await.counted, [false]);
    assert_eq!(world.state("a").await, TaskState::Running);
    assert_eq!(world.step(&two, 0, vec![ok(&done.claimed[0], "2")], None).await.counted, [true]);
    assert_eq!(world.store.output(world.plan.run, "a").await.unwrap(), Some(json!(2)));
}

#[tokio::test]
async fn renewed_leases_are_kept_and_only_own_attempts_are_told() {
    let mut world = World::new("dag: d\ntasks:\n  a: {job: x}\n  b: {job: x}\n").await;
    let (one, two) = (owner("one"), owner("two"));
    let mine = world.begin(&one, 1).await.claimed.remove(0);
    let other = world.begin(&two, 1).await.claimed.remove(0);
    for _ in 0..5 {
        world.sleep(20);
        assert_eq!(world.store.renew("one", world.now, LEASE).await.unwrap(), [mine.attempt]);
    }
    let done = world.begin(&owner("three"), 5).await;
    assert_eq!(done.claimed.len(), 1, "only the attempt without heartbeats is taken over");
    assert_eq!(done.claimed[0].instance, other.instance);
    assert_eq!(world.store.renew("two", world.now, LEASE).await.unwrap(), []);
}

#[tokio::test]
async fn a_take_over_is_immediate_on_the_same_host_only() {
    let world = World::new("dag: d\ntasks:\n  a: {job: x}\n  b: {job: x}\n").await;
    let far = Owner { host: "far".to_string(), ..owner("far") };
    world.begin(&far, 1).await;
    world.begin(&owner("near"), 1).await;
    let done = world.step(&owner("new"), 5, Vec::new(), Some(rule(true))).await;
    assert_eq!(done.claimed.len(), 1);
    assert_eq!(done.claimed[0].number, 2);
}

#[tokio::test]
async fn retries_wait_and_failures_spread() {
    let mut world = World::new(
        "dag: d\ntasks:\n  a: {job: x}\n  b: {job: x, needs: [a]}\n  c: {job: x, needs: [b]}\n  d: {job: x}\n",
    )
    .await;
    let one = owner("one");
    let claims = world.begin(&one, 5).await.claimed;
    let again = world.now.plus(Duration::from_secs(10));
    let done = world.step(&one, 5, vec![bad(&claims[0], Some(again)), ok(&claims[1], "1")], None).await;
    assert!(done.claimed.is_empty());
    assert_eq!(done.next_ready, Some(again));
    world.sleep(10);
    let retry = world.step(&one, 5, Vec::new(), None).await.claimed.remove(0);
    assert_eq!((retry.number, retry.failed), (2, 1));
    let done = world.step(&one, 5, vec![bad(&retry, None)], None).await;
    assert_eq!(done.state, RunState::Failed);
    for (task, state) in [
        ("a", TaskState::Failed),
        ("b", TaskState::UpstreamFailed),
        ("c", TaskState::UpstreamFailed),
        ("d", TaskState::Succeeded),
    ] {
        assert_eq!(world.state(task).await, state, "{task}");
    }
    let run = world.store.run(world.plan.run).await.unwrap();
    assert_eq!(run.error.as_deref(), Some("task `a`: no"));
}

#[tokio::test]
async fn suspects_run_alone_and_five_losses_in_a_row_fail() {
    let world = World::new("dag: d\ntasks:\n  a: {job: x, map: [1, 2, 3]}\n").await;
    for life in 0..2 {
        let lost = if life > 0 { 2 } else { 0 };
        let done = world.step(&owner(&format!("life {life}")), 2, Vec::new(), Some(rule(true))).await;
        let told = done.changes.iter().filter(|change| matches!(change, Change::Lost { .. })).count();
        assert_eq!((told, done.claimed.len()), (lost, 2), "{done:?}");
    }
    // Two died twice: first what is not suspected, then each suspect by itself.
    let third = owner("life 2");
    let done = world.step(&third, 2, Vec::new(), Some(rule(true))).await;
    let indices: Vec<_> = done.claimed.iter().map(|claim| (claim.map_index, claim.alone)).collect();
    assert_eq!(indices, [(Some(2), false)]);
    let done = world.step(&third, 2, vec![ok(&done.claimed[0], "1")], None).await;
    assert_eq!((done.claimed.len(), done.claimed[0].map_index, done.claimed[0].alone), (1, Some(0), true));
    let done = world.step(&third, 2, vec![ok(&done.claimed[0], "1")], None).await;
    assert_eq!(done.claimed[0].map_index, Some(1));
    for life in 3..5 {
        let done = world.step(&owner(&format!("life {life}")), 2, Vec::new(), Some(rule(true))).await;
        assert_eq!(done.claimed.len(), 1, "life {life}");
    }
    let done = world.step(&owner("life 5"), 2, Vec::new(), Some(rule(true))).await;
    assert_eq!(done.state, RunState::Failed);
    let error = world.store.run(world.plan.run).await.unwrap().error.unwrap();
    assert!(error.starts_with("task `a`: item 1: the process died 5 times in a row"), "{error}");
}

#[tokio::test]
async fn an_attempt_that_ends_clears_the_losses_before() {
    let world = World::new("dag: d\ntasks:\n  a: {job: x}\n").await;
    for life in 0..12 {
        let owner = owner(&format!("life {life}"));
        let done = world.step(&owner, 1, Vec::new(), Some(rule(true))).await;
        assert_eq!(done.claimed.len(), 1, "life {life}");
        if life % 4 == 3 {
            world.step(&owner, 0, vec![bad(&done.claimed[0], Some(world.now))], None).await;
        }
    }
}

#[tokio::test]
async fn interrupted_attempts_count_for_nothing() {
    let world = World::new("dag: d\ntasks:\n  a: {job: x}\n").await;
    let one = owner("one");
    for number in 1..10 {
        let claim = world.begin(&one, 1).await.claimed.remove(0);
        assert_eq!((claim.number, claim.failed, claim.alone), (number, 0, false));
        let ended = Ended { claim, end: End::Interrupted, items: 0 };
        assert_eq!(world.step(&one, 0, vec![ended], None).await.counted, [true]);
    }
}

#[tokio::test]
async fn waiting_writes_share_transactions() {
    // PostgreSQL counts the commits of all its databases together.
    if engine() == Engine::Postgres {
        return;
    }
    let world = World::new("dag: d\ntasks:\n  a: {job: x, map: '{{ range(200) | list }}'}\n").await;
    let one = owner("one");
    let claims = world.begin(&one, 200).await.claimed;
    let before = commits(&world);
    let steps = claims.iter().map(|claim| world.step(&one, 0, vec![ok(claim, "1")], None));
    let all: Vec<Stepped> = futures_join(steps).await;
    assert!(all.iter().all(|done| done.counted == [true]));
    assert_eq!(all.iter().filter(|done| done.state == RunState::Succeeded).count(), 1);
    let used = commits(&world) - before;
    assert!((1..=20).contains(&used), "200 steps took {used} transactions");
    assert_eq!(world.store.output(world.plan.run, "a").await.unwrap().unwrap().as_array().unwrap().len(), 200);
}

/// Commits in the write-ahead log: frames that carry the size of the database (https://www.sqlite.org/fileformat2.html).
fn commits(world: &World) -> usize {
    let log = std::fs::read(world.home.path().join("state.db-wal")).unwrap();
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    let salt = &log[16..24];
    let frames = log[32..].chunks(24 + page).take_while(|frame| frame.len() > 24 && &frame[8..16] == salt);
    frames.filter(|frame| frame[4..8] != [0; 4]).count()
}

/// Waits for all at once.
async fn futures_join<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        let mut open = false;
        for (one, done) in &mut all {
            if done.is_none() {
                match one.as_mut().poll(context) {
                    std::task::Poll::Ready(output) => *done = Some(output),
                    std::task::Poll::Pending => open = true,
                }
            }
        }
        if open { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    all.into_iter().map(|(_, done)| done.unwrap()).collect()
}

#[tokio::test]
async fn a_task_that_is_done_again_in_a_run_that_never_began_does_not_wait_for_ever() {
    let world = World::new(PAIR).await;
    let run = world.plan.run;
    assert_eq!(world.store.cancel(run, world.now).await.unwrap(), RunState::Cancelled);
    let again = Again::Task { task: "b".to_string(), downstream: false };
    world.store.reopen(run, again, world.now).await.unwrap();
    // What it needs was cancelled, and stays so.
    let done = world.begin(&owner("one"), 1).await;
    assert_eq!((done.state, done.claimed.len()), (RunState::Failed, 0));
    assert_eq!((world.state("a").await, world.state("b").await), (TaskState::Cancelled, TaskState::UpstreamFailed));
    assert_eq!(world.store.run(run).await.unwrap().error.as_deref(), Some("task `b`: not run because of a"));
}

/// A small generator (xorshift).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

fn random_dag(random: &mut Random) -> String {
    let count = 2 + random.below(7);
    let mut yaml = "dag: model\ntasks:\n".to_string();
    for task in 0..count {
        let needs: Vec<String> = (0..task).filter(|_| random.below(3) == 0).map(|need| format!("t{need}")).collect();
        let map = if random.below(3) == 0 {
            format!(", map: '{{{{ range({}) | list }}}}'", random.below(5))
        } else {
            String::new()
        };
        let limit = if random.below(3) == 0 { ", parallelism: 1" } else { "" };
        yaml.push_str(&format!("  t{task}: {{job: x, needs: [{}]{map}{limit}}}\n", needs.join(", ")));
    }
    yaml
}

/// What the model remembers from step to step.
#[derive(Default)]
struct Memory {
    finished: HashMap<String, TaskState>,
    numbers: HashMap<String, u32>,
}

async fn check_invariants(world: &World, memory: &mut Memory, yaml: &str) {
    let instances = world.store.instances(world.plan.run).await.unwrap();
    let attempts = world.store.attempts(world.plan.run).await.unwrap();
    let whole: HashMap<&str, TaskState> =
        instances.iter().filter(|one| one.map_index.is_none()).map(|one| (one.task.as_str(), one.state)).collect();
    let mut running_of: HashMap<&str, usize> = HashMap::new();
    for one in &instances {
        let name = format!("{}[{:?}]", one.task, one.map_index);
        let running: Vec<_> = attempts
            .iter()
            .filter(|attempt| attempt.instance == one.id && attempt.state == AttemptState::Running)
            .collect();
        let expected = usize::from(one.state == TaskState::Running && one.kind != InstanceKind::Map);
        assert_eq!(running.len(), expected, "{name} {:?}\n{yaml}", one.state);
        assert!(running.iter().all(|attempt| attempt.number == one.attempts), "{name}");
        *running_of.entry(&one.task).or_default() += running.len();
        let before = memory.numbers.insert(name.clone(), one.attempts).unwrap_or(0);
        assert!(one.attempts >= before, "{name}: a fencing token went back");
        match memory.finished.get(&name) {
            Some(state) => assert_eq!(*state, one.state, "{name} left a finished state\n{yaml}"),
            None if one.state.is_finished() => drop(memory.finished.insert(name.clone(), one.state)),
            None => {}
        }
        let task = world.plan.dag.task(&one.task).unwrap();
        let needs_done = task.needs.iter().all(|need| whole[need.as_str()].is_finished());
        let needs_ok = task.needs.iter().all(|need| whole[need.as_str()] == TaskState::Succeeded);
        match one.state {
            // Items beyond the task's own limit wait for the others.
            TaskState::Waiting if one.map_index.is_some() => assert!(task.parallelism.is_some() && needs_ok, "{name}"),
            TaskState::Waiting => assert!(!needs_done, "{name} still waits\n{yaml}"),
            TaskState::UpstreamFailed => assert!(!needs_ok, "{name}\n{yaml}"),
            _ => assert!(needs_ok, "{name} is {:?} before its upstream succeeded\n{yaml}", one.state),
        }
    }
    for task in world.plan.dag.tasks() {
        if let Some(limit) = task.parallelism {
            assert!(running_of[task.id.as_str()] <= limit as usize, "{}\n{yaml}", task.id);
        }
    }
}

/// Random histories of random DAGs: claims, successes, failures, retries, deaths, answers that come late or twice.
#[tokio::test]
async fn random_histories_keep_the_invariants_and_end() {
    let mut random = Random(0x1234_5678_9abc_def1);
    let (mut ends, mut fenced, mut lost, mut steps) = (HashMap::new(), 0, 0, 0);
    for history in 0..60 {
        let yaml = random_dag(&mut random);
        let mut world = World::new(&yaml).await;
        let mut memory = Memory::default();
        let mut in_hand: Vec<(usize, Claimed)> = Vec::new();
        let mut stale: Vec<(usize, Claimed)> = Vec::new();
        let mut lives = [0, 0, 0];
        let name = |who: usize, lives: &[usize; 3]| owner(&format!("{history}/{who}/{}", lives[who]));
        loop {
            steps += 1;
            assert!(steps < 60_000, "a run does not end\n{yaml}");
            let who = random.below(3);
            let mut ended = Vec::new();
            let mut from_hand = 0;
            for _ in 0..random.below(4) {
                let Some(at) = in_hand.iter().position(|(holder, _)| *holder == who) else { break };
                let (_, claim) = in_hand.remove(at);
                from_hand += 1;
                ended.push(match random.below(8) {
                    0 => bad(&claim, None),
                    1 | 2 => bad(&claim, Some(world.now.plus(Duration::from_secs(random.below(40) as u64)))),
                    3 => Ended { claim: claim.clone(), end: End::Interrupted, items: 0 },
                    _ => ok(&claim, "[1, 2]"),
                });
                if random.below(4) == 0 {
                    stale.push((who, claim));
                }
            }
            if random.below(3) == 0 && !stale.is_empty() {
                let (_, claim) = stale.swap_remove(random.below(stale.len()));
                ended.push(ok(&claim, "\"late\""));
            }
            if random.below(6) == 0 {
                // This owner dies; what it held comes back late, from beyond.
                let held: Vec<_> = in_hand.extract_if(.., |(holder, _)| *holder == who).collect();
                stale.extend(held);
                lives[who] += 1;
            }
            world.sleep(random.below(12) as u64);
            // Owners that live send heartbeats.
            for alive in 0..3 {
                if random.below(10) > 0 {
                    world.store.renew(&name(alive, &lives).key, world.now, LEASE).await.unwrap();
                }
            }
            let owner = name(who, &lives);
            let sent = ended.len();
            let done = world
                .step(
                    &owner,
                    random.below(4),
                    ended,
                    Some(LostRule { take_over: false, most_in_a_row: 4, known: None, gone: None }),
                )
                .await;
            fenced += done.counted[from_hand.min(sent)..].iter().filter(|counted| !**counted).count();
            lost += done.changes.iter().filter(|change| matches!(change, Change::Lost { .. })).count();
            in_hand.extend(done.claimed.into_iter().map(|claim| (who, claim)));
            check_invariants(&world, &mut memory, &yaml).await;
            if done.state.is_finished() {
                *ends.entry(done.state.as_str()).or_insert(0) += 1;
                let instances = world.store.instances(world.plan.run).await.unwrap();
                assert!(instances.iter().all(|one| one.state.is_finished()), "{yaml}");
                break;
            }
        }
    }
    assert!(fenced > 50 && lost > 50 && ends.len() == 2, "{fenced} fenced, {lost} lost, {ends:?}");
}
