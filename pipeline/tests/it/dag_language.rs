//! Every key of the DAG language, and the exact message and place of every mistake in it.

use std::time::Duration;

use pipeline::Dag;
use pipeline::dag::{
    AlertEvent, AlertTarget, Cache, Continuous, DagSchedule, Resources, RetryPolicy, StreamSource, TriggerRule,
};
use serde_json::json;

use crate::common::dag;
use crate::dag_files::golden;

/// A DAG of one task, with these lines at its top.
fn with_lines(lines: &str) -> String {
    format!("dag: d\n{lines}\ntasks:\n  a: {{job: x}}\n")
}

/// A DAG whose task `b` has these keys as well.
fn with_task(keys: &str) -> String {
    format!("dag: d\ntasks:\n  a: {{job: x}}\n  b:\n    job: x\n    {keys}\n")
}

pub const WHOLE: &str = r#"
dag: survey
description: All keys that a scheduled DAG can have
params:
  source: {type: string, default: s3://media}
schedule: {cron: "0 3 * * *", zone: Europe/Berlin, start: 2026-01-01, end: 2026-12-31T06:00, catch_up: true}
max_active_runs: 2
timeout: 6h
deadline: 8h
priority: 5
defaults:
  retries: 3
  retry_delay: 2s
  retry_max_delay: 1m
  timeout: 1h
  pool: gpu
  slots: 2
  queue: night
  labels: {zone: eu-1}
  resources: {cpu: 0.5, memory: 2GiB, gpu: 1}
alerts:
  - {on: [failure, deadline], webhook: "https://hooks.example/{{ secrets.hook }}"}
  - {on: [retry, success], command: [notify-send, "{{ run.dag }} {{ interval.end | date('%H:%M') }}"]}
groups:
  prepare: {description: Gets the media}
  publish: {needs: [prepare]}
tasks:
  list: {job: list, group: prepare, with: {source: "{{ params.source }}", key: "{{ secrets.s3_key }}"}}
  fetch:
    job: fetch
    group: prepare
    needs: [list]
    map: "{{ tasks.list.output.files }}"
    with: {file: "{{ item }}", day: "{{ interval.start | date('%Y-%m-%d', zone='Europe/Berlin') }}"}
    retry_on:
      - {error: "no such key", retries: 0}
      - {error: "5[0-9]{2}", delay: 10s}
    task_timeout: 2h
    cache: {key: "{{ item.sha256 }}", ttl: 7d}
  table:
    job: append
    group: publish
    when: "{{ tasks.list.output.count > 0 }}"
    produces: [detections, s3://lake/media]
    cache: true
    priority: -7
    labels: {}
  tell: {dag: notify, params: {run: "{{ run.id }}"}, wait: false, needs: [publish], trigger: one_failed}
  sweep: {job: sweep, needs: [tell, table], trigger: always, when: true, cache: false, retries: 0}
"#;

pub const STREAM: &str = r#"
dag: stream
params: {prefix: {type: string, default: cameras}}
continuous: {source: "s3://media/{{ params.prefix }}/", max_batch: 50, max_age: 10s, max_in_flight: 2}
tasks:
  look: {job: look, map: "{{ batch.items }}", with: {file: "{{ item }}", batch: "{{ batch.id }}-{{ batch.number }}"}}
"#;

#[test]
fn the_whole_language_is_read() {
    let dag = dag(WHOLE);
    let DagSchedule::Time(timetable) = &dag.schedule else { panic!("{:?}", dag.schedule) };
    assert_eq!(timetable.schedule.to_string(), "0 3 * * * (Europe/Berlin)");
    assert!(timetable.catch_up);
    assert_eq!(timetable.start.unwrap().to_rfc3339(), "2025-12-31T23:00:00+00:00");
    assert_eq!(timetable.end.unwrap().to_rfc3339(), "2026-12-31T05:00:00+00:00");
    assert_eq!((dag.max_active_runs, dag.continuous.is_none()), (2, true));
    let hours = |count: u64| Some(Duration::from_secs(count * 3600));
    assert_eq!((dag.timeout, dag.deadline), (hours(6), hours(8)));
    assert_eq!(dag.alerts[0].on, [AlertEvent::Failure, AlertEvent::Deadline]);
    assert_eq!(dag.alerts[0].target, AlertTarget::Webhook("https://hooks.example/{{ secrets.hook }}".to_string()));
    assert!(matches!(&dag.alerts[1].target, AlertTarget::Command(words) if words.len() == 2));
    assert_eq!(dag.secret_uses().into_iter().collect::<Vec<_>>(), ["hook", "s3_key"]);
}

#[test]
fn tasks_have_their_own_settings_or_the_defaults() {
    let dag = dag(WHOLE);
    let fetch = dag.task("fetch").unwrap();
    assert_eq!((fetch.pool.as_str(), fetch.slots, fetch.priority), ("gpu", 2, 5));
    assert_eq!((fetch.queue.as_deref(), fetch.labels["zone"].as_str()), (Some("night"), "eu-1"));
    assert_eq!(fetch.resources, Resources { cpu_millis: 500, memory_bytes: 2 << 30, gpus: 1 });
    assert_eq!((fetch.timeout, fetch.task_timeout), (Some(Duration::from_secs(3600)), Some(Duration::from_secs(7200))));
    let policy = |message: &str| fetch.retry_policy(message);
    let max_delay = Some(Duration::from_secs(60));
    assert_eq!(policy("no such key"), RetryPolicy { retries: 0, delay: Duration::from_secs(2), max_delay });
    assert_eq!(policy("got 503"), RetryPolicy { retries: 3, delay: Duration::from_secs(10), max_delay });
    let (key, ttl) = (Some("{{ item.sha256 }}".to_string()), Some(Duration::from_secs(7 * 86_400)));
    assert_eq!(fetch.cache, Some(Cache { key, ttl }));

    let table = dag.task("table").unwrap();
    assert_eq!((table.priority, table.labels.len()), (-7, 0));
    assert_eq!(table.when, Some(json!("{{ tasks.list.output.count > 0 }}")));
    assert_eq!(table.produces, ["detections", "s3://lake/media"]);
    assert_eq!(table.cache, Some(Cache { key: None, ttl: None }));
    assert_eq!(dag.task("list").unwrap().secret_uses.len(), 1);
    let sweep = dag.task("sweep").unwrap();
    assert_eq!((sweep.retries, sweep.trigger, &sweep.cache), (0, TriggerRule::Always, &None));
}

#[test]
fn groups_stand_for_their_tasks() {
    let dag = dag(WHOLE);
    assert_eq!(dag.task("table").unwrap().needs, ["list", "fetch"]);
    assert_eq!(dag.task("tell").unwrap().needs, ["table"]);
    assert_eq!(dag.groups[1].needs, ["prepare"]);
    let prepare: Vec<&str> = dag.tasks_in("prepare").map(|task| task.id.as_str()).collect();
    assert_eq!(prepare, ["list", "fetch"]);
}

#[test]
fn a_task_with_dag_is_a_job_that_runs_it() {
    let read = dag(WHOLE);
    let tell = read.task("tell").unwrap();
    assert!(tell.runs_dag());
    assert_eq!(tell.job, "run_dag");
    assert_eq!(tell.with, json!({"dag": "notify", "params": {"run": "{{ run.id }}"}, "wait": false}));
    let short = dag("dag: d\ntasks: {a: {dag: other}}\n");
    assert_eq!(short.task("a").unwrap().with, json!({"dag": "other", "params": {}, "wait": true}));
}

#[test]
fn what_is_left_out_has_its_default() {
    let dag = dag("dag: d\ntasks: {a: {job: x}}\n");
    assert_eq!((&dag.schedule, dag.max_active_runs, dag.alerts.len()), (&DagSchedule::Manual, 16, 0));
    assert_eq!((dag.timeout, dag.deadline), (None, None));
    let task = dag.task("a").unwrap();
    assert_eq!((task.pool.as_str(), task.slots, task.priority, &task.queue), ("default", 1, 0, &None));
    assert_eq!((task.trigger, task.resources), (TriggerRule::AllSuccess, Resources::default()));
    assert_eq!(task.retry_policy("any").retries, 0);
}

#[test]
fn a_schedule_is_a_text_or_a_mapping() {
    let schedule = |lines: &str| dag(&with_lines(lines)).schedule;
    let by_time = |lines: &str| match schedule(lines) {
        DagSchedule::Time(timetable) => timetable.schedule.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(by_time("schedule: \"*/5 * * * *\""), "*/5 * * * * (UTC)");
    assert_eq!(by_time("schedule: {every: 90m}"), "every 1h30m");
    assert_eq!(schedule("schedule: {assets: [a, b, a]}"), DagSchedule::AllAssets(vec!["a".into(), "b".into()]));
    assert_eq!(schedule("schedule: {any_asset: [s3://a/b]}"), DagSchedule::AnyAsset(vec!["s3://a/b".into()]));
}

#[test]
fn a_continuous_dag_has_a_source() {
    let source = StreamSource::Folder("s3://media/{{ params.prefix }}/".to_string());
    let expected = Continuous { source, max_batch: 50, max_age: Duration::from_secs(10), max_in_flight: 2 };
    assert_eq!(dag(STREAM).continuous, Some(expected));
    let of = |lines: &str| dag(&with_lines(lines)).continuous.unwrap();
    let webhook = of("continuous: {webhook: uploads}");
    assert_eq!(webhook.source, StreamSource::Webhook("uploads".to_string()));
    assert_eq!((webhook.max_batch, webhook.max_age.as_secs(), webhook.max_in_flight), (100, 5, 4));
    let nats = of("continuous: {nats: {url: \"nats://h:4222\", stream: S, subject: media.>, consumer: safari}}");
    assert!(matches!(nats.source, StreamSource::Nats { subject, .. } if subject == "media.>"));
}

#[test]
fn mistakes_in_schedules() {
    golden(
        &with_lines(
            "schedule: {cron: \"0 24 * * *\", zone: Europe/Berlim, start: soon, end: 2026-13-01, catch_up: yes}",
        ),
        &[
            "d.yaml:2:21: hour `24` (column 3) is out of range; write 0-23: a number, `*`, a range `9-17`, a step `*/6`, or several with commas",
            "d.yaml:2:38: zone `Europe/Berlim` is not known; did you mean `Europe/Berlin`?; write a name of the IANA database such as `Europe/Berlin` or `UTC`",
            "d.yaml:2:60: start: `soon` is not a date; write `2026-01-31`, `2026-01-31T06:00` in the schedule's zone, or `2026-01-31T06:00:00Z`",
            "d.yaml:2:71: end: `2026-13-01` is not a date; write `2026-01-31`, `2026-01-31T06:00` in the schedule's zone, or `2026-01-31T06:00:00Z`",
            "d.yaml:2:93: `catch_up` must be true or false, but is a string",
        ],
    );
    golden(
        &with_lines("schedule: \"0 0 30 2 *\""),
        &[
            "d.yaml:2:16: day-of-month `30` (column 5) never comes in month `2`; give a day that the month has, or `L` for its last",
        ],
    );
    golden(
        &with_lines("schedule: {every: 5}"),
        &["d.yaml:2:19: every: `5` is not a length of time; write for example `500ms`, `30s`, `5m`, `2h` or `1h30m`"],
    );
    golden(
        &with_lines("schedule: {every: 1h, start: 2026-02-01, end: 2026-01-01}"),
        &["d.yaml:2:47: end: 2026-01-01T00:00:00Z is not after the start, 2026-02-01T00:00:00Z; give a later end"],
    );
    golden(
        &with_lines("schedule: 5"),
        &[
            "d.yaml:2:11: `schedule` must be a cron expression such as `\"0 3 * * *\"`, or a mapping with one of cron, every, assets, any_asset, but is a number",
        ],
    );
    golden(
        &with_lines("schedule: {cron: 5}"),
        &["d.yaml:2:18: `cron` must be a string, but is a number; put it in quotes"],
    );
    golden(
        &with_lines("schedule: {zone: UTC}"),
        &["d.yaml:2:11: `schedule` must have one of cron, every, assets, any_asset"],
    );
    golden(
        &with_lines("schedule: {cron: \"@daily\", every: 1h}"),
        &["d.yaml:2:28: `schedule` has both `cron` and `every`; keep one of them"],
    );
    golden(
        &with_lines("schedule: {assets: [a b, \"\"], zone: UTC, crom: x}"),
        &[
            "d.yaml:2:21: the asset `a b` must be a name or a URL of at most 256 characters without blanks and braces",
            "d.yaml:2:26: the asset `` must be a name or a URL of at most 256 characters without blanks and braces",
            "d.yaml:2:31: `zone` has a meaning only with `cron` or `every`; remove it",
            "d.yaml:2:42: unknown key `crom` in `schedule`; did you mean `cron`?",
        ],
    );
    golden(&with_lines("schedule: {any_asset: []}"), &["d.yaml:2:23: `any_asset` is empty; name at least one asset"]);
    golden(
        &with_lines("schedule: {any_asset: a}"),
        &["d.yaml:2:23: `any_asset` must be a list such as `[detections]`, but is a string"],
    );
}

#[test]
fn mistakes_in_limits_and_defaults() {
    golden(
        &with_lines(
            "max_active_runs: 0\ntimeout: 0s\ndeadline: 1\npriority: 101\ndefaults: {retries: 1001, trigger: always, pool: a b, slots: 0}",
        ),
        &[
            "d.yaml:2:18: `max_active_runs` must be at least 1",
            "d.yaml:3:10: `timeout` must be longer than nothing",
            "d.yaml:4:11: `deadline`: `1` is not a length of time; write for example `500ms`, `30s`, `5m`, `2h` or `1h30m`",
            "d.yaml:5:11: `priority` must be a whole number from -100 to 100; the greatest goes first",
            "d.yaml:6:21: `retries` may be at most 1000",
            "d.yaml:6:27: unknown key `trigger` in `defaults`; known: retries, retry_delay, retry_max_delay, timeout, pool, slots, priority, queue, labels, resources, executor, kubernetes",
            "d.yaml:6:50: the pool `a b` must be at most 64 letters, digits, `_` and `-`, the first a letter",
            "d.yaml:6:62: `slots` must be at least 1",
        ],
    );
}

#[test]
fn mistakes_in_alerts() {
    golden(
        &with_lines(
            "alerts:\n  - {on: [failed, failure], webhook: ftp://h}\n  - {webhook: https://h, command: [a]}\n  - {on: [], command: []}\n  - {on: [retry]}\n  - \n  - 3\n  - {on: retry, webhook: \"https://{{ tasks.a.output }}/{{ item }}/{{ secrets }}\"}",
        ),
        &[
            "d.yaml:3:11: unknown entry `failed` of `on`; known: failure, retry, deadline, success",
            "d.yaml:3:38: `webhook` must be a URL that starts with `https://` or `http://`",
            "d.yaml:4:5: an alert has no `on`; add a list of failure, retry, deadline, success",
            "d.yaml:4:26: an alert has both `webhook` and `command`; make two alerts of it",
            "d.yaml:5:10: `on` is empty; give at least one of failure, retry, deadline, success",
            "d.yaml:5:23: `command` names no program; give `[program, argument]`",
            "d.yaml:6:5: an alert tells nobody; add `webhook: URL` or `command: [program, argument]`",
            "d.yaml:7:5: an alert is empty; give `on` and `webhook` or `command`",
            "d.yaml:8:5: an alert must be a mapping (`key: value` lines), but is a number",
            "d.yaml:9:10: `on` must be a list such as `[failure]`, but is a string",
            "d.yaml:9:70: name the secret: `secrets.<name>`",
        ],
    );
    golden(
        &with_lines("alerts: {}"),
        &["d.yaml:2:9: `alerts` must be a list of mappings such as `{on: [failure], webhook: URL}`, but is a mapping"],
    );
    golden(
        &with_lines(
            "alerts: [{on: [retry], command: [x, \"{{ tasks.a.output }}\", \"{{ item }}\", \"{{ batch.id }}\"]}]",
        ),
        &[
            "d.yaml:2:41: `alerts` belongs to no task and cannot use outputs of tasks",
            "d.yaml:2:65: `item` is known only in `with` of a task that has `map`",
            "d.yaml:2:79: `batch` is known only in tasks and alerts of a DAG with `continuous`",
        ],
    );
}

#[test]
fn mistakes_in_groups() {
    golden(
        "dag: d\ngroups:\n  a: {}\n  g: {needs: [g], neds: 1}\n  h: {needs: [zz]}\n  x-y:\ntasks:\n  a: {job: x, group: gg}\n  b: {job: x, group: g, needs: [hh]}\n  c: {job: x, group: h, with: {v: \"{{ tasks.a.output }}\"}}\n",
        &[
            "d.yaml:3:3: group `a` has no tasks; write `group: a` in a task, or remove it",
            "d.yaml:3:3: group `a` has the name of a task; give it another",
            "d.yaml:4:15: group `g` needs itself",
            "d.yaml:4:19: unknown key `neds` in group `g`; did you mean `needs`?",
            "d.yaml:5:15: group `h` needs unknown task `zz`; known: a, b, c, a, g, x-y",
            "d.yaml:6:3: group `x-y` has no tasks; write `group: x-y` in a task, or remove it",
            "d.yaml:6:3: group `x-y` must be at most 64 letters, digits and `_`, the first a letter",
            "d.yaml:8:22: task `a` is in unknown group `gg`; did you mean `g`?",
            "d.yaml:9:33: task `b` needs unknown task `hh`; did you mean `h`?",
        ],
    );
    golden(
        "dag: d\ntasks: {a: {job: x, group: g}}\n",
        &["d.yaml:2:28: task `a` is in unknown group `g`; add `groups: {g: {}}` to the DAG"],
    );
    golden(
        "dag: d\ngroups:\n  g: {needs: [c]}\n  h: {}\ntasks:\n  a: {job: x, group: g}\n  b: {job: x, group: h, needs: [h]}\n  c: {job: x, needs: [g], with: {v: \"{{ tasks.a.output }}\"}}\n",
        &[
            "d.yaml:6:3: tasks need one another in a circle: a → group g → c → group g → a; remove one of these needs",
            "d.yaml:7:3: tasks need one another in a circle: b → group h → b; remove one of these needs",
        ],
    );
}

#[test]
fn groups_that_link_too_many_tasks_are_told() {
    let mut yaml = "dag: d\ngroups: {g: {}, h: {needs: [g]}}\ntasks:\n".to_string();
    for (group, count) in [("g", 1_001), ("h", 500)] {
        for task in 0..count {
            yaml.push_str(&format!("  {group}{task}: {{job: x, group: {group}}}\n"));
        }
    }
    golden(
        &yaml,
        &["d.yaml:1504:3: the tasks need one another more than 500000 times; put a task between two large groups"],
    );
}

#[test]
fn mistakes_in_continuous() {
    golden(
        &with_lines("schedule: \"@daily\"\ncontinuous: {max_batch: 0, max_age: 0s, max_in_flight: x, surce: a}"),
        &[
            "d.yaml:3:1: the DAG has both `schedule` and `continuous`; keep one of them",
            "d.yaml:3:13: `continuous` must have one of source, webhook, nats",
            "d.yaml:3:25: `max_batch` must be at least 1",
            "d.yaml:3:37: `max_age` must be longer than nothing",
            "d.yaml:3:56: `max_in_flight` must be a whole number from 0 to 4294967295",
            "d.yaml:3:59: unknown key `surce` in `continuous`; did you mean `source`?",
        ],
    );
    golden(
        &with_lines("continuous: {source: a, webhook: b c}"),
        &[
            "d.yaml:2:25: `continuous` has both `source` and `webhook`; keep one of them",
            "d.yaml:2:34: the webhook `b c` must be at most 64 letters, digits, `_` and `-`, the first a letter",
        ],
    );
    golden(
        &with_lines("continuous: {nats: {url: \"\", stream: S}}"),
        &[
            "d.yaml:2:14: `nats` has no `consumer`; add it",
            "d.yaml:2:14: `nats` has no `subject`; add it",
            "d.yaml:2:26: `url` is empty",
        ],
    );
    golden(
        &with_lines("continuous: {source: \"{{ run.id }}{{ interval.end }}{{ batch.id }}{{ secrets.a }}\"}"),
        &[
            "d.yaml:2:26: `source` holds for all runs and cannot use `run`",
            "d.yaml:2:38: `source` holds for all runs and cannot use `interval`",
            "d.yaml:2:56: `batch` is known only in tasks and alerts of a DAG with `continuous`",
            "d.yaml:2:70: `source` cannot use secrets: its value is kept; use them in `with` or `alerts`",
        ],
    );
}

#[test]
fn mistakes_in_what_a_task_does() {
    golden(
        "dag: d\ntasks:\n  a: {job: x, dag: y}\n  b: {dag: y z, with: {}, wait: 1}\n  c: {job: x, params: {}, wait: true}\n  e: {dag: y, params: [1]}\n",
        &[
            "d.yaml:3:15: task `a` has both `job` and `dag`; keep one of them",
            "d.yaml:4:12: the DAG's name `y z` must be at most 64 letters, digits, `_` and `-`, the first a letter",
            "d.yaml:4:17: `with` belongs to `job`; give a DAG its `params`",
            "d.yaml:4:33: `wait` must be true or false, but is a number",
            "d.yaml:5:15: `params` belongs to `dag`; give a job `with`",
            "d.yaml:5:27: `wait` belongs to `dag`; give a job `with`",
            "d.yaml:6:23: `params` must be a mapping (`key: value` lines), but is a list",
        ],
    );
}

#[test]
fn mistakes_in_when_and_trigger() {
    golden(
        &with_task("when: 3"),
        &["d.yaml:6:11: `when` must be true, false or a template that gives one, but is a number"],
    );
    golden(
        &with_task("when: yes please"),
        &["d.yaml:6:11: `when` must be true, false or a template that gives one, but is a string"],
    );
    golden(
        &with_task("when: \"not {{ params }}\""),
        &["d.yaml:6:11: `when` must be one whole expression `{{ … }}`; this gives a text"],
    );
    golden(
        &with_task("when: \"{{ 1 + }}\""),
        &["d.yaml:6:19: not a readable template: syntax error: unexpected end of variable block"],
    );
    golden(
        &with_task("when: \"{{ tasks.a.output or item or secrets.a }}\""),
        &[
            "d.yaml:6:15: task `b` uses the output of `a` but does not need it; add `a` to its `needs`",
            "d.yaml:6:33: `item` is known only in `with` of a task that has `map`",
            "d.yaml:6:41: `when` cannot use secrets: its value is kept; use them in `with` or `alerts`",
        ],
    );
    golden(
        &with_task("trigger: all_sucess"),
        &["d.yaml:6:14: unknown trigger `all_sucess`; did you mean `all_success`?"],
    );
    golden(
        &with_task("trigger: one_failed"),
        &["d.yaml:6:14: task `b` has `trigger: one_failed` but needs no task; add `needs`"],
    );
}

#[test]
fn mistakes_in_retry_rules() {
    golden(
        &with_task(
            "retry_on: [{error: \"(a\", retries: 1}, {error: a}, {retries: 1}, {error: \"\", delay: x}, 3, {error: \"a{9999}{9999}\", retries: 1}]",
        ),
        &[
            "d.yaml:6:24: `error` is not a readable pattern: unclosed group; put `\\` before a sign that stands for itself",
            "d.yaml:6:43: a rule of `retry_on` changes nothing; add `retries` or `delay`",
            "d.yaml:6:55: a rule of `retry_on` has no `error`; add a text or pattern that is found in the message",
            "d.yaml:6:77: `error` is empty; write `.` for any error",
            "d.yaml:6:88: `delay`: `x` is not a length of time; write for example `500ms`, `30s`, `5m`, `2h` or `1h30m`",
            "d.yaml:6:92: a rule of `retry_on` must be a mapping (`key: value` lines), but is a number",
            "d.yaml:6:103: `error` is not a readable pattern: it is too large; repeat fewer times",
        ],
    );
    golden(
        &with_task("retry_on: timeout"),
        &[
            "d.yaml:6:15: `retry_on` must be a list of rules such as `{error: \"timed out\", retries: 5}`, but is a string",
        ],
    );
}

#[test]
fn mistakes_in_settings_of_a_task() {
    golden(
        &with_task(
            "task_timeout: 0s\n    retry_max_delay: 0s\n    priority: high\n    queue: a b\n    labels: {\"a b\": c, d: 1}\n    resources: {cpu: 0, memory: 2G, gpu: -1, disk: 1}\n    produces: []",
        ),
        &[
            "d.yaml:6:19: `task_timeout` must be longer than nothing",
            "d.yaml:7:22: `retry_max_delay` must be longer than nothing",
            "d.yaml:8:15: `priority` must be a whole number from -100 to 100; the greatest goes first",
            "d.yaml:9:12: the queue `a b` must be at most 64 letters, digits, `_` and `-`, the first a letter",
            "d.yaml:10:14: label `a b: c` must have a name and a value of letters, digits, `_`, `-`, `.` and `/`",
            "d.yaml:10:27: label `d` must be a string, but is a number; put it in quotes",
            "d.yaml:11:22: `cpu` must be a number of cores from 0.001 to 10000, such as `0.5`",
            "d.yaml:11:33: `memory`: `2G` is not a size; write for example `512MiB`, `2GiB` or `1.5GB`",
            "d.yaml:11:42: `gpu` must be a whole number from 0 to 4294967295",
            "d.yaml:11:46: unknown key `disk` in `resources`; known: cpu, memory, gpu",
            "d.yaml:12:15: `produces` is empty; name at least one asset",
        ],
    );
}

#[test]
fn mistakes_in_caches_and_where_secrets_may_stand() {
    golden(
        &with_task("cache: 1"),
        &["d.yaml:6:12: `cache` must be true, false or a mapping with `key` and `ttl`, but is a number"],
    );
    golden(
        &with_task("cache: {key: \"{{ item }}{{ secrets.a }}\", ttl: 0s, tll: 1s}"),
        &[
            "d.yaml:6:22: `item` is known only in `with` of a task that has `map`",
            "d.yaml:6:32: `cache.key` cannot use secrets: its value is kept; use them in `with` or `alerts`",
            "d.yaml:6:52: `ttl` must be longer than nothing",
            "d.yaml:6:56: unknown key `tll` in `cache`; did you mean `ttl`?",
        ],
    );
    golden(
        &with_task("map: \"{{ secrets.a }}\""),
        &["d.yaml:6:14: `map` cannot use secrets: its value is kept; use them in `with` or `alerts`"],
    );
    golden(
        &with_task("with: {a: \"{{ batch.items }}\"}"),
        &["d.yaml:6:19: `batch` is known only in tasks and alerts of a DAG with `continuous`"],
    );
    golden(
        "dag: d\ntasks:\n  a: {dag: other, params: {token: \"{{ secrets.a }}\"}}\n",
        &["d.yaml:3:39: `params` cannot use secrets: its value is kept; use them in `with` or `alerts`"],
    );
    assert!(Dag::parse("d.yaml", &with_task("with: {a: \"{{ secrets.a }}\"}")).is_ok());
}

#[test]
fn a_schedule_needs_defaults() {
    let lines = "params: {source: {type: string}, size: {type: integer, default: 1}}\nschedule: \"@daily\"";
    golden(&with_lines(lines), &["d.yaml:3:1: a schedule gives no parameters; add a default to parameter `source`"]);
    let lines = "params: {source: {type: string}}\ncontinuous: {webhook: new}";
    golden(&with_lines(lines), &["d.yaml:3:1: a source gives no parameters; add a default to parameter `source`"]);
}
