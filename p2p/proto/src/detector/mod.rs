//! Failure detection on the links to neighbours: phi accrual over signs of life, with a question
//! before each verdict, and account of this node's own stalls (Lifeguard: Dadgar, Phillips, Currey, 2018).
//!
//! Any frame is a sign of life, and so are the bytes of one that is still arriving: over a narrow link a large frame
//! takes longer than a silence may last. The receiver of such a frame pings its sender, which otherwise receives
//! nothing while its own pings wait behind the frame. Of the two ends of a link the one with the lower
//! [`NodeId`] pings, and only when a direction was quiet for an interval; so an idle link carries one ping and
//! one pong per interval, and a busy one nothing. A side that hears nothing for longer sends the peer a
//! question, and suspects it when it had time to answer and phi (or the time limit) is reached.
//!
//! When this node's own timer fires late, it was not running: what peers sent meanwhile has not been
//! read yet. The time lost is added to every peer's last sign of life, all verdicts wait for a
//! fresh question, and limits are stretched for a while.

mod config;
mod health;
mod phi;

use std::collections::{BTreeMap, VecDeque};

pub use self::config::DetectorConfig;
use self::health::Health;
pub use self::phi::Window;
use crate::message::Heartbeat;
use crate::{Millis, NodeId};

/// Longest time between two comparisons of clocks, milliseconds, even on a busy link: less than the step of ten
/// seconds in which a store removes expired entries.
const COMPARE_MS: u64 = 8_000;

/// Least time between two reports that a frame of a peer is arriving, milliseconds: a fraction of the shortest interval
/// between signs of life, so that a driver need not report each packet.
pub const PROGRESS_MS: u64 = 250;

/// An event that the detector handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetectorInput {
    /// The time of `poll_timeout` has come.
    Timeout,
    /// The peer became a neighbour.
    Up(NodeId),
    /// The peer is no longer a neighbour.
    Down(NodeId),
    /// A frame other than a heartbeat came from this peer.
    Heard(NodeId),
    /// Bytes of a frame came from this peer, and the frame is not complete.
    Progress(NodeId),
    /// A frame other than a heartbeat went to this peer.
    Sent(NodeId),
    /// A heartbeat came from this peer.
    Heartbeat(NodeId, Heartbeat),
}

/// What the caller has to carry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetectorOutput {
    /// Send a heartbeat over the link.
    Send {
        /// The receiver.
        peer: NodeId,
        /// The heartbeat.
        heartbeat: Heartbeat,
    },
    /// The peer is suspected to have failed, and no longer watched.
    Suspect {
        /// The peer.
        peer: NodeId,
        /// Milliseconds since its last sign of life.
        silent_ms: u64,
    },
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DetectorCounters {
    /// Peers suspected.
    pub suspicions: u64,
    /// Peers that answered a question, or gave another sign of life after it.
    pub withdrawn: u64,
    /// Times this node itself did not run for longer than `stall_ms`.
    pub self_stalls: u64,
    /// Pings sent.
    pub pings: u64,
}

#[derive(Clone, Debug)]
struct Peer {
    /// Last sign of life, moved forward by this node's own stalls.
    heard: Millis,
    /// Last frame sent.
    sent: Millis,
    /// Last ping sent.
    pinged: Millis,
    /// The ping that a pong has yet to answer.
    unanswered: Option<Millis>,
    /// First question since the last sign of life (or since this node's last stall).
    questioned: Option<Millis>,
    /// Whether the next interval contains a stall of this node, so that it is not a measurement of the link.
    skip: bool,
    window: Window,
    rtt_ms: Option<u64>,
    offset_ms: Option<i64>,
}

/// The detector of one node. Times are of this node's monotonic clock; `wall_ms` only serves to compare
/// clocks.
#[derive(Debug)]
pub struct Detector {
    config: DetectorConfig,
    me: NodeId,
    peers: BTreeMap<NodeId, Peer>,
    health: Health,
    /// When the next timer is due, as `poll_timeout` returned it.
    wake: Option<Millis>,
    outputs: VecDeque<DetectorOutput>,
    counters: DetectorCounters,
}

impl Detector {
    /// A detector of the node `me` without neighbours.
    pub fn new(config: DetectorConfig, me: NodeId) -> Self {
        Self {
            config,
            me,
            peers: BTreeMap::new(),
            health: Health::default(),
            wake: None,
            outputs: VecDeque::new(),
            counters: DetectorCounters::default(),
        }
    }

