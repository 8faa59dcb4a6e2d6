//! Child processes of tests: this test binary again, of which one test does what its variables say.

use std::io::Write;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::common::prepare;

const HOME: &str = "PIPELINE_TEST_HOME";
const MODE: &str = "PIPELINE_TEST_MODE";

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A child process, killed when a test fails in the middle.
pub struct Process(Child);

impl Process {
    /// SIGKILL, as from the kernel when memory runs out, or from Kubernetes when the time to end is over.
    pub fn die(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Deref for Process {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Home and mode, in a process that [`spawn`] has started.
pub fn orders() -> Option<(PathBuf, String)> {
    Some((std::env::var(HOME).ok()?.into(), std::env::var(MODE).ok()?))
}

/// The runtime of a child.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Starts a process that runs `test` on a home.
pub fn spawn(test: &str, home: &Path, mode: &str) -> Process {
    start(Command::new(std::env::current_exe().unwrap()), test, home, mode)
}

/// As [`spawn`], in a space of process numbers of its own: like the program of every container, it is number 1. Nothing
/// where the system lets nobody make such a space.
pub fn spawn_as_number_one(test: &str, home: &Path, mode: &str) -> Option<Process> {
    let space = ["--map-root-user", "--pid", "--fork", "--kill-child"];
    if !Command::new("unshare").args(space).arg("true").status().is_ok_and(|status| status.success()) {
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(space).arg(std::env::current_exe().unwrap());
    Some(start(command, test, home, mode))
}

fn start(mut command: Command, test: &str, home: &Path, mode: &str) -> Process {
    prepare(home);
    command.args(["--exact", test, "--nocapture", "--test-threads", "1"]);
    Process(command.env(HOME, home).env(MODE, mode).stdout(Stdio::null()).spawn().unwrap())
}

/// How it ended, unless it goes on for longer than that.
pub fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() >= until {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// SIGKILL to this process, at this place.
pub fn die() -> ! {
    signal(std::process::id(), "KILL");
    loop {
        std::thread::park();
    }
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// As [`until`], for what has to be asked.
pub async fn until_it_is(what: &str, done: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One write a line, so that a kill never leaves half of one.
pub fn append(path: &Path, line: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

pub fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_string).collect()
}
