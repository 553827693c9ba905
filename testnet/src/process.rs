//! One node as a process of its own, which does not outlive this program: it gets a pipe as its
//! standard input and leaves when that closes, however we end.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use starling_api::admin::{RUN_FILE, RunFile};
use tokio::process::{Child, Command};

use crate::error::{Error, Result};
use crate::hosts::{Act, Host};

/// A node must have written its `run.json` within this time. A guess with room for 64 processes
/// that start at once on two cores, one of them rebuilding a large store.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How often the start of a process is looked at.
const START_POLL: Duration = Duration::from_millis(5);
/// A node asked to leave is killed after this time.
const LEAVE_DEADLINE: Duration = Duration::from_secs(10);
/// A killed process is given up on after this time.
const END_DEADLINE: Duration = Duration::from_secs(2);
/// How much of a log is shown when its node ends by itself.
const LOG_TAIL_BYTES: u64 = 4096;

/// How to start a node.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The `starling` binary.
    pub binary: PathBuf,
    /// `up` or `bootstrap`.
    pub command: &'static str,
    /// The node's name, for people.
    pub name: String,
    /// Its data directory, if it runs on this machine.
    pub data_dir: PathBuf,
    /// Where it listens.
    pub address: Ipv4Addr,
    /// The machine that it runs on; none: this one.
    pub host: Option<Arc<Host>>,
    /// Whom to join.
    pub join: Option<String>,
    /// Configuration by environment variables (`STARLING_*`).
    pub environment: Vec<(String, String)>,
}

/// A process that can open no further file, and the limits that it had, if it is one of this machine.
#[derive(Debug)]
pub struct Exhausted {
    pid: Pid,
    limits: Option<Rlimit>,
}

/// What ends and signals a process.
#[derive(Debug)]
enum Control {
    Here { child: Child, log: PathBuf },
    There(Arc<Host>),
}

/// A running node. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    control: Control,
    pid: Pid,
    /// Where its API answers, `host:port`.
    pub api: String,
    /// Where it listens for peers, over TCP.
    pub listens: SocketAddr,
    /// Where it serves a strong keyspace to etcd clients, if it was told to.
    pub etcd: Option<SocketAddr>,
    /// From `exec` until its API was listening.
    pub started_in: Duration,
}

impl Process {
    /// Starts a node and waits until it listens.
    pub async fn start(launch: &Launch) -> Result<Self> {
        match &launch.host {
            Some(host) => Self::start_there(launch, host).await,
            None => Self::start_here(launch).await,
        }
    }

    async fn start_there(launch: &Launch, host: &Arc<Host>) -> Result<Self> {
        let started = host.start(launch).await?;
        Ok(Self {
            name: launch.name.clone(),
            control: Control::There(Arc::clone(host)),
            pid: numbered(started.pid)?,
            api: started.api,
            listens: started.listens,
            etcd: None,
            started_in: Duration::from_millis(started.took_ms),
        })
    }

    async fn start_here(launch: &Launch) -> Result<Self> {
        let began = Instant::now();
        std::fs::create_dir_all(&launch.data_dir).map_err(Error::io(&launch.data_dir))?;
        let log = launch.data_dir.with_extension("log");
        let mut child = command(launch, &log)?
            .spawn()
            .map_err(|source| Error::Spawn { binary: launch.binary.clone(), source })?;
        let number = child.id().unwrap_or_default();
        let run_file = launch.data_dir.join(RUN_FILE);
        loop {
            if let Some(status) = child.try_wait().map_err(Error::io(&launch.binary))? {
                return Err(ended(&launch.name, status, &log));
            }
            if let Some(run) = read_run_file(&run_file).filter(|run| run.pid == number) {
                let listens = run.listen.iter().find_map(|address| tcp(address));
                let listens = listens.ok_or_else(|| {
                    Error::Broken(format!(
                        "node {} listens on {:?}, which is not TCP",
                        launch.name, run.listen
                    ))
                })?;
                return Ok(Self {
                    name: launch.name.clone(),
                    control: Control::Here { child, log },
                    pid: numbered(number)?,
                    etcd: run.etcd.iter().find_map(|served| served.split_once('=')?.0.parse().ok()),
                    api: run.api,
                    listens,
                    started_in: began.elapsed(),
                });
            }
            if began.elapsed() > START_DEADLINE {
                return Err(Error::Deadline {
                    what: format!("node {} listens", launch.name),
                    missing: format!("{} with its pid; its log: {}", run_file.display(), log.display()),
                    waited: began.elapsed(),
                });
            }
            tokio::time::sleep(START_POLL).await;
        }
    }

