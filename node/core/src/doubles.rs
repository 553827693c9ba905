//! Detection of two live processes with one identity, as a copied data directory or a cloned machine makes them.
//!
//! A process draws its incarnation when it starts, so a restart never returns to an earlier one. A peer that does, after
//! another process with its identity has connected, runs twice: each of the two replaces the link of the other for as long
//! as both live. The neighbour that sees it sends each of them the record of the other one:
//!
//! ```text
//!   A, started at 1 ──────► neighbour ◄────── A, started at 2
//!                  connected 1, 2, 1: runs twice
//!                  ◄── ShuffleReply [A, 2]
//!                                   ShuffleReply [A, 1] ──►
//! ```
//!
//! Nothing else sends a node its own record alone.
//!
//! Any member can replay such a message with an old record. But a record is signed with the identity's key, and a process
//! starts later than all before it: one that has started later than this process is another one, whoever sends it. Then
//! this process gives way, as it would if it was stopped: only one of two may act for a voter.

use std::collections::BTreeMap;

use starling_proto::message::ViewMessage;
use starling_proto::{Message, Millis, NodeId, NodeRecord};

/// Peers whose runs are remembered, at most; beyond it the lowest id is forgotten. An estimate: far more than connect at a
/// time.
const PEERS_MAX: usize = 1_024;
/// How long a node counts as running twice after the last sign of it, milliseconds. The links of two such nodes flap about
/// once a second.
pub const SIGN_MS: u64 = 60_000;

/// Time between two messages about a peer's other run to a peer that stays connected, milliseconds; and the time after which
/// messages of an earlier run are no longer under way. Estimates.
const REPEAT_MS: u64 = 10_000;

/// The last two runs of a peer.
struct Runs {
    latest: NodeRecord,
    before: Option<NodeRecord>,
    /// When the latest run connected first.
    since: Millis,
    /// When the peer was last sent the record of its other run.
    sent: Option<Millis>,
    /// When it was last seen to run twice.
    doubled: Option<Millis>,
}

/// What is known about identities that several processes use.
#[derive(Default)]
pub struct Doubles {
    peers: BTreeMap<NodeId, Runs>,
    /// The incarnation of another process with this node's identity, and when a neighbour reported it.
    own: Option<(u64, Millis)>,
    /// Whether such a process has started later than this one.
    has_later: bool,
}

/// A peer was found to run twice.
#[derive(Debug, PartialEq, Eq)]
pub struct Doubled {
    /// To be sent to the process that has connected.
    pub message: Message,
    /// Whether this was not known.
    pub is_new: bool,
}

impl Doubles {
    /// Records a peer that has connected.
    pub fn connected(&mut self, now: Millis, record: &NodeRecord) -> Option<Doubled> {
        let Some(runs) = self.peers.get_mut(&record.id) else {
            if self.peers.len() == PEERS_MAX {
                self.peers.pop_first();
            }
            let runs = Runs { latest: record.clone(), before: None, since: now, sent: None, doubled: None };
            self.peers.insert(record.id, runs);
            return None;
        };
        if runs.latest.incarnation == record.incarnation {
            return None;
        }
        let returns = runs.before.as_ref().is_some_and(|before| before.incarnation == record.incarnation);
        let other = std::mem::replace(&mut runs.latest, record.clone());
        runs.before = Some(other.clone());
        runs.since = now;
        if !returns {
            return None;
        }
        let is_new = !is_recent(now, runs.doubled.replace(now));
        Some(Doubled { message: about(other), is_new })
    }

    /// What a message about the views says about other runs of connected peers, whose incarnations `linked` gives, and what
    /// to send them: in a large network two processes with one identity may have no neighbour in common. A later run
    /// than the connected one has started since; an earlier one lives if it still starts walks.
    pub fn mentioned(
        &mut self,
        now: Millis,
        message: &ViewMessage,
        linked: impl Fn(&NodeId) -> Option<u64>,
    ) -> Vec<(NodeId, Message)> {
        let (origin, sample) = records(message);
        let mut messages = Vec::new();
        for (at, record) in origin.into_iter().chain(sample).enumerate() {
            let Some(incarnation) = linked(&record.id) else { continue };
            let Some(runs) = self.peers.get_mut(&record.id) else { continue };
            let is_origin = at == 0 && origin.is_some();
            let is_alive = is_origin && record.incarnation < incarnation && now - runs.since >= REPEAT_MS;
            let is_due = runs.sent.is_none_or(|sent| now - sent >= REPEAT_MS);
            if is_due && (record.incarnation > incarnation || is_alive) {
                runs.sent = Some(now);
                messages.push((record.id, about(record.clone())));
            }
        }
        messages
    }

    /// Records a message about the views. Returns the incarnation of another process with this node's identity, if the
    /// message reports one that was not known.
    pub fn reported(&mut self, now: Millis, me: &NodeRecord, message: &ViewMessage) -> Option<u64> {
        let (origin, sample) = records(message);
        let is_report = matches!(message, ViewMessage::ShuffleReply { sample } if sample.len() == 1);
        let is_other = |other: &&NodeRecord| {
            let is_later = other.incarnation > me.incarnation;
            other.id == me.id && (is_later || (is_report && other.incarnation < me.incarnation))
        };
        let other = origin.into_iter().chain(sample).filter(is_other).map(|it| it.incarnation).max()?;
        let is_first_later = other > me.incarnation && !std::mem::replace(&mut self.has_later, true);
        let before = self.own.replace((other, now));
        (is_first_later || !is_recent(now, before.map(|(_, at)| at))).then_some(other)
    }

    /// Whether another process with this node's identity has started later than this one.
    pub fn has_later(&self) -> bool {
        self.has_later
    }

