//! The vote of a node that leaves the network. One of the nodes that are up is asked after the other, until one takes it.

use starling_kv::Engine;
use starling_proto::NodeRecord;
use starling_strong::group::ChangeError;
use starling_strong::members::NodeKey;

use super::super::input::{ManageError, StrongOutput};
use super::super::message::Manage;
use super::{Handler, Operation};
use crate::Token;

/// How long a node that leaves waits for another one to vote in its place, milliseconds. A guess: a few hundred megabytes
/// are transferred.
const VACATE_MS: u64 = 60_000;

/// A vote that a node gives away.
#[derive(Clone)]
pub(super) struct Vacating {
    /// The change that puts the node that is asked now in its place.
    pub change: Manage,
    asked: NodeKey,
    /// Nodes that have not been asked.
    spares: Vec<NodeRecord>,
    /// Why those that were asked before have not taken it.
    refusals: Vec<String>,
}

impl<E: Engine> Handler<'_, E> {
    /// Begins to make another node a voter of a keyspace instead of this one.
    pub fn vacate(&mut self, token: Token, keyspace: String, spares: Vec<NodeRecord>) {
        match self.next_heir(&keyspace, spares, Vec::new()) {
            Ok(vacating) => {
                let deadline_ms = self.cx.now_ms + VACATE_MS;
                self.begin(token, keyspace, Operation::Vacate(vacating), deadline_ms);
            }
            Err(error) => self.cx.reply(StrongOutput::Managed { token, result: Err(error) }),
        }
    }

    fn next_heir(
        &self,
        keyspace: &str,
        mut spares: Vec<NodeRecord>,
        refusals: Vec<String>,
    ) -> Result<Vacating, ManageError> {
        let group = self.replicas.of(keyspace).ok_or_else(|| ManageError::NoReplica(keyspace.into()))?;
        let (heir, voters) = match self.replicas.successors(group, spares.clone(), self.directory) {
            Err(ManageError::NoSpare) if !refusals.is_empty() => {
                return Err(ManageError::AllDecline { reasons: refusals });
            }
            found => found?,
        };
        spares.retain(|record| record.id.0 != heir);
        Ok(Vacating { change: Manage::Voters(voters), asked: heir, spares, refusals })
    }

    /// Asks the next node where the one that was asked does not become a voter. Returns the error to report if the request
    /// is none of this kind, or no node is left.
    pub(super) fn ask_another(&mut self, id: u64, error: ChangeError) -> Option<ManageError> {
        let refusal = match &error {
            ChangeError::Declined(reason) => Some(reason.clone()),
            ChangeError::SilentVoter => None,
            _ => return Some(error.into()),
        };
        let Some(pending) = self.state.pending.get_mut(&id) else { return Some(error.into()) };
        let Operation::Vacate(vacating) = &mut pending.operation else { return Some(error.into()) };
        let (spares, mut refusals) =
            (std::mem::take(&mut vacating.spares), std::mem::take(&mut vacating.refusals));
        let name = self.directory.name(&vacating.asked);
        refusals.push(refusal.unwrap_or_else(|| format!("{name} does not respond")));
        let keyspace = pending.keyspace.clone();
        match self.next_heir(&keyspace, spares, refusals) {
            Ok(next) => {
                if let Some(pending) = self.state.pending.get_mut(&id) {
                    pending.operation = Operation::Vacate(next);
                    pending.awaiting = None;
                }
                self.attempt(id);
                None
            }
            Err(error) => Some(error),
        }
    }
}
