//! Real processes that die: SIGKILL at random moments, jobs that abort their process, processes that are stopped past
//! their lease. The child process is this test binary itself.

use std::collections::{HashMap, HashSet};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use pipeline::{AttemptState, JobContext, JobOutput, RunId, RunState, Runner, RunnerOptions, Start, Store, TaskState};
use serde_json::{Value, json};

use crate::common::{dag, job, registry, store};
use crate::process::{Process, append, lines, orders, runtime, signal, until, wait};

pub const ITEMS: usize = 400;

pub fn yaml(mode: &str) -> String {
    let items = if mode == "poison" { 6 } else { ITEMS };
    match mode {
        "frozen" => "dag: frozen\ntasks:\n  a: {job: slow}\n  b: {job: give, needs: [a], with: {value: '{{ tasks.a.output }}'}}\n".to_string(),
        _ => format!(
            "dag: crash\ntasks:\n  list: {{job: give, with: {{value: {items}}}}}\n  work:\n    job: effect\n    needs: [list]\n    map: '{{{{ range(tasks.list.output) | list }}}}'\n    with: {{n: '{{{{ item }}}}'}}\n  total: {{job: give, needs: [work], with: {{value: '{{{{ tasks.work.output | sum }}}}'}}}}\n"
        ),
    }
}

fn options(home: &Path, mode: &str) -> RunnerOptions {
    let options = RunnerOptions::new(home);
    match mode {
        // Chance may hit one item several times; the guard has a test of its own.
        "random" => RunnerOptions { max_lost: 100, ..options },
        "frozen" => RunnerOptions { exclusive: false, lease: Duration::from_millis(600), ..options },
        _ => options,
    }
}

/// The child: drives the run in `HOME` to its end, unless something ends the process first.
#[test]
fn child() {
    let Some((home, mode)) = orders() else { return };
    runtime().block_on(async {
        let runner = child_runner(&home, &mode, store(&home).await);
        let dag = dag(&yaml(&mode));
        let start = runner.start_or_resume(&dag, &dag.params(&[]).unwrap()).await.unwrap();
        append(&home.join("lives"), &format!("{} {start:?}", std::process::id()));
        let outcome = runner.drive(start.run_id()).await.unwrap();
        append(&home.join("lives"), &format!("{} ended {}", std::process::id(), outcome.state));
    });
}

pub fn child_runner(home: &Path, mode: &str, store: Store) -> Runner {
    let (folder, poison) = (home.to_path_buf(), mode == "poison");
    let effect = job("effect", move |context: JobContext, with: Value| {
        let folder = folder.clone();
        async move {
            append(&folder.join("attempts"), &format!("{} {}", context.idempotency_key, context.attempt));
            tokio::time::sleep(Duration::from_millis(4)).await;
            if poison && with["n"] == json!(3) {
                std::process::abort();
            }
            // The effect happens once: its name is the idempotency key.
            let name = context.idempotency_key.replace('/', "_");
            let made = std::fs::File::create_new(folder.join("effects").join(name));
            append(&folder.join("made"), &format!("{} {}", context.idempotency_key, made.is_ok()));
            tokio::time::sleep(Duration::from_millis(4)).await;
            Ok(JobOutput::new(json!(1)))
        }
    });
    let home_folder = home.to_path_buf();
    let slow = job("slow", move |context: JobContext, _| {
        let folder = home_folder.clone();
        async move {
            append(
                &folder.join("attempts"),
                &format!("{} {} {}", context.idempotency_key, context.attempt, std::process::id()),
            );
            // Deaf to its cancel signal: its answer comes late.
            tokio::time::sleep(Duration::from_millis(400)).await;
            Ok(JobOutput::new(json!({"pid": std::process::id(), "attempt": context.attempt})))
        }
    });
    Runner::new(store, registry([effect, slow]), options(home, mode))
}

