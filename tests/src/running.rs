//! Commands that go on while the test looks at what they do.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Lines, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::command::{Answer, command};
use crate::node::Node;
use crate::wait::wait_until;

/// A process that is killed when it is dropped, and its output. Its standard input ends then too: what it has
/// started in its turn reads that, and ends with it.
pub struct Running {
    line: String,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// Starts a command.
    pub fn start(mut command: Command) -> Self {
        let line = format!("{command:?}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{line}: {e}"));
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { line, child, lines }
    }

    /// The next line of its output. Waits for it; panics if there is none any more.
    pub fn next_line(&mut self) -> String {
        let line = self.lines.next().unwrap_or_else(|| panic!("`{}` says nothing more", self.line));
        line.expect("text")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        signal_child(&self.child, signal);
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_none()
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> Answer {
        let child = &mut self.child;
        let status = wait_until(&format!("`{}` ends", self.line), async || {
            child.try_wait().expect("our child").ok_or_else(|| "it runs".into())
        })
        .await;
        let mut stderr = String::new();
        if let Some(mut pipe) = child.stderr.take() {
            pipe.read_to_string(&mut stderr).expect("text");
        }
        Answer { line: self.line.clone(), code: status.code().unwrap_or(-1), stdout: Vec::new(), stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    /// Starts a command against it that goes on.
    pub fn begin<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Running {
        let mut command = command();
        command.args(["--api", self.api()]).args(args);
        Running::start(command)
    }
}

/// Sends a child a signal. Returns from [`Signal::STOP`] when all its threads stand still, which takes a moment.
pub(crate) fn signal_child(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process number");
    kill_process(pid, signal).expect("our child");
    if signal == Signal::STOP {
        let stopped = waitpid(Some(pid), WaitOptions::UNTRACED).expect("our child");
        assert!(stopped.is_some_and(|(_, status)| status.stopped()), "it has ended");
    }
}
