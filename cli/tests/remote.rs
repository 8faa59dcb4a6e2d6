//! The commands that ask a server with `--server`, beside the same that ask the state database.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A server of the program and where it answers.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// Starts it, and reads in its log where it answers.
    fn start(home: &Path, args: &[&str]) -> Self {
        let mut command = safari(home, None);
        command.args(args).args(["--listen", "127.0.0.1:0"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let url = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "the server has ended before it answered");
            if let Some((_, rest)) = line.split_once("http://") {
                let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
                break format!("http://{}", &rest[..end]);
            }
        };
        // Read on, so that it never waits to write.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, url }
    }

    /// Asks it to end, which it does well although somebody follows its runs.
    fn terminate(&mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_command_that_cannot_ask_a_server_says_so() {
    let home = tempfile::tempdir().unwrap();
    for args in [&["stream", "list"][..], &["cache", "clear"], &["dag", "versions", "x"]] {
        let output = safari(home.path(), Some("http://127.0.0.1:9")).args(args).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("does not ask a server"), "{told}");
    }
}

#[test]
fn a_server_is_asked_as_the_state_database_is() {
    let home = tempfile::tempdir().unwrap();
    let ready = home.path().join("ready");
    let dags = write_dags(home.path(), &ready);
    let mut server = Server::start(home.path(), &["server", "--dags", &dags]);
    let mut api = Server::start(home.path(), &["api"]);
    let url = api.url.clone();
    let here = |args: &[&str]| said(home.path(), None, args);
    let there = |args: &[&str]| said(home.path(), Some(&url), args);
    let same = |args: &[&str]| {
        let (here, there) = (here(args), there(args));
        assert_eq!(here, there, "{args:?}");
        there
    };
    wait_until("the dags are read", || there(&["dag", "list"]).lines().count() == 4);

    there(&["dag", "pause", "nightly"]);
    assert!(same(&["dag", "list"]).lines().any(|line| line.starts_with("nightly") && line.contains("paused")));
    there(&["dag", "resume", "nightly"]);
    assert!(!same(&["dag", "list"]).contains("paused"));

    let mut all = Following::start(home.path(), &url, &[]);
    let run = there(&["trigger", "shaky", "--param", "n=7"]).trim().to_owned();
    let watched = output(home.path(), Some(&url), &["run", "watch", &run]);
    assert_eq!(watched.status.code(), Some(1));
    assert!(text(&watched.stdout).trim_end().ends_with("shaky  failed"), "{watched:?}");
    assert!(text(&watched.stderr).contains(&format!("run {run} failed: task `second`")), "{watched:?}");
    all.sees(&run, "failed");
    let again = output(home.path(), None, &["run", "watch", &run]);
    let last = |output: &Output| text(&output.stdout).lines().last().unwrap().to_owned();
    assert_eq!((last(&again), &again.stderr), (last(&watched), &watched.stderr), "the database says the same");

    std::fs::write(&ready, "").unwrap();
    assert_eq!(there(&["run", "resume", &run]), format!("run {run} is queued again\n"));
    assert!(output(home.path(), Some(&url), &["run", "watch", &run]).status.success());
    let told = there(&["task", "clear", &run, "first", "--only"]);
    assert_eq!(told, format!("run {run} is queued again: first\n"));
    assert!(output(home.path(), None, &["run", "watch", &run]).status.success());
    let shown = same(&["run", "show", &run]);
    assert!(shown.contains("succeeded, manual") && shown.contains("first"), "{shown}");
    assert_eq!(there(&["run", "cancel", &run]), format!("run {run} succeeded\n"));
    assert!(same(&["run", "list"]).contains(&run));
    assert!(same(&["run", "list", "--dag", "shaky", "--state", "succeeded", "--cause", "manual"]).contains(&run));
    assert!(!same(&["run", "list", "--state", "cancelled"]).contains(&run));

    let past = ["backfill", "nightly", "--from", "2026-03-01", "--to", "2026-03-05", "--max-active", "1"];
    let backfill = there(&past).trim().to_owned();
    wait_until("the past is run", || {
        there(&["backfill", "list", "--dag", "nightly"])
            .lines()
            .any(|line| line.starts_with(&backfill) && line.contains("ended"))
    });
    same(&["backfill", "list"]);
    let ended = there(&["backfill", "cancel", &backfill]);
    assert!(ended.contains(&backfill) && ended.contains("ended"), "{ended}");
    assert_eq!(same(&["run", "list", "--limit", "2"]).lines().count(), 3);

    assert_eq!(there(&["asset", "update", "cameras"]), "cameras updated\n");
    assert!(same(&["asset", "list", "cameras"]).contains("cameras"));
    wait_until("the follower runs", || there(&["run", "list", "--dag", "follower"]).contains("succeeded"));

    for args in [
        &["trigger", "nothing"][..],
        &["trigger", "shaky", "--param", "n=x"],
        &["trigger", "shaky", "--param", "n=1", "--param", "n=2"],
        &["run", "show", "019a0000-0000-7000-8000-000000000000"],
        &["run", "watch", "019a0000-0000-7000-8000-000000000000"],
        &["task", "clear", &run, "third"],
        &["dag", "pause", "nothing"],
        &["backfill", "shaky", "--from", "2026-03-01"],
        &["asset", "update", "two words"],
    ] {
        let (here, there) = (output(home.path(), None, args), output(home.path(), Some(&url), args));
        assert_eq!((here.status.code(), there.status.code()), (Some(1), Some(1)), "{args:?}");
        let moving = |stderr: &[u8]| text(stderr).split(" within ").next().unwrap().to_owned();
        assert_eq!(moving(&here.stderr), moving(&there.stderr), "{args:?}");
        assert!(text(&there.stderr).starts_with("error: "), "{args:?}: {there:?}");
    }
    let _following = Following::start(home.path(), &url, &["--dag", "shaky"]);
    api.terminate();
    server.terminate();
}

