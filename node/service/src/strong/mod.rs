//! Strong keyspaces on the gossip thread: the clients that await an outcome, by the token that the core echoes, and
//! what is counted of each group for the metrics.

mod handle;
mod names;
mod watches;

use std::collections::BTreeMap;

use crate::call::{Call, EtcdServer, Reply};
use starling_api::escaped;
use starling_core::strong::{CreateError, ManageError, StrongInput, StrongOutput, Surveyed};
use starling_core::{Core, Notice, Now, Token};
use starling_proto::{NodeId, NodeRecord};
use starling_rocks::RocksEngine;
use starling_strong::api::{Answer, Failure, Status};
use starling_strong::group::Notice as GroupNotice;
use tokio::sync::oneshot;

pub use handle::{StrongError, StrongKeyspace, StrongWatch, StrongWatchEvent};
pub use names::Names;
pub use watches::Watches;

/// Nodes that an error names, at most.
const NAMED_MAX: usize = 16;

/// An operator's change of a keyspace itself.
pub enum Manage {
    /// Creates it.
    Create {
        /// Number of voters where `on` is empty.
        voters: u8,
        /// The voters' nodes, by name or by the first digits of their id; empty: the node chooses.
        on: Vec<String>,
        /// Whether lost voters are replaced by an operator only.
        manual: bool,
    },
    /// Removes it with all its data.
    Drop,
    /// Makes these nodes its voters.
    Voters(Vec<String>),
    /// Makes another node a voter instead of this one.
    Vacate,
    /// Transfers its leadership to this node.
    Transfer(String),
    /// Unsafe recovery after a loss of quorum: the replica here becomes the only member.
    Recover {
        /// Entries of the longest log within reach that it may lack.
        accept_loss: u64,
    },
    /// Removes the replicas that are kept aside here.
    Discard,
}

impl Manage {
    /// Its name in the audit log: that of the command.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "keyspace create",
            Self::Drop => "keyspace drop",
            Self::Voters(_) => "keyspace voters",
            Self::Vacate => "leave",
            Self::Transfer(_) => "keyspace leader",
            Self::Recover { .. } => "keyspace recover",
            Self::Discard => "keyspace discard",
        }
    }
}

/// Why a change of a keyspace failed.
#[derive(Debug, thiserror::Error)]
pub enum ManageFailure {
    /// No known node has this name or id, or several have.
    #[error("{name}: {found} nodes known here are called that, or have an id that begins so")]
    Node {
        /// Names of known nodes, and the first digits of their ids: [`NAMED_MAX`] at most.
        known: Vec<String>,
        /// The name or the first digits of the id, as the operator wrote it.
        name: String,
        /// Number of nodes that match.
        found: usize,
    },
    /// The keyspace was not created.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The keyspace was not changed.
    #[error(transparent)]
    Manage(#[from] ManageError),
}

/// The outcome of a change of a keyspace.
pub type Managed = Result<(), ManageFailure>;

/// The replicas of a keyspace, or why they are not known.
pub type SurveyReply = Result<Surveyed, ManageError>;

/// A group on this node, for the metrics.
#[derive(Clone, Debug)]
pub struct Held {
    /// The name of its keyspace.
    pub keyspace: String,
    /// Its status.
    pub status: Status,
    /// Leaders seen since this node started.
    pub elections: u64,
    /// Requests of clients here that were refused because too many were pending.
    pub shed: u64,
    /// Members that came back without entries that they had acknowledged, as far as this node has noticed.
    pub rollbacks: u64,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    elections: u64,
    rollbacks: u64,
    shed: u64,
}

/// A client that awaits an answer.
struct Asked {
    keyspace: std::sync::Arc<str>,
    reply: Reply,
}

/// Requests that the core has received and not answered. The core bounds them.
#[derive(Default)]
pub struct Requests {
    next: Token,
    asked: BTreeMap<Token, Asked>,
    statuses: BTreeMap<Token, oneshot::Sender<Result<Status, Failure>>>,
    managed: BTreeMap<Token, oneshot::Sender<Managed>>,
    surveys: BTreeMap<Token, oneshot::Sender<SurveyReply>>,
    /// Watches of clients here.
    pub watches: Watches,
    counts: BTreeMap<String, Counts>,
}

impl Requests {
    fn token(&mut self) -> Token {
        self.next += 1;
        self.next
    }

