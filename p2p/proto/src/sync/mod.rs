//! Anti-entropy: push-pull sessions that make two replicas equal.
//!
//! A replica is a map from dots to {unseen < live < dead}; any restriction of it to some dots is a
//! delta. So a session has no state worth keeping: it compares hashes, descends only into ranges that
//! differ, exchanges those ranges both ways, and one that breaks has joined what it sent. The
//! initiator drives and holds a bounded frontier; the responder answers each message from its replica
//! alone. The exchange is documented in [`crate::message::SyncMessage`].
//!
//! What died is joined after everything that lives, because a dot mostly dies when another one takes its place: if the
//! replica that knows the other one is lost before it has sent it, the older one must still be there. Three rules:
//!
//! 1. A death is joined at once only where the place keeps a version that was written later.
//! 2. All others wait, in both directions, until both replicas have all entries that live at the other's: the unseen ones
//!    of the session's beginning, and what was seen since.
//! 3. If the session breaks before, the next one finds them again.
//!
//! [`Sessions`] decides when and with which peer: on a new link, periodically, after a loss of messages, and with
//! further peers after a session that changed something, so that the data of a healed partition spreads.

mod initiator;
mod pace;
mod replica;
mod responder;
mod schedule;

use std::collections::{BTreeMap, VecDeque};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::message::SyncMessage;
use crate::{Millis, NodeId};

use initiator::{Session, Step, Stop};
use responder::Seats;
use schedule::Schedule;

pub use replica::{JoinReport, Part, Replica, ReplicaError};

/// Bytes of deltas in one message, about, at most: large enough to fill a pipe with two in flight, small
/// enough that joining one does not hold up gossip. Over slow links they are smaller.
pub const DELTA_BYTES_MAX: usize = 256 << 10;
/// Own sessions at a time, at most. One, because two would transfer the same data twice.
pub const SESSIONS_MAX: usize = 1;
/// Initiators answered at a time, at most; others get `Busy`.
pub const SEATS_MAX: usize = 3;

/// Time without a push after which an initiator no longer counts as pushing, milliseconds. A guess, above the
/// time between two pushes of a slow link.
const PUSHING_MS: u64 = 1000;

/// Bytes per millisecond of the narrowest link over which a pushed delta is waited for: 64 kbit/s. Nothing reports to the
/// initiator how much of a delta has arrived.
const PUSHED_PER_MS_MIN: u64 = 8;
/// Dropped sessions whose late deltas are joined, at most. A guess: a link that is slow has one session after the other.
const SILENT_MAX: usize = 8;

/// Sessions of others whose beginnings are remembered, at most. One that is forgotten is told `Busy` when it asks what was
/// seen meanwhile.
const OTHERS_MAX: usize = 4 * SEATS_MAX;

/// Settings, in milliseconds.
#[derive(Clone, Debug)]
pub struct SyncConfig {
    /// Mean time between periodic sessions with a random neighbour, milliseconds. A guess: an
    /// idle session costs under 300 bytes.
    pub interval_ms: u64,
    /// Time without an answer after which a session is dropped, milliseconds. A guess, above any sensible round trip
    /// and the joining of one delta.
    pub session_timeout_ms: u64,
}

impl Default for SyncConfig {
    fn default() -> Self {
        Self { interval_ms: 60_000, session_timeout_ms: 10_000 }
    }
}

/// An event that the machine handles.
#[derive(Clone, Debug)]
pub enum SyncInput {
    /// The peer entered the active view.
    LinkUp {
        /// The neighbour.
        peer: NodeId,
    },
    /// The peer left it.
    LinkDown {
        /// The former neighbour.
        peer: NodeId,
    },
    /// Bytes of a message came from the peer, and the message is not complete: over a narrow link one delta may take
    /// longer than a session may be silent.
    Progress {
        /// The sender.
        peer: NodeId,
    },
    /// Messages were lost between this node and the peer, or another part of the node asks for a session.
    Want {
        /// The neighbour.
        peer: NodeId,
    },
    /// A message of a session arrived, from a neighbour or any other connected peer.
    Message {
        /// The sender.
        from: NodeId,
        /// The message.
        message: SyncMessage,
    },
    /// The time of `poll_timeout` has come.
    Timeout,
}

