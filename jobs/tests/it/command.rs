//! Programs that end by themselves.

use std::time::{Duration, Instant};

use pipeline::job::MAX_OUTPUT_BYTES;
use pipeline::logs::Stream;
use pipeline::{JobError, Retry};
use serde_json::{Value, json};

use crate::common::{Attempt, assert_gone, command};

async fn fails(with: Value) -> JobError {
    command(with).await.unwrap_err()
}

async fn value(with: Value) -> Value {
    command(with).await.unwrap().value
}

#[tokio::test]
async fn the_last_line_is_the_output_and_all_lines_are_logged() {
    let attempt = Attempt::new();
    let script = r#"echo one; echo two >&2; echo; printf '{"n": 3}\n\n'; printf unfinished >&2"#;
    let output = attempt.run(json!({"shell": script})).await.unwrap();
    assert_eq!(output.value, json!({"n": 3}));
    assert_eq!(attempt.log.lines(Stream::Stdout), ["one", "", r#"{"n": 3}"#, ""]);
    assert_eq!(attempt.log.lines(Stream::Stderr), ["two", "unfinished"]);
}

#[tokio::test]
async fn outputs_are_of_the_kind_asked_for() {
    assert_eq!(value(json!({"command": ["echo", "done"]})).await, Value::Null);
    assert_eq!(value(json!({"command": ["echo", 42]})).await, json!(42));
    assert_eq!(value(json!({"command": ["echo", "42"], "output": "none"})).await, Value::Null);
    assert_eq!(value(json!({"command": ["printf", "a\nb\n"], "output": "text"})).await, json!("a\nb"));
    let error = fails(json!({"command": ["echo", "done"], "output": "json_last_line"})).await;
    assert_eq!(error.retry, Retry::No);
    assert!(error.message.contains("the last line of its stdout is no JSON"), "{error}");
}

#[tokio::test]
async fn the_output_file_goes_before_the_last_line() {
    let both = r#"echo '"stdout"'; echo '{"from": "file"}' > "$SAFARI_OUTPUT""#;
    assert_eq!(value(json!({"shell": both})).await, json!({"from": "file"}));
    let replaced = r#"echo '[1]' > new; mv new "$SAFARI_OUTPUT""#;
    let attempt = Attempt::new();
    let with = json!({"shell": replaced, "cwd": attempt.home.path()});
    assert_eq!(attempt.run(with).await.unwrap().value, json!([1]));
    assert_eq!(std::fs::read_dir(attempt.home.path()).unwrap().count(), 0);
    assert_eq!(value(json!({"shell": r#"echo 5; rm "$SAFARI_OUTPUT""#})).await, json!(5));
    assert_eq!(value(json!({"shell": r#"echo 5; rm "$SAFARI_OUTPUT"; mkfifo "$SAFARI_OUTPUT""#})).await, json!(5));
    let error = fails(json!({"shell": r#"echo words > "$SAFARI_OUTPUT""#})).await;
    assert!(error.message.contains("$SAFARI_OUTPUT is no JSON"), "{error}");
    assert_eq!(error.retry, Retry::No);
}

#[tokio::test]
async fn outputs_that_are_too_large_are_one_clear_error() {
    let limit = MAX_OUTPUT_BYTES;
    let digits = |count: usize| format!("head -c {count} /dev/zero | tr '\\0' 1");
    let largest = format!("printf '\"'; {}; echo '\"'", digits(limit - 2));
    assert_eq!(value(json!({"shell": largest})).await.as_str().map(str::len), Some(limit - 2));
    let too_large = [
        json!({"shell": format!("printf '[\"'; {}; echo '\"]'", digits(limit))}),
        json!({"shell": format!("({}) > $SAFARI_OUTPUT", digits(limit + 1))}),
        json!({"shell": digits(limit), "output": "text"}),
        json!({"shell": digits(limit * 2), "output": "json_last_line"}),
    ];
    for with in too_large {
        let error = fails(with.clone()).await;
        assert_eq!(error.retry, Retry::No);
        assert!(error.message.contains("more than the 262144 bytes allowed"), "{with}: {error}");
    }
    assert_eq!(value(json!({"shell": digits(limit * 2)})).await, Value::Null);
}

#[tokio::test]
async fn the_environment_has_what_it_should_and_nothing_else() {
    let attempt = Attempt::new();
    let with = json!({
        "command": ["env"], "env": {"GREETING": "hello = world", "COUNT": 3}, "env_pass": ["CARGO_PKG_NAME", "NOT_SET"],
    });
    attempt.run(with).await.unwrap();
    let lines = attempt.log.lines(Stream::Stdout);
    let given = |name: &str| lines.iter().find_map(|line| line.strip_prefix(&format!("{name}=")).map(str::to_owned));
    assert_eq!(given("GREETING").as_deref(), Some("hello = world"));
    assert_eq!(given("COUNT").as_deref(), Some("3"));
    assert_eq!(given("CARGO_PKG_NAME").as_deref(), Some("jobs"));
    assert_eq!(given("SAFARI_TASK").as_deref(), Some("work"));
    assert_eq!(given("SAFARI_ATTEMPT").as_deref(), Some("3"));
    assert_eq!(given("SAFARI_IDEMPOTENCY_KEY").as_deref(), Some("run-1/work"));
    assert_eq!(given("SAFARI_WORK_DIR"), Some(attempt.home.path().display().to_string()));
    assert!(given("SAFARI_RUN_ID").is_some() && given("SAFARI_OUTPUT").is_some() && given("PATH").is_some());
    // Cargo sets this one for the test itself.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let usual = ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "TRACEPARENT", "GREETING", "COUNT", "CARGO_PKG_NAME"];
    for line in &lines {
        let name = line.split('=').next().unwrap();
        assert!(usual.contains(&name) || name.starts_with("SAFARI_"), "{line}");
    }
}

#[tokio::test]
async fn exit_codes_decide() {
    let skipped = command(json!({"shell": "echo 5; exit 99"})).await.unwrap();
    assert_eq!((skipped.value, skipped.summary.as_str()), (Value::Null, "skipped (exit code 99)"));
    assert_eq!(value(json!({"shell": "echo 5; exit 3", "success_codes": [0, 3]})).await, json!(5));
    let error = fails(json!({"shell": "echo first >&2; printf '  \\033[31mlast\\033[0m  word\\n' >&2; exit 3"})).await;
    assert_eq!(
        error,
        JobError::transient("the shell ended with exit code 3; the end of its stderr: first | last word")
    );
    let error = fails(json!({"command": ["sh", "-c", "echo sorry; exit 75"]})).await;
    assert_eq!(error, JobError::transient("`sh` ended with exit code 75; the end of its stdout: sorry"));
    let error = fails(json!({"shell": "no-such-program-at-all"})).await;
    assert_eq!(error.retry, Retry::No);
    assert!(error.message.contains("exit code 127 (a program was not found"), "{error}");
    let error = fails(json!({"shell": "kill -9 $$"})).await;
    assert_eq!(error, JobError::transient("the shell was killed by SIGKILL, perhaps out of memory; it wrote nothing"));
}

#[tokio::test]
async fn the_shell_stops_at_the_first_failure() {
    let attempt = Attempt::new();
    attempt.run(json!({"shell": "false\necho after"})).await.unwrap_err();
    assert!(attempt.log.lines(Stream::Stdout).is_empty());
}

#[tokio::test]
async fn programs_that_cannot_start_say_what_to_do() {
    let attempt = Attempt::new();
    let script = attempt.home.path().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    for (with, part) in [
        (json!({"command": ["no-such-program-at-all"]}), "install it or give its full path"),
        (json!({"command": [script]}), "chmod +x"),
        (json!({"command": ["true"], "cwd": "/no/such/folder"}), "`cwd` /no/such/folder is no folder"),
        (json!({"command": ["echo", "a\u{0}b"]}), "a NUL character"),
        (json!({"command": ["echo", "x".repeat(4_000_000)]}), "through `stdin`"),
    ] {
        let error = attempt.run(with).await.unwrap_err();
        assert_eq!(error.retry, Retry::No, "{error}");
        assert!(error.message.contains(part), "{error}");
    }
}

#[tokio::test]
async fn input_is_given_and_need_not_be_read() {
    assert_eq!(value(json!({"command": ["cat"], "stdin": {"a": [1, "ü"]}})).await, json!({"a": [1, "ü"]}));
    assert_eq!(value(json!({"command": ["wc", "-c"], "stdin": "x".repeat(3_000_000)})).await, json!(3_000_000));
    assert_eq!(value(json!({"shell": "echo 1", "stdin": "x".repeat(3_000_000)})).await, json!(1));
    assert_eq!(value(json!({"shell": "cat; echo 2"})).await, json!(2));
}

#[tokio::test]
async fn the_folder_is_the_one_asked_for() {
    let attempt = Attempt::new();
    let with = json!({"command": ["pwd"], "cwd": attempt.home.path(), "output": "text"});
    assert_eq!(attempt.run(with).await.unwrap().value, json!(attempt.home.path().canonicalize().unwrap()));
}

#[tokio::test]
async fn secrets_show_nowhere() {
    let attempt = Attempt::with_secrets(&["open sesame"]);
    let script = r#"echo "with $KEY"; printf '{"key": "%s", "safe": 1}\n' "$KEY""#;
    let output = attempt.run(json!({"shell": script, "env": {"KEY": "open sesame"}})).await.unwrap();
    assert_eq!(output.value, json!({"key": "***", "safe": 1}));
    assert_eq!(attempt.log.lines(Stream::Stdout)[0], "with ***");
    let error = attempt.run(json!({"shell": "echo \"no $KEY\" >&2; exit 1", "env": {"KEY": "open sesame"}})).await;
    assert!(error.unwrap_err().message.ends_with("no ***"));
    assert_eq!(attempt.log.lines(Stream::Stderr), ["no ***"]);
}

#[tokio::test]
async fn bytes_that_are_no_text_are_replaced() {
    let attempt = Attempt::new();
    attempt.run(json!({"shell": "printf 'a\\377\\000b\\n'; head -c 300000 /dev/urandom"})).await.unwrap();
    let lines = attempt.log.lines(Stream::Stdout);
    assert_eq!(lines[0], "a\u{fffd}\u{0}b");
    assert!(lines.len() > 100, "{}", lines.len());
}

#[tokio::test]
async fn a_child_that_holds_the_output_is_not_waited_for() {
    let attempt = Attempt::new();
    let began = Instant::now();
    let output = attempt.run(json!({"shell": "sleep 1000 & echo group $$; echo '{\"a\": 1}'"})).await.unwrap();
    assert_eq!(output.value, json!({"a": 1}));
    assert!(began.elapsed() >= Duration::from_secs(2), "its last output was waited for");
    assert_gone(&attempt.log.line("group").await);
    assert!(attempt.log.line("the program has ended").await.contains("killed"));
}

#[tokio::test]
async fn a_child_that_writes_a_little_longer_is_heard() {
    let attempt = Attempt::new();
    let output = attempt.run(json!({"shell": "(sleep 0.3; echo 7) & echo 6"})).await.unwrap();
    assert_eq!(output.value, json!(7));
}

#[tokio::test]
async fn a_child_that_left_the_group_cannot_hang_the_attempt() {
    let attempt = Attempt::new();
    let script = "setsid sh -c 'echo escaped $$; : > escaped; exec sleep 1000' & \
                  while [ ! -e escaped ]; do sleep 0.01; done; echo group $$; echo 8";
    let result = attempt.run(json!({"shell": script, "cwd": attempt.home.path()})).await;
    let escaped = attempt.log.line("escaped").await;
    let killed = std::process::Command::new("kill").arg(&escaped).status().unwrap();
    assert!(killed.success(), "it was meant to stay");
    assert_eq!(result.unwrap().value, json!(8));
    assert_gone(&attempt.log.line("group").await);
}

#[tokio::test]
async fn children_without_pipes_do_not_stay_either() {
    let attempt = Attempt::new();
    attempt.run(json!({"shell": "sleep 1000 >/dev/null 2>&1 </dev/null & echo group $$"})).await.unwrap();
    assert_gone(&attempt.log.line("group").await);
}
