//! Runs from start to end: order, maps, retries, failures, time-outs, interrupts, resuming.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pipeline::{Error, JobError, JobOutput, RunEvent, RunState, Runner, RunnerOptions, Start, TaskState, TaskSummary};
use serde_json::json;

use crate::common::{dag, job, registry, run, run_in, runner, store};

pub fn task<'a>(tasks: &'a [TaskSummary], name: &str) -> &'a TaskSummary {
    tasks.iter().find(|task| task.task == name).unwrap()
}

#[tokio::test]
async fn outputs_flow_down_and_keep_their_types() {
    let home = tempfile::tempdir().unwrap();
    let runner = runner(home.path(), []).await;
    let outcome = run_in(
        &runner,
        r#"
dag: flow
params: {greeting: {type: string, default: hello}}
tasks:
  list: {job: give, with: {value: [{n: 1}, {n: 2}, {n: 3}]}}
  twice: {job: give, needs: [list], map: "{{ tasks.list.output }}", with: {value: {d: "{{ item.n * 2 }}", i: "{{ index }}"}}}
  sum: {job: give, needs: [twice], with: {value: "{{ tasks.twice.output | map(attribute='d') | sum }}"}}
  say: {job: give, needs: [sum], with: {value: "{{ params.greeting }} {{ tasks.sum.output }} from {{ run.dag }}"}}
"#,
    )
    .await;
    assert_eq!(outcome.state, RunState::Succeeded, "{:?}", outcome.first_error);
    let output = async |task: &str| runner.store().output(outcome.run_id, task).await.unwrap().unwrap();
    assert_eq!(output("twice").await, json!([{"d": 2, "i": 0}, {"d": 4, "i": 1}, {"d": 6, "i": 2}]));
    assert_eq!(output("sum").await, json!(12));
    assert_eq!(output("say").await, json!("hello 12 from flow"));
    let twice = task(&outcome.tasks, "twice");
    assert_eq!((twice.instances, twice.succeeded, twice.attempts, twice.mapped), (3, 3, 3, true));
}

