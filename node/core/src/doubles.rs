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
    /// The run beside the latest one that was seen then.
    other: Option<NodeRecord>,
    /// A run that started after the latest one that has connected.
    later: Option<Later>,
}

/// A run of which only walks have been seen.
struct Later {
    incarnation: u64,
    /// When its first walk was seen.
    since: Millis,
    /// Whether the run before it has sent messages [`REPEAT_MS`] after that: they were not under way.
    is_beside: bool,
}

/// A peer whose identity two processes use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoubledPeer {
    /// The records of the two, the one that started first by its own clock before the other one.
    pub processes: [NodeRecord; 2],
    /// Milliseconds since the last sign of both.
    pub seen_ms: u64,
}

impl Runs {
    /// Records a message of the run that is connected.
    fn note_sign(&mut self, now: Millis) {
        if let Some(later) = self.later.as_mut().filter(|later| now - later.since >= REPEAT_MS) {
            later.is_beside = true;
        }
    }

    /// Records a walk of a run that started after the one that is connected. Returns whether that one is alive, too.
    fn is_beside(&mut self, now: Millis, walker: &NodeRecord) -> bool {
        let incarnation = walker.incarnation;
        let known = self.later.take().filter(|later| later.incarnation == incarnation);
        let later = self.later.insert(known.unwrap_or(Later { incarnation, since: now, is_beside: false }));
        later.is_beside
    }

    /// Records that another run is alive beside the latest one. Returns whether that was not known.
    fn note_double(&mut self, now: Millis, other: NodeRecord) -> bool {
        self.other = Some(other);
        !is_recent(now, self.doubled.replace(now))
    }
}

