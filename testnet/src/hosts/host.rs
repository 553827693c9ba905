//! One machine, through its agent.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::access::Authority;
use super::wire::{self, Act, Answer, Ask, Outcome, Report, Request, Start, Started};
use crate::error::{Error, Result};
use crate::lock;
use crate::process::Launch;

/// An agent must be ready within this time: a guess with room for a slow login.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// A request must be answered within this time: more than the agent's own limit for the start of a node.
const ANSWER_DEADLINE: Duration = Duration::from_secs(90);
/// An agent whose standard input has closed must have ended its nodes within this time.
const END_DEADLINE: Duration = Duration::from_secs(10);
const END_POLL: Duration = Duration::from_millis(10);

/// An agent. When this is dropped, it ends its nodes and itself.
#[derive(Debug)]
pub struct Host {
    /// Where its nodes are reached.
    pub address: Ipv4Addr,
    child: Mutex<Child>,
    /// Closed when dropped.
    input: Mutex<Option<ChildStdin>>,
    shared: Arc<Shared>,
    numbers: AtomicU64,
}

/// What the thread that reads an agent's reports shares.
#[derive(Debug)]
struct Shared {
    /// Requests that await their answer; none when the agent has gone.
    waiting: Mutex<Option<BTreeMap<u64, oneshot::Sender<Outcome>>>>,
    /// Nodes that ended without a request, with how.
    ended: Mutex<BTreeMap<String, String>>,
}

impl Host {
    /// Starts an agent by its command, and gives it what its nodes show and ask for.
    pub async fn connect(address: Ipv4Addr, command: &[String], authority: &Authority) -> Result<Self> {
        let (program, arguments) = command.split_first().ok_or_else(|| Error::Broken("no command".into()))?;
        let cannot =
            |what: String| Error::Unsupported(format!("host {address}: `{}`: {what}", command.join(" ")));
        let mut started = Command::new(program);
        // Its own process group: Ctrl-C reaches this program alone, which then ends the agents.
        started.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = started.spawn().map_err(|error| cannot(error.to_string()))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let shared = Arc::new(Shared { waiting: Mutex::new(Some(BTreeMap::new())), ended: Mutex::default() });
        let host = Self {
            address,
            child: Mutex::new(child),
            input: Mutex::new(input),
            shared: Arc::clone(&shared),
            numbers: AtomicU64::new(0),
        };
        host.unblock()?;
        let (ready, is_ready) = oneshot::channel();
        let output = output.ok_or_else(|| Error::Broken("the agent has no standard output".into()))?;
        std::thread::spawn(move || shared.read(output, ready));
        match timeout(READY_DEADLINE, is_ready).await {
            Ok(Ok(Ok(version))) if version == env!("CARGO_PKG_VERSION") => {}
            Ok(Ok(Ok(version))) => return Err(cannot(format!("this agent is of version {version}"))),
            Ok(Ok(Err(problem))) => return Err(cannot(problem)),
            Ok(Err(_)) | Err(_) => return Err(cannot("no agent answers".into())),
        }
        let Authority { certificate, key, .. } = authority;
        host.request(Request::Certify { certificate: certificate.clone(), key: key.clone() }).await?;
        Ok(host)
    }

    /// A pipe that an agent does not read must not stop this program.
    fn unblock(&self) -> Result<()> {
        let failed = |error| Error::Broken(format!("the pipe to an agent: {error}"));
        lock(&self.input)
            .as_ref()
            .map_or(Ok(()), |input| rustix::io::ioctl_fionbio(input, true).map_err(failed))
    }

    /// Starts a node.
    pub async fn start(&self, launch: &Launch) -> Result<Started> {
        let start = Start {
            name: launch.name.clone(),
            bootstrap: launch.command == "bootstrap",
            address: launch.address,
            join: launch.join.clone(),
            environment: launch.environment.clone(),
        };
        match self.request(Request::Start(start)).await? {
            Answer::Started(started) => Ok(started),
            other => Err(self.broken(&format!("answers a start with {other:?}"))),
        }
    }

