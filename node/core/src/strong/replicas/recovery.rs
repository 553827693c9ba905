//! Unsafe recovery of a group by its replica on this node.

use starling_kv::Engine;
use starling_strong::group::{Group, GroupId};
use starling_strong::log::Log;
use starling_strong::registry;

use super::super::context::Context;
use super::super::directory::Directory;
use super::super::input::ManageError;
use super::{Replica, Replicas, SILENT_MS};

impl<E: Engine> Replicas<E> {
    /// Fails if a group may still have a quorum, as its replica here knows: after unsafe recovery the other members would
    /// lose what this replica does not have.
    pub fn check_quorum(&self, now_ms: u64, group: GroupId) -> Result<(), ManageError> {
        let Some(Replica { keyspace, group, .. }) = self.open.get(&group) else { return Ok(()) };
        let left_ms = SILENT_MS.saturating_sub(group.open_for_ms(now_ms));
        match group.members().nodes.len() {
            1 if group.stopped().is_none() => Err(ManageError::IsAlone(keyspace.clone())),
            1 => Ok(()),
            _ if group.has_heard_quorum(now_ms, SILENT_MS) => Err(ManageError::HasQuorum),
            _ if left_ms > 0 => Err(ManageError::JustOpened { left_s: left_ms.div_ceil(1_000) }),
            _ => Ok(()),
        }
    }

    /// Opens a replica again as the only member of its group, unless the group may still have a quorum.
    pub fn recover(
        &mut self,
        cx: &mut Context,
        group: GroupId,
        directory: &Directory,
    ) -> Result<(), ManageError> {
        self.check_quorum(cx.now_ms, group)?;
        let failed = |error: &dyn std::fmt::Display| ManageError::NotOpened(error.to_string());
        let registered = registry::registered(&self.engine).map_err(|error| failed(&error))?;
        let Some(replica) = registered.into_iter().find(|replica| replica.group == group) else {
            return Ok(());
        };
        if self.unopened.contains_key(&group) {
            let log = Log::open_with_loss(self.engine.clone(), group).map_err(|error| failed(&error))?;
            if log.is_some_and(|log| log.members().0.nodes.len() > 1) {
                return Err(ManageError::QuorumUnknown);
            }
        }
        // The engine's rows have one owner at a time.
        self.open.remove(&group);
        let known_term = directory.location(&replica.keyspace).filter(|location| location.group == group);
        let known_term = known_term.map_or(0, |location| location.term);
        let known = directory.recoveries(&group).cloned().unwrap_or_default();
        let config = self.config(&replica);
        let forced =
            Group::force_alone(self.engine.clone(), config, known_term, &known, cx.seed(), cx.now_ms);
        let forced = forced.map_err(|error| failed(&error))?;
        let forced = forced.ok_or_else(|| ManageError::NoReplica(replica.keyspace.clone()))?;
        self.unopened.remove(&group);
        self.asides.remove(&group);
        self.host(cx, group, replica.keyspace, forced, replica.manual);
        Ok(())
    }
}
