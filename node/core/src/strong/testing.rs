//! What the tests of several parts need.

use starling_kv::MemoryEngine;
use starling_proto::{NodeId, NodeRecord, Role};
use starling_strong::api::{Options, Request, Write};
use starling_strong::group::{GroupId, Input, Output};
use starling_strong::log::Recoveries;
use starling_strong::members::NodeKey;

use super::StrongConfig;
use super::context::Context;
use super::directory::Directory;
use super::input::Effect;
use super::message::{GroupLocation, StrongMessage, decode_frame};
use super::replicas::Replicas;

/// This node.
pub const ME: NodeKey = [1; 32];

/// The record of node `n`.
pub fn record(n: u8) -> NodeRecord {
    NodeRecord { name: format!("n{n}"), ..NodeRecord::new(NodeId([n; 32]), 1, Role::Replica) }
}

/// What a part works with on a node without replicas, which knows that the keyspace `orders` is on nodes 2, 3
/// and 4, led by 2.
pub struct Outside {
    pub cx: Context,
    pub directory: Directory,
    pub replicas: Replicas<MemoryEngine>,
}

impl Outside {
    pub fn new() -> Self {
        let mut cx = Context::new(ME, [7; 32], 0);
        let replicas = Replicas::open(MemoryEngine::new(), StrongConfig::default(), &mut cx)
            .expect("a memory engine opens");
        let mut directory = Directory::new(record(1));
        let (members, recoveries) = ([2, 3, 4].map(record).to_vec(), Recoveries::default());
        let location = GroupLocation { group: [9; 16], term: 1, members, voters: 3, recoveries };
        directory.remember("orders", location, || replicas.nodes());
        Self { cx, directory, replicas }
    }

    /// The messages sent since the last call, with the first byte of their receivers' keys.
    pub fn sent(&mut self) -> Vec<(u8, StrongMessage)> {
        let mut sent = Vec::new();
        for (to, frames) in self.cx.outbox.take_frames() {
            let messages =
                frames.iter().flat_map(|frame| decode_frame(frame).expect("a frame of ours").messages);
            sent.extend(messages.map(|message| (to[0], message)));
        }
        sent
    }

    /// The effects since the last call.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.cx.pop_effect()).collect()
    }
}

/// A node that has the only replica of a keyspace, and leads it.
pub struct Member {
    pub cx: Context,
    pub replicas: Replicas<MemoryEngine>,
}

impl Member {
    /// The keyspace's group.
    pub const GROUP: GroupId = [9; 16];

    pub fn new() -> Self {
        let mut cx = Context::new(ME, [7; 32], 0);
        let mut replicas = Replicas::open(MemoryEngine::new(), StrongConfig::default(), &mut cx)
            .expect("a memory engine opens");
        replicas.create(&mut cx, Self::GROUP, "orders", &[ME], false).expect("a new group");
        let mut member = Self { cx, replicas };
        while member.replicas.led().is_empty() {
            member.step(Input::Timeout);
        }
        member
    }

    /// Passes an input to the replica a moment later, and returns its outputs.
    fn step(&mut self, input: Input) -> Vec<Output> {
        self.cx.now_ms += 10;
        self.replicas.step(self.cx.now_ms, Self::GROUP, input);
        let mut outputs = Vec::new();
        while let Some((group, output)) = self.replicas.poll_output(&mut self.cx) {
            if let Output::Sync(number) = output {
                self.replicas.step(self.cx.now_ms, group, Input::Synced(number));
            }
            outputs.push(output);
        }
        outputs
    }

    /// Carries a write out.
    pub fn write(&mut self, write: Write) {
        let options = Options { timeout_ms: 1_000, stale: false, id: None, fence: None };
        let mut outputs = self.step(Input::Request { token: 1, request: Request::Write(write), options });
        let is_answer = |output: &Output| matches!(output, Output::Answer { result: Ok(_), .. });
        while !outputs.iter().any(is_answer) {
            assert!(!outputs.iter().any(|output| matches!(output, Output::Answer { .. })), "{outputs:?}");
            // A write of many bytes is measured in the background.
            self.replicas.work(&mut self.cx);
            outputs = self.step(Input::Timeout);
        }
    }
}