    /// Notes the client of a call. Returns the input for the core; `None`: the watch has ended, or the call is answered.
    pub fn begin(&mut self, core: &Core<RocksEngine>, call: Call) -> Option<StrongInput> {
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
            Call::Unwatch { ids } => {
                let tokens = ids.into_iter().filter_map(|id| self.watches.end(id)).collect();
                Some(StrongInput::Unwatch { tokens })
            }
            Call::Servers { keyspace, reply } => {
                let server = |(record, urls): (NodeRecord, _)| EtcdServer {
                    node: record.id.0,
                    name: record.name,
                    urls,
                };
                drop(reply.send(core.etcd_servers(&keyspace).into_iter().map(server).collect()));
                None
            }
        }
    }

    /// Notes the operator of a change. Returns the input for the core; `None`: a node is not known, and the operator
    /// has its answer.
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
            Manage::Vacate => Ok(StrongInput::Vacate { token, keyspace }),
            Manage::Transfer(to) => find(core, &to).map(|to| StrongInput::Transfer { token, keyspace, to }),
            Manage::Recover { accept_loss } => Ok(StrongInput::Recover { token, keyspace, accept_loss }),
            Manage::Discard => Ok(StrongInput::Discard { token, keyspace }),
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

    /// Notes the operator of a survey. Returns the input for the core.
    pub fn survey(&mut self, keyspace: String, reply: oneshot::Sender<SurveyReply>) -> StrongInput {
        let token = self.token();
        self.surveys.insert(token, reply);
        StrongInput::Survey { token, keyspace }
    }

    /// Sends an outcome to the client that awaits it. Returns an input for the core where that ends a watch.
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
            StrongOutput::Surveyed { token, result } => {
                if let Some(reply) = self.surveys.remove(&token) {
                    drop(reply.send(result));
                }
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

    /// Counts elections and rollbacks from the notices of groups.
    pub fn note(&mut self, notice: &Notice) {
        let Notice::Strong { keyspace, notice } = notice else { return };
        let counts = self.counts.entry(keyspace.clone()).or_default();
        match notice {
            GroupNotice::Leader { node: Some(_), .. } => counts.elections += 1,
            GroupNotice::RolledBack { .. } | GroupNotice::MemberRolledBack { .. } => counts.rollbacks += 1,
            _ => {}
        }
    }

    /// Every group on this node.
    pub fn held(&self, core: &mut Core<RocksEngine>, now: Now) -> Vec<Held> {
        let Some(strong) = core.strong_mut() else { return Vec::new() };
        let groups: Vec<_> = strong.groups().map(|(group, name)| (*group, name.to_owned())).collect();
        let held = |(group, keyspace): (_, String)| {
            let status = strong.status_of(now.mono.0, group)?;
            let Counts { elections, rollbacks, shed } =
                self.counts.get(&keyspace).copied().unwrap_or_default();
            Some(Held { keyspace, status, elections, shed, rollbacks })
        };
        groups.into_iter().filter_map(held).collect()
    }
}

/// The one known node of this name, or whose id begins with it.
fn find(core: &Core<RocksEngine>, name: &str) -> Result<NodeId, ManageFailure> {
    let is_meant = |id: &NodeId, called: &str| {
        called == name || (name.len() >= 4 && crate::report::hex(&id.0).starts_with(name))
    };
    let replicas = core.replicas();
    let mut found: Vec<NodeId> =
        replicas.iter().filter(|record| is_meant(&record.id, &record.name)).map(|record| record.id).collect();
    match (found.pop(), found.len()) {
        (Some(id), 0) => Ok(id),
        (last, rest) => {
            let called =
                |record: &NodeRecord| format!("{} ({})", escaped(record.name.as_bytes()), record.id.short());
            let present = replicas.iter().filter(|record| !core.has_left(record));
            let known = present.take(NAMED_MAX).map(called).collect();
            Err(ManageFailure::Node {
                name: name.to_owned(),
                found: rest + usize::from(last.is_some()),
                known,
            })
        }
    }
}
