//! A command that runs while something is held.

use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::held;
use super::signals::Signals;
use crate::cli::failure::Failure;
use starling_client::Lost;

/// How often to look whether the processes of a group have ended.
const LOOK: Duration = Duration::from_millis(20);

/// The command, in a process group of its own.
pub struct Running {
    child: Child,
    group: Option<Pid>,
}

/// How it came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this exit code.
    Exited(u8),
    /// It was made to end.
    Lost(Lost),
}

impl Ended {
    /// What becomes of the command that waited for it. `what` was held.
    pub fn result(self, what: &str) -> Result<(), Failure> {
        match self {
            Self::Exited(0) => Ok(()),
            Self::Exited(code) => Err(Failure::silent(code)),
            Self::Lost(lost) => Err(held::lost(lost, what)),
        }
    }
}

impl Running {
    /// Starts it. `environment`: variables that it has besides.
    pub fn start(command: &[OsString], environment: Vec<(String, OsString)>) -> Result<Self, Failure> {
        let Some((program, arguments)) = command.split_first() else {
            return Err(Failure::usage("there is no command", "write it after --"));
        };
        let mut command = Command::new(program);
        command.args(arguments).envs(environment).process_group(0);
        if std::io::stdin().is_terminal() {
            // A process group in the background that reads from its terminal is stopped, with the lock held.
            command.stdin(Stdio::null());
        }
        let child = command.spawn().map_err(|error| {
            let what = format!("cannot run {}: {error}", program.display());
            let code = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
            Failure::exits(code, what, "check the command after --")
        })?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { child, group })
    }

    /// Waits for its end, or makes it end when what it runs for is lost.
    pub async fn attend(
        &mut self,
        lost: impl Future<Output = Lost>,
        signals: &mut Signals,
        grace: Duration,
    ) -> Result<Ended, Failure> {
        tokio::pin!(lost);
        let lost = loop {
            tokio::select! {
                // What is lost is lost, even if the command has just ended.
                biased;
                lost = &mut lost => break lost,
                status = self.child.wait() => return Ok(Ended::Exited(code(status?))),
                signal = signals.next() => self.send(signal),
            }
        };
        self.end(grace).await;
        Ok(Ended::Lost(lost))
    }

    /// Tells all its processes to end, and kills those that have not after a while.
    async fn end(&mut self, grace: Duration) {
        self.send(Signal::TERM);
        // One that is stopped does not hear of it otherwise.
        self.send(Signal::CONT);
        let until = Instant::now() + grace;
        while self.is_alive() && Instant::now() < until {
            sleep(LOOK).await;
        }
        self.send(Signal::KILL);
        // Reaps it; it has been killed.
        drop(self.child.wait().await);
    }

    /// Whether any of its processes runs. One that has ended and was not waited for counts as running.
    fn is_alive(&mut self) -> bool {
        drop(self.child.try_wait());
        self.group.is_some_and(|group| test_kill_process_group(group).is_ok())
    }

    fn send(&self, signal: Signal) {
        if let Some(group) = self.group {
            // Nobody is left: so much the better.
            let _ = kill_process_group(group, signal);
        }
    }
}

/// The exit code of a process, as shells reckon it.
fn code(status: ExitStatus) -> u8 {
    let signal = || status.signal().map(|signal| 128 + signal);
    status.code().or_else(signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_code_above_128() {
        assert_eq!(code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(code(ExitStatus::from_raw(9)), 137);
    }
}