#[tokio::test]
async fn an_empty_list_succeeds_without_instances() {
    let outcome = run(
        "dag: d\ntasks:\n  none: {job: give, map: [], with: {value: 1}}\n  after: {job: give, needs: [none], with: {value: '{{ tasks.none.output }}'}}\n",
        [],
    )
    .await;
    assert_eq!(outcome.state, RunState::Succeeded);
    assert_eq!(task(&outcome.tasks, "none").instances, 0);
    assert_eq!(task(&outcome.tasks, "none").state, TaskState::Succeeded);
    assert_eq!(task(&outcome.tasks, "after").state, TaskState::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_task_and_run_hold() {
    let home = tempfile::tempdir().unwrap();
    let (now, most, most_small) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let small = Arc::new(AtomicUsize::new(0));
    let count = {
        let (now, most, small, most_small) = (now.clone(), most.clone(), small.clone(), most_small.clone());
        job("count", move |context, _| {
            let (now, most, small, most_small) = (now.clone(), most.clone(), small.clone(), most_small.clone());
            async move {
                let is_small = context.task == "small";
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                if is_small {
                    most_small.fetch_max(small.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                }
                tokio::time::sleep(Duration::from_millis(8)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                if is_small {
                    small.fetch_sub(1, Ordering::SeqCst);
                }
                Ok(JobOutput::default())
            }
        })
    };
    let options = RunnerOptions { parallelism: 5, ..RunnerOptions::new(home.path()) };
    let runner = Runner::new(store(home.path()).await, registry([count]), options);
    let outcome = run_in(
        &runner,
        "dag: d\ntasks:\n  small: {job: count, map: '{{ range(30) | list }}', parallelism: 2}\n  wide: {job: count, map: '{{ range(30) | list }}'}\n",
    )
    .await;
    assert_eq!(outcome.state, RunState::Succeeded, "{:?}", outcome.first_error);
    assert_eq!(most.load(Ordering::SeqCst), 5);
    assert_eq!(most_small.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn failed_attempts_are_tried_again_under_the_same_key() {
    let home = tempfile::tempdir().unwrap();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let flaky = {
        let seen = seen.clone();
        job("flaky", move |context, _| {
            seen.lock().unwrap().push((context.attempt, context.idempotency_key.clone()));
            let attempt = context.attempt;
            async move {
                if attempt < 3 { Err(JobError::transient(format!("try {attempt}"))) } else { Ok(JobOutput::default()) }
            }
        })
    };
    let runner = runner(home.path(), [flaky]).await;
    let mut events = runner.events();
    let outcome = run_in(&runner, "dag: d\ntasks:\n  a: {job: flaky, retries: 2, retry_delay: 20ms}\n").await;
    assert_eq!(outcome.state, RunState::Succeeded);
    assert_eq!(task(&outcome.tasks, "a").attempts, 3);
    let key = format!("{}/a", outcome.run_id);
    assert_eq!(*seen.lock().unwrap(), [(1, key.clone()), (2, key.clone()), (3, key)]);
    let mut retries = Vec::new();
    while let Ok((_, event)) = events.try_recv() {
        if let RunEvent::Retry { attempt, error, delay, .. } = event {
            assert!(delay <= Duration::from_millis(51), "{delay:?}");
            retries.push((attempt, error));
        }
    }
    assert_eq!(retries, [(1, "try 1".to_string()), (2, "try 2".to_string())]);
}

#[tokio::test]
async fn a_failure_stops_what_is_downstream_and_nothing_else() {
    let outcome = run(
        r#"
dag: d
tasks:
  bad: {job: fail, with: {message: the bucket is gone}, retries: 3}
  below: {job: give, needs: [bad]}
  further: {job: give, needs: [below, good]}
  good: {job: sleep, with: {ms: 30}}
  better: {job: give, needs: [good], with: {value: 1}}
"#,
        [],
    )
    .await;
    assert_eq!(outcome.state, RunState::Failed);
    assert_eq!(outcome.first_error.as_deref(), Some("task `bad`: the bucket is gone"));
    let state = |name| task(&outcome.tasks, name).state;
    assert_eq!(state("bad"), TaskState::Failed);
    assert_eq!(task(&outcome.tasks, "bad").attempts, 1, "a permanent error is not tried again");
    assert_eq!((state("below"), state("further")), (TaskState::UpstreamFailed, TaskState::UpstreamFailed));
    assert_eq!((state("good"), state("better")), (TaskState::Succeeded, TaskState::Succeeded));
    assert_eq!(task(&outcome.tasks, "below").error.as_deref(), Some("not run because of bad"));
}

#[tokio::test]
async fn other_items_go_on_when_one_fails() {
    let odd = job("odd", |context: pipeline::JobContext, _| async move {
        match context.map_index {
            Some(index) if index % 4 == 3 => Err(JobError::transient("no luck")),
            _ => Ok(JobOutput { value: json!(1), failures: 2, summary: String::new() }),
        }
    });
    let outcome =
        run("dag: d\ntasks:\n  a: {job: odd, map: '{{ range(8) | list }}', retries: 1, retry_delay: 1ms}\n", [odd])
            .await;
    let a = task(&outcome.tasks, "a");
    assert_eq!((a.succeeded, a.failed, a.attempts, a.failures), (6, 2, 10, 12));
    assert_eq!(outcome.state, RunState::Failed);
    assert_eq!(outcome.first_error.as_deref(), Some("task `a`: 2 items failed; the first, item 3: no luck"));
}

#[tokio::test]
async fn failed_items_within_jobs_make_succeeded_with_failures() {
    let some =
        job("some", |_, _| async { Ok(JobOutput { value: json!(null), failures: 2, summary: "5 of 7".into() }) });
    let outcome = run("dag: d\ntasks:\n  a: {job: some}\n  b: {job: some, needs: [a]}\n", [some]).await;
    assert_eq!((outcome.state, outcome.failures), (RunState::SucceededWithFailures, 4));
    assert_eq!(task(&outcome.tasks, "a").summary, "5 of 7");
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_take_too_long_are_stopped_even_when_they_block() {
    let home = tempfile::tempdir().unwrap();
    let block = job("block", |context: pipeline::JobContext, _| async move {
        if context.attempt == 1 {
            // Deaf to its cancel signal, as a call into a library may be.
            std::thread::sleep(Duration::from_millis(900));
        }
        Ok(JobOutput::new(json!(context.attempt)))
    });
    let options = RunnerOptions { grace: Duration::from_millis(50), ..RunnerOptions::new(home.path()) };
    let runner = Runner::new(store(home.path()).await, registry([block]), options);
    let began = Instant::now();
    let outcome = run_in(
        &runner,
        "dag: d\ntasks:\n  a: {job: block, timeout: 100ms, retries: 1, retry_delay: 1ms}\n  b: {job: sleep, with: {ms: 60000}, timeout: 80ms}\n",
    )
    .await;
    assert!(began.elapsed() < Duration::from_millis(850), "{:?}", began.elapsed());
    assert_eq!(task(&outcome.tasks, "a").state, TaskState::Succeeded);
    assert_eq!(runner.store().output(outcome.run_id, "a").await.unwrap(), Some(json!(2)));
    assert_eq!(
        outcome.first_error.as_deref(),
        Some("task `b`: timed out after 80ms (stopped on request); raise `timeout` of task `b`")
    );
    // The late answer of the first attempt changes nothing.
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert_eq!(runner.store().output(outcome.run_id, "a").await.unwrap(), Some(json!(2)));
}

#[tokio::test]
async fn a_panic_is_a_failure_of_its_attempt() {
    let panics = job("panics", |context: pipeline::JobContext, _| async move {
        assert!(context.attempt > 1, "on the first try");
        Ok(JobOutput::default())
    });
    let outcome = run("dag: d\ntasks:\n  a: {job: panics, retries: 1, retry_delay: 1ms}\n", [panics]).await;
    assert_eq!(outcome.state, RunState::Succeeded);
    let always = job("always", |_, _| async { panic!("no {}", 7) });
    let outcome = run("dag: d\ntasks:\n  a: {job: always}\n", [always]).await;
    assert_eq!(outcome.first_error.as_deref(), Some("task `a`: the job panicked: no 7"));
}

#[tokio::test]
async fn mistakes_that_show_only_at_run_time_fail_their_task() {
    for (yaml, expected) in [
        ("a: {job: give, map: '{{ 5 }}'}", "task `a`: `map` gave no list; it must be a list of items"),
        ("a: {job: give, map: '{{ range(100001) | list }}'}", "range has too many elements"),
        (
            "l: {job: give, with: {value: {n: 1}}}\n  a: {job: give, needs: [l], with: {value: '{{ tasks.l.output.m }}'}}",
            "`tasks.l.output` has no `m`; known: n",
        ),
        (
            "l: {job: give, with: {value: {forbidden: 1}}}\n  a: {job: give, needs: [l], map: [1], with: {'forbidden': '{{ item }}'}}",
            "`forbidden` is not allowed",
        ),
        (
            "a: {job: give, with: {value: '{{ \"x\" * 300000 }}'}}",
            "the output of `a` has 300002 bytes, more than the 262144 allowed",
        ),
    ] {
        let home = tempfile::tempdir().unwrap();
        let runner = runner(home.path(), []).await;
        let dag = dag(&format!("dag: d\ntasks:\n  {yaml}\n"));
        match runner.start_or_resume(&dag, &dag.params(&[]).unwrap()).await {
            Ok(start) => {
                let outcome = runner.drive(start.run_id()).await.unwrap();
                let error = outcome.first_error.unwrap();
                assert!(error.contains(expected), "{error}");
            }
            Err(error) => assert!(error.to_string().contains(expected), "{error}"),
        }
    }
}

#[tokio::test]
async fn an_unknown_job_kind_makes_no_run() {
    let home = tempfile::tempdir().unwrap();
    let runner = runner(home.path(), []).await;
    let dag = dag("dag: d\ntasks: {a: {job: giv}}");
    let error = runner.start_or_resume(&dag, &dag.params(&[]).unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), "test.yaml:2:18: unknown job kind `giv`; did you mean `give`?");
    assert!(runner.store().runs(10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_goes_on_and_nothing_counts_against_it() {
    let home = tempfile::tempdir().unwrap();
    let starts = Arc::new(AtomicU32::new(0));
    let slow = {
        let starts = starts.clone();
        move || {
            let starts = starts.clone();
            job("slow", move |context: pipeline::JobContext, _| {
                let first = starts.fetch_add(1, Ordering::SeqCst) < 4;
                async move {
                    if first && context.map_index.is_some_and(|index| index >= 2) {
                        context.cancel.cancelled().await;
                        return Err(JobError::interrupted());
                    }
                    Ok(JobOutput::new(json!(context.attempt)))
                }
            })
        }
    };
    let yaml = "dag: d\ntasks:\n  a: {job: slow, map: [0, 1, 2, 3, 4]}\n  b: {job: give, needs: [a], with: {value: '{{ tasks.a.output }}'}}\n";
    let dag = dag(yaml);
    let params = dag.params(&[]).unwrap();
    let first = Arc::new(runner(home.path(), [slow()]).await);
    let start = first.start_or_resume(&dag, &params).await.unwrap();
    let driving = tokio::spawn({
        let first = first.clone();
        async move { first.drive(start.run_id()).await }
    });
    while starts.load(Ordering::SeqCst) < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let began = Instant::now();
    first.interrupt();
    let error = driving.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Interrupted { run } if run == start.run_id()), "{error}");
    assert!(began.elapsed() < Duration::from_secs(3));

    let second = runner(home.path(), [slow()]).await;
    let again = second.start_or_resume(&dag, &params).await.unwrap();
    assert_eq!(again, Start::Resumed { run_id: start.run_id(), done_instances: 2 });
    let outcome = second.drive(again.run_id()).await.unwrap();
    assert_eq!(outcome.state, RunState::Succeeded);
    assert_eq!(second.store().output(outcome.run_id, "b").await.unwrap(), Some(json!([1, 1, 2, 2, 1])));
    let instances = second.store().instances(outcome.run_id).await.unwrap();
    assert!(instances.iter().all(|instance| instance.lost_in_a_row == 0));
    // Nothing is left of the locks of an ended run.
    let left: Vec<_> =
        std::fs::read_dir(home.path().join("locks")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["start.lock"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_drive_stops_its_jobs_and_the_run_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let (begun, stopped) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let hang = {
        let (begun, stopped) = (begun.clone(), stopped.clone());
        move || {
            let (begun, stopped) = (begun.clone(), stopped.clone());
            job("hang", move |context: pipeline::JobContext, _| {
                let (begun, stopped) = (begun.clone(), stopped.clone());
                async move {
                    if context.attempt > 1 {
                        return Ok(JobOutput::default());
                    }
                    begun.fetch_add(1, Ordering::SeqCst);
                    context.cancel.cancelled().await;
                    stopped.fetch_add(1, Ordering::SeqCst);
                    Err(JobError::interrupted())
                }
            })
        }
    };
    let dag = dag("dag: d\ntasks: {a: {job: hang}, b: {job: hang}}");
    let params = dag.params(&[]).unwrap();
    let first = runner(home.path(), [hang()]).await;
    let start = first.start_or_resume(&dag, &params).await.unwrap();
    let both_begin = async {
        while begun.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = first.drive(start.run_id()) => panic!("the run ended"),
        began = tokio::time::timeout(Duration::from_secs(30), both_begin) => began.expect("the jobs did not begin"),
    }
    let began = Instant::now();
    while stopped.load(Ordering::SeqCst) < 2 {
        assert!(began.elapsed() < Duration::from_secs(30), "the jobs were not told to stop");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(first);
    let second = runner(home.path(), [hang()]).await;
    let again = second.start_or_resume(&dag, &params).await.unwrap();
    assert_eq!(again, Start::Resumed { run_id: start.run_id(), done_instances: 0 });
    assert_eq!(second.drive(again.run_id()).await.unwrap().state, RunState::Succeeded);
}

#[tokio::test]
async fn a_run_is_resumed_only_for_the_same_text_and_parameters() {
    let home = tempfile::tempdir().unwrap();
    let text =
        "dag: d\nparams: {n: {type: integer, default: 1}}\ntasks: {a: {job: give, with: {value: '{{ params.n }}'}}}\n";
    let dag1 = dag(text);
    let dag2 = dag(&format!("{text}# changed\n"));
    let params = |n: &str| dag1.params(&[("n".to_string(), n.to_string())]).unwrap();
    // A home that starts a run and dies before driving it.
    let begun = async |dag: &pipeline::Dag, n: &str| {
        let runner = runner(home.path(), []).await;
        runner.start_or_resume(dag, &params(n)).await.unwrap()
    };
    let first = begun(&dag1, "1").await;
    assert!(matches!(first, Start::Started { .. }));
    assert_eq!(begun(&dag1, "1").await, Start::Resumed { run_id: first.run_id(), done_instances: 0 });
    assert!(matches!(begun(&dag1, "2").await, Start::Started { .. }));
    assert!(matches!(begun(&dag2, "1").await, Start::Started { .. }));

    let runner = runner(home.path(), []).await;
    let start = runner.start_or_resume(&dag1, &params("1")).await.unwrap();
    runner.drive(start.run_id()).await.unwrap();
    let next = runner.start_or_resume(&dag1, &params("1")).await.unwrap();
    assert!(matches!(next, Start::Started { run_id } if run_id != first.run_id()), "an ended run is not resumed");
    // Driving an ended run again only tells how it ended.
    assert_eq!(runner.drive(first.run_id()).await.unwrap().state, RunState::Succeeded);
}

#[tokio::test]
async fn a_live_owner_keeps_its_run() {
    let home = tempfile::tempdir().unwrap();
    let owner = runner(home.path(), []).await;
    let dag = dag("dag: d\ntasks: {a: {job: give}}");
    let params = dag.params(&[]).unwrap();
    let start = owner.start_or_resume(&dag, &params).await.unwrap();
    let other = runner(home.path(), []).await;
    for error in
        [other.start_or_resume(&dag, &params).await.unwrap_err(), other.drive(start.run_id()).await.unwrap_err()]
    {
        match error {
            Error::RunOwned { run, pid } => assert_eq!((run, pid), (start.run_id(), std::process::id())),
            error => panic!("{error}"),
        }
    }
    drop(owner);
    assert!(matches!(other.start_or_resume(&dag, &params).await.unwrap(), Start::Resumed { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told_while_jobs_work() {
    let home = tempfile::tempdir().unwrap();
    let steps = job("steps", |context: pipeline::JobContext, _| async move {
        for done in 0..=10 {
            context.progress(done, 10, &format!("picture {done}"));
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        Ok(JobOutput { value: json!(null), failures: 1, summary: "10 pictures".into() })
    });
    let runner = runner(home.path(), [steps]).await;
    let mut events = runner.events();
    run_in(&runner, "dag: d\ntasks:\n  a: {job: steps, map: [1, 2]}\n  b: {job: steps, needs: [a]}\n").await;
    let (mut names, mut seen_half, mut last) = (Vec::new(), false, 0);
    while let Ok((_, event)) = events.try_recv() {
        match event {
            RunEvent::RunStarted { tasks, .. } => names.push(format!("run of {}", tasks.len())),
            RunEvent::TaskStarted(progress) => names.push(format!("start {}", progress.task)),
            RunEvent::Progress(progress) if progress.task == "a" => {
                assert_eq!(progress.instances, 2);
                assert!(progress.items_done >= last);
                last = progress.items_done;
                seen_half |= progress.items_done > 0 && progress.items_done < 20 && progress.items_total == 20;
            }
            RunEvent::TaskFinished { progress, summary, .. } => {
                assert!(progress.seconds > 0.3, "{}", progress.seconds);
                names.push(format!("end {} {}/{} {summary}", progress.task, progress.items_done, progress.items_total));
            }
            RunEvent::RunFinished { state, failures, .. } => names.push(format!("{state} {failures}")),
            _ => {}
        }
    }
    assert!(seen_half);
    assert_eq!(
        names,
        ["run of 2", "start a", "end a 20/20 ", "start b", "end b 10/10 10 pictures", "succeeded with failures 3"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_may_make_the_tables_at_once() {
    let home = tempfile::tempdir().unwrap();
    let opened = (0..6).map(|_| {
        let path = home.path().to_path_buf();
        tokio::spawn(async move { store(&path).await.runs(1).await.unwrap().len() })
    });
    for one in opened.collect::<Vec<_>>() {
        assert_eq!(one.await.unwrap(), 0);
    }
}
