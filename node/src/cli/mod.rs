//! The command line. Every command but `up`, `bootstrap` and those that need no node speaks to a
//! node's API through [`starling_client::Client`] and uses nothing private.

mod address;
mod admin;
mod args;
mod authority;
mod coordinate;
mod environment;
mod export;
mod failure;
mod hidden;
mod import;
mod keys;
mod keyspace;
mod print;
mod start;
mod strong;
mod token;
mod types;
mod value;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use starling_api::{DEFAULT_KEYSPACE, Op};
use starling_client::{Client, ClientTls, MANAGE_TIMEOUT, WORK, new_request_id};
use tokio::time::timeout;

use args::{Cli, Command, Global, KeyspaceCommand, Output, PutArgs, UpgradeCommand};
use coordinate::args::ElectCommand;
use coordinate::child;
use coordinate::queue::args::QueueCommand;
use failure::Failure;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|arg| arg == child::BECOME) {
        return child::become_command(args);
    }
    let cli = Cli::parse();
    let output = cli.global.output;
    environment::warn_of_misspelt();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => failure.report(output),
    }
}

/// The context of a command that uses a node.
#[derive(Clone)]
struct Session {
    client: Client,
    keyspace: String,
    /// Whether the keyspace was named.
    keyspace_given: bool,
    output: Output,
    /// How long the node may be silent.
    silence: Duration,
    /// How long to wait for a lock or a leadership, milliseconds; `None`: for ever.
    wait_ms: Option<u64>,
}

/// How long a node may be silent, milliseconds, if the command line and the environment do not say: its own limit for a
/// request to a strong keyspace ([`TIMEOUT_MS_DEFAULT`](starling_api::strong::TIMEOUT_MS_DEFAULT)) and a second.
const SILENCE_MS: u64 = 6_000;

/// How long a command takes before a person at a terminal is told that it waits. A guess.
const NOTE_AFTER: Duration = Duration::from_secs(2);

/// How long the node may be silent. The flag is another limit for commands that wait for other clients.
fn silence(flag: Option<u64>, waits: bool) -> Result<Duration, Failure> {
    let ms = match flag.filter(|_| !waits) {
        Some(ms) => ms,
        None => match environment::variable("STARLING_TIMEOUT")? {
            Some(text) => value::parse_duration_ms(&text).map_err(|reason| {
                Failure::usage(format!("STARLING_TIMEOUT: {reason}"), "export STARLING_TIMEOUT=6s")
            })?,
            None => SILENCE_MS,
        },
    };
    Ok(Duration::from_millis(ms))
}

impl Session {
    fn new(global: &Global, command: &Command) -> Result<Self, Failure> {
        let api = match &global.api {
            Some(api) => api.clone(),
            None => environment::variable("STARLING_API")?.map_or_else(address::default, Ok)?,
        };
        let one_value = matches!(
            command,
            Command::Get(_)
                | Command::Hget { .. }
                | Command::Queue(QueueCommand::Pop(_))
                | Command::Elect(ElectCommand::Leader { .. })
        );
        let waits = match command {
            Command::Lock(args) => !args.is_listing(),
            Command::Elect(command) => matches!(command, ElectCommand::Campaign(_)),
            _ => false,
        };
        let silence = silence(global.timeout, waits)?;
        let tls = ClientTls {
            authorities: global.cacert.clone(),
            identity: global.cert.clone().zip(global.cert_key.clone()),
        };
        let client = Client::new(&api, global.token.clone())?.with_tls(&tls)?.with_timeout(silence);
        let makes = matches!(
            command,
            Command::Put(_)
                | Command::Incr { .. }
                | Command::Max { .. }
                | Command::Min { .. }
                | Command::Sadd(_)
                | Command::Hset { .. }
                | Command::Flag(_)
        );
        let may_misspell = makes && global.keyspace.is_some();
        let default = if one_value && !std::io::stdout().is_terminal() { Output::Raw } else { Output::Table };
        Ok(Self {
            client: if may_misspell { client.noting_new_keyspaces() } else { client },
            keyspace: global.keyspace.clone().unwrap_or_else(|| DEFAULT_KEYSPACE.into()),
            keyspace_given: global.keyspace.is_some(),
            output: global.output.unwrap_or(default),
            silence,
            wait_ms: global.timeout.filter(|_| waits),
        })
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match &cli.command {
        Command::Up(args) => return start::up(args, &cli.global),
        Command::Bootstrap(args) => return start::bootstrap(args, &cli.global),
        Command::Config { node, running: false, reference } => {
            return start::config(node, *reference, &cli.global);
        }
        Command::Doctor { data_dir: Some(dir) } => return admin::doctor_offline(dir, cli.global.output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "starling", &mut script);
            return print::raw(&script);
        }
        Command::RequestId => return print::line(format!("{:032x}", new_request_id())),
        Command::Version => return print::line(format!("starling {}", env!("CARGO_PKG_VERSION"))),
        _ => {}
    }
    let session = Session::new(&cli.global, &cli.command)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| {
        Failure::failed(format!("cannot start: {e}"), "check the limits of this shell (ulimit -a)")
    })?;
    let limit = patience(&cli.command, session.silence);
    let done = runtime.block_on(session.run_noting(cli.command, limit));
    if session.client.has_made_keyspace() {
        print::note(format!("new eventual keyspace {}", session.keyspace));
    }
    done
}

