//! The commands that ask a server with `--server`, beside the same that ask the state database.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use common::{Served, root, wait_until};

/// Nothing here takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server of the program.
struct Server(Served);

impl Server {
    fn start(home: &Path, args: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", home, args)
    }

    fn start_at(address: &str, home: &Path, args: &[&str]) -> Self {
        let mut command = safari(home, None);
        command.args(args).args(["--listen", address]);
        Self(Served::start(command))
    }

    fn url(&self) -> String {
        self.0.url.clone()
    }

    /// Asks it to end, which it does well although somebody follows its runs.
    fn terminate(&mut self) {
        let pid = self.0.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.0.child.wait().unwrap().success());
    }
}

#[test]
fn a_server_is_asked_as_the_state_database_is() {
    let home = tempfile::tempdir().unwrap();
    let ready = home.path().join("ready");
    let dags = write_dags(home.path(), &ready);
    let mut server = Server::start(home.path(), &["server", "--dags", &dags]);
    let mut api = Server::start(home.path(), &["api"]);
    let url = api.url();
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

    let all = Following::all(home.path(), &url);
    let run = there(&["trigger", "shaky", "--param", "n=7"]).trim().to_owned();
    let watched = output(home.path(), Some(&url), &["run", "watch", &run]);
    assert_eq!(watched.status.code(), Some(1));
    assert!(text(&watched.stdout).trim_end().ends_with("shaky  failed"), "{watched:?}");
    assert!(text(&watched.stderr).contains(&format!("run {run} failed: task `second`")), "{watched:?}");
    all.reads(&[&run, "failed"]);
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
    let _following = Following::start(home.path(), &url, &["run", "watch", "--dag", "shaky"]);
    api.terminate();
    server.terminate();
}

#[test]
fn logs_versions_streams_caches_and_history_are_the_same_by_a_server() {
    let home = tempfile::tempdir().unwrap();
    let ready = home.path().join("ready");
    let dags = write_dags(home.path(), &ready);
    write_more_dags(home.path());
    let mut server = Server::start(home.path(), &["server", "--dags", &dags]);
    let mut api = Server::start(home.path(), &["api"]);
    let url = api.url();
    let here = |args: &[&str]| said(home.path(), None, args);
    let there = |args: &[&str]| said(home.path(), Some(&url), args);
    let same = |args: &[&str]| {
        let (here, there) = (here(args), there(args));
        assert_eq!(here, there, "{args:?}");
        there
    };
    wait_until("the dags are read", || there(&["dag", "list"]).lines().count() == 6);
    // No runs but those of this test.
    there(&["dag", "pause", "nightly"]);

    let run = there(&["trigger", "shaky"]).trim().to_owned();
    assert_eq!(output(home.path(), Some(&url), &["run", "watch", &run]).status.code(), Some(1));
    let log = same(&["logs", &run]);
    assert!(log.contains(" first stdout {\"n\": 1}\n") && log.contains(" second error  attempt 1 failed: "), "{log}");
    assert_eq!(same(&["logs", &run, "--follow"]), log);
    let first = same(&["logs", &run, "first", "--attempt", "1", "--json", "--follow"]);
    assert!(first.lines().count() == 3 && first.contains("\"task\":\"first\""), "{first}");
    let each = there(&["trigger", "cached"]).trim().to_owned();
    assert!(output(home.path(), Some(&url), &["run", "watch", &each]).status.success());
    assert!(same(&["logs", &each, "each"]).contains(" each[1] stdout "));
    assert_eq!(same(&["logs", &each, "each", "--map-index", "1"]).lines().count(), 3);

    assert_eq!(there(&["cache", "clear", "--dag", "nothing"]), "0 outputs forgotten\n");
    assert_eq!(there(&["cache", "clear", "--dag", "cached"]), "2 outputs forgotten\n");
    assert_eq!(same(&["cache", "clear"]), "0 outputs forgotten\n");

    wait_until("the file is seen", || standing(&there(&["stream", "list"])).contains(&"1"));
    let (stands_here, stands_there) = (here(&["stream", "list"]), there(&["stream", "list"]));
    assert_eq!(standing(&stands_here), standing(&stands_there));
    assert_eq!(standing(&stands_there)[6..], ["ERROR", "live", "1", "0", "0", "s"], "{stands_there}");

    let file = Path::new(&dags).join("shaky.yaml");
    let before = std::fs::read_to_string(&file).unwrap();
    assert!(same(&["dag", "versions", "shaky"]).lines().nth(1).unwrap().ends_with("current"));
    std::fs::write(&file, before.replace("dag: shaky", "dag: shaky\ndescription: It fails")).unwrap();
    let path = file.display().to_string();
    wait_until("the new version is read", || there(&["dag", "diff", "shaky", "--file", &path]) == "no difference\n");
    let versions = same(&["dag", "versions", "shaky"]);
    let old = &versions.lines().nth(2).unwrap()[..8];
    let diff = same(&["dag", "diff", "shaky"]);
    assert!(diff.contains("\n dag: shaky\n+description: It fails\n"), "{diff}");
    assert_eq!(same(&["dag", "diff", "shaky", old, "current"]), diff);
    let other = home.path().join("other.yaml").display().to_string();
    std::fs::write(&other, "dag: shaky\ntasks: {a: {job: command, with: {command: [ls]}}}\n").unwrap();
    assert!(same(&["dag", "diff", "shaky", old, "--file", &other]).contains("[ls]"));
    assert_eq!(same(&["dag", "text", "shaky", old]), before);
    assert_eq!(same(&["dag", "text", "shaky", "previous"]), before);
    assert!(same(&["dag", "text", "nightly"]).starts_with("dag: nightly"));

    for args in [
        &["logs", "019a0000-0000-7000-8000-000000000000"][..],
        &["logs", &run, "third"],
        &["logs", &run, "first", "--attempt", "9"],
        &["dag", "versions", "nothing"],
        &["dag", "text", "shaky", "xyz"],
        &["dag", "diff", "nightly"],
    ] {
        let (here, there) = (output(home.path(), None, args), output(home.path(), Some(&url), args));
        assert_eq!((here.status.code(), there.status.code()), (Some(1), Some(1)), "{args:?}");
        assert_eq!((here.stdout, text(&here.stderr)), (there.stdout, text(&there.stderr)), "{args:?}");
    }

    let would = same(&["history", "clean", "--older-than", "0s", "--dry-run"]);
    assert!(would.starts_with("would remove 2 runs with "), "{would}");
    assert!(home.path().join(format!("home/logs/shaky/{run}")).is_dir());
    assert!(same(&["history", "clean", "--older-than", "30d"]).starts_with("removed 0 runs "));
    let removed = there(&["history", "clean", "--older-than", "0s"]);
    assert!(removed.starts_with(&would.trim_end().replace("would remove", "removed")), "{would} {removed}");
    assert_eq!(same(&["run", "list"]).lines().count(), 1);
    for folder in [format!("home/logs/shaky/{run}"), format!("home/runs/{run}")] {
        assert!(!home.path().join(&folder).exists(), "{folder}");
    }
    api.terminate();
    server.terminate();
}

