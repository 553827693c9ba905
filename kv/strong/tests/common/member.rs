//! The first member of a group, alone with what it is sent.

use starling_kv::MemoryEngine;
use starling_strong::group::{Group, GroupConfig, History, Input, KEPT_ENTRIES, Output};
use starling_strong::machine;
use starling_strong::members::NodeKey;

/// The nodes of the initial members.
pub const NODES: [NodeKey; 3] = [[1; 32], [2; 32], [3; 32]];

/// A member on the first node.
pub fn config(member: u64) -> GroupConfig {
    GroupConfig {
        group: [9; 16],
        keyspace: "orders".into(),
        node: NODES[0],
        member,
        machine: machine::Config::default(),
        history: History::default(),
        kept_entries: KEPT_ENTRIES,
        in_journal: true,
    }
}

/// The first of three initial members, which has synced its first rows.
pub fn first() -> Group<MemoryEngine> {
    let group = Group::create(MemoryEngine::new(), config(1), &NODES, [7; 32], 0);
    let mut group = group.expect("a memory engine opens");
    drain(&mut group);
    group
}

/// Syncs what was written, and returns all other outputs.
pub fn drain(group: &mut Group<MemoryEngine>) -> Vec<Output> {
    let mut outputs = Vec::new();
    while let Some(output) = group.poll_output() {
        match output {
            Output::Sync(number) => group.handle(0, Input::Synced(number)),
            other => outputs.push(other),
        }
    }
    outputs
}
