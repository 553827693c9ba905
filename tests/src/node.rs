//! One node as a process.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};

use rustix::process::Signal;
use starling_api::admin::{RUN_FILE, RunFile, Status};
use starling_api::trust::TicketSpec;
use starling_bootstrap::Ticket;
use starling_client::Client;
use tempfile::TempDir;

use crate::command::{Answer, binary, run, without_settings};
use crate::release::pinned;
use crate::running::signal_child;
use crate::wait::wait_until;

/// How much of a log a failed test shows.
const LOG_SHOWN_LINES: usize = 40;

/// A node with a temporary directory of its own, running or not. Dropping it kills the process,
/// removes the directory, and panics if the node has ever panicked.
pub struct Node {
    name: String,
    role: &'static str,
    home: TempDir,
    data_dir: PathBuf,
    listen: String,
    api: String,
    args: Vec<String>,
    /// Commands of a shell that limit the process.
    limits: Option<String>,
    release: Release,
    process: Option<Process>,
}

/// Which release a node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// This one, held back: it speaks and reads only what the release before it does.
    HeldBack,
    /// The one that `tests/release` names: its binary.
    Pinned(PathBuf),
    /// This one.
    Current,
}

impl Release {
    /// The pinned release, which is built first if this build directory does not have it. `None`, and a message on
    /// standard error, where there is no git.
    pub fn pinned() -> Option<Self> {
        pinned().map(Self::Pinned)
    }

    fn binary(&self) -> PathBuf {
        match self {
            Self::Pinned(binary) => binary.clone(),
            Self::HeldBack | Self::Current => binary(),
        }
    }
}

struct Process {
    /// Holds the other end of the node's standard input.
    child: Child,
    run: RunFile,
    client: Client,
}

impl Node {
    /// A replica that has not been started.
    pub fn up(name: &str) -> Self {
        Self::new("up", name)
    }

    /// A bootstrap seed that has not been started.
    pub fn bootstrap(name: &str) -> Self {
        Self::new("bootstrap", name)
    }

