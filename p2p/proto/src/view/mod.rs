//! Views of the membership: `HyParView` (Leitao, Pereira, Rodrigues, DSN 2007).
//!
//! Each node keeps a small *active view*, its neighbours, and a larger *passive view*, peers that can
//! replace them. Differences from the paper, and why:
//!
//! - A link becomes active on both sides by a question and its answer, for any reason (a join, the
//!   end of a walk, a replacement), so that views stay symmetric however messages cross (`links`).
//! - A node that evicts a neighbour hands it to the newcomer, so that an edge is split and not cut: no
//!   node's degree decreases for long, and no component is cut off (as in SWAN, Bourassa and Holt, 2003).
//! - A join is answered with a sample, so that a joiner has alternatives at once.
//! - Seeds answer with live nodes, and are never neighbours (`seed`).
//! - No more neighbours of one address block than necessary (`block`).
//! - Peers of other zones, by the labels of the operator, in both views (`zone`).

pub mod block;
mod config;
mod input;
mod links;
mod passive;
mod repair;
mod seed;
mod walks;
mod zone;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub(crate) use self::block::Block;
use self::block::Blocks;
pub use self::config::{ACTIVE_RANGE, ViewConfig};
pub use self::input::{DownReason, ViewCounters, ViewInput, ViewOutput};
use self::links::{Ask, AskKind};
use self::passive::Passive;
pub(crate) use self::repair::{backoff_ms, jittered};
use self::seed::Visitors;
use crate::message::ViewMessage;
use crate::timers::Timers;
use crate::{Millis, NodeId, NodeRecord, Role};

/// The views of one node. They do not manage connections: outputs name receivers, and the caller connects to
/// them first if necessary.
///
/// A seed ([`Role::Seed`] in its own record) keeps neither view; it answers probes and joins with
/// peers that lately asked it.
#[derive(Debug)]
pub struct Views {
    config: ViewConfig,
    me: NodeRecord,
    rng: ChaCha8Rng,
    active: BTreeMap<NodeId, NodeRecord>,
    blocks: Blocks,
    /// The last node that joined through this one.
    last_joiner: Option<NodeId>,
    /// Peers asked to become neighbours that have not answered. At most [`links::ASKED_MAX`].
    asked: BTreeMap<NodeId, Ask>,
    /// Former neighbours that may still count this node as a neighbour; bounded.
    unnotified: BTreeSet<NodeId>,
    passive: Passive,
    visitors: Visitors,
    timers: Timers<Timer>,
    outputs: VecDeque<ViewOutput>,
    /// Questions in a row that brought no neighbour.
    fruitless: u32,
    /// Requests for contacts since this node was last not alone.
    lonely: u32,
    shuffle_interval_ms: u64,
    left: bool,
    counters: ViewCounters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The answer to a question is overdue.
    Ask(NodeId),
    /// The active view may want another neighbour.
    Repair,
    /// The node is alone and looks for contacts.
    Contacts,
    /// The next shuffle.
    Shuffle,
}

impl Views {
    /// Views of the node that `me` describes. A replica starts alone, and asks for contacts
    /// ([`ViewOutput::NeedContacts`]) at the first `Timeout`.
    pub fn new(config: ViewConfig, me: NodeRecord, seed: [u8; 32], now: Millis) -> Self {
        let mut timers = Timers::default();
        if me.role == Role::Replica {
            timers.set(Timer::Contacts, now);
        }
        Self {
            passive: Passive::new(config.passive_max),
            shuffle_interval_ms: config.shuffle_first_ms,
            config,
            me,
            rng: ChaCha8Rng::from_seed(seed),
            active: BTreeMap::new(),
            blocks: Blocks::default(),
            last_joiner: None,
            asked: BTreeMap::new(),
            unnotified: BTreeSet::new(),
            visitors: Visitors::default(),
            timers,
            outputs: VecDeque::new(),
            fruitless: 0,
            lonely: 0,
            left: false,
            counters: ViewCounters::default(),
        }
    }

    /// The neighbours.
    pub fn active(&self) -> impl ExactSizeIterator<Item = &NodeRecord> {
        self.active.values()
    }

