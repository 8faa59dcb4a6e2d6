//! People and tokens from the command line, and servers that ask for them.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{Served, root, wait_until};

const PASSWORD: &str = "a password for tests";

#[test]
fn who_asks_says_who_they_are_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    says_who_they_are(folder.path(), &[("SAFARI_IDENTITY_ENABLED", "true")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_says_who_they_are_on_postgres() {
    let server = e2e::postgres::Server::start().await.unwrap();
    let url = server.database().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let work = move || {
        let settings = [("SAFARI_IDENTITY_ENABLED", "true"), ("SAFARI_STATE_URL", url.as_str())];
        succeeds(&path, &settings, &["migrate"], "");
        says_who_they_are(&path, &settings);
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}

fn says_who_they_are(folder: &Path, settings: &[(&str, &str)]) {
    let here = |args: &[&str], input: &str| succeeds(folder, settings, args, input);
    assert_eq!(here(&["user", "add", "Ada", "--role", "admin"], PASSWORD), "ada is admin\n");
    here(&["user", "add", "grace", "--role", "viewer"], PASSWORD);
    let generated = here(&["user", "add", "lin", "--role", "ranger", "--generate"], "");
    assert!(generated.lines().next().unwrap().len() > 30, "{generated}");
    let again = output(folder, settings, &["user", "add", "ada", "--role", "viewer"], PASSWORD);
    assert!(!again.status.success() && text(&again.stderr).contains("ada"), "{again:?}");
    let odd = output(folder, settings, &["user", "add", "x", "--role", "king"], PASSWORD);
    assert!(text(&odd.stderr).contains("`king` is no role: `safari roles` shows all"), "{odd:?}");

    std::fs::create_dir_all(folder.join("dags")).unwrap();
    let dag = "dag: quick\ntasks:\n  only: {job: command, with: {command: ['true']}}\n";
    std::fs::write(folder.join("dags/quick.yaml"), dag).unwrap();
    let dags = folder.join("dags").display().to_string();
    let mut command = safari(folder, settings);
    command.args(["server", "--dags", &dags, "--listen", "127.0.0.1:0"]);
    let server = Served::start(command);
    let url = server.url.as_str();
    let there = |token: Option<&str>, args: &[&str]| {
        // Another home: what it knows of the server is what it was told.
        let mut settings = vec![("SAFARI_SERVER", url)];
        settings.extend(token.map(|token| ("SAFARI_TOKEN", token)));
        output(&folder.join("elsewhere"), &settings, args, PASSWORD)
    };
    let nobody = there(None, &["dag", "list"]);
    assert!(!nobody.status.success() && text(&nobody.stderr).contains("say who you are"), "{nobody:?}");
    let login = there(None, &["login", "--user", "ada"]);
    assert!(login.status.success() && !text(&login.stdout).contains("sfr_"), "{login:?}");
    wait_until("the dag is read", || text(&there(None, &["dag", "list"]).stdout).contains("quick"));
    let run = there(None, &["trigger", "quick"]);
    assert!(run.status.success(), "{run:?}");

    let viewer = here(&["token", "create", "--role", "viewer", "--expires", "1h", "--name", "screen"], "");
    let viewer = viewer.trim();
    assert!(viewer.starts_with("sfr_"), "{viewer}");
    assert!(there(Some(viewer), &["dag", "list"]).status.success());
    let refused = there(Some(viewer), &["trigger", "quick"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("runs:write"), "{refused:?}");
    let listed = here(&["token", "list"], "");
    let line = listed.lines().find(|line| line.contains("screen")).unwrap();
    assert!(!listed.contains(viewer), "a token is shown once");
    here(&["token", "revoke", line.split_whitespace().next().unwrap()], "");
    wait_until("it is refused by the other process", || !there(Some(viewer), &["dag", "list"]).status.success());
    here(&["user", "disable", "ada"], "");
    wait_until("ada is, too", || !there(None, &["dag", "list"]).status.success());

    let audit = here(&["user", "audit"], "");
    for deed in ["user_added", "login", "token_created", "token_revoked", "user_disabled"] {
        assert!(audit.contains(deed), "{deed} is not in\n{audit}");
    }
    assert!(!audit.contains(PASSWORD) && !audit.contains(viewer));
    let kept = std::fs::read(folder.join("elsewhere/home/credentials.json")).unwrap();
    assert!(String::from_utf8(kept).unwrap().contains("sfr_"));
}

#[test]
fn an_address_that_others_reach_wants_identity() {
    let folder = tempfile::tempdir().unwrap();
    for args in
        [["server", "--listen", "0.0.0.0:0"], ["registry", "--listen", "0.0.0.0:0"], ["api", "--listen", "0.0.0.0:0"]]
    {
        let refused = output(folder.path(), &[], &args, "");
        let words = text(&refused.stderr);
        assert!(!refused.status.success() && words.contains("safari user add"), "{args:?}: {words}");
    }
}

#[test]
fn the_table_of_roles_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let shown = succeeds(folder.path(), &[], &["roles"], "");
    for word in ["viewer", "ranger", "scientist", "engineer", "operator", "admin", "users:manage", "detections:ask"] {
        assert!(shown.contains(word), "{word} is not in\n{shown}");
    }
}

fn safari(folder: &Path, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_safari"));
    command.arg("--home").arg(folder.join("home")).current_dir(root()).envs(settings.iter().copied());
    command
}

fn output(folder: &Path, settings: &[(&str, &str)], args: &[&str], input: &str) -> Output {
    let mut command = safari(folder, settings);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Those that ask for nothing may have ended.
    let _ = writeln!(child.stdin.take().unwrap(), "{input}");
    child.wait_with_output().unwrap()
}

fn succeeds(folder: &Path, settings: &[(&str, &str)], args: &[&str], input: &str) -> String {
    let output = output(folder, settings, args, input);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
