//! A program and all that it starts: one process group, of which nothing stays behind.

use std::future::Future;
use std::io;
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use futures::FutureExt;
use pipeline::Cancel;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::log::MaskedLog;
use crate::text;

/// How long children that outlive the program may go on writing.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// The thread that watches a program does one system call.
const WATCHER_STACK: usize = 64 * 1024;

/// A running program, the leader of a process group. Dropping it kills the group.
///
/// The leader is waited for last of all: while it is not, the number of its group cannot pass to other processes, and a
/// signal cannot hit them.
pub(super) struct Group {
    leader: Child,
    id: Pid,
    /// Its sender is dropped when the leader has exited.
    exit: watch::Receiver<()>,
    is_over: bool,
}

/// Our ends of the program's pipes.
pub(super) struct Pipes {
    pub(super) stdin: Option<ChildStdin>,
    pub(super) stdout: Option<ChildStdout>,
    pub(super) stderr: Option<ChildStderr>,
}

/// How a program ended.
pub(super) enum Ending {
    /// By itself, or by a signal that was not ours.
    Exited(ExitStatus),
    /// It was asked to stop.
    Cancelled,
}

impl Group {
    /// Starts a program in a process group of its own.
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        let leader = command.process_group(0).kill_on_drop(true).spawn()?;
        let id = leader.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let id = id.ok_or_else(|| io::Error::other("the program has no process id"))?;
        let (running, exit) = watch::channel(());
        let group = Self { leader, id, exit, is_over: false };
        let name = format!("child {}", id.as_raw_nonzero());
        thread::Builder::new().name(name).stack_size(WATCHER_STACK).spawn(move || watch_leader(id, running))?;
        Ok(group)
    }

    /// Our ends of the pipes; the second call gives none.
    pub(super) fn take_pipes(&mut self) -> Pipes {
        Pipes { stdin: self.leader.stdin.take(), stdout: self.leader.stdout.take(), stderr: self.leader.stderr.take() }
    }

    /// Ends when the leader has exited; it is not waited for yet.
    async fn exited(&mut self) {
        while self.exit.changed().await.is_ok() {}
    }

    fn signal(&self, signal: Signal) {
        // Fails when nothing of the group is left, which is as good.
        let _nothing_left = kill_process_group(self.id, signal);
    }

    /// Kills what is left of the group and says how the leader ended.
    async fn end(mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::KILL);
        let status = self.leader.wait().await?;
        self.is_over = true;
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.is_over {
            self.signal(Signal::KILL);
        }
    }
}

/// Stays with a program to its end, moving its `traffic` (the pipes) meanwhile.
///
/// When it exits, its children may use the pipes for two seconds more. When `cancel` is set, the group gets SIGTERM and
/// has `grace` to exit and to close the pipes. Then SIGKILL ends what is left.
pub(super) async fn attend(
    mut group: Group,
    traffic: impl Future<Output = ()> + Send,
    cancel: &Cancel,
    grace: Duration,
    log: &MaskedLog,
) -> io::Result<Ending> {
    let traffic = traffic.shared();
    let moving = traffic.clone().then(|()| std::future::pending::<()>());
    let is_cancelled = tokio::select! {
        biased;
        () = group.exited() => false,
        () = cancel.cancelled() => true,
        () = moving => false,
    };
    if !is_cancelled {
        if timeout(LAST_OUTPUT, traffic).await.is_err() {
            log.note("the program has ended, but its children still held its output after 2 s: they were killed");
        }
        return Ok(Ending::Exited(group.end().await?));
    }
    log.note("asked to stop: sent SIGTERM to the program and its children");
    group.signal(Signal::TERM);
    let gone = async {
        group.exited().await;
        traffic.clone().await;
    };
    if timeout(grace, gone).await.is_err() {
        log.note(&format!("not gone after {}: sent SIGKILL to what is left", text::duration(grace)));
    }
    group.end().await?;
    // What was written before the kill; only a process that left the group can still hold the pipes.
    drop(timeout(LAST_OUTPUT, traffic).await);
    Ok(Ending::Cancelled)
}

/// Looks until the leader has exited, without waiting for it in the sense of the system: its number stays taken.
fn watch_leader(id: Pid, running: watch::Sender<()>) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while waitid(WaitId::Pid(id), options).is_err_and(|error| error == Errno::INTR) {}
    drop(running);
}
