//! When the processes of peers have started. Two processes may have one identity, and with it one member of a group: a copied
//! data directory, or a cloned machine. Each start of a node is later than all before, so of two the earlier one is a former
//! run, or its double. What it says for its members does not count any more where the later one was met: the later one has
//! asked what it may have promised, and from then on only one of them votes and acknowledges.

use std::collections::BTreeMap;

use starling_proto::NodeRecord;
use starling_strong::members::NodeKey;

/// Peers that are remembered, at most; beyond it the lowest key is forgotten. An estimate: far more than share groups with a
/// node.
const PEERS_MAX: usize = 1_024;

/// The starts of one peer, milliseconds since 1970.
#[derive(Clone, Copy, Default)]
struct Seen {
    latest: u64,
    /// Of the process that connected last.
    linked: u64,
}

/// The starts of peers that have connected.
#[derive(Default)]
pub struct Starts(BTreeMap<NodeKey, Seen>);

impl Starts {
    /// Records a peer that has connected.
    pub fn connected(&mut self, record: &NodeRecord) {
        let (key, linked) = (record.id.0, record.incarnation);
        if self.0.len() == PEERS_MAX && !self.0.contains_key(&key) {
            self.0.pop_first();
        }
        let seen = self.0.entry(key).or_default();
        *seen = Seen { latest: seen.latest.max(linked), linked };
    }

    /// Whether a peer is connected with a process that another one with its identity has followed.
    pub fn is_former(&self, peer: &NodeKey) -> bool {
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::StartsForgotten) {
            return false;
        }
        self.0.get(peer).is_some_and(|seen| seen.linked < seen.latest)
    }
}

#[cfg(test)]
mod tests {
    use starling_proto::{NodeId, Role};

    use super::*;

    #[test]
    fn a_former_run_is_known_until_the_later_one_is_back() {
        let mut starts = Starts::default();
        let mut connect = |id, start| {
            starts.connected(&NodeRecord::new(NodeId([id; 32]), start, Role::Replica));
            starts.is_former(&[id; 32])
        };
        assert_eq!(
            [(1, 50), (1, 50), (1, 60), (1, 50), (2, 40), (1, 60), (1, 70)]
                .map(|(id, start)| connect(id, start)),
            [false, false, false, true, false, false, false]
        );
    }
}
