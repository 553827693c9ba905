//! Two machines with one identity, and with one member: a copied data directory, or a cloned machine.

use std::collections::BTreeSet;

use starling_strong::members::{MemberId, NodeKey};

use super::disk::Disk;
use super::{World, key};

pub struct Double {
    /// The machine that was there.
    first: usize,
    /// The one with a copy of its disk.
    second: usize,
    /// The machines that have received a message from the second one. They do not send to the first one any more, and ignore
    /// what it sends, as nodes do with the former run of another one.
    met: BTreeSet<usize>,
    /// Whether the first one counts all the same: a bug, planted.
    first_counts: bool,
}

impl World {
    /// Starts a machine with a copy of another one's disk, and with its identity.
    pub fn start_double(
        &mut self,
        first: usize,
        second: usize,
        (disk, member): &(Disk, Option<MemberId>),
        first_counts: bool,
    ) {
        self.double = Some(Double { first, second, met: BTreeSet::new(), first_counts });
        (self.nodes[second].disk, self.nodes[second].member) = (disk.clone(), *member);
        self.start(second);
    }

    /// The key of the node on a machine.
    pub(super) fn identity(&self, machine: usize) -> NodeKey {
        let double = self.double.as_ref().filter(|double| double.second == machine);
        key(double.map_or(machine, |double| double.first))
    }

    /// The machine that a message to a node reaches; `None`: none. Of two machines with one identity each replaces the links
    /// of the other, once a second.
    pub(super) fn linked(&self, from: usize, to: usize) -> Option<usize> {
        let Some(Double { first, second, .. }) = self.double else { return Some(to) };
        let is_turn_of_first = (self.now_ms / 1_000).is_multiple_of(2);
        let linked =
            if self.is_up(first) && (is_turn_of_first || !self.is_up(second)) { first } else { second };
        let is_apart = [first, second].contains(&from) && from != linked;
        let to = if to == first { linked } else { to };
        (!is_apart && !self.is_former(from, to)).then_some(to)
    }

    /// Whether one of these is the former run of another machine, which the other one of these has met.
    pub(super) fn is_former(&self, from: usize, to: usize) -> bool {
        let Some(Double { first, second, met, first_counts }) = &self.double else { return false };
        let has_met = |machine: usize| machine == *second || met.contains(&machine);
        !first_counts && ((from == *first && has_met(to)) || (to == *first && has_met(from)))
    }

    /// Records that a message has arrived.
    pub(super) fn meet(&mut self, from: usize, to: usize) {
        if let Some(double) = self.double.as_mut().filter(|double| double.second == from) {
            double.met.insert(to);
        }
    }
}
