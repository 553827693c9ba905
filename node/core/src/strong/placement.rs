//! The choice of nodes for a new keyspace: those that have been up the longest, in as many address blocks as
//! possible.

use std::collections::BTreeSet;

use starling_proto::view::block::Block;
use starling_proto::{NodeRecord, Role};

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
}