    /// Handles one input. `wall_ms` is this node's wall clock, milliseconds since the Unix epoch.
    pub fn handle(&mut self, now: Millis, wall_ms: u64, input: DetectorInput) {
        self.notice_stall(now);
        match input {
            DetectorInput::Timeout => {}
            DetectorInput::Up(peer) => self.handle_up(now, peer),
            DetectorInput::Down(peer) => drop(self.peers.remove(&peer)),
            DetectorInput::Heard(peer) => self.hear(now, &peer),
            DetectorInput::Progress(peer) => self.on_progress(now, wall_ms, peer),
            DetectorInput::Sent(peer) => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.sent = now;
                }
            }
            DetectorInput::Heartbeat(peer, heartbeat) => self.on_heartbeat(now, wall_ms, peer, heartbeat),
        }
        if self.wake.is_some_and(|wake| wake <= now) {
            self.check(now, wall_ms);
        }
    }

    /// The next output; `None` if there is none.
    pub fn poll_output(&mut self) -> Option<DetectorOutput> {
        self.outputs.pop_front()
    }

    /// When `Timeout` is due.
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.wake
    }

    /// Suspicion of a peer, 0 to 30; `None` if it is not watched.
    pub fn phi(&self, peer: &NodeId, now: Millis) -> Option<f64> {
        self.peers.get(peer).map(|peer| peer.phi(&self.config, now - peer.heard))
    }

    /// Milliseconds between the last ping and its pong.
    pub fn rtt_ms(&self, peer: &NodeId) -> Option<u64> {
        self.peers.get(peer)?.rtt_ms
    }

    /// Median of the wall clocks of the neighbours and of this node, less this node's, milliseconds; off by a
    /// round trip at most. `None` before the first heartbeat. Of two in the middle it is the earlier one: of two
    /// nodes that differ, the one whose clock is behind finds itself right.
    pub fn clock_offset_ms(&self) -> Option<i64> {
        let mut offsets: Vec<i64> = self.peers.values().filter_map(|peer| peer.offset_ms).collect();
        if offsets.is_empty() {
            return None;
        }
        offsets.push(0);
        offsets.sort_unstable();
        Some(offsets[(offsets.len() - 1) / 2])
    }

    /// Counters since the start.
    pub fn counters(&self) -> DetectorCounters {
        self.counters
    }

    /// Detects a stall of this node by a late timer, and excuses the peers' silence during it.
    fn notice_stall(&mut self, now: Millis) {
        let Some(late_ms) = self.wake.map(|wake| now - wake) else { return };
        if late_ms <= self.config.late_ms {
            return;
        }
        for peer in self.peers.values_mut() {
            peer.heard = (peer.heard + late_ms).min(now);
        }
        if late_ms <= self.config.stall_ms {
            return;
        }
        self.counters.self_stalls += 1;
        self.health.worsen(now);
        for peer in self.peers.values_mut() {
            peer.questioned = None;
            peer.skip = true;
        }
        self.wake = Some(now);
    }

    fn handle_up(&mut self, now: Millis, id: NodeId) {
        let fresh = Peer {
            heard: now,
            sent: now,
            pinged: now,
            unanswered: None,
            questioned: None,
            skip: false,
            window: Window::default(),
            rtt_ms: None,
            offset_ms: None,
        };
        self.peers.insert(id, fresh);
        self.wake = Some(self.wake.map_or(now, |wake| wake.min(now)));
    }

    fn hear(&mut self, now: Millis, id: &NodeId) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        // The short intervals of a busy link say nothing about a quiet one: they count as no shorter than the
        // interval that both sides keep.
        let interval_ms = (now - peer.heard).clamp(self.config.interval_ms, 4 * self.config.detect_ms);
        if now - peer.heard >= self.config.interval_ms / 2 && !std::mem::take(&mut peer.skip) {
            peer.window.push(interval_ms.min(u64::from(u32::MAX)) as u32);
        }
        peer.heard = now;
        if peer.questioned.take().is_some() {
            self.counters.withdrawn += 1;
        }
    }

    /// Counts arriving bytes as a sign of life, and gives their sender one in return.
    fn on_progress(&mut self, now: Millis, wall_ms: u64, id: NodeId) {
        self.hear(now, &id);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if now - peer.sent < self.config.interval_ms / 2 {
            return;
        }
        self.counters.pings += 1;
        (peer.sent, peer.pinged, peer.unanswered) = (now, now, Some(now));
        self.outputs.push_back(DetectorOutput::Send { peer: id, heartbeat: Heartbeat::Ping { wall_ms } });
    }

    fn on_heartbeat(&mut self, now: Millis, wall_ms: u64, id: NodeId, heartbeat: Heartbeat) {
        self.hear(now, &id);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        match heartbeat {
            Heartbeat::Ping { wall_ms: theirs } => {
                peer.offset_ms = Some(difference(theirs, wall_ms));
                peer.sent = now;
                self.outputs
                    .push_back(DetectorOutput::Send { peer: id, heartbeat: Heartbeat::Pong { wall_ms } });
            }
            Heartbeat::Pong { wall_ms: theirs } => {
                let Some(pinged) = peer.unanswered.take() else { return };
                let rtt_ms = now - pinged;
                peer.rtt_ms = Some(rtt_ms);
                // The answer was written half a round trip ago.
                peer.offset_ms = Some(difference(theirs, wall_ms.saturating_sub(rtt_ms / 2)));
            }
        }
    }

    /// Pings, questions and suspects the peers that are due, and sets the next timer.
    fn check(&mut self, now: Millis, wall_ms: u64) {
        let patience = self.health.patience(now, self.config.detect_ms);
        let Self { config, me, peers, outputs, counters, .. } = self;
        let mut wake: Option<Millis> = None;
        peers.retain(|id, peer| {
            let verdict_at = peer.verdict_at(config, patience);
            if verdict_at.is_some_and(|at| at <= now) {
                counters.suspicions += 1;
                outputs.push_back(DetectorOutput::Suspect { peer: *id, silent_ms: now - peer.heard });
                return false;
            }
            let is_question = peer.questioned.is_none() && peer.heard + config.doubt_ms <= now;
            if is_question || (*me < *id && peer.ping_at(config) <= now) {
                counters.pings += 1;
                (peer.sent, peer.pinged, peer.unanswered) = (now, now, Some(now));
                outputs.push_back(DetectorOutput::Send { peer: *id, heartbeat: Heartbeat::Ping { wall_ms } });
            }
            if is_question {
                peer.questioned = Some(now);
            }
            let next = match peer.verdict_at(config, patience) {
                // Timers in between as well: a suspension of this node during the wait shows only as a late timer.
                Some(at) => at.min(now + config.answer_ms / 4),
                None => peer.heard + config.doubt_ms,
            };
            let next = if *me < *id { next.min(peer.ping_at(config)) } else { next };
            wake = Some(wake.map_or(next, |wake| wake.min(next)));
            true
        });
        self.wake = wake;
    }
}

