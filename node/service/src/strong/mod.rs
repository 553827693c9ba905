//! Strong keyspaces on the gossip thread: who asked, whom to tell, and which groups to count.

mod handle;
mod names;
mod watches;

use std::collections::BTreeMap;

use crate::call::{Call, Reply};
use starling_core::strong::{CreateError, ManageError, StrongInput, StrongOutput};
use starling_core::{Core, Notice, Now, Token};
use starling_proto::NodeId;
use starling_rocks::RocksEngine;
use starling_strong::api::{Answer, Failure, Status};
use starling_strong::group::Notice as GroupNotice;
use tokio::sync::oneshot;

pub use handle::{StrongError, StrongKeyspace, StrongWatch, StrongWatchEvent};
pub use names::Names;
pub use watches::Watches;

/// What is done to a keyspace itself.
pub enum Manage {
    /// Make it, on these nodes or on so many.
    Create {
        /// How many vote where `on` is empty.
        voters: u8,
        /// The nodes, by name or by the first digits of their id.
        on: Vec<String>,
        /// Lost voters are replaced by hand only.
        manual: bool,
    },
    /// Remove it with all it holds.
    Drop,
    /// Make these its voters.
    Voters(Vec<String>),
    /// Let this node lead.
    Transfer(String),
    /// Go on alone, with what is here.
    Recover,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum ManageFailure {
    /// No known node is called that, or several are.
    #[error("{name}: {found} nodes known here are called that, or have an id that begins so")]
    Node {
        /// As given.
        name: String,
        /// How many.
        found: usize,
    },
    /// It was not made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// It was not changed.
    #[error(transparent)]
    Manage(#[from] ManageError),
}

/// What came of it.
pub type Managed = Result<(), ManageFailure>;

/// A group on this node, for the metrics.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its keyspace.
    pub keyspace: String,
    /// How it stands.
    pub status: Status,
    /// Leaders seen since this node started.
    pub elections: u64,
    /// Requests of clients here that were refused because too much was under way.
    pub shed: u64,
}

#[derive(Default)]
struct Counts {
    elections: u64,
    shed: u64,
}

/// One request of a client.
struct Asked {
    keyspace: std::sync::Arc<str>,
    reply: Reply,
}

/// Requests that the core has been given and not answered. The core bounds them.
#[derive(Default)]
pub struct Requests {
    next: Token,
    asked: BTreeMap<Token, Asked>,
    statuses: BTreeMap<Token, oneshot::Sender<Result<Status, Failure>>>,
    managed: BTreeMap<Token, oneshot::Sender<Managed>>,
    /// Watches of clients here.
    pub watches: Watches,
    counts: BTreeMap<String, Counts>,
}

impl Requests {
    fn token(&mut self) -> Token {
        self.next += 1;
        self.next
    }

    /// What the core gets for a call, if anything.
    pub fn begin(&mut self, call: Call) -> Option<StrongInput> {
        match call {
            Call::Request { keyspace, request, options, reply } => {
                let token = self.token();
                let name = keyspace.to_string();
                self.asked.insert(token, Asked { keyspace, reply });
                Some(StrongInput::Request { token, keyspace: name, request, options })
            }
            Call::Status { keyspace, of_leader, reply } => {
                let token = self.token();
                self.statuses.insert(token, reply);
                Some(StrongInput::Status { token, keyspace: keyspace.to_string(), of_leader })
            }
            Call::Watch { keyspace, id, watch, credit, updates } => {
                let token = self.token();
                self.watches.begin(token, id, updates);
                Some(StrongInput::Watch { token, keyspace: keyspace.to_string(), watch, updates: credit })
            }
            Call::More { id, credit } => {
                let token = self.watches.token(id)?;
                Some(StrongInput::More { token, updates: credit })
            }
            Call::Progress { id } => self.watches.token(id).map(|token| StrongInput::Progress { token }),
            Call::Unwatch { id } => self.watches.end(id).map(|token| StrongInput::Unwatch { token }),
        }
    }

