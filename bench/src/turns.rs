//! Two programs side by side on a machine whose speed changes from second to second.
//!
//! Each runs alone for a fraction of a second while the other stands still, stopped by a signal, and so on in turns until
//! both have ended. So both see the same fast and slow moments, and the ratio of their times is much steadier than that
//! of two whole runs one after the other.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::{Error, Result};
use crate::process::{self, Ended};

/// How long one runs before it is the other's turn.
const TURN: Duration = Duration::from_millis(400);

/// Time between two looks whether a process has ended; its end is known no later than this.
const POLL: Duration = Duration::from_millis(4);

/// Runs both commands to their ends, in turns; the seconds are those of a command's own turns.
pub(crate) fn take_turns(commands: [Command; 2]) -> Result<[Ended; 2]> {
    let [first, second] = commands;
    let mut contestants = [Contestant::start(first)?, Contestant::start(second)?];
    while contestants.iter().any(|contestant| !contestant.ended) {
        for contestant in contestants.iter_mut().filter(|contestant| !contestant.ended) {
            contestant.take_turn()?;
        }
    }
    let [first, second] = contestants;
    Ok([first.finish()?, second.finish()?])
}

/// A program that is not running unless it is its turn.
struct Contestant {
    name: String,
    command: Command,
    child: Option<Child>,
    stdout: File,
    stderr: File,
    active: Duration,
    ended: bool,
}

impl Contestant {
    fn start(mut command: Command) -> Result<Self> {
        let file = || tempfile::tempfile().map_err(Error::io(std::env::temp_dir()));
        let copy = |file: &File| file.try_clone().map_err(Error::io(std::env::temp_dir()));
        let (stdout, stderr) = (file()?, file()?);
        // A group of its own, so that a signal reaches the processes that it starts.
        command.stdin(Stdio::null()).stdout(copy(&stdout)?).stderr(copy(&stderr)?).process_group(0);
        let name = process::name(&command);
        Ok(Self { name, command, child: None, stdout, stderr, active: Duration::ZERO, ended: false })
    }

    /// Lets it run for a turn, or to its end.
    fn take_turn(&mut self) -> Result<()> {
        let start = Instant::now();
        match &self.child {
            None => self.child = Some(self.command.spawn().map_err(Error::io(&self.name))?),
            Some(_) => self.signal(Signal::CONT)?,
        }
        while start.elapsed() < TURN && !self.ended {
            thread::sleep(POLL);
            let Some(child) = &mut self.child else { break };
            self.ended = child.try_wait().map_err(Error::io(&self.name))?.is_some();
        }
        self.active += start.elapsed();
        if self.ended { Ok(()) } else { self.signal(Signal::STOP) }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let Some(child) = &self.child else { return Ok(()) };
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let group = group.ok_or_else(|| Error::failed(&self.name, "it has no process number"))?;
        kill_process_group(group, signal).map_err(|error| Error::io(&self.name)(error.into()))
    }

    fn finish(mut self) -> Result<Ended> {
        let (stdout, stderr) = (text(&mut self.stdout)?, text(&mut self.stderr)?);
        if let Some(child) = &mut self.child {
            process::check(&self.name, child.wait().map_err(Error::io(&self.name))?, &stderr)?;
        }
        Ok(Ended { seconds: self.active.as_secs_f64(), stdout, stderr })
    }
}

impl Drop for Contestant {
    /// One that is left behind by the other's failure would stand still for ever.
    fn drop(&mut self) {
        if self.ended || self.signal(Signal::KILL).is_err() {
            return;
        }
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
    }
}

/// All of a file that a child process wrote.
fn text(file: &mut File) -> Result<String> {
    let read = |file: &mut File| {
        let mut bytes = Vec::new();
        std::io::Seek::rewind(file)?;
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read(file).map_err(Error::io(std::env::temp_dir()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that works for so many turns of its own, and says so.
    fn busy(turns: u32) -> Command {
        let mut command = Command::new("sh");
        let milliseconds = TURN.as_millis() as u32 * turns;
        // Processor time, since a clock on the wall goes on while the program stands still.
        let work =
            format!("import time\nwhile time.process_time() < {milliseconds} / 1000: pass\nprint({turns}, flush=True)");
        command.args(["-c", &format!("exec python3 -c '{work}'")]);
        command
    }

    #[test]
    fn each_is_charged_for_its_own_turns_alone() {
        let [short, long] = take_turns([busy(1), busy(3)]).expect("both end well");
        assert_eq!((short.stdout.as_str(), long.stdout.as_str()), ("1\n", "3\n"));
        let turn = TURN.as_secs_f64();
        assert!(short.seconds >= turn && long.seconds >= 3.0 * turn, "{} and {}", short.seconds, long.seconds);
    }

    #[test]
    fn a_failure_is_told_and_the_other_does_not_stay() {
        let mut failing = Command::new("sh");
        failing.args(["-c", "echo no such luck >&2; exit 3"]);
        let error = take_turns([failing, busy(1)]).expect_err("one of them fails");
        assert!(error.to_string().contains("no such luck"), "{error}");
    }
}