#[test]
fn who_follows_a_log_by_a_server_sees_lines_as_they_come_though_the_server_starts_again() {
    let home = tempfile::tempdir().unwrap();
    let gate = home.path().join("gate");
    let dags = home.path().join("dags");
    std::fs::create_dir_all(&dags).unwrap();
    let slow = format!(
        "dag: slow\ntasks:\n  work: {{job: command, with: {{shell: 'echo begun; while [ ! -e {0} ]; do sleep 0.05; done; echo \
         done'}}}}\n  last: {{job: command, needs: [work], with: {{command: [echo, last]}}}}\n",
        gate.display()
    );
    std::fs::write(dags.join("slow.yaml"), slow).unwrap();
    let mut server = Server::start(home.path(), &["server", "--dags", &dags.display().to_string()]);
    let mut api = Server::start(home.path(), &["api"]);
    let url = api.url();
    wait_until("the dag is read", || said(home.path(), Some(&url), &["dag", "list"]).contains("slow"));
    let run = said(home.path(), Some(&url), &["trigger", "slow"]).trim().to_owned();

    let mut logs = Following::start(home.path(), &url, &["logs", &run, "--follow"]);
    logs.reads(&[" work stdout begun"]);
    // It holds up no server that is to end, and goes on with the next.
    api.terminate();
    let mut api = Server::start_at(url.trim_start_matches("http://"), home.path(), &["api"]);
    std::fs::write(&gate, "").unwrap();
    let rest = logs.rest();
    let told = [
        " work stdout done",
        " work info   attempt 1 succeeded",
        " last info   attempt 1 begins on ",
        " last stdout last",
        " last info   attempt 1 succeeded",
    ];
    assert_eq!(rest.len(), told.len(), "each line once, to the end of the run: {rest:?}");
    assert!(rest.iter().zip(told).all(|(line, told)| line.contains(told)), "{rest:?}");
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

/// A command that follows something.
struct Following {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Following {
    /// `safari run watch` of all runs, once it follows: what happened before, nobody tells it.
    fn all(home: &Path, url: &str) -> Self {
        let mut following = Self::start(home, url, &["run", "watch"]);
        let mut line = String::new();
        BufReader::new(following.child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("watching runs"), "{line}");
        following
    }

    fn start(home: &Path, url: &str, args: &[&str]) -> Self {
        let mut command = safari(home, Some(url));
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || said.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// Reads until a line with all these words.
    fn reads(&self, words: &[&str]) {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("before {words:?}: {error}"));
            if words.iter().all(|word| line.contains(word)) {
                return;
            }
        }
    }

    /// What it says until it ends well.
    fn rest(&mut self) -> Vec<String> {
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => rest.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("it says no more, and does not end: {error}; {rest:?}"),
            }
        }
        assert!(self.child.wait().unwrap().success());
        rest
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

/// A DAG whose outputs are kept, and a continuous one that waits for more files.
fn write_more_dags(home: &Path) {
    let incoming = home.join("incoming");
    std::fs::create_dir_all(&incoming).unwrap();
    let file = std::fs::File::create(incoming.join("a.jpg")).unwrap();
    // Old enough to be whole.
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(60)).unwrap();
    let cached = "dag: cached\ntasks:\n  each: {job: command, map: [1, 2], cache: true, with: {command: [echo, '{{ item }}']}}\n";
    let live = format!(
        "dag: live\ncontinuous: {{source: '{}', max_batch: 100, max_age: 1h}}\ntasks:\n  \
         a: {{job: command, with: {{command: ['true']}}}}\n",
        incoming.display()
    );
    for (name, text) in [("cached", cached), ("live", live.as_str())] {
        std::fs::write(home.join("dags").join(format!("{name}.yaml")), text).unwrap();
    }
}

/// The words of a text without lengths of time, which go on.
fn standing(text: &str) -> Vec<&str> {
    let is_time = |word: &&str| word.contains('.') && word.parse::<f64>().is_ok();
    text.split_whitespace().filter(|word| !is_time(word)).collect()
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