/// What the caller has to carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncOutput {
    /// Send a message.
    Send {
        /// The receiver.
        to: NodeId,
        /// The message.
        message: SyncMessage,
    },
    /// An own session ended.
    Finished {
        /// The peer.
        peer: NodeId,
        /// Its report.
        report: SessionReport,
    },
    /// The peer sent a malformed delta.
    Misbehaved {
        /// The peer.
        peer: NodeId,
    },
}

/// How an own session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The replicas were equal.
    Equal,
    /// Every difference found was exchanged.
    Reconciled,
    /// The peer had no seat; the session is tried again later.
    Busy,
    /// The peer did not answer; the session is tried again later.
    TimedOut,
    /// The link broke, a message was lost, or storage failed.
    Broken,
}

/// The report of an own session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionReport {
    /// How it ended.
    pub ending: Ending,
    /// From the first message to the end.
    pub duration_ms: u64,
    /// Bytes of deltas received.
    pub delta_bytes_in: u64,
    /// Bytes of deltas sent.
    pub delta_bytes_out: u64,
    /// Entries that became live here.
    pub entries_in: u64,
    /// Whether anything changed here.
    pub changed: bool,
}

/// Counters since the start. The reports of own sessions contain the same traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncStats {
    /// Own sessions begun.
    pub opened: u64,
    /// Own sessions that found the replicas equal.
    pub equal: u64,
    /// Own sessions that exchanged every difference.
    pub reconciled: u64,
    /// Own sessions for which the peer had no seat.
    pub busy: u64,
    /// Own sessions dropped or broken.
    pub failed: u64,
    /// Sessions of others answered.
    pub answered: u64,
    /// Sessions of others that found no seat.
    pub refused: u64,
    /// Bytes of deltas received, in own sessions and in those of others.
    pub delta_bytes_in: u64,
    /// Bytes of deltas sent, in own sessions and in those of others.
    pub delta_bytes_out: u64,
    /// Entries that became live here by sessions.
    pub entries_in: u64,
}

/// The side that a message is for.
enum Kind {
    Request,
    Answer,
    Close,
}

/// The session a message belongs to, and which side it is for.
fn kind(message: &SyncMessage) -> (u32, Kind) {
    match message {
        SyncMessage::Open { session, .. }
        | SyncMessage::ListActors { session, .. }
        | SyncMessage::ListGroups { session, .. }
        | SyncMessage::Compare { session, .. }
        | SyncMessage::Leaves { session, .. }
        | SyncMessage::Fetch { session, .. }
        | SyncMessage::Suspect { session, .. }
        | SyncMessage::Push { session, .. } => (*session, Kind::Request),
        SyncMessage::Equal { session }
        | SyncMessage::Busy { session }
        | SyncMessage::Groups { session, .. }
        | SyncMessage::Actors { session, .. }
        | SyncMessage::Digests { session, .. }
        | SyncMessage::Differ { session, .. }
        | SyncMessage::Delta { session, .. }
        | SyncMessage::Pushed { session, .. } => (*session, Kind::Answer),
        SyncMessage::Close { session } => (*session, Kind::Close),
    }
}