    /// Does something to a node.
    pub async fn act(&self, name: &str, act: Act) -> Result<()> {
        self.request(Request::Node { name: name.into(), act }).await.map(drop)
    }

    /// Has a node killed without waiting for its end.
    pub fn kill_now(&self, name: &str) {
        let request = Request::Node { name: name.into(), act: Act::Kill };
        // An agent that has gone has ended its nodes.
        let _ = self.send(request);
    }

    /// The process of this host that opened a connection, if it is one of the agent's.
    pub async fn dialer(&self, dialer: SocketAddr, own: SocketAddr) -> Option<u32> {
        match self.request(Request::Dialer { dialer, own }).await {
            Ok(Answer::Dialed(pid)) => pid,
            _ => None,
        }
    }

    /// An error if a node has ended that was not ended by a request, or the agent has.
    pub fn check(&self, name: &str) -> Result<()> {
        if let Some(problem) = lock(&self.shared.ended).get(name) {
            return Err(Error::Broken(format!("host {}: {problem}", self.address)));
        }
        if lock(&self.shared.waiting).is_none() { Err(self.broken("has ended")) } else { Ok(()) }
    }

    async fn request(&self, request: Request) -> Result<Answer> {
        let answer = timeout(ANSWER_DEADLINE, self.send(request)?).await;
        match answer.map_err(|_| self.broken("does not answer"))? {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(problem)) => Err(Error::Broken(format!("host {}: {problem}", self.address))),
            Err(_) => Err(self.broken("has ended")),
        }
    }

    fn send(&self, request: Request) -> Result<oneshot::Receiver<Outcome>> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.shared.waiting).as_mut().ok_or_else(|| self.broken("has ended"))?.insert(number, sender);
        let line = wire::line(&Ask { number, request }).map_err(|error| self.broken(&error.to_string()))?;
        let input = lock(&self.input);
        let input = input.as_ref().ok_or_else(|| self.broken("has ended"))?;
        match rustix::io::write(input, line.as_bytes()) {
            Ok(written) if written == line.len() => Ok(receiver),
            Ok(_) | Err(_) => Err(self.broken("does not read its requests")),
        }
    }

    fn broken(&self, what: &str) -> Error {
        Error::Broken(format!("the agent of host {} {what}", self.address))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(lock(&self.input).take());
        let mut child = lock(&self.child);
        let began = Instant::now();
        while matches!(child.try_wait(), Ok(None)) {
            if began.elapsed() > END_DEADLINE {
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            std::thread::sleep(END_POLL);
        }
    }
}

impl Shared {
    /// Hands out what the agent reports, until it ends or sends what is no report.
    fn read(&self, output: ChildStdout, ready: oneshot::Sender<Result<String, String>>) {
        let (mut output, mut ready) = (BufReader::new(output), Some(ready));
        let problem = loop {
            match wire::read(&mut output) {
                Ok(Some(report)) => self.note(report, &mut ready),
                Ok(None) => break "it ended".to_owned(),
                Err(error) => break error.to_string(),
            }
        };
        if let Some(ready) = ready {
            let _ = ready.send(Err(problem));
        }
        *lock(&self.waiting) = None;
    }

    fn note(&self, report: Report, ready: &mut Option<oneshot::Sender<Result<String, String>>>) {
        match report {
            Report::Ready { version } => {
                if let Some(ready) = ready.take() {
                    let _ = ready.send(Ok(version));
                }
            }
            Report::Answer { number, outcome } => {
                let sender = lock(&self.waiting).as_mut().and_then(|waiting| waiting.remove(&number));
                // Nobody waits for a request that took too long.
                if let Some(sender) = sender {
                    let _ = sender.send(outcome);
                }
            }
            Report::Ended { name, problem } => {
                lock(&self.ended).insert(name, problem);
            }
        }
    }
}
