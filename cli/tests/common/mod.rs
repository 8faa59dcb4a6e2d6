//! The program as an operator starts it.
// Not every test needs all of it.
#![allow(dead_code)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server, killed when a test fails in the middle.
pub struct Server(pub Child);

impl Server {
    /// Starts it without its words.
    pub fn start(mut command: Command) -> Self {
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that says in its log where it answers.
pub struct Served {
    pub child: Child,
    pub url: String,
}

impl Served {
    /// Starts it with these arguments and more, and reads in its log where it answers.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
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
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program on a home in this folder.
pub fn safari(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_safari"));
    command.arg("--home").arg(folder.join("home")).current_dir(root());
    command
}

/// What a command that must succeed prints.
pub fn said(folder: &Path, args: &[&str]) -> String {
    let output = safari(folder).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn wait_until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(120), "{what}: not after two minutes");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The shipped model with other settings, in a folder that is made.
pub fn model(folder: &Path, change: impl Fn(String) -> String) -> PathBuf {
    std::fs::create_dir(folder).unwrap();
    for entry in std::fs::read_dir(root().join("detector/model/wildlife")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let settings = folder.join("settings.json");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, change(text)).unwrap();
    folder.to_owned()
}

/// The folder of the whole repository.
pub fn root() -> PathBuf {
    Path::new(env!("WORKSPACE_ROOT")).canonicalize().unwrap()
}