#[test]
fn sigkill_at_random_moments_loses_and_repeats_nothing() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    std::fs::create_dir(home.join("effects")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut seed = u64::from(std::process::id()) * 0x9e37_79b9 + 0x2545_f491;
    let mut kills = 0;
    let mut done_counts: HashMap<String, usize> = HashMap::new();
    let mut resumed_last = 0;
    let status = loop {
        let mut child = spawn(home, "random");
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        // After enough kills it may finish.
        let patience =
            if kills < 25 { Duration::from_micros(15_000 + seed % 200_000) } else { Duration::from_secs(60) };
        match wait(&mut child, patience) {
            Some(status) => break status,
            None => {
                child.kill().unwrap();
                let status = child.wait().unwrap();
                assert_eq!(status.signal(), Some(9));
                kills += 1;
            }
        }
        // What was done before this moment must never run again.
        let attempts = lines(&home.join("attempts"));
        for (key, count) in &done_counts {
            assert_eq!(
                attempts.iter().filter(|line| line.starts_with(&format!("{key} "))).count(),
                *count,
                "{key} ran again"
            );
        }
        if let Some(run) = runtime.block_on(only_run(home)) {
            let done = runtime.block_on(done_keys(home, run));
            assert!(done.len() >= resumed_last, "finished work was forgotten");
            resumed_last = done.len();
            for key in done {
                let count = attempts.iter().filter(|line| line.starts_with(&format!("{key} "))).count();
                done_counts.insert(key, count);
            }
        }
    };
    let lives = lines(&home.join("lives"));
    assert!(status.success(), "{lives:?}");
    assert!(kills >= 20, "only {kills} kills: make the work longer");
    assert!(lives.last().unwrap().ends_with("ended succeeded"), "{lives:?}");

    let run = runtime.block_on(only_run(home)).unwrap();
    let made = lines(&home.join("made"));
    let first_made: Vec<&String> = made.iter().filter(|line| line.ends_with(" true")).collect();
    let keys: HashSet<String> = (0..ITEMS).map(|item| format!("{run}/work/{item}")).collect();
    assert_eq!(std::fs::read_dir(home.join("effects")).unwrap().count(), ITEMS);
    assert!(first_made.len() <= ITEMS && first_made.len() + kills * 2 >= ITEMS);
    let attempts = lines(&home.join("attempts"));
    let seen: HashSet<&str> = attempts.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(seen.len(), keys.len());
    assert_eq!(attempts.iter().collect::<HashSet<_>>().len(), attempts.len(), "a fencing token was used twice");
    runtime.block_on(async {
        let store = store(home).await;
        let record = store.run(run).await.unwrap();
        assert_eq!(record.state, RunState::Succeeded);
        assert_eq!(store.output(run, "total").await.unwrap(), Some(json!(ITEMS)));
        let rows = store.attempts(run).await.unwrap();
        let lost = rows.iter().filter(|attempt| attempt.state == AttemptState::Lost).count();
        let succeeded = rows.iter().filter(|attempt| attempt.state == AttemptState::Succeeded).count();
        assert_eq!((rows.len() - lost, succeeded), (ITEMS + 2, ITEMS + 2));
        println!("{kills} kills, {} attempts, {lost} lost, {} effects", rows.len(), ITEMS);
    });
}

#[test]
fn an_item_that_kills_its_process_is_given_up_after_five_times() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    std::fs::create_dir(home.join("effects")).unwrap();
    let mut deaths = 0;
    loop {
        let mut child = spawn(home, "poison");
        let status = wait(&mut child, Duration::from_secs(30)).expect("the child hangs");
        if status.success() {
            break;
        }
        assert_eq!(status.signal(), Some(6), "{status:?}");
        deaths += 1;
        assert!(deaths <= 5, "the guard does not hold");
    }
    assert_eq!(deaths, 5);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = store(home).await;
        let run = only_run(home).await.unwrap();
        let record = store.run(run).await.unwrap();
        assert_eq!(record.state, RunState::Failed);
        let error = record.error.unwrap();
        assert!(
            error.starts_with("task `work`: item 3: the process died 5 times in a row while running this"),
            "{error}"
        );
        let instances = store.instances(run).await.unwrap();
        let failed: Vec<_> =
            instances.iter().filter(|one| one.state == TaskState::Failed && one.map_index.is_some()).collect();
        assert_eq!((failed.len(), failed[0].map_index), (1, Some(3)));
        assert_eq!(
            instances.iter().filter(|one| one.state == TaskState::Succeeded && one.map_index.is_some()).count(),
            5
        );
    });
}