    /// What the core gets for an operator's change of a keyspace itself, if anything.
    pub fn manage(
        &mut self,
        core: &Core<RocksEngine>,
        keyspace: String,
        what: Manage,
        reply: oneshot::Sender<Managed>,
    ) -> Option<StrongInput> {
        let token = self.token();
        let nodes = |names: &[String]| -> Result<Vec<NodeId>, ManageFailure> {
            names.iter().map(|name| find(core, name)).collect()
        };
        let input = match what {
            Manage::Create { voters, on, manual } => {
                nodes(&on).map(|on| StrongInput::Create { token, keyspace, voters, on, manual })
            }
            Manage::Drop => Ok(StrongInput::Drop { token, keyspace }),
            Manage::Voters(voters) => {
                nodes(&voters).map(|nodes| StrongInput::SetVoters { token, keyspace, nodes })
            }
            Manage::Transfer(to) => find(core, &to).map(|to| StrongInput::Transfer { token, keyspace, to }),
            Manage::Recover => Ok(StrongInput::Recover { token, keyspace }),
        };
        match input {
            Ok(input) => {
                self.managed.insert(token, reply);
                Some(input)
            }
            Err(failure) => {
                drop(reply.send(Err(failure)));
                None
            }
        }
    }

    /// Hands an outcome to the client that waits for it, if it still does; what the core gets then, if anything.
    pub fn finish(&mut self, output: StrongOutput) -> Option<StrongInput> {
        match output {
            StrongOutput::Answer { token, result } => self.on_answer(token, result),
            StrongOutput::Update { token, update } => return self.watches.send(token, update),
            StrongOutput::Created { token, result } => {
                self.on_managed(token, result.map(drop).map_err(ManageFailure::from));
            }
            StrongOutput::Managed { token, result } => {
                self.on_managed(token, result.map_err(ManageFailure::from));
            }
            StrongOutput::Status { token, result } => {
                if let Some(reply) = self.statuses.remove(&token) {
                    drop(reply.send(result));
                }
            }
        }
        None
    }

    fn on_answer(&mut self, token: Token, result: Result<Answer, Failure>) {
        let Some(Asked { keyspace, reply }) = self.asked.remove(&token) else { return };
        if matches!(result, Err(Failure::Overloaded)) {
            self.counts.entry(keyspace.to_string()).or_default().shed += 1;
        }
        reply.send(result);
    }

    fn on_managed(&mut self, token: Token, result: Managed) {
        if let Some(reply) = self.managed.remove(&token) {
            drop(reply.send(result));
        }
    }

    /// Counts what a group has noticed.
    pub fn note(&mut self, notice: &Notice) {
        if let Notice::Strong { keyspace, notice: GroupNotice::Leader { node: Some(_), .. } } = notice {
            self.counts.entry(keyspace.clone()).or_default().elections += 1;
        }
    }

    /// Every group on this node.
    pub fn held(&self, core: &mut Core<RocksEngine>, now: Now) -> Vec<Held> {
        let Some(strong) = core.strong_mut() else { return Vec::new() };
        let groups: Vec<_> = strong.groups().map(|(group, name)| (*group, name.to_owned())).collect();
        let held = |(group, keyspace): (_, String)| {
            let status = strong.status_of(now.mono.0, group)?;
            let counts = self.counts.get(&keyspace);
            let (elections, shed) = counts.map_or((0, 0), |counts| (counts.elections, counts.shed));
            Some(Held { keyspace, status, elections, shed })
        };
        groups.into_iter().filter_map(held).collect()
    }
}

/// The one node that is meant.
fn find(core: &Core<RocksEngine>, name: &str) -> Result<NodeId, ManageFailure> {
    let is_meant = |id: &NodeId, called: &str| {
        called == name || (name.len() >= 4 && crate::report::hex(&id.0).starts_with(name))
    };
    let mut found: Vec<NodeId> = core
        .replicas()
        .into_iter()
        .filter(|record| is_meant(&record.id, &record.name))
        .map(|record| record.id)
        .collect();
    match (found.pop(), found.len()) {
        (Some(id), 0) => Ok(id),
        (last, rest) => {
            Err(ManageFailure::Node { name: name.to_owned(), found: rest + usize::from(last.is_some()) })
        }
    }
}