/// The state machine of anti-entropy sessions.
#[derive(Debug)]
pub struct Sessions {
    config: SyncConfig,
    me: NodeId,
    rng: ChaCha8Rng,
    next_id: u32,
    schedule: Schedule,
    /// At most [`SESSIONS_MAX`].
    own: BTreeMap<NodeId, Session>,
    /// The last sessions of others, each with the mark since which its initiator has not heard what was seen here; at most
    /// [`OTHERS_MAX`].
    others: VecDeque<(NodeId, u32, u64)>,
    /// The last own sessions that were dropped because their peer was silent, at most [`SILENT_MAX`].
    silent: VecDeque<(NodeId, u32)>,
    seats: Seats,
    /// The initiator that pushed last, and when.
    pushing: Option<(NodeId, Millis)>,
    outputs: VecDeque<SyncOutput>,
    stats: SyncStats,
}

impl Sessions {
    /// A node `me` without links.
    pub fn new(config: SyncConfig, me: NodeId, seed: [u8; 32], now: Millis) -> Self {
        let mut rng = ChaCha8Rng::from_seed(seed);
        Self {
            schedule: Schedule::new(now, config.interval_ms, &mut rng),
            config,
            me,
            next_id: rng.random(),
            rng,
            own: BTreeMap::new(),
            others: VecDeque::new(),
            silent: VecDeque::new(),
            seats: Seats::default(),
            pushing: None,
            outputs: VecDeque::new(),
            stats: SyncStats::default(),
        }
    }

    /// Counters since the start.
    pub fn stats(&self) -> SyncStats {
        self.stats
    }

    /// Own sessions under way, at most [`SESSIONS_MAX`].
    pub fn active(&self) -> usize {
        self.own.len()
    }

    /// The next output; `None` if there is none until the next input.
    pub fn poll_output(&mut self) -> Option<SyncOutput> {
        self.outputs.pop_front()
    }

