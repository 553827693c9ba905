//! The choice of nodes for a new keyspace: of those that are up, those that have been up the longest, in as many address
//! blocks as possible.

use std::collections::BTreeSet;

use starling_proto::view::block::Block;
use starling_proto::{NodeRecord, Role};

/// The replicas of the network that a node can name.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// This node, and those that it is connected to.
    pub up: Vec<NodeRecord>,
    /// The others: they may have stopped long ago.
    pub others: Vec<NodeRecord>,
}

impl Known {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &NodeRecord> {
        self.up.iter().chain(&self.others)
    }

    /// Chooses `count` of them: only those that are up if they are enough. Fewer if fewer are known.
    pub fn choose(&self, count: usize) -> Vec<NodeRecord> {
        let most = |nodes: &[NodeRecord], count: usize| {
            let known = nodes.iter().filter(|record| record.role == Role::Replica).count();
            choose(nodes.to_vec(), count.min(known)).unwrap_or_default()
        };
        let mut chosen = most(&self.up, count);
        chosen.extend(most(&self.others, count - chosen.len()));
        chosen
    }
}

/// Chooses `count` of `nodes`; `None` if fewer of them are replicas.
pub fn choose(mut nodes: Vec<NodeRecord>, count: usize) -> Option<Vec<NodeRecord>> {
    nodes.retain(|record| record.role == Role::Replica);
    // A record's incarnation is when its node started.
    nodes.sort_by_key(|record| (record.incarnation, record.id));
    nodes.dedup_by_key(|record| record.id);
    let mut blocks = BTreeSet::new();
    let (apart, together): (Vec<_>, Vec<_>) =
        nodes.into_iter().partition(|record| Block::of(record).is_none_or(|block| blocks.insert(block)));
    let chosen: Vec<_> = apart.into_iter().chain(together).take(count).collect();
    (chosen.len() == count).then_some(chosen)
}

#[cfg(test)]
mod tests {
    use starling_proto::NodeId;

    use super::*;

    fn record(n: u8, started: u64, address: &str) -> NodeRecord {
        NodeRecord {
            addresses: vec![format!("/ip4/{address}/tcp/1")],
            ..NodeRecord::new(NodeId([n; 32]), started, if n == 0 { Role::Seed } else { Role::Replica })
        }
    }

    #[test]
    fn old_nodes_in_different_blocks_come_first() {
        let nodes = vec![
            record(0, 0, "10.0.9.1"),
            record(1, 1, "10.0.1.1"),
            record(2, 2, "10.0.1.2"),
            record(3, 9, "10.0.2.1"),
            record(4, 5, "10.0.3.1"),
        ];
        let ids = |count| {
            choose(nodes.clone(), count).map(|chosen| chosen.iter().map(|r| r.id.0[0]).collect::<Vec<_>>())
        };
        assert_eq!(ids(3), Some(vec![1, 4, 3]));
        assert_eq!(ids(4), Some(vec![1, 4, 3, 2]));
        assert_eq!(ids(5), None);
    }

    #[test]
    fn a_node_that_may_have_stopped_is_chosen_only_if_the_others_are_too_few() {
        let up = vec![record(0, 0, "10.0.9.1"), record(5, 8, "10.0.1.2"), record(6, 9, "10.0.1.3")];
        let known = Known { up, others: vec![record(1, 1, "10.0.1.1"), record(2, 2, "10.0.2.1")] };
        let ids = |count| known.choose(count).iter().map(|r| r.id.0[0]).collect::<Vec<_>>();
        assert_eq!(ids(1), [5]);
        assert_eq!(ids(2), [5, 6]);
        assert_eq!(ids(3), [5, 6, 1]);
        assert_eq!(ids(9), [5, 6, 1, 2]);
    }
}
