//! The channel from the other threads to the gossip thread.

use std::sync::Arc;

use crate::call::{Call, Calls};
use starling_access::Capability;
use starling_api::Error;
use starling_api::admin::{Nodes, Peers, Status};
use starling_api::trust::{Statements, TicketSpec, Trust};
use starling_kv::{Batch, Change, Outcome};
use starling_proto::trust::Statement;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::strong::{Held, Manage, Managed, SurveyReply};

/// Commands that wait for the gossip thread, at most; the sender of a further one waits.
const COMMANDS_MAX: usize = 1024;
/// Calls of strong keyspaces that wait for the gossip thread, at most; further ones are rejected.
const CALLS_MAX: usize = 4096;
/// Writes between their arrival and their acknowledgement, syncs included; further ones wait.
const WRITES_IN_FLIGHT_MAX: usize = 4096;

/// Keys that changed together.
pub type ChangeSet = Vec<Change>;

/// The outcome of a batch.
pub type Written = Result<Vec<Outcome>, Error>;

/// A command to the gossip thread, with the sender of its answer.
pub enum Command {
    /// Commit a batch.
    Write(Batch, oneshot::Sender<Written>),
    /// Send the status of the node.
    Status(oneshot::Sender<Status>),
    /// Send the peers.
    Peers(oneshot::Sender<Peers>),
    /// Send a join ticket.
    Ticket(TicketSpec, oneshot::Sender<Result<String, Error>>),
    /// Sign a token of a client.
    SignToken(Capability, oneshot::Sender<Result<Capability, Error>>),
    /// Send the authority's statements and the node's certificate.
    Trust(oneshot::Sender<Trust>),
    /// Learn statements of an authority.
    AddStatements(Vec<Statement>, oneshot::Sender<Result<Trust, Error>>),
    /// Send the statements of the authority.
    Statements(oneshot::Sender<Statements>),
    /// Crawl the network and send its nodes.
    Crawl(oneshot::Sender<Nodes>),
    /// Try addresses where peers may listen.
    Contact(Vec<String>),
    /// Create, drop or change a strong keyspace.
    Manage(String, Manage, oneshot::Sender<Managed>),
    /// Send the replicas of a strong keyspace.
    Survey(String, oneshot::Sender<SurveyReply>),
    /// Send the groups on this node.
    Groups(oneshot::Sender<Vec<Held>>),
    /// Leave the network and stop.
    Leave,
}

/// The sender of commands. Every answer is `None` once the gossip thread has stopped.
#[derive(Clone)]
pub struct Gossip {
    commands: mpsc::Sender<Command>,
    calls: Calls,
    writes: Arc<Semaphore>,
}

/// Creates the channel: the sender, and the queues of commands and calls.
pub fn channel() -> (Gossip, mpsc::Receiver<Command>, mpsc::Receiver<Call>) {
    let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
    let (calls, called) = mpsc::channel(CALLS_MAX);
    let gossip = Gossip { commands, calls, writes: Arc::new(Semaphore::new(WRITES_IN_FLIGHT_MAX)) };
    (gossip, commanded, called)
}

impl Gossip {
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Commits a batch at the configured durability.
    pub async fn write(&self, batch: Batch) -> Option<Written> {
        let _permit = self.writes.acquire().await.ok()?;
        self.ask(|reply| Command::Write(batch, reply)).await
    }

    /// The queue of calls to strong keyspaces.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Creates, drops or changes a strong keyspace.
    pub async fn manage(&self, keyspace: String, what: Manage) -> Option<Managed> {
        self.ask(|reply| Command::Manage(keyspace, what, reply)).await
    }

    /// The replicas of a strong keyspace on all nodes that can be reached.
    pub async fn survey(&self, keyspace: String) -> Option<SurveyReply> {
        self.ask(|reply| Command::Survey(keyspace, reply)).await
    }

    /// The groups of strong keyspaces on this node.
    pub async fn groups(&self) -> Option<Vec<Held>> {
        self.ask(Command::Groups).await
    }

    /// The status of the node.
    pub async fn status(&self) -> Option<Status> {
        self.ask(Command::Status).await
    }

    /// The peers it knows.
    pub async fn peers(&self) -> Option<Peers> {
        self.ask(Command::Peers).await
    }

    /// A join ticket.
    pub async fn ticket(&self, spec: TicketSpec) -> Option<Result<String, Error>> {
        self.ask(|reply| Command::Ticket(spec, reply)).await
    }

    /// Signs a token of a client.
    pub async fn sign_token(&self, token: Capability) -> Option<Result<Capability, Error>> {
        self.ask(|reply| Command::SignToken(token, reply)).await
    }

    /// The authority's statements, and the node's certificate.
    pub async fn trust(&self) -> Option<Trust> {
        self.ask(Command::Trust).await
    }

    /// Learns statements, whose signatures are verified.
    pub async fn add_statements(&self, statements: Vec<Statement>) -> Option<Result<Trust, Error>> {
        self.ask(|reply| Command::AddStatements(statements, reply)).await
    }

    /// The statements of the authority.
    pub async fn statements(&self) -> Option<Statements> {
        self.ask(Command::Statements).await
    }

    /// The overlay.
    pub async fn crawl(&self) -> Option<Nodes> {
        self.ask(Command::Crawl).await
    }

    /// Lets the node try addresses where peers may listen.
    pub async fn contact(&self, addresses: Vec<String>) -> Option<()> {
        self.commands.send(Command::Contact(addresses)).await.ok()
    }

    /// Makes the node leave and stop.
    pub async fn leave(&self) -> Option<()> {
        self.commands.send(Command::Leave).await.ok()
    }
}