#[test]
fn a_process_stopped_past_its_lease_is_fenced_when_it_wakes() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let mut child = spawn(home, "frozen");
    let pid = child.id();
    until("the child's first attempt", || !lines(&home.join("attempts")).is_empty());
    signal(pid, "STOP");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let run = runtime.block_on(async {
        let runner = child_runner(home, "frozen", store(home).await);
        let dag = dag(&yaml("frozen"));
        let start = runner.start_or_resume(&dag, &dag.params(&[]).unwrap()).await.unwrap();
        assert!(matches!(start, Start::Resumed { done_instances: 0, .. }), "{start:?}");
        let outcome = runner.drive(start.run_id()).await.unwrap();
        assert_eq!(outcome.state, RunState::Succeeded);
        start.run_id()
    });
    signal(pid, "CONT");
    let status = wait(&mut child, Duration::from_secs(20)).expect("the child hangs");
    assert!(status.success(), "{status:?}");
    assert!(lines(&home.join("lives")).last().unwrap().ends_with("ended succeeded"));
    runtime.block_on(async {
        let store = store(home).await;
        let own = json!({"pid": std::process::id(), "attempt": 2});
        assert_eq!(store.output(run, "a").await.unwrap(), Some(own.clone()), "the late answer counted");
        assert_eq!(store.output(run, "b").await.unwrap(), Some(own));
        let attempts = store.attempts(run).await.unwrap();
        let states: Vec<_> =
            attempts.iter().map(|attempt| (attempt.number, attempt.state, attempt.owner.pid)).collect();
        let own = std::process::id();
        assert_eq!(
            states,
            [(1, AttemptState::Lost, pid), (2, AttemptState::Succeeded, own), (1, AttemptState::Succeeded, own)]
        );
    });
}

#[test]
fn a_live_process_is_named_and_a_dead_one_is_taken_over_at_once() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    std::fs::create_dir(home.join("effects")).unwrap();
    let mut child = spawn(home, "random");
    until("the child's first effect", || !lines(&home.join("made")).is_empty());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let runner = child_runner(home, "random", store(home).await);
        let dag = dag(&yaml("random"));
        let params = dag.params(&[]).unwrap();
        let error = runner.start_or_resume(&dag, &params).await.unwrap_err().to_string();
        assert!(error.contains(&format!("is being driven by process {} on this machine", child.id())), "{error}");
        child.kill().unwrap();
        child.wait().unwrap();
        let began = Instant::now();
        let start = runner.start_or_resume(&dag, &params).await.unwrap();
        let mut events = runner.events();
        let driving = runner.drive(start.run_id());
        tokio::pin!(driving);
        // Its lease of 30 s runs on, but the kernel has dropped its lock.
        let taken_over = loop {
            tokio::select! {
                event = events.recv() => if let (_, pipeline::RunEvent::Lost { .. }) = event.unwrap() { break began.elapsed() },
                ended = &mut driving => panic!("ended without a take-over: {ended:?}"),
            }
        };
        assert!(taken_over < Duration::from_secs(2), "{taken_over:?}");
        runner.interrupt();
        driving.await.unwrap_err();
    });
}

pub fn spawn(home: &Path, mode: &str) -> Process {
    crate::process::spawn("kill::child", home, mode)
}

async fn only_run(home: &Path) -> Option<RunId> {
    let runs = store(home).await.runs(10).await.unwrap();
    assert!(runs.len() <= 1, "more than one run: {runs:?}");
    runs.first().map(|run| run.id)
}

async fn done_keys(home: &Path, run: RunId) -> HashSet<String> {
    let instances = store(home).await.instances(run).await.unwrap();
    let done = instances.iter().filter(|one| one.state == TaskState::Succeeded);
    done.filter_map(|one| one.map_index.map(|index| format!("{run}/{}/{index}", one.task))).collect()
}