/// How long a command may wait for the node; `None`: it waits for other clients or for a person, or shows what it does.
fn patience(command: &Command, silence: Duration) -> Option<Duration> {
    match command {
        Command::Watch(_)
        | Command::Lock(_)
        | Command::Elect(_)
        | Command::Queue(_)
        | Command::Lease(_)
        | Command::Import(_)
        | Command::Export { .. }
        | Command::Put(PutArgs { ephemeral: true, .. })
        | Command::Keyspace(
            KeyspaceCommand::Drop { .. } | KeyspaceCommand::Recover { .. } | KeyspaceCommand::Discard { .. },
        ) => None,
        Command::Keyspace(KeyspaceCommand::Voters(_)) => Some(MANAGE_TIMEOUT),
        Command::Nodes { .. } | Command::Upgrade(_) | Command::Doctor { .. } | Command::Leave { .. } => {
            Some(WORK)
        }
        Command::Keyspace(
            KeyspaceCommand::Create { .. }
            | KeyspaceCommand::TransferLeader { .. }
            | KeyspaceCommand::Replicas { .. },
        ) => Some(WORK),
        _ => Some(silence),
    }
}

impl Session {
    /// Runs a command, and tells a person at a terminal when it takes long.
    async fn run_noting(&self, command: Command, limit: Option<Duration>) -> Result<(), Failure> {
        match limit {
            Some(limit) => self.noting(limit, Box::pin(self.run(command))).await,
            None => self.run(command).await,
        }
    }

    /// Waits for the node, and tells a person at a terminal when that takes long.
    async fn noting<T>(&self, limit: Duration, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        if let Ok(done) = timeout(NOTE_AFTER, &mut work).await {
            return done;
        }
        print::waiting(format!("waiting for {}, up to {} s", self.client.url(), limit.as_secs()));
        work.await
    }

    async fn run(&self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Put(args) => self.put(args).await,
            Command::Get(args) => self.get(&args).await,
            Command::Del(args) => self.delete(args).await,
            Command::Ls(args) => self.list(args).await,
            Command::Watch(args) => self.watch(&args).await,
            Command::Txn { txn, write } => self.transaction(txn.as_deref(), &write).await,
            Command::Lock(args) => self.lock(&args).await,
            Command::Elect(command) => self.elect(command).await,
            Command::Queue(command) => self.queue(command).await,
            Command::Lease(command) => self.lease(command).await,
            Command::Keyspace(command) => self.keyspace(command).await,
            Command::Keyspaces => self.keyspaces().await,
            Command::Incr { key, by } => self.apply(&key, Op::Incr { by }).await,
            Command::Max { key, n } => self.apply(&key, Op::Max { value: n }).await,
            Command::Min { key, n } => self.apply(&key, Op::Min { value: n }).await,
            Command::Sadd(args) => self.add_members(&args).await,
            Command::Srem(args) => self.remove_members(&args).await,
            Command::Smembers { key } => self.members(&key).await,
            Command::Hset { key, pairs } => self.set_fields(&key, &pairs).await,
            Command::Hget { key, field } => self.field(&key, &field).await,
            Command::Hdel { key, fields } => self.delete_fields(&key, &fields).await,
            Command::Hgetall { key } => self.fields(&key).await,
            Command::Flag(command) => self.flag(command).await,
            Command::Import(args) => self.import(args).await,
            Command::Export { prefix } => self.export(&prefix).await,
            Command::Status => self.status().await,
            Command::Peers => self.peers().await,
            Command::Nodes { dot } => self.nodes(dot).await,
            Command::Upgrade(UpgradeCommand::Status) => self.upgrade_status().await,
            Command::Upgrade(UpgradeCommand::Finalize { force }) => self.finalize_upgrade(force).await,
            Command::Doctor { .. } => self.doctor().await,
            Command::Config { .. } => self.config().await,
            Command::Ticket(args) => self.ticket(&args).await,
            Command::Authority(command) => self.authority(command).await,
            Command::Issuer(command) => self.issuer(command).await,
            Command::Member(command) => self.member(command).await,
            Command::Token(command) => self.token(command).await,
            Command::Leave { force } => self.leave(force).await,
            Command::Up(_)
            | Command::Bootstrap(_)
            | Command::Completions { .. }
            | Command::RequestId
            | Command::Version => {
                unreachable!("these need no node and have been dealt with")
            }
        }
    }
}