/// What is known about identities that several processes use.
#[derive(Default)]
pub struct Doubles {
    peers: BTreeMap<NodeId, Runs>,
    /// The record of another process with this node's identity, and when a neighbour reported it.
    own: Option<(NodeRecord, Millis)>,
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
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::StartsForgotten) {
            return None;
        }
        let Some(runs) = self.peers.get_mut(&record.id) else {
            if self.peers.len() == PEERS_MAX {
                self.peers.pop_first();
            }
            let latest = record.clone();
            let runs = Runs {
                latest,
                before: None,
                since: now,
                sent: None,
                doubled: None,
                other: None,
                later: None,
            };
            self.peers.insert(record.id, runs);
            return None;
        };
        if runs.latest.incarnation == record.incarnation {
            return None;
        }
        let returns = runs.before.as_ref().is_some_and(|before| before.incarnation == record.incarnation);
        let other = std::mem::replace(&mut runs.latest, record.clone());
        let is_third = runs.other.as_ref().is_some_and(|known| {
            record.incarnation > known.incarnation && record.incarnation > other.incarnation
        });
        runs.before = Some(other.clone());
        (runs.since, runs.later) = (now, None);
        if is_third {
            // One of the two was restarted, and the other one may have ended: another sign of it counts from here.
            (runs.doubled, runs.other) = (None, None);
        }
        if !returns {
            return None;
        }
        let is_new = runs.note_double(now, other.clone());
        Some(Doubled { message: about(other), is_new })
    }

    /// What a message about the views says about other runs of connected peers, whose incarnations `linked` gives, and what
    /// to send them: in a large network two processes with one identity may have no neighbour in common. A later run
    /// than the connected one has started since; an earlier one lives if it still starts walks. `from` is the sender.
    pub fn mentioned(
        &mut self,
        now: Millis,
        from: &NodeId,
        message: &ViewMessage,
        linked: impl Fn(&NodeId) -> Option<u64>,
    ) -> Vec<(NodeId, Message)> {
        if let Some(runs) = self.peers.get_mut(from) {
            runs.note_sign(now);
        }
        let (origin, sample) = records(message);
        let mut messages = Vec::new();
        for (at, record) in origin.into_iter().chain(sample).enumerate() {
            let Some(incarnation) = linked(&record.id) else { continue };
            let Some(runs) = self.peers.get_mut(&record.id) else { continue };
            let is_origin = at == 0 && origin.is_some();
            let is_alive = is_origin && record.incarnation < incarnation && now - runs.since >= REPEAT_MS;
            if is_alive || (is_origin && record.incarnation > incarnation && runs.is_beside(now, record)) {
                runs.note_double(now, record.clone());
            }
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
        let others = origin.into_iter().chain(sample).filter(is_other);
        let other = others.max_by_key(|it| (it.incarnation, it.revision))?;
        let is_first_later =
            other.incarnation > me.incarnation && !std::mem::replace(&mut self.has_later, true);
        let before = self.own.replace((other.clone(), now));
        (is_first_later || !is_recent(now, before.map(|(_, at)| at))).then_some(other.incarnation)
    }

    /// Whether another process with this node's identity has started later than this one.
    pub fn has_later(&self) -> bool {
        self.has_later
    }

    /// The record of another process that lately used this node's identity, and the milliseconds since the last sign
    /// of it.
    pub fn own(&self, now: Millis) -> Option<(&NodeRecord, u64)> {
        let (record, at) = self.own.as_ref()?;
        Some((record, now - *at)).filter(|(_, age_ms)| *age_ms < SIGN_MS)
    }

    /// The peers that lately ran twice.
    pub fn peers(&self, now: Millis) -> impl Iterator<Item = DoubledPeer> {
        self.peers.values().filter_map(move |runs| {
            let seen_ms = now - runs.doubled?;
            let mut processes = [runs.other.clone()?, runs.latest.clone()];
            processes.sort_by_key(|record| record.incarnation);
            (seen_ms < SIGN_MS).then_some(DoubledPeer { processes, seen_ms })
        })
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
        let mut sent = |at_ms, message: &ViewMessage| {
            doubles.mentioned(Millis(at_ms), &NodeId([9; 32]), message, linked).len()
        };
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
    fn a_peer_counts_as_doubled_while_there_are_signs_of_another_run() {
        let linked = |id: &NodeId| (*id == NodeId([1; 32])).then_some(50);
        let walk =
            |incarnation| ViewMessage::Shuffle { origin: record(1, incarnation), ttl: 3, sample: Vec::new() };
        let seen = |doubles: &Doubles, at_ms| {
            let started = |peer: DoubledPeer| (peer.processes.map(|it| it.incarnation), peer.seen_ms);
            doubles.peers(Millis(at_ms)).map(started).collect::<Vec<_>>()
        };
        let last = 2 * REPEAT_MS;
        // Of a node that was restarted, the link of the earlier run may be there for a while.
        let mut restarted = Doubles::default();
        connect(&mut restarted, 0, 50);
        for at_ms in [0, REPEAT_MS, last] {
            restarted.mentioned(Millis(at_ms), &NodeId([9; 32]), &walk(60), linked);
        }
        assert_eq!(seen(&restarted, last), []);
        // An earlier run that starts walks, and a later one beside which the link of this one stays.
        for other in [40, 60] {
            let mut doubles = Doubles::default();
            connect(&mut doubles, 0, 50);
            for at_ms in [0, REPEAT_MS, 2 * REPEAT_MS] {
                doubles.mentioned(Millis(at_ms), &NodeId([1; 32]), &walk(other), linked);
                assert_eq!(seen(&doubles, at_ms).is_empty(), at_ms == 0, "{other} at {at_ms}");
            }
            let silent = NodeId([9; 32]);
            let old = ViewMessage::ProbeReply { sample: vec![record(1, other)] };
            doubles.mentioned(Millis(last + 1), &silent, &old, linked);
            let in_order = [other.min(50), other.max(50)];
            assert_eq!(seen(&doubles, last + SIGN_MS - 1), [(in_order, SIGN_MS - 1)]);
            assert_eq!(seen(&doubles, last + SIGN_MS), []);
        }
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
    fn a_restart_of_one_of_two_ends_the_report_until_there_is_a_sign_of_the_other_one() {
        let mut doubles = Doubles::default();
        for (at_ms, incarnation) in [(0, 50), (1_000, 60), (2_000, 50)] {
            connect(&mut doubles, at_ms, incarnation);
        }
        assert_eq!(doubles.peers(Millis(3_000)).count(), 1);
        // The copy was stopped, and the original restarted.
        assert_eq!(connect(&mut doubles, 3_000, 70), None);
        assert_eq!(doubles.peers(Millis(3_000)).count(), 0);
        assert!(!doubles.is_doubled(Millis(3_000), &NodeId([1; 32])));
        // The copy goes on after all.
        assert_eq!(connect(&mut doubles, 4_000, 60), None, "as after a restart that set back the clock");
        assert!(connect(&mut doubles, 5_000, 70).is_some_and(|doubled| doubled.is_new));
        let found: Vec<_> =
            doubles.peers(Millis(5_000)).map(|it| it.processes.map(|r| r.incarnation)).collect();
        assert_eq!(found, [[60, 70]]);
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
            let known = own.own(Millis(9)).map(|(record, age_ms)| (record.incarnation, age_ms));
            assert_eq!((known, own.own(Millis(9 + SIGN_MS))), (Some((other, 0)), None));
            assert_eq!(own.reported(Millis(0), &record(2, 7), &message), None, "of another node");
        }
    }
}
