//! The choice of nodes for a keyspace: of those that are up, those that have been up the longest, in as many zones
//! ([`starling_proto::Labels::zone`]) as possible, and then in as many address blocks.

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
        let most = |nodes: &[NodeRecord], count: usize, beside: &[NodeRecord]| {
            let known = nodes.iter().filter(|record| record.role == Role::Replica).count();
            choose(nodes.to_vec(), count.min(known), beside).unwrap_or_default()
        };
        let mut chosen = most(&self.up, count, &[]);
        chosen.extend(most(&self.others, count - chosen.len(), &chosen));
        chosen
    }
}

/// Chooses `count` of `nodes` to be beside those already chosen; `None` if fewer of them are replicas.
pub fn choose(mut nodes: Vec<NodeRecord>, count: usize, beside: &[NodeRecord]) -> Option<Vec<NodeRecord>> {
    nodes.retain(|record| record.role == Role::Replica);
    // A record's incarnation is when its node started.
    nodes.sort_by_key(|record| (record.incarnation, record.id));
    nodes.dedup_by_key(|record| record.id);
    let mut chosen: Vec<NodeRecord> = Vec::new();
    while chosen.len() < count {
        let crowd = |record: &NodeRecord| {
            let others = || beside.iter().chain(&chosen);
            let (zone, block) = (record.labels.zone(), Block::of(record));
            let in_zone = others().filter(|other| zone.is_some() && other.labels.zone() == zone).count();
            let in_block = others().filter(|other| block.is_some() && Block::of(other) == block).count();
            (in_zone, in_block)
        };
        let at = (0..nodes.len()).min_by_key(|at| crowd(&nodes[*at]))?;
        let next = nodes.remove(at);
        chosen.push(next);
    }
    Some(chosen)
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
            choose(nodes.clone(), count, &[])
                .map(|chosen| chosen.iter().map(|r| r.id.0[0]).collect::<Vec<_>>())
        };
        assert_eq!(ids(3), Some(vec![1, 4, 3]));
        assert_eq!(ids(4), Some(vec![1, 4, 3, 2]));
        assert_eq!(ids(5), None);
    }

    #[test]
    fn zones_count_more_than_age_and_blocks_also_beside_voters_that_stay() {
        let labelled = |n, started, address: &str, labels: &str| NodeRecord {
            labels: labels.parse().expect("labels"),
            ..record(n, started, address)
        };
        let nodes = vec![
            labelled(1, 1, "10.0.1.1", "region=eu,zone=a"),
            labelled(2, 2, "10.0.2.1", "region=eu,zone=a"),
            labelled(3, 8, "10.0.1.2", "region=eu,zone=b"),
            labelled(4, 9, "10.0.1.3", "region=us,zone=a"),
        ];
        let ids = |count, beside: &[NodeRecord]| {
            let chosen = choose(nodes.clone(), count, beside).expect("there are enough");
            chosen.iter().map(|record| record.id.0[0]).collect::<Vec<_>>()
        };
        assert_eq!(ids(3, &[]), [1, 3, 4]);
        assert_eq!(ids(4, &[]), [1, 3, 4, 2]);
        let beside =
            [labelled(8, 0, "10.0.8.1", "region=eu,zone=a"), labelled(9, 0, "10.0.9.1", "region=eu,zone=b")];
        assert_eq!(ids(1, &beside), [4]);
    }

    #[test]
    fn a_node_that_may_have_stopped_is_chosen_only_if_the_others_are_too_few() {
        let up = vec![record(0, 0, "10.0.9.1"), record(5, 8, "10.0.1.2"), record(6, 9, "10.0.1.3")];
        let known = Known { up, others: vec![record(1, 1, "10.0.1.1"), record(2, 2, "10.0.2.1")] };
        let ids = |count| known.choose(count).iter().map(|r| r.id.0[0]).collect::<Vec<_>>();
        assert_eq!(ids(1), [5]);
        assert_eq!(ids(2), [5, 6]);
        // The older one of these is in the address block of the first two.
        assert_eq!(ids(3), [5, 6, 2]);
        assert_eq!(ids(9), [5, 6, 2, 1]);
    }
}
