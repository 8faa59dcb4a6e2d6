//! `safari server` and the commands around it, as an operator uses them.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use common::{Server, root, safari, said, wait_until};

#[test]
fn a_server_does_what_is_triggered_and_drains_on_sigterm() {
    let home = tempfile::tempdir().unwrap();
    let (dags, photos) = (home.path().join("dags"), home.path().join("photos"));
    std::fs::create_dir_all(&dags).unwrap();
    std::fs::create_dir_all(&photos).unwrap();
    std::fs::copy(root().join("dags/detect.yaml"), dags.join("detect.yaml")).unwrap();
    std::fs::copy(root().join("data-samples/farmyard/cow.jpg"), photos.join("cow.jpg")).unwrap();
    let mut server = serve(home.path(), &dags);

    wait_until("the dag is read", || said(home.path(), &["dag", "list"]).contains("detect"));
    let source = format!("source={}", photos.display());
    let run = said(home.path(), &["trigger", "detect", "--param", &source]).trim().to_owned();
    wait_until("the run ends", || said(home.path(), &["run", "show", &run]).contains("succeeded, manual"));
    let shown = said(home.path(), &["run", "show", &run]);
    assert!(shown.contains("infer") && shown.contains("1 of 1") && shown.contains("data interval"), "{shown}");
    let listed = said(home.path(), &["run", "list"]);
    assert!(listed.contains(&run) && listed.contains("manual"), "{listed}");
    let counted = said(home.path(), &["sql", "--format", "csv", "select count(*) from media"]);
    assert!(counted.contains("\n1"), "{counted}");
    said(home.path(), &["dag", "pause", "detect"]);
    assert!(said(home.path(), &["dag", "list"]).contains("paused"));

    terminate(&mut server);
}