    /// The operating system's number of it.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// An error with the end of the log if the node has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        match &mut self.control {
            Control::Here { child, log } => match child.try_wait() {
                Ok(Some(status)) => Err(ended(&self.name, status, log)),
                _ => Ok(()),
            },
            Control::There(host) => host.check(&self.name),
        }
    }

    /// kill -9, and waits until the process is gone.
    pub async fn kill(self) -> Result<()> {
        match self.control {
            Control::Here { mut child, log } => child.kill().await.map_err(Error::io(&log)),
            Control::There(host) => host.act(&self.name, Act::Kill).await,
        }
    }

    /// kill -9 from where nothing can be awaited. Waits for the end of a process of this machine, within bounds, so that its
    /// files can be removed.
    pub fn kill_now(self) {
        match self.control {
            Control::Here { mut child, .. } => {
                let _ = child.start_kill();
                let began = Instant::now();
                while matches!(child.try_wait(), Ok(None)) && began.elapsed() < END_DEADLINE {
                    std::thread::sleep(START_POLL);
                }
            }
            Control::There(host) => host.kill_now(&self.name),
        }
    }

    /// Asks it to leave (SIGTERM), and kills it if it does not in time.
    pub async fn leave(mut self) -> Result<()> {
        let child = match &mut self.control {
            Control::There(host) => return host.act(&self.name, Act::Leave).await,
            Control::Here { child, .. } => child,
        };
        kill_process(self.pid, Signal::TERM).map_err(|e| cannot("signal", &self.name, e))?;
        match tokio::time::timeout(LEAVE_DEADLINE, child.wait()).await {
            Ok(_) => Ok(()),
            Err(_) => self.kill().await,
        }
    }

    /// SIGSTOP: it keeps its connections and does nothing.
    pub async fn stop(&self) -> Result<()> {
        self.signal(Signal::STOP, Act::Stop).await
    }

    /// SIGCONT.
    pub async fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT, Act::Resume).await
    }

    async fn signal(&self, signal: Signal, act: Act) -> Result<()> {
        match &self.control {
            Control::Here { .. } => {
                kill_process(self.pid, signal).map_err(|e| cannot("signal", &self.name, e))
            }
            Control::There(host) => host.act(&self.name, act).await,
        }
    }

    /// Lets it open no further file: the limit is less than it has.
    pub async fn exhaust(&self) -> Result<Exhausted> {
        let limits = match &self.control {
            Control::Here { .. } => {
                let none = Rlimit { current: Some(0), maximum: getrlimit(Resource::Nofile).maximum };
                Some(self.limit(none)?)
            }
            Control::There(host) => {
                host.act(&self.name, Act::Exhaust).await?;
                None
            }
        };
        Ok(Exhausted { pid: self.pid, limits })
    }

    /// Lets it open as many as before. Another process than that was not limited.
    pub async fn replenish(&self, Exhausted { pid, limits }: Exhausted) -> Result<()> {
        match (&self.control, limits) {
            _ if pid != self.pid => Ok(()),
            (Control::There(host), _) => host.act(&self.name, Act::Replenish).await,
            (Control::Here { .. }, limits) => limits.map_or(Ok(()), |limits| self.limit(limits).map(drop)),
        }
    }

    fn limit(&self, limits: Rlimit) -> Result<Rlimit> {
        prlimit(Some(self.pid), Resource::Nofile, limits).map_err(|e| cannot("limit", &self.name, e))
    }
}

fn numbered(pid: u32) -> Result<Pid> {
    let known = i32::try_from(pid).ok().and_then(Pid::from_raw);
    known.ok_or_else(|| Error::Broken(format!("process number {pid} is not one")))
}

fn cannot(what: &str, name: &str, error: rustix::io::Errno) -> Error {
    Error::Broken(format!("cannot {what} node {name}: {error}"))
}

fn command(launch: &Launch, log: &Path) -> Result<Command> {
    let output = File::options().create(true).append(true).open(log).map_err(Error::io(log))?;
    let errors = output.try_clone().map_err(Error::io(log))?;
    let mut command = Command::new(&launch.binary);
    command.arg(launch.command).arg("--data-dir").arg(&launch.data_dir);
    let (listen, api) = (format!("/ip4/{}/tcp/0", launch.address), format!("{}:0", launch.address));
    command.args(["--name", &launch.name, "--listen", &listen, "--api", &api]);
    command.arg("--exit-with-parent");
    if let Some(join) = &launch.join {
        command.args(["--join", join]);
    }
    // The person's own Starling settings are not this network's.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("STARLING_")) {
        command.env_remove(name);
    }
    command.envs(launch.environment.iter().cloned());
    // Its own process group: Ctrl-C reaches this program alone, which then ends the nodes.
    command.stdin(Stdio::piped()).stdout(output).stderr(errors).process_group(0).kill_on_drop(true);
    Ok(command)
}