    fn new(role: &'static str, name: &str) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        Self {
            name: name.into(),
            role,
            data_dir: home.path().join("data"),
            home,
            listen: "/ip4/127.0.0.1/tcp/0".into(),
            api: "127.0.0.1:0".into(),
            args: Vec::new(),
            limits: None,
            release: Release::Current,
            process: None,
        }
    }

    // ---- how it is started

    /// Joins by a ticket or an address, from the next start on.
    #[must_use]
    pub fn join(mut self, whom: &str) -> Self {
        self.also_join(whom);
        self
    }

    /// Joins by a ticket or an address, from the next start on.
    pub fn also_join(&mut self, whom: &str) {
        self.args.extend(["--join".into(), whom.into()]);
    }

    /// Joins nobody that it does not remember, from the next start on.
    pub fn forget_joins(&mut self) {
        while let Some(at) = self.args.iter().position(|arg| arg == "--join") {
            self.args.drain(at..=at + 1);
        }
    }

    /// Has this setting.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.args.extend(["--set".into(), format!("{key}={value}")]);
        self
    }

    /// Keeps its data in another directory.
    #[must_use]
    pub fn data_in(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = dir.into();
        self
    }

    /// Listens for peers at this multiaddress.
    #[must_use]
    pub fn listen_on(mut self, address: &str) -> Self {
        self.listen = address.into();
        self
    }

    /// Listens for peers at its present address from the next start on, as an installed node does.
    pub fn keep_address(&mut self) {
        let process = self.process.as_ref().expect("it runs");
        self.listen = process.run.listen.first().expect("it listens").clone();
    }

    /// Serves its API at this address.
    #[must_use]
    pub fn api_on(mut self, address: &str) -> Self {
        self.api = address.into();
        self
    }

    /// Can write no file beyond this many blocks of 512 or 1024 bytes, as the shell counts them,
    /// until [`Node::lift_file_limit`] and another start.
    #[must_use]
    pub fn file_blocks_max(mut self, blocks: u64) -> Self {
        // Beyond the limit a write fails, and no signal ends the process.
        self.limits = Some(format!("trap '' XFSZ; ulimit -S -f {blocks}"));
        self
    }

    /// Can have this many files open at a time.
    #[must_use]
    pub fn open_files_max(mut self, count: u64) -> Self {
        self.limits = Some(format!("ulimit -n {count}"));
        self
    }

    fn arguments(&self) -> Vec<String> {
        let data_dir = self.data_dir.display().to_string();
        let fixed = [
            self.role,
            "--exit-with-parent",
            "--data-dir",
            &data_dir,
            "--name",
            &self.name,
            "--listen",
            &self.listen,
            "--api",
            &self.api,
        ];
        fixed.iter().map(ToString::to_string).chain(self.args.iter().cloned()).collect()
    }

    // ---- its life

    /// Starts it and waits until it listens.
    pub async fn started(mut self) -> Self {
        self.start().await;
        self
    }

    /// Starts it and waits until it listens.
    pub async fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(self.log_file()).expect("our directory");
        let mut command = match &self.limits {
            Some(limits) => {
                let mut shell = without_settings("sh");
                shell.args(["-c", &format!("{limits}; exec \"$@\""), "sh"]);
                shell.arg(self.release.binary());
                shell
            }
            None => without_settings(self.release.binary()),
        };
        if self.release == Release::HeldBack {
            command.env("STARLING_TEST_RELEASE", "previous");
        }
        let outputs = (log.try_clone().expect("our file"), log);
        command.args(self.arguments()).stdin(Stdio::piped()).stdout(outputs.0).stderr(outputs.1);
        let mut child = command.spawn().expect("the binary runs");
        let run_file = self.data_dir.join(RUN_FILE);
        let run = wait_until(&format!("{} listens", self.name), async || {
            if let Some(status) = child.try_wait().expect("our child") {
                panic!("{} ended with {status} as it started: {}", self.name, self.log());
            }
            let text = std::fs::read(&run_file).map_err(|e| e.to_string())?;
            let run: RunFile = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
            if run.pid == child.id() { Ok(run) } else { Err("only an earlier process listened".into()) }
        })
        .await;
        let client = Client::new(&run.api, None).expect("an address");
        self.process = Some(Process { child, run, client });
    }

    /// Starts it, expecting that it does not get far. Panics unless it fails with an explanation.
    #[track_caller]
    pub fn refused(&self) -> Answer {
        // Without input it leaves at once, should it start after all.
        let answer = run(self.arguments(), b"");
        let code = answer.code;
        assert_ne!(code, 0, "`{}` did start", answer.line);
        answer.exits(code);
        answer
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the node runs");
        process.child.kill().expect("our child");
        process.child.wait().expect("our child");
    }

    /// SIGTERM, and waits for the end. Panics unless it was a good one.
    pub async fn stop(&mut self) {
        self.signal(Signal::TERM);
        let status = self.ended().await;
        assert!(status.success(), "{} ended with {status}: {}", self.name, self.log());
    }

    /// Waits until the process has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("the node runs");
        wait_until(&format!("{} ends", self.name), async || {
            process.child.try_wait().expect("our child").ok_or_else(|| "it runs".into())
        })
        .await
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        signal_child(&self.process().child, signal);
    }

    /// Ends its standard input, as the end of this process would.
    pub fn close_input(&mut self) {
        drop(self.process.as_mut().expect("the node runs").child.stdin.take());
    }

    /// Runs this release from the next start on.
    pub fn set_release(&mut self, release: &Release) {
        self.release = release.clone();
    }

    /// Lets it write files of any size from the next start on.
    pub fn lift_file_limit(&mut self) {
        self.limits = None;
    }

    // ---- what it is

    fn process(&self) -> &Process {
        self.process.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name))
    }

    /// Whether its process runs.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The key of the network's authority, which the node has made if it is the network's first one.
    pub fn authority_key(&self) -> PathBuf {
        self.data_dir.join("authority.key")
    }

    /// A client of its API.
    pub fn client(&self) -> &Client {
        &self.process().client
    }

    /// Its id in hexadecimal.
    pub fn id(&self) -> &str {
        &self.process().run.id
    }

    /// Where peers reach it, as a multiaddress.
    pub fn address(&self) -> &str {
        self.process().run.listen.first().expect("a node listens")
    }

    /// Where its API listens, `host:port`.
    pub fn api(&self) -> &str {
        &self.process().run.api
    }

    /// Where it serves a keyspace to etcd clients, `host:port`.
    pub fn etcd(&self, keyspace: &str) -> &str {
        let served = self.process().run.etcd.iter().filter_map(|entry| entry.split_once('='));
        let mut found = served.filter(|(_, served)| *served == keyspace).map(|(address, _)| address);
        found.next().unwrap_or_else(|| panic!("{} serves no keyspace {keyspace:?}", self.name))
    }

    /// What it has said so far in all its lives.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.home.path().join("log")
    }

    /// Its status.
    pub async fn status(&self) -> Status {
        self.client().status().await.expect("the node answers")
    }

    /// One of its counters.
    pub async fn counter(&self, name: &str) -> u64 {
        let status = self.status().await;
        *status.counters.get(name).unwrap_or_else(|| panic!("there is no counter {name}"))
    }

    /// Its join ticket.
    pub async fn ticket(&self) -> Ticket {
        let ticket = self.client().ticket(TicketSpec::default()).await.expect("the node answers").ticket;
        ticket.parse().expect("a ticket")
    }

    /// Runs a command against it.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Answer {
        self.run_with(args, b"")
    }

    /// Runs a command with this standard input against it.
    pub fn run_with<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, input: &[u8]) -> Answer {
        let mut all = vec![OsStr::new("--api").to_owned(), OsStr::new(self.api()).to_owned()];
        all.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        run(all, input)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
        let log = self.log();
        if std::thread::panicking() {
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_SHOWN_LINES)..];
            eprintln!("---- log of {}\n{}", self.name, shown.join("\n"));
        } else {
            assert!(!log.contains("panicked at"), "{} has panicked: {log}", self.name);
        }
    }
}
