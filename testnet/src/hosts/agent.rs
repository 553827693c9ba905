//! `testnet agent`: starts, signals and wipes nodes on this machine, as its standard input says.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Write, stdin, stdout};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::wire::{self, Act, Answer, Ask, Report, Request, Start, Started};
use crate::error::{Error, Result};
use crate::network::Root;
use crate::process::{Exhausted, Launch, Process};
use crate::relay::dialer;
use crate::usage::disk_bytes;
use crate::variable;
use crate::{Common, lock};

/// How often it is looked whether a node has ended, and how much its folder holds.
const LOOK: Duration = Duration::from_millis(500);
/// Requests in progress at once; further ones wait.
const AT_ONCE: usize = 64;
/// Letters of a node's name, at most.
const NAME_LETTERS_MAX: usize = 32;

/// What an agent may do.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Nodes that it runs, at most
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    nodes_max: u16,
    /// Disk space that its nodes use, at most: with more, all of them are killed
    #[arg(long, default_value_t = 10 << 10, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    disk_mib_max: u64,
}

impl Options {
    /// Does what it is asked until its standard input closes, and ends every node.
    pub async fn run(&self, common: &Common) -> Result<()> {
        let plan = common.plan(0)?;
        let agent = Arc::new(Agent {
            nodes: Mutex::default(),
            binary: plan.binary.clone(),
            nodes_max: self.nodes_max.into(),
            disk_bytes_max: self.disk_mib_max << 20,
            certificate: Mutex::default(),
            root: Root::new(&plan)?,
        });
        report(&Report::Ready { version: env!("CARGO_PKG_VERSION").into() });
        let mut asks = asks();
        let mut tasks = JoinSet::new();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ask = asks.recv(), if tasks.len() < AT_ONCE => match ask {
                    Some(Ask { number, request }) => {
                        let agent = Arc::clone(&agent);
                        tasks.spawn(async move {
                            let outcome = agent.answer(request).await.map_err(|error| error.to_string());
                            report(&Report::Answer { number, outcome });
                        });
                    }
                    None => break,
                },
                Some(_) = tasks.join_next() => {}
                _ = looks.tick() => agent.look(),
            }
        }
        // What is in progress holds nodes, which end with it.
        tasks.shutdown().await;
        Ok(())
    }
}