/// The address and port of `/ip4/ADDRESS/tcp/PORT`.
fn tcp(multiaddress: &str) -> Option<SocketAddr> {
    let (ip, port) = multiaddress.strip_prefix("/ip4/")?.split_once("/tcp/")?;
    Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
}

fn read_run_file(path: &Path) -> Option<RunFile> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// A process that ended by itself, with the end of its log.
pub fn ended(name: &str, status: ExitStatus, log: &Path) -> Error {
    Error::NodeEnded { name: name.into(), status: status.to_string(), log: tail(log).unwrap_or_default() }
}

fn tail(log: &Path) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    /// A stand-in for the node: a script that gets the same arguments, `$3` being the data directory.
    fn launch(script: &str) -> (TempDir, Launch) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let binary = folder.path().join("node");
        fs::write(&binary, format!("#!/bin/sh\n{script}\n")).expect("writable");
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("ours");
        let data_dir = folder.path().join("n1");
        let launch = Launch {
            binary,
            command: "up",
            name: "n1".into(),
            data_dir,
            address: Ipv4Addr::LOCALHOST,
            host: None,
            join: None,
            environment: vec![],
        };
        (folder, launch)
    }

    const LISTENS: &str = r#"echo "{\"api\":\"127.0.0.1:1\",\"listen\":[\"/ip4/127.0.0.1/tcp/2\"],\"pid\":$$,\"id\":\"ab\"}" >"$3/run.json""#;

    fn is_running(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[tokio::test]
    async fn where_a_node_serves_etcd_clients_is_known() {
        let served = LISTENS.replace(r#"\"pid"#, r#"\"etcd\":[\"127.0.0.1:3=orders\"],\"pid"#);
        let (_folder, launch) = launch(&format!("{served}; cat >/dev/null"));
        let process = Process::start(&launch).await.expect("it starts");
        assert_eq!(process.etcd.map(|served| served.port()), Some(3));
    }

    #[tokio::test]
    async fn a_node_that_ends_by_itself_is_reported_with_its_log() {
        let (_folder, launch) = launch("echo the port is taken >&2; exit 3");
        let error = Process::start(&launch).await.expect_err("it ends");
        assert!(matches!(&error, Error::NodeEnded { name, .. } if name == "n1"), "{error}");
        assert!(error.to_string().contains("the port is taken"), "{error}");
    }

    #[tokio::test]
    async fn a_missing_binary_is_named() {
        let (_folder, mut launch) = launch("");
        launch.binary = PathBuf::from("/nowhere/starling");
        let error = Process::start(&launch).await.expect_err("it is not there");
        assert!(error.to_string().contains("/nowhere/starling"), "{error}");
    }

    #[tokio::test]
    async fn a_run_file_of_an_earlier_process_does_not_count() {
        let (_folder, launch) = launch(&format!("sleep 0.1; {LISTENS}; cat >/dev/null"));
        fs::create_dir_all(&launch.data_dir).expect("writable");
        let stale = r#"{"api":"127.0.0.1:9","listen":[],"pid":1,"id":"ab"}"#;
        fs::write(launch.data_dir.join(RUN_FILE), stale).expect("writable");
        let process = Process::start(&launch).await.expect("it starts");
        assert_eq!((process.api.as_str(), process.listens.port()), ("127.0.0.1:1", 2));
    }

    #[tokio::test]
    async fn no_process_survives_its_handle() {
        let (_folder, launch) = launch(&format!("{LISTENS}; exec sleep 1000"));
        let killed = Process::start(&launch).await.expect("it starts");
        let pid = killed.pid();
        killed.kill().await.expect("ours");
        assert!(!is_running(pid));
        let stopped = Process::start(&launch).await.expect("it starts again");
        let pid = stopped.pid();
        stopped.stop().await.expect("ours");
        stopped.kill_now();
        assert!(!is_running(pid));
        let left = Process::start(&launch).await.expect("it starts again");
        let pid = left.pid();
        left.leave().await.expect("SIGTERM ends sleep");
        assert!(!is_running(pid));
    }

    #[tokio::test]
    async fn a_node_sees_its_standard_input_close() {
        let (_folder, launch) = launch(&format!("{LISTENS}; cat; echo closed >\"$3/closed\""));
        let mut process = Process::start(&launch).await.expect("it starts");
        let Control::Here { child, .. } = &mut process.control else { panic!("it runs here") };
        drop(child.stdin.take());
        child.wait().await.expect("ours");
        assert!(launch.data_dir.join("closed").exists());
    }
}
