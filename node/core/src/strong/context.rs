//! What every part of [`super::Strong`] uses beside the state that it owns: the instant, ids and randomness,
//! and where its messages, timers and effects go.

use std::collections::VecDeque;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use starling_proto::Millis;
use starling_proto::timers::Timers;
use starling_strong::group::{GroupId, Notice};
use starling_strong::members::NodeKey;

use super::input::{CoreCall, Effect, StrongOutput};
use super::message::StrongMessage;
use super::outbox::Outbox;
use super::precedence;
use crate::Token;

/// The deadlines of all parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A replica's own.
    Group(GroupId),
    /// A replica whose storage failed is to be opened again.
    Reopen(GroupId),
    /// A pending request is to be retried, or has failed.
    Request(u64),
    /// A client's watch is to be checked or opened again.
    Watch(Token),
    /// A keyspace's initial members had time to reply.
    Creation(GroupId),
    /// Nodes had time to reply to a survey.
    Survey(u64),
    /// Leaders compare the location that they published with the present one.
    Publish,
    /// A replica's next portion of background work.
    Work,
    /// Updates of watches that the last step had no room for.
    Serve,
}

/// The instant, ids, randomness and queues that all parts of [`super::Strong`] use.
pub struct Context {
    /// This node.
    pub me: NodeKey,
    /// The instant of the input that is being handled, milliseconds.
    pub now_ms: u64,
    /// The time of day, milliseconds since 1970, as of the last input of the node.
    pub wall_ms: u64,
    /// The deadlines.
    pub timers: Timers<Timer>,
    /// Messages to nodes.
    pub outbox: Outbox,
    effects: VecDeque<Effect>,
    rng: ChaCha12Rng,
    next_id: u64,
}

impl Context {
    /// Creates the context of this node. `seed` must be fresh for every start.
    pub fn new(me: NodeKey, seed: [u8; 32], now_ms: u64) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        // Ids must not be those of an earlier run: replies to its messages may still be under way.
        let next_id = rng.next_u64() >> 1;
        let outbox = Outbox::new(me);
        Self {
            me,
            now_ms,
            wall_ms: 0,
            timers: Timers::default(),
            outbox,
            effects: VecDeque::new(),
            rng,
            next_id,
        }
    }

    /// An id that no other message of this run has.
    pub fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The id of a new group of this many initial members.
    pub fn fresh_group(&mut self, members: usize) -> GroupId {
        let mut group = GroupId::default();
        self.rng.fill_bytes(&mut group);
        precedence::mark(group, members, self.wall_ms)
    }

    /// A seed for a replica.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        seed
    }

    /// A random number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound.max(1)
    }

    /// Sets a deadline, this many milliseconds from now.
    pub fn set_timer(&mut self, timer: Timer, after_ms: u64) {
        self.timers.set(timer, Millis(self.now_ms + after_ms));
    }

    /// Sends a message; to this node itself too.
    pub fn send(&mut self, to: &NodeKey, message: StrongMessage) {
        self.outbox.push(to, message);
    }

    /// Hands an outcome to a client.
    pub fn reply(&mut self, output: StrongOutput) {
        self.push(Effect::Client(output));
    }

    /// Consults the rest of the node.
    pub fn call(&mut self, call: CoreCall) {
        self.push(Effect::Call(call));
    }

    /// Reports something to the log.
    pub fn notice(&mut self, keyspace: String, notice: Notice) {
        self.push(Effect::Notice { keyspace, notice });
    }

    /// Queues any effect.
    pub fn push(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    /// The oldest effect.
    pub fn pop_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }
}