    /// The passive view.
    pub fn passive(&self) -> impl ExactSizeIterator<Item = &NodeRecord> {
        self.passive.iter()
    }

    /// Whether `peer` is a neighbour.
    pub fn is_active(&self, peer: &NodeId) -> bool {
        self.active.contains_key(peer)
    }

    /// This node's own record.
    pub fn me(&self) -> &NodeRecord {
        &self.me
    }

    /// Counters since the start.
    pub fn counters(&self) -> ViewCounters {
        self.counters
    }

    /// Handles one input. Outputs follow through [`Views::poll_output`].
    pub fn handle(&mut self, now: Millis, input: ViewInput) {
        if self.left {
            return;
        }
        match input {
            ViewInput::Timeout => {}
            ViewInput::Message { from, message } => self.on_message(now, from, message),
            ViewInput::Contact(record) => self.handle_contact(now, record),
            ViewInput::Known(records) => self.learn(now, records),
            ViewInput::Merge(record) => self.handle_merge(now, record),
            ViewInput::LinkUp { record, from } => self.handle_link(&record, from),
            ViewInput::LinkLost(peer) => {
                self.blocks.unlinked(&peer);
                self.handle_loss(now, peer, DownReason::LinkLost);
            }
            ViewInput::Suspected(peer) => self.handle_loss(now, peer, DownReason::Suspected),
            ViewInput::Unreachable(peer) => {
                self.passive.unreachable(peer, now);
                self.handle_loss(now, peer, DownReason::LinkLost);
            }
            ViewInput::RecordChanged(record) => self.me = record,
            ViewInput::Leave => self.handle_leave(),
        }
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Ask(peer) => self.on_ask_timeout(now, peer),
                Timer::Repair => self.repair(now),
                Timer::Contacts => self.need_contacts(now),
                Timer::Shuffle => self.shuffle(now),
            }
        }
    }

    /// The next output; `None` if there is none.
    pub fn poll_output(&mut self) -> Option<ViewOutput> {
        self.outputs.pop_front()
    }

    /// When `Timeout` is due.
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.timers.next()
    }

    fn on_message(&mut self, now: Millis, from: NodeRecord, message: ViewMessage) {
        if from.id == self.me.id {
            return;
        }
        if self.me.role == Role::Seed {
            return self.on_message_to_seed(now, from, &message);
        }
        if let Some(known) = self.active.get_mut(&from.id)
            && from.supersedes(known)
            && from.incarnation == known.incarnation
        {
            known.clone_from(&from);
        }
        match message {
            ViewMessage::Join => self.on_join(now, &from),
            ViewMessage::ForwardJoin { joiner, ttl } => self.on_forward_join(now, &from, joiner, ttl),
            ViewMessage::Neighbor { high } => {
                self.on_neighbor(now, from, if high { AskKind::High } else { AskKind::Low });
            }
            ViewMessage::NeighborReply { accepted } => self.on_neighbor_reply(now, from, accepted),
            ViewMessage::Disconnect => self.on_disconnect(now, from),
            ViewMessage::Shuffle { origin, ttl, sample } => self.on_shuffle(now, &from, origin, ttl, sample),
            ViewMessage::ShuffleReply { sample } => self.learn(now, sample),
            ViewMessage::Probe => {
                let sample = self.sample(&from.id);
                self.send(from, ViewMessage::ProbeReply { sample });
            }
            ViewMessage::ProbeReply { mut sample } => {
                sample.push(from);
                self.learn(now, sample);
            }
        }
    }

    fn handle_leave(&mut self) {
        self.left = true;
        self.timers = Timers::default();
        let asked = std::mem::take(&mut self.asked).into_values().map(|ask| ask.record);
        for peer in asked.collect::<Vec<_>>() {
            self.send(peer, ViewMessage::Disconnect);
        }
        for (id, peer) in std::mem::take(&mut self.active) {
            self.send(peer, ViewMessage::Disconnect);
            self.outputs.push_back(ViewOutput::Down { peer: id, reason: DownReason::Left });
        }
    }

    fn send(&mut self, to: NodeRecord, message: ViewMessage) {
        self.outputs.push_back(ViewOutput::Send { to, message });
    }
}