/// Requests, from a thread: a read of the standard input cannot be cancelled. Ends where it closes, or brings something else.
fn asks() -> mpsc::Receiver<Ask> {
    let (sender, receiver) = mpsc::channel(AT_ONCE);
    std::thread::spawn(move || {
        let mut input = BufReader::new(stdin());
        while let Some(ask) = wire::read(&mut input).unwrap_or_else(|error| {
            eprintln!("error: no request: {error}");
            None
        }) {
            if sender.blocking_send(ask).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A report that cannot be written has no reader: the standard input ends too.
fn report(report: &Report) {
    let mut output = stdout().lock();
    let _ =
        wire::line(report).and_then(|line| output.write_all(line.as_bytes())).and_then(|()| output.flush());
}

/// The nodes of an agent. Dropping it kills them, then removes its folder if that is a temporary one.
struct Agent {
    nodes: Mutex<BTreeMap<String, Arc<AsyncMutex<Slot>>>>,
    binary: PathBuf,
    nodes_max: usize,
    disk_bytes_max: u64,
    /// Files of the certificate that nodes show, and of its key.
    certificate: Mutex<Option<[PathBuf; 2]>>,
    root: Root,
}

/// A node, running or not.
#[derive(Default)]
struct Slot {
    process: Option<Process>,
    exhausted: Option<Exhausted>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill_now();
        }
    }
}

impl Slot {
    fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().ok_or_else(not_running)
    }

    fn take(&mut self) -> Result<Process> {
        self.process.take().ok_or_else(not_running)
    }
}

fn not_running() -> Error {
    Error::Broken("this node is not running".into())
}

impl Agent {
    async fn answer(&self, request: Request) -> Result<Answer> {
        match request {
            Request::Certify { certificate, key } => {
                let files = ["tls.pem", "tls.key"].map(|name| self.root.path().join(name));
                for (path, text) in files.iter().zip([certificate, key]) {
                    write_private(path, &text)?;
                }
                *lock(&self.certificate) = Some(files);
                Ok(Answer::Done)
            }
            Request::Start(start) => self.start(start).await.map(Answer::Started),
            Request::Node { name, act } => self.act(&name, act).await.map(|()| Answer::Done),
            Request::Dialer { dialer, own } => {
                let pids: Vec<(usize, u32)> = self.pids().into_iter().enumerate().collect();
                let find = move || Some(pids[dialer::find(Path::new("/proc"), dialer, own, &pids)?].1);
                let found = tokio::task::spawn_blocking(find).await;
                found.map(Answer::Dialed).map_err(|error| Error::Broken(error.to_string()))
            }
        }
    }

    /// The processes of nodes that nothing is being done to.
    fn pids(&self) -> Vec<u32> {
        let nodes = lock(&self.nodes);
        nodes.values().filter_map(|slot| Some(slot.try_lock().ok()?.process.as_ref()?.pid())).collect()
    }

    /// The node of a name, which becomes a folder's.
    fn slot(&self, name: &str) -> Result<Arc<AsyncMutex<Slot>>> {
        if name.is_empty()
            || name.len() > NAME_LETTERS_MAX
            || !name.bytes().all(|it| it.is_ascii_alphanumeric())
        {
            return Err(Error::Broken(format!("{name:?} is no name of a node")));
        }
        let mut nodes = lock(&self.nodes);
        if nodes.len() >= self.nodes_max && !nodes.contains_key(name) {
            let most = self.nodes_max;
            return Err(Error::Unsupported(format!("this agent runs {most} nodes at most (--nodes-max)")));
        }
        Ok(Arc::clone(nodes.entry(name.to_owned()).or_default()))
    }

    async fn start(&self, start: Start) -> Result<Started> {
        let Start { name, bootstrap, address, join, mut environment } = start;
        if let Some((other, _)) = environment.iter().find(|(key, _)| !key.starts_with("STARLING_")) {
            return Err(Error::Broken(format!("{other} is no setting of a node")));
        }
        let slot = self.slot(&name)?;
        let mut slot = slot.lock().await;
        if slot.process.is_some() {
            return Err(Error::Broken(format!("node {name} runs already")));
        }
        if let Some([certificate, key]) = &*lock(&self.certificate) {
            let files = [("tls.certificate", certificate), ("tls.key", key)];
            environment.extend(files.map(|(key, path)| (variable(key), path.display().to_string())));
        }
        let launch = Launch {
            binary: self.binary.clone(),
            command: if bootstrap { "bootstrap" } else { "up" },
            data_dir: self.root.path().join(&name),
            name,
            address,
            host: None,
            join,
            environment,
        };
        let process = Process::start(&launch).await?;
        let started = Started {
            pid: process.pid(),
            api: process.api.clone(),
            listens: process.listens,
            took_ms: process.started_in.as_millis() as u64,
        };
        slot.process = Some(process);
        Ok(started)
    }

    async fn act(&self, name: &str, act: Act) -> Result<()> {
        let slot = self.slot(name)?;
        let mut slot = slot.lock().await;
        match act {
            Act::Kill => slot.take()?.kill().await,
            Act::Leave => slot.take()?.leave().await,
            Act::Stop => slot.process()?.stop().await,
            Act::Resume => slot.process()?.resume().await,
            Act::Exhaust => {
                slot.exhausted = Some(slot.process()?.exhaust().await?);
                Ok(())
            }
            Act::Replenish => match slot.exhausted.take() {
                Some(exhausted) => slot.process()?.replenish(exhausted).await,
                None => Ok(()),
            },
            Act::Wipe if slot.process.is_some() => Err(Error::Broken(format!("node {name} runs"))),
            Act::Wipe => {
                let data_dir = self.root.path().join(name);
                std::fs::remove_dir_all(&data_dir).map_err(Error::io(&data_dir))
            }
        }
    }

    /// Reports nodes that have ended, and ends all if they use too much.
    fn look(&self) {
        let is_full = disk_bytes(self.root.path()) > self.disk_bytes_max;
        for (name, slot) in &*lock(&self.nodes) {
            // A node that is being started or ended looks after itself.
            let Ok(mut slot) = slot.try_lock() else { continue };
            let Some(mut process) = slot.process.take() else { continue };
            let problem = match process.check() {
                Err(error) => error.to_string(),
                Ok(()) if is_full => {
                    process.kill_now();
                    let mib = self.disk_bytes_max >> 20;
                    format!("node {name} was killed: the nodes here use more than {mib} MiB (--disk-mib-max)")
                }
                Ok(()) => {
                    slot.process = Some(process);
                    continue;
                }
            };
            report(&Report::Ended { name: name.clone(), problem });
        }
    }
}

/// Writes a file that its owner alone can read.
fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut options = OpenOptions::new();
    let opened: std::io::Result<File> =
        options.write(true).create(true).truncate(true).mode(0o600).open(path);
    opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Error::io(path))
}