#[test]
fn runs_go_on_the_past_is_run_and_assets_start_runs() {
    let home = tempfile::tempdir().unwrap();
    let dags = home.path().join("dags");
    std::fs::create_dir_all(&dags).unwrap();
    let ready = home.path().join("ready");
    let shaky = format!(
        "dag: shaky\ntasks:\n  first: {{job: command, with: {{command: [echo, '{{\"n\": 1}}']}}}}\n  \
         second: {{job: command, needs: [first], with: {{command: [test, -e, '{}']}}}}\n",
        ready.display()
    );
    std::fs::write(dags.join("shaky.yaml"), shaky).unwrap();
    let nightly = "dag: nightly\nschedule: '0 4 * * *'\ntasks:\n  a: {job: command, with: {command: ['true']}}\n";
    std::fs::write(dags.join("nightly.yaml"), nightly).unwrap();
    let follower =
        "dag: follower\nschedule: {assets: [cameras]}\ntasks:\n  a: {job: command, with: {command: ['true']}}\n";
    std::fs::write(dags.join("follower.yaml"), follower).unwrap();
    let mut server = serve(home.path(), &dags);
    let asked = |args: &[&str]| said(home.path(), args).trim().to_owned();
    wait_until("the dags are read", || said(home.path(), &["dag", "list"]).matches("\n").count() > 3);

    let run = asked(&["trigger", "shaky"]);
    wait_until("the run fails", || asked(&["run", "show", &run]).contains("failed, manual"));
    let log = asked(&["logs", &run]);
    assert!(log.contains(" first stdout {\"n\": 1}\n") && log.contains(" second error  attempt 1 failed: "), "{log}");
    std::fs::write(&ready, "").unwrap();
    asked(&["run", "resume", &run]);
    wait_until("the run goes on", || asked(&["run", "show", &run]).contains("succeeded, manual"));
    let told = asked(&["task", "clear", &run, "first", "--only"]);
    assert!(told.ends_with("is queued again: first"), "{told}");
    wait_until("the task is done again", || asked(&["run", "show", &run]).contains("succeeded, manual"));

    let first = std::fs::read_to_string(dags.join("shaky.yaml")).unwrap();
    std::fs::write(dags.join("shaky.yaml"), first.replace("dag: shaky", "dag: shaky\ndescription: It fails")).unwrap();
    let file = dags.join("shaky.yaml").display().to_string();
    wait_until("the new version is read", || asked(&["dag", "diff", "shaky", "--file", &file]) == "no difference");
    let versions = asked(&["dag", "versions", "shaky"]);
    let lines: Vec<&str> = versions.lines().collect();
    assert!(lines.len() == 3 && lines[1].ends_with("current") && lines[2].contains("     1  "), "{versions}");
    let diff = asked(&["dag", "diff", "shaky"]);
    assert!(diff.contains("\n dag: shaky\n+description: It fails\n") && diff.starts_with("--- shaky "), "{diff}");
    assert_eq!(asked(&["dag", "text", "shaky", &lines[2][..8]]), first.trim());
    assert_eq!(asked(&["cache", "clear"]), "0 outputs forgotten");

    let backfill = asked(&["backfill", "nightly", "--from", "2026-03-01", "--to", "2026-03-05", "--max-active", "1"]);
    let done =
        || asked(&["backfill", "list"]).lines().any(|line| line.starts_with(&backfill) && line.contains("ended"));
    wait_until("the past is run", done);
    let nights = || asked(&["run", "list"]).lines().filter(|line| line.contains("nightly")).count();
    assert_eq!(nights(), 3, "{}", asked(&["run", "list"]));

    asked(&["asset", "update", "cameras"]);
    wait_until("the follower runs", || {
        asked(&["run", "list"]).lines().any(|line| line.contains("follower") && line.contains("succeeded"))
    });
    assert!(asked(&["asset", "list"]).contains("cameras"));

    std::fs::remove_file(&ready).unwrap();
    let run = asked(&["trigger", "shaky"]);
    wait_until("the run fails", || asked(&["run", "show", &run]).contains("failed, manual"));
    terminate(&mut server);
    std::fs::write(&ready, "").unwrap();
    let output = safari(home.path()).args(["run", "resume", "--here", &run]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(asked(&["run", "show", &run]).contains("succeeded, manual"));

    let log = asked(&["logs", &run, "second", "--json", "--attempt", "2", "--follow"]);
    assert!(log.lines().last().unwrap().contains("\"message\":\"attempt 2 succeeded\""), "{log}");
    let would = asked(&["history", "clean", "--older-than", "0s", "--dry-run"]);
    let removed = asked(&["history", "clean", "--older-than", "0s"]);
    assert!(removed.starts_with(&would.replace("would remove", "removed")), "{would} {removed}");
    assert!(!asked(&["run", "list"]).contains(&run));
}

/// As Kubernetes evicts a pod: SIGTERM, SIGKILL when the time to end is over, and another one under the same name.
#[test]
fn a_task_that_does_not_end_while_its_worker_is_evicted_is_done_by_the_next() {
    let home = tempfile::tempdir().unwrap();
    let dags = home.path().join("dags");
    std::fs::create_dir_all(&dags).unwrap();
    let told = home.path().join("told");
    // The first attempt takes too long.
    let script = "echo $SAFARI_IDEMPOTENCY_KEY $$ >> $TOLD; test $SAFARI_ATTEMPT -gt 1 || exec sleep 300";
    let dag = format!(
        "dag: slow\ntasks:\n  a: {{job: command, with: {{command: [sh, -c, '{script}'], env: {{TOLD: '{}'}}}}}}\n  \
         b: {{job: command, needs: [a], with: {{command: ['true']}}}}\n",
        told.display()
    );
    std::fs::write(dags.join("slow.yaml"), dag).unwrap();
    let role = |args: &[&str]| {
        let mut command = safari(home.path());
        command.args(["--set", "run.lease_seconds=1"]).args(args);
        Server::start(command)
    };
    let _scheduler = role(&["scheduler", "--dags", &dags.display().to_string()]);
    let mut worker = role(&["worker"]);
    wait_until("the dag is read", || said(home.path(), &["dag", "list"]).contains("slow"));
    let run = said(home.path(), &["trigger", "slow"]).trim().to_owned();
    let lines =
        || -> Vec<String> { std::fs::read_to_string(&told).unwrap_or_default().lines().map(str::to_owned).collect() };
    wait_until("the task begins", || lines().len() == 1);

    let signal = |name: &str, pid: &str| Command::new("kill").args([name, pid]).status().unwrap().success();
    assert!(signal("-TERM", &worker.0.id().to_string()));
    std::thread::sleep(Duration::from_millis(500));
    assert!(worker.0.try_wait().unwrap().is_none(), "it does not wait for its task");
    drop(worker);
    // In a pod the program would die with its worker.
    assert!(signal("-KILL", lines()[0].split(' ').nth(1).unwrap()));
    assert!(said(home.path(), &["run", "show", &run]).contains("running, manual"));

    let _next = role(&["worker"]);
    wait_until("the run ends", || said(home.path(), &["run", "show", &run]).contains("succeeded, manual"));
    let keys: Vec<String> = lines().iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(keys, [format!("{run}/a"), format!("{run}/a")]);
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let output = safari(home.path()).args(["trigger", "nothing"]).output().unwrap();
    assert_error(&output, "no dag named `nothing` is known");
    let output =
        safari(home.path()).args(["server", "--listen", "127.0.0.1:0", "--dags", "/no/such/folder"]).output().unwrap();
    assert_error(&output, "/no/such/folder: there is no such folder");
    let output = safari(home.path()).args(["server", "--listen", "0.0.0.0:0"]).output().unwrap();
    assert_error(&output, "can be reached from other machines");
    let output = safari(home.path()).args(["run", "show", "019a0000-0000-7000-8000-000000000000"]).output().unwrap();
    assert_error(&output, "list the runs to find its id");

    let file = home.path().join("bad.yaml");
    std::fs::write(&file, "dag: bad\ntasks:\n  a: {job: ingets, needs: [b]}\n").unwrap();
    let good = root().join("dags/detect.yaml");
    let output = safari(home.path()).args(["dag", "check"]).args([&file, &good]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("bad.yaml:3:") && told.contains('b'), "{told}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("dag detect, 3 tasks, no mistakes"));
}

#[test]
fn the_schema_is_json_and_a_dag_is_drawn() {
    let home = tempfile::tempdir().unwrap();
    let schema: serde_json::Value = serde_json::from_str(&said(home.path(), &["dag", "schema"])).unwrap();
    assert!(schema["$schema"].as_str().unwrap().contains("2020-12"));
    let drawn = said(home.path(), &["dag", "show", "dags/detect.yaml"]);
    assert!(drawn.starts_with("flowchart") && drawn.contains("ingest") && drawn.contains("-->"), "{drawn}");
}

/// A server that reads a folder of DAG files.
fn serve(home: &Path, dags: &Path) -> Server {
    let mut command = safari(home);
    command.args(["server", "--listen", "127.0.0.1:0", "--dags"]).arg(dags);
    Server::start(command)
}

/// Asks it to end, which it does well.
fn terminate(server: &mut Server) {
    let pid = server.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let status = server.0.wait().unwrap();
    assert!(status.success(), "{status}");
}

fn assert_error(output: &Output, words: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(words) && told.matches("error: ").count() == 1, "{told}");
}
