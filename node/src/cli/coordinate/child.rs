//! The child process that runs while a lock, a leadership or a session is held. It is killed with this one: it begins as
//! this program, which asks the system for that and then becomes the command.

use std::ffi::OsString;
use std::io::{Error, ErrorKind, IsTerminal};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, getppid, kill_process_group, set_parent_process_death_signal, test_kill_process_group,
};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::held;
use super::signals::Signals;
use crate::cli::failure::Failure;
use starling_client::Lost;

/// Time between two checks whether the processes of a group have ended.
const LOOK: Duration = Duration::from_millis(20);

/// The first argument of this program where it is to become a command; the holder's process number and the command follow.
pub const BECOME: &str = "__become";

/// Becomes a command that is killed when the process that holds a lock dies, by kill -9, too. Its children are not: a
/// shell's last one goes on until it ends by itself.
pub fn become_command(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let holder = args.next().and_then(|id| Pid::from_raw(id.to_str()?.parse().ok()?));
    let Some(program) = args.next() else { return ExitCode::FAILURE };
    let asked = set_parent_process_death_signal(Some(Signal::KILL));
    if asked.is_err() || getppid() != holder {
        // The holder died before it could be asked for.
        return ExitCode::FAILURE;
    }
    let error = std::process::Command::new(&program).args(args).exec();
    cannot_run(&program, &error).report(None)
}

fn cannot_run(program: &std::ffi::OsStr, error: &Error) -> Failure {
    let what = format!("cannot run {}: {error}", program.display());
    let code = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
    Failure::exits(code, what, "check the command after --")
}

/// The command, in a process group of its own.
pub struct Running {
    child: Child,
    group: Option<Pid>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It exited, with this code.
    Exited(u8),
    /// It was stopped, because what it ran under was lost.
    Lost(Lost),
}

impl Ended {
    /// The result of this command, which held `what`.
    pub fn result(self, what: &str) -> Result<(), Failure> {
        match self {
            Self::Exited(0) => Ok(()),
            Self::Exited(code) => Err(Failure::silent(code)),
            Self::Lost(lost) => Err(held::lost(lost, what)),
        }
    }
}

impl Running {
    /// Starts it. `environment`: variables that it has besides. `input`: its standard input; `None`: that of this process.
    pub fn start(
        command: &[OsString],
        environment: Vec<(String, OsString)>,
        input: Option<Vec<u8>>,
    ) -> Result<Self, Failure> {
        // The file of this process, even if an upgrade has replaced it since.
        let mut become_it = Command::new("/proc/self/exe");
        become_it.arg(BECOME).arg(std::process::id().to_string()).args(command);
        become_it.envs(environment).process_group(0);
        if input.is_some() {
            become_it.stdin(Stdio::piped());
        } else if std::io::stdin().is_terminal() {
            // A process group in the background that reads from its terminal is stopped, with the lock held.
            become_it.stdin(Stdio::null());
        }
        let mut child = become_it.spawn()?;
        if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
            // A command need not read its input: then it ends the pipe, or this process does.
            drop(tokio::spawn(async move { pipe.write_all(&input).await }));
        }
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { child, group })
    }

    /// Waits for its end, or stops it when what it runs under is lost.
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

    /// Sends SIGTERM to all its processes, and kills those that have not ended after `grace`.
    async fn end(&mut self, grace: Duration) {
        self.send(Signal::TERM);
        // A stopped process handles the signal only after it continues.
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
            // No process may be left.
            let _ = kill_process_group(group, signal);
        }
    }
}

/// The exit code of a process, as shells compute it.
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