    /// The incarnation of another process that lately used this node's identity.
    pub fn own(&self, now: Millis) -> Option<u64> {
        self.own.filter(|(_, at)| is_recent(now, Some(*at))).map(|(incarnation, _)| incarnation)
    }

    /// Whether a peer lately ran twice.
    pub fn is_doubled(&self, now: Millis, peer: &NodeId) -> bool {
        self.peers.get(peer).is_some_and(|runs| is_recent(now, runs.doubled))
    }
}

/// The records in a message about the views: of the node that it is about, and others.
fn records(message: &ViewMessage) -> (Option<&NodeRecord>, &[NodeRecord]) {
    match message {
        ViewMessage::ForwardJoin { joiner, .. } => (Some(joiner), &[]),
        ViewMessage::Shuffle { origin, sample, .. } => (Some(origin), sample),
        ViewMessage::ShuffleReply { sample } | ViewMessage::ProbeReply { sample } => (None, sample),
        _ => (None, &[]),
    }
}

/// Notifies the node of this record of its other run.
fn about(other: NodeRecord) -> Message {
    Message::View(ViewMessage::ShuffleReply { sample: vec![other] })
}

fn is_recent(now: Millis, at: Option<Millis>) -> bool {
    at.is_some_and(|at| now - at < SIGN_MS)
}

#[cfg(test)]
mod tests {
    use starling_proto::Role;

    use super::*;

    fn record(id: u8, incarnation: u64) -> NodeRecord {
        NodeRecord::new(NodeId([id; 32]), incarnation, Role::Replica)
    }

    fn connect(doubles: &mut Doubles, at_ms: u64, incarnation: u64) -> Option<Doubled> {
        doubles.connected(Millis(at_ms), &record(1, incarnation))
    }

    #[test]
    fn restarts_are_no_doubles_even_if_the_clock_was_set_back() {
        let mut doubles = Doubles::default();
        for incarnation in [50, 50, 60, 20, 20, 70] {
            assert_eq!(connect(&mut doubles, 0, incarnation), None, "{incarnation}");
        }
        assert!(!doubles.is_doubled(Millis(0), &NodeId([1; 32])));
    }

    #[test]
    fn a_neighbour_of_one_run_forwards_what_it_receives_of_the_other() {
        let mut doubles = Doubles::default();
        connect(&mut doubles, 0, 50);
        let linked = |id: &NodeId| (*id == NodeId([1; 32])).then_some(50);
        let walk =
            |incarnation| ViewMessage::Shuffle { origin: record(1, incarnation), ttl: 3, sample: Vec::new() };
        let mut sent = |at_ms, message: &ViewMessage| doubles.mentioned(Millis(at_ms), message, linked).len();
        assert_eq!(sent(0, &walk(50)), 0, "its own walk");
        assert_eq!(sent(0, &walk(40)), 0, "it may have been under way when the node was restarted");
        assert_eq!(sent(0, &ViewMessage::ProbeReply { sample: vec![record(2, 9), record(1, 60)] }), 1);
        assert_eq!(sent(1, &walk(60)), 0, "at most every ten seconds");
        assert_eq!(
            sent(REPEAT_MS, &ViewMessage::ProbeReply { sample: vec![record(1, 40)] }),
            0,
            "an old record"
        );
        assert_eq!(sent(REPEAT_MS, &walk(40)), 1, "the earlier run lives");
    }

    #[test]
    fn a_process_gives_way_to_a_later_one_and_to_no_replayed_record() {
        let mut doubles = Doubles::default();
        let me = record(1, 50);
        let mut report = |message: ViewMessage| {
            let reported = doubles.reported(Millis(0), &me, &message);
            (reported, doubles.has_later())
        };
        let sample = |incarnations: &[u64]| incarnations.iter().map(|it| record(1, *it)).collect();
        assert_eq!(
            report(ViewMessage::ProbeReply { sample: sample(&[40, 50]) }),
            (None, false),
            "old records"
        );
        assert_eq!(
            report(ViewMessage::ShuffleReply { sample: sample(&[40]) }),
            (Some(40), false),
            "replayed"
        );
        let walk = ViewMessage::Shuffle { origin: record(2, 99), ttl: 3, sample: sample(&[50, 60]) };
        assert_eq!(report(walk.clone()), (Some(60), true), "reported although another one was, a moment ago");
        assert_eq!(report(walk), (None, true));
    }

    #[test]
    fn a_peer_that_returns_to_an_earlier_run_runs_twice_and_both_are_notified() {
        let mut doubles = Doubles::default();
        assert_eq!(connect(&mut doubles, 0, 50), None);
        assert_eq!(connect(&mut doubles, 1_000, 60), None);
        let to_first = connect(&mut doubles, 2_000, 50).expect("it returned");
        let to_second = connect(&mut doubles, 3_000, 60).expect("it returned");
        assert!(to_first.is_new && !to_second.is_new, "one notice");
        assert!(doubles.is_doubled(Millis(3_000), &NodeId([1; 32])));
        for (me, doubled, other) in [(50, to_first, 60), (60, to_second, 50)] {
            let Message::View(message) = doubled.message else { panic!("of another kind") };
            let mut own = Doubles::default();
            assert_eq!(own.reported(Millis(0), &record(1, me), &message), Some(other));
            assert_eq!(own.reported(Millis(9), &record(1, me), &message), None, "one notice");
            assert_eq!((own.own(Millis(9)), own.own(Millis(9 + SIGN_MS))), (Some(other), None));
            assert_eq!(own.reported(Millis(0), &record(2, 7), &message), None, "of another node");
        }
    }
}
