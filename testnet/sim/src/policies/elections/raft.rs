//! Raft's election as the node has it (D. Ongaro, J. Ousterhout, "In search of an understandable consensus algorithm",
//! USENIX ATC 2014): `starling_strong`'s group, unchanged, on a memory engine. Pre-votes, time-outs and the log are its
//! own. Ranks have no meaning to it.
//!
//! What is assumed here: a disk that syncs at once. A node that begins has lost its link to the leader; one whose
//! failure detector reports a node as down has lost its link to that one.

use std::collections::VecDeque;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use starling_kv::MemoryEngine;
use starling_strong::group::{Group, GroupConfig, GroupMessage, History, KEPT_ENTRIES, Output, TICK_MS};
use starling_strong::machine::{Config, VERSION_NEWEST};
use starling_strong::members::NodeKey;

use super::machine::{Input, Leader, Machine, Members, Node};
use super::network::Cast;

pub use starling_strong::group::VOTERS_MAX;

/// Ticks after which a group without faults has a leader, by far.
const TICKS_MAX: u64 = 100;

/// One voter.
pub struct Raft {
    group: Group<MemoryEngine>,
    /// The group's time at time 0 of the network, milliseconds.
    epoch_ms: u64,
    old_leader: Option<Node>,
    outputs: VecDeque<(Node, GroupMessage)>,
}

fn key(node: Node) -> NodeKey {
    [node as u8; 32]
}

fn node(key: &NodeKey) -> Node {
    usize::from(key[0])
}

/// A group of all nodes, which the old leader leads, if there is one.
pub fn voters(cast: &Cast, members: &[Members], rng: &mut ChaCha8Rng) -> Vec<Raft> {
    let keys: Vec<NodeKey> = (0..members.len()).map(key).collect();
    let create = |own: Node| {
        let config = GroupConfig {
            group: [1; 16],
            keyspace: "elections".into(),
            node: key(own),
            member: own as u64 + 1,
            machine: Config::default(),
            history: History::default(),
            kept_entries: KEPT_ENTRIES,
            in_journal: true,
        };
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let group = Group::create(MemoryEngine::new(), config, &keys, seed, 0);
        let mut group = group.expect("an engine without rows takes a new group");
        group.set_version(VERSION_NEWEST);
        Raft { group, epoch_ms: 0, old_leader: cast.old_leader, outputs: VecDeque::new() }
    };
    let mut voters: Vec<Raft> = (0..members.len()).map(create).collect();
    if let Some(leader) = cast.old_leader {
        let now_ms = elect(&mut voters, leader);
        for (own, voter) in voters.iter_mut().enumerate() {
            voter.epoch_ms = now_ms;
            if own != leader && members[own].down.contains(&leader) {
                voter.step(0, starling_strong::group::Input::PeerDown(key(leader)));
            }
        }
    }
    voters
}

/// Lets one voter time out until it leads, without a network between them. Returns the time, milliseconds.
fn elect(voters: &mut [Raft], leader: Node) -> u64 {
    let mut now_ms = 0;
    for _ in 0..TICKS_MAX {
        now_ms += TICK_MS;
        voters[leader].step(now_ms * 1000, starling_strong::group::Input::Timeout);
        exchange(voters, now_ms * 1000);
        if voters.iter().all(|voter| voter.group.leader() == Some(key(leader))) {
            break;
        }
    }
    now_ms
}

fn exchange(voters: &mut [Raft], now_us: u64) {
    while let Some((from, (to, message))) =
        voters.iter_mut().enumerate().find_map(|(from, voter)| Some((from, voter.outputs.pop_front()?)))
    {
        voters[to].step(now_us, starling_strong::group::Input::Message { from: key(from), message });
    }
}

impl Raft {
    fn step(&mut self, now_us: u64, input: starling_strong::group::Input) {
        let time_ms = self.epoch_ms + now_us / 1000;
        self.group.handle(time_ms, input);
        while let Some(output) = self.group.poll_output() {
            match output {
                Output::Send { to, message } => self.outputs.push_back((node(&to), message)),
                Output::Sync(number) => {
                    self.group.handle(time_ms, starling_strong::group::Input::Synced(number));
                }
                _ => {}
            }
        }
    }
}

impl Machine for Raft {
    type Message = GroupMessage;

    fn handle(&mut self, now_us: u64, input: Input<GroupMessage>) {
        use starling_strong::group::Input as Of;
        match input {
            Input::Start => {
                if let Some(leader) = self.old_leader {
                    self.step(now_us, Of::PeerDown(key(leader)));
                }
            }
            Input::Message { from, message } => self.step(now_us, Of::Message { from: key(from), message }),
            Input::Timeout => self.step(now_us, Of::Timeout),
            Input::Down(node) => self.step(now_us, Of::PeerDown(key(node))),
            Input::Up(_) => {}
        }
    }

    fn poll_output(&mut self) -> Option<(Node, GroupMessage)> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<u64> {
        Some(self.group.poll_timeout()?.saturating_sub(self.epoch_ms) * 1000)
    }

    fn leader(&self) -> Option<Leader> {
        Some(Leader { term: Some(self.group.term()), node: node(&self.group.leader()?) })
    }
}
