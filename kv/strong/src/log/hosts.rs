//! Nodes beside the log that are no members in it, and that this member has to know after a start: those that its
//! invitation named, until it has its first snapshot, and after unsafe recovery the former members.

use std::collections::BTreeSet;

use starling_kv::engine::{Family, RowOp};
use starling_kv::{Engine, Error};

use super::{Log, record};
use crate::members::NodeKey;

impl<E: Engine> Log<E> {
    /// Records the nodes of an invitation.
    pub fn write_hosts(&self, hosts: &BTreeSet<NodeKey>) -> Result<(), Error> {
        self.write_nodes(record::hosts_key(&self.group), hosts)
    }

    /// Records the members before unsafe recovery.
    pub(super) fn write_former(&self, former: &BTreeSet<NodeKey>) -> Result<(), Error> {
        self.write_nodes(record::former_key(&self.group), former)
    }

    /// The members before the last unsafe recovery by this member.
    pub fn read_former(&self) -> Result<BTreeSet<NodeKey>, Error> {
        self.read_nodes(&record::former_key(&self.group))
    }

    /// The nodes of the last invitation; none if their row is damaged: the leader repeats it.
    pub fn read_hosts(&self) -> Result<BTreeSet<NodeKey>, Error> {
        self.read_nodes(&record::hosts_key(&self.group))
    }

    fn write_nodes(&self, key: record::Key, nodes: &BTreeSet<NodeKey>) -> Result<(), Error> {
        let row = record::seal(&key, nodes);
        self.engine.write(vec![RowOp::Put(Family::Raft, key.to_vec(), row)])
    }

    fn read_nodes(&self, key: &record::Key) -> Result<BTreeSet<NodeKey>, Error> {
        let row = self.engine.get(Family::Raft, key)?;
        Ok(row.and_then(|row| record::open(key, &row)).unwrap_or_default())
    }
}