    /// When [`SyncInput::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Millis> {
        let pushed = self.pushing.map(|(_, at)| at + PUSHING_MS);
        let open = (self.own.len() < SESSIONS_MAX)
            .then(|| self.schedule.next_due(|peer| self.own.contains_key(peer)))
            .flatten()
            .map(|due| due.max(pushed.unwrap_or(due)));
        let due = |session: &Session| {
            if session.is_burying() { session.heard } else { self.silent_at(session) }
        };
        let silent = self.own.values().map(due).min();
        [open, silent, Some(self.schedule.next_tick())].into_iter().flatten().min()
    }

    /// Handles one input. Deltas are joined at once.
    pub fn handle(&mut self, now: Millis, input: SyncInput, replica: &mut impl Replica) {
        match input {
            SyncInput::LinkUp { peer } => self.schedule.link_up(now, peer, self.me < peer),
            SyncInput::LinkDown { peer } => {
                self.schedule.link_down(&peer);
                self.silent.retain(|(silent, _)| *silent != peer);
                self.seats.leave(&peer);
                self.pushing = self.pushing.filter(|(pushing, _)| *pushing != peer);
                self.finish(now, peer, Ending::Broken);
            }
            SyncInput::Progress { peer } => self.on_progress(now, peer),
            SyncInput::Want { peer } => self.schedule.want(now, &peer, &mut self.rng),
            SyncInput::Message { from, message } => self.on_message(now, from, message, replica),
            SyncInput::Timeout => {
                self.drop_silent(now);
                self.bury(now, replica);
                self.schedule.tick(now, &mut self.rng);
            }
        }
        self.open_due(now, replica);
    }

    fn on_progress(&mut self, now: Millis, peer: NodeId) {
        if let Some(session) = self.own.get_mut(&peer) {
            session.heard = now;
        }
        self.seats.extend(now, &peer);
        if let Some((_, at)) = self.pushing.as_mut().filter(|(pushing, _)| *pushing == peer) {
            *at = now;
        }
    }

    fn on_message(&mut self, now: Millis, from: NodeId, message: SyncMessage, replica: &mut impl Replica) {
        match kind(&message) {
            (id, Kind::Answer) => self.on_answer(now, from, id, message, replica),
            (id, Kind::Request) => self.on_request(now, from, id, message, replica),
            (_, Kind::Close) => {
                self.seats.leave(&from);
                self.pushing = self.pushing.filter(|(peer, _)| *peer != from);
                self.schedule.completed(&from, false);
            }
        }
    }

    fn on_answer(
        &mut self,
        now: Millis,
        from: NodeId,
        id: u32,
        message: SyncMessage,
        replica: &mut impl Replica,
    ) {
        let Some(session) = self.own.get_mut(&from).filter(|session| session.id == id) else {
            return self.join_late(now, from, &message, replica);
        };
        let step = session.on_answer(now, message, replica);
        self.on_step(now, from, step);
    }

    /// Joins the entries of a session that was dropped meanwhile, so that the next one need not transfer them again.
    fn join_late(&mut self, now: Millis, from: NodeId, message: &SyncMessage, replica: &mut impl Replica) {
        let SyncMessage::Delta { session, delta, .. } = message else { return };
        if delta.0.is_empty() || !self.silent.contains(&(from, *session)) {
            return;
        }
        self.stats.delta_bytes_in += delta.0.len() as u64;
        match replica.join_part(&delta.0, usize::MAX) {
            Ok(joined) => {
                self.stats.entries_in += joined.entries;
                if joined.changed {
                    self.schedule.spread(now, &from, &mut self.rng);
                }
            }
            Err(error) => self.blame(from, error),
        }
    }

    fn on_request(
        &mut self,
        now: Millis,
        from: NodeId,
        session: u32,
        message: SyncMessage,
        replica: &mut impl Replica,
    ) {
        let opens = matches!(message, SyncMessage::Open { .. });
        if (opens && self.brings_news_elsewhere(now, &from)) || !self.seats.sit(now, from) {
            self.stats.refused += u64::from(opens);
            return self.send(from, SyncMessage::Busy { session });
        }
        if opens {
            self.stats.answered += 1;
            self.schedule.covered(&from);
            if self.others.len() == OTHERS_MAX {
                self.others.pop_front();
            }
            self.others.push_back((from, session, replica.mark()));
        }
        if let SyncMessage::Push { delta, .. } = &message {
            self.pushing = Some((from, now));
            self.stats.delta_bytes_in += delta.0.len() as u64;
        }
        let mut other = self.others.iter_mut().rev().find(|(peer, id, _)| (*peer, *id) == (from, session));
        let since = other.as_ref().map(|(.., mark)| *mark);
        if let (SyncMessage::Fetch { ranges, .. }, Some((.., mark))) = (&message, &mut other)
            && ranges.0.is_empty()
        {
            *mark = replica.mark();
        }
        match responder::answer(message, since, replica) {
            Ok(Some(answer)) => {
                match &answer.message {
                    SyncMessage::Equal { .. } => {
                        self.seats.leave(&from);
                        self.schedule.completed(&from, true);
                    }
                    SyncMessage::Busy { .. } => self.seats.leave(&from),
                    SyncMessage::Delta { delta, .. } => self.stats.delta_bytes_out += delta.0.len() as u64,
                    _ => {}
                }
                if let Some(joined) = answer.joined {
                    self.stats.entries_in += joined.entries;
                    if joined.changed {
                        self.schedule.spread(now, &from, &mut self.rng);
                    }
                }
                self.send(from, answer.message);
            }
            Ok(None) => {}
            Err(error) => {
                self.blame(from, error);
                self.send(from, SyncMessage::Busy { session });
            }
        }
    }

    /// Whether another session is under way by which the peer's data may arrive as well, so that it would arrive twice.
    /// Of two sessions that cross on one link, that of the node with the lower id continues.
    fn brings_news_elsewhere(&self, now: Millis, from: &NodeId) -> bool {
        let own = self.own.keys().any(|peer| peer != from || self.me < *from);
        own || self.is_pushed_to(now, Some(from))
    }

    /// Whether an initiator, other than `except`, is pushing.
    fn is_pushed_to(&self, now: Millis, except: Option<&NodeId>) -> bool {
        self.pushing.is_some_and(|(peer, at)| now - at < PUSHING_MS && Some(&peer) != except)
    }

    fn open_due(&mut self, now: Millis, replica: &impl Replica) {
        while self.own.len() < SESSIONS_MAX && !self.is_pushed_to(now, None) {
            let own = &self.own;
            let Some(peer) = self.schedule.pop_due(now, |peer| own.contains_key(peer)) else { return };
            let Some(root) = replica.root() else {
                self.schedule.postpone(now, &peer);
                continue;
            };
            self.next_id = self.next_id.wrapping_add(1);
            let state = (root, replica.mark());
            let (session, open) = Session::open(now, self.next_id, peer, self.rng.random(), state);
            self.own.insert(peer, session);
            self.stats.opened += 1;
            self.send(peer, open);
        }
    }

    /// When a session is dropped if the peer does not answer.
    fn silent_at(&self, session: &Session) -> Millis {
        session.heard + self.config.session_timeout_ms + session.pushed_bytes() / PUSHED_PER_MS_MIN
    }

    fn drop_silent(&mut self, now: Millis) {
        let silent = self.own.values().filter(|session| self.silent_at(session) <= now);
        let silent: Vec<NodeId> = silent.map(|session| session.peer).collect();
        for peer in silent {
            if self.silent.len() == SILENT_MAX {
                self.silent.pop_front();
            }
            self.silent.extend(self.own.get(&peer).map(|session| (peer, session.id)));
            self.finish(now, peer, Ending::TimedOut);
        }
    }

    /// Continues own sessions that have exchanged everything.
    fn bury(&mut self, now: Millis, replica: &mut impl Replica) {
        let burying = self.own.values_mut().filter(|session| session.is_burying());
        let steps: Vec<_> = burying.map(|session| (session.peer, session.bury(now, replica))).collect();
        for (peer, step) in steps {
            self.on_step(now, peer, step);
        }
    }

    fn on_step(&mut self, now: Millis, peer: NodeId, step: Step) {
        match step {
            Ok(requests) => requests.into_iter().for_each(|message| self.send(peer, message)),
            Err(Stop::End(ending)) => self.finish(now, peer, ending),
            Err(Stop::Replica(error)) => {
                self.blame(peer, error);
                self.finish(now, peer, Ending::Broken);
            }
        }
    }

    fn finish(&mut self, now: Millis, peer: NodeId, ending: Ending) {
        let Some(session) = self.own.remove(&peer) else { return };
        let report = SessionReport { ending, duration_ms: now - session.started, ..session.report };
        match ending {
            Ending::Equal => self.stats.equal += 1,
            Ending::Reconciled => self.stats.reconciled += 1,
            Ending::Busy => self.stats.busy += 1,
            Ending::TimedOut | Ending::Broken => self.stats.failed += 1,
        }
        self.stats.delta_bytes_in += report.delta_bytes_in;
        self.stats.delta_bytes_out += report.delta_bytes_out;
        self.stats.entries_in += report.entries_in;
        match ending {
            Ending::Equal | Ending::Reconciled => self.schedule.completed(&peer, ending == Ending::Equal),
            Ending::Busy | Ending::TimedOut | Ending::Broken => {
                self.schedule.retry(now, &peer, &mut self.rng);
            }
        }
        if ending == Ending::Reconciled {
            self.send(peer, SyncMessage::Close { session: session.id });
        }
        if report.changed {
            self.schedule.spread(now, &peer, &mut self.rng);
        }
        self.outputs.push_back(SyncOutput::Finished { peer, report });
    }

    fn blame(&mut self, peer: NodeId, error: ReplicaError) {
        if error == ReplicaError::Malformed {
            self.outputs.push_back(SyncOutput::Misbehaved { peer });
        }
    }

    fn send(&mut self, to: NodeId, message: SyncMessage) {
        self.outputs.push_back(SyncOutput::Send { to, message });
    }
}