impl Peer {
    /// When the side that pings does so: once per interval in which a direction was quiet, and on a busy
    /// link often enough to compare clocks.
    fn ping_at(&self, config: &DetectorConfig) -> Millis {
        let quiet = self.heard.min(self.sent).max(self.pinged) + config.interval_ms;
        quiet.min(self.pinged + COMPARE_MS.max(config.interval_ms))
    }

    /// When the peer is suspected if it stays silent; `None` before a question was sent.
    fn verdict_at(&self, config: &DetectorConfig, patience: u64) -> Option<Millis> {
        let asked = self.questioned?;
        let silence_ms = self.verdict_silence_ms(config) * patience;
        Some((self.heard + silence_ms).max(asked + config.answer_ms * patience))
    }

    /// The silence at which phi reaches the threshold, or the limit if that is earlier.
    fn verdict_silence_ms(&self, config: &DetectorConfig) -> u64 {
        let (mut low, mut high) = (config.doubt_ms, config.verdict_ms());
        while low < high {
            let middle = low.midpoint(high);
            if self.phi(config, middle) >= f64::from(config.threshold) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    fn phi(&self, config: &DetectorConfig, silent_ms: u64) -> f64 {
        self.window.phi(silent_ms, config.interval_ms, config.std_min_ms, config.pause_ms)
    }
}

/// `theirs - ours` without overflow.
fn difference(theirs: u64, ours: u64) -> i64 {
    let limit = |difference: u64| i64::try_from(difference).unwrap_or(i64::MAX);
    if theirs >= ours { limit(theirs - ours) } else { -limit(ours - theirs) }
}