#[test]
fn a_server_that_is_not_there_or_no_server_of_ours_is_told() {
    let home = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://ranger:tiger@{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = [0; 4096];
            let read = stream.read(&mut asked).unwrap_or(0);
            let status = if text(&asked[..read]).contains("/dags") { "502 Bad Gateway" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let error = |url: &str, args: &[&str]| {
        let output = output(home.path(), Some(url), args);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(!told.contains("tiger"), "{told}");
        told
    };
    assert!(error(&url, &["run", "list"]).contains("answered something else"));
    assert!(error(&url, &["dag", "list"]).contains("answered 502 Bad Gateway"));
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let told = error(&format!("http://ranger:tiger@{unused}"), &["run", "watch"]);
    assert!(told.contains("does not answer") && told.contains("--server"), "{told}");
    let here = ["run", "resume", "--here", "019a0000-0000-7000-8000-000000000000"];
    assert!(error(&url, &here).contains("leave out --server"));
    assert!(error("localhost:8750", &["run", "list"]).contains("not allowed for server.url"));
    let shown = said(home.path(), Some(&url), &["config", "show"]);
    assert!(shown.contains("server.url") && shown.contains("ranger:***@") && shown.contains("command line"), "{shown}");
    let output = safari(home.path(), None).args(["api", "--listen", "0.0.0.0:0"]).output().unwrap();
    assert!(text(&output.stderr).contains("can be reached from other machines"));
}

/// `safari run watch` under way.
struct Following {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Following {
    fn start(home: &Path, url: &str, args: &[&str]) -> Self {
        let mut command = safari(home, Some(url));
        command.args(["run", "watch"]).args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // What happened before this line is not told.
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("watching runs"), "{line}");
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Reads until it tells that a run has come to a state.
    fn sees(&mut self, run: &str, state: &str) {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "it ended before {run} was {state}");
            if line.contains(run) && line.trim_end().ends_with(state) {
                return;
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A DAG that fails until `ready` is there, one with a schedule, one that waits for an asset.
fn write_dags(home: &Path, ready: &Path) -> String {
    let dags = home.join("dags");
    std::fs::create_dir_all(&dags).unwrap();
    let shaky = format!(
        "dag: shaky\nparams:\n  n: {{type: integer, default: 1}}\ntasks:\n  first: {{job: command, with: {{command: \
         [echo, '{{\"n\": 1}}']}}}}\n  second: {{job: command, needs: [first], with: {{command: [test, -e, '{}']}}}}\n",
        ready.display()
    );
    let nightly = "dag: nightly\nschedule: '0 4 * * *'\ntasks:\n  a: {job: command, with: {command: ['true']}}\n";
    let follower =
        "dag: follower\nschedule: {assets: [cameras]}\ntasks:\n  a: {job: command, with: {command: ['true']}}\n";
    for (name, text) in [("shaky", shaky.as_str()), ("nightly", nightly), ("follower", follower)] {
        std::fs::write(dags.join(format!("{name}.yaml")), text).unwrap();
    }
    dags.display().to_string()
}

/// What a command that must succeed prints.
fn said(home: &Path, url: Option<&str>, args: &[&str]) -> String {
    let output = output(home, url, args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn output(home: &Path, url: Option<&str>, args: &[&str]) -> Output {
    safari(home, url).args(args).output().unwrap()
}

fn safari(home: &Path, url: Option<&str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_safari"));
    command.arg("--home").arg(home.join("home")).current_dir(root());
    for proxy in ["http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    if let Some(url) = url {
        command.args(["--server", url]);
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(120), "{what}: not after two minutes");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn root() -> PathBuf {
    Path::new(env!("WORKSPACE_ROOT")).canonicalize().unwrap()
}
