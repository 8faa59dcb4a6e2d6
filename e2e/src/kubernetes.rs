//! A real Kubernetes control plane: etcd, API server, controller manager and scheduler, up in some seconds. There is no
//! kubelet; [`crate::kubelet`] plays it.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::error::{io, kubernetes};
use crate::ports::free_ports_in_a_row;
use crate::{Error, Result};

/// An API server that says nothing for so long is asked anew.
const SILENCE: Duration = Duration::from_secs(30);

/// How long a start may take on a busy machine before it counts as failed.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Another process may take a port between its choice and its use.
const START_ATTEMPTS: u32 = 5;

/// Ports in a row: the API server's, two of etcd, and these.
const PORTS: u16 = 5;
const CONTROLLER_MANAGER: u16 = 3;
const SCHEDULER: u16 = 4;

/// When standard input closes, which also happens when the test process dies, everything is stopped.
const KEEPER: &str = r#"
cat >/dev/null
"$1" stop "$2"
rm -rf "$2"
"#;

/// A running control plane; it ends when this value is dropped, or with the process.
#[derive(Debug)]
pub struct ControlPlane {
    folder: TempDir,
    keeper: Child,
    /// Closing it ends the control plane.
    lifeline: Option<ChildStdin>,
    api_server: Vec<String>,
}

/// Where the program that starts it lies: beside the repository, where it is there.
pub fn program() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/k8s/control-plane");
    path.canonicalize().ok()
}

impl ControlPlane {
    /// Starts a control plane on free loopback ports and waits until it answers; none, with words on standard error, where
    /// its programs are not there.
    ///
    /// # Errors
    /// [`Error::NotStarted`] with its log.
    pub async fn start() -> Result<Option<Self>> {
        let Some(program) = program() else {
            eprintln!("skipped: ../shared/k8s/control-plane is not there, so no Kubernetes can be started");
            return Ok(None);
        };
        let mut attempt = 1;
        loop {
            match Self::start_once(&program).await {
                Ok(started) => return Ok(Some(started)),
                Err(_) if attempt < START_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The kubeconfig of its administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// A client of its administrator.
    ///
    /// # Errors
    /// [`Error::NotStarted`] when its kubeconfig cannot be used.
    pub async fn client(&self) -> Result<Client> {
        let wrong = |reason: String| Error::NotStarted { program: "control-plane", reason };
        let file = Kubeconfig::read_from(self.kubeconfig()).map_err(|error| wrong(error.to_string()))?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
        let mut config = config.map_err(|error| wrong(error.to_string()))?;
        config.read_timeout = Some(SILENCE);
        config.reset_reader_on_write = true;
        // Programs with two providers of TLS have none by themselves; another part may have chosen one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::try_from(config).map_err(kubernetes("make a client"))
    }

    /// Kills the API server.
    pub fn kill_api_server(&self) {
        if let Some(pid) = self.api_server_pid() {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Starts the API server again, and waits until it answers.
    ///
    /// # Errors
    /// [`Error::NotStarted`] when it does not.
    pub async fn start_api_server(&self) -> Result<()> {
        let log = std::fs::File::options().append(true).open(self.folder.path().join("apiserver.log"));
        let log = log.map_err(io("open the log of the API server"))?;
        let (program, args) = self.api_server.split_first().ok_or_else(|| no_start("its command is not known"))?;
        let started = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(io("start the API server"))?;
        // What stops everything reads it there.
        let mut pids = self.pids();
        if let Some(second) = pids.get_mut(1) {
            *second = started.id().to_string();
        }
        let file = self.folder.path().join("pids");
        std::fs::write(file, pids.join("\n") + "\n").map_err(io("note the API server"))?;
        let client = self.client().await?;
        let began = Instant::now();
        while client.apiserver_version().await.is_err() {
            if began.elapsed() > START_TIMEOUT {
                return Err(no_start("the API server does not answer again"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    async fn start_once(program: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("safari-kubernetes-").tempdir().map_err(io("make a folder"))?;
        let port = free_ports_in_a_row(PORTS)?;
        let output = Command::new(program)
            .arg("start")
            .arg(folder.path())
            .arg(port.to_string())
            .stdin(Stdio::null())
            // What it leaves running would hold a pipe open.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(io("start the control plane"))?;
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(program)
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(io("start the shell that keeps the control plane"))?;
        let lifeline = keeper.stdin.take();
        let mut started = Self { folder, keeper, lifeline, api_server: Vec::new() };
        if !output.success() {
            return Err(no_start(&started.end_of("apiserver.log")));
        }
        if let Some(pid) = started.api_server_pid() {
            let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
            let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
            started.api_server = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        }
        // The program waits for the API server alone. Without these two, nothing that is asked of it ever happens.
        started.wait_for(port + CONTROLLER_MANAGER, "controller-manager.log").await?;
        started.wait_for(port + SCHEDULER, "scheduler.log").await?;
        Ok(started)
    }

    /// Waits until the part that listens there says that it is well.
    async fn wait_for(&self, port: u16, log: &str) -> Result<()> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Its certificate is of its own making.
        let client = reqwest::Client::builder().no_proxy().danger_accept_invalid_certs(true).build();
        let client = client.map_err(|error| no_start(&error.to_string()))?;
        let began = Instant::now();
        loop {
            let answer = client.get(format!("https://127.0.0.1:{port}/healthz")).timeout(SILENCE).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if began.elapsed() > START_TIMEOUT {
                return Err(no_start(&format!("{log}: {}", self.end_of(log))));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn end_of(&self, log: &str) -> String {
        let log = std::fs::read_to_string(self.folder.path().join(log)).unwrap_or_default();
        let mut end = log.lines().rev().take(5).collect::<Vec<_>>();
        end.reverse();
        end.join("\n")
    }

    fn pids(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("pids")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The second that the program notes.
    fn api_server_pid(&self) -> Option<Pid> {
        Pid::from_raw(self.pids().get(1)?.parse().ok()?)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // The keeper stops everything, and never fails to end.
        let _status = self.keeper.wait();
    }
}

fn no_start(reason: &str) -> Error {
    Error::NotStarted { program: "control-plane", reason: reason.to_owned() }
}
