//! Replicas with their sessions on a network in virtual time. Every message goes through the wire
//! format, so that its bounds hold and its bytes are counted.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use starling_proto::detector::PROGRESS_MS;
use starling_proto::message::SyncMessage;
use starling_proto::sync::{SessionReport, Sessions, SyncConfig, SyncInput, SyncOutput};
use starling_proto::wire;
use starling_proto::{Class, Message, Millis, NodeId};

use crate::model::Model;

pub struct Peer {
    pub sessions: Sessions,
    pub replica: Model,
    pub links: BTreeSet<usize>,
    pub reports: Vec<(usize, SessionReport)>,
    pub misbehaved: Vec<usize>,
    wakes_at: Option<Millis>,
}

enum Event {
    Timeout(usize),
    Deliver { from: usize, to: usize, frame: bytes::Bytes },
    Progress { from: usize, to: usize },
}

pub struct Network {
    pub now: Millis,
    pub peers: Vec<Peer>,
    pub rng: ChaCha8Rng,
    /// Lost messages, per mille.
    pub loss: u32,
    /// Bytes per millisecond of one direction; unlimited if none.
    pub rate: Option<u64>,
    /// The version of the protocol that all speak.
    pub version: u8,
    /// Whether bytes of an incomplete frame are reported.
    pub reports_progress: bool,
    pub messages: u64,
    pub bytes: u64,
    pub largest: usize,
    events: BTreeMap<(Millis, u64), Event>,
    scheduled: u64,
    arrivals: BTreeMap<(usize, usize), Millis>,
}

pub fn node_id(index: usize) -> NodeId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&(index as u64).to_be_bytes());
    NodeId(id)
}

fn index(id: NodeId) -> usize {
    u64::from_be_bytes(id.0[..8].try_into().expect("8 bytes")) as usize
}

impl Network {
    pub fn new(seed: u64, replicas: Vec<Model>) -> Self {
        let peer = |(i, replica)| Peer {
            sessions: Sessions::new(SyncConfig::default(), node_id(i), [i as u8 ^ seed as u8; 32], Millis(0)),
            replica,
            links: BTreeSet::new(),
            reports: Vec::new(),
            misbehaved: Vec::new(),
            wakes_at: None,
        };
        Self {
            now: Millis(0),
            peers: replicas.into_iter().enumerate().map(peer).collect(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            loss: 0,
            rate: None,
            version: wire::Protocol::CURRENT.max,
            reports_progress: true,
            messages: 0,
            bytes: 0,
            largest: 0,
            events: BTreeMap::new(),
            scheduled: 0,
            arrivals: BTreeMap::new(),
        }
    }

    pub fn link(&mut self, a: usize, b: usize) {
        for (a, b) in [(a, b), (b, a)] {
            self.peers[a].links.insert(b);
            self.handle(a, SyncInput::LinkUp { peer: node_id(b) });
        }
    }

    pub fn unlink(&mut self, a: usize, b: usize) {
        for (a, b) in [(a, b), (b, a)] {
            self.peers[a].links.remove(&b);
            self.handle(a, SyncInput::LinkDown { peer: node_id(b) });
        }
    }

    pub fn handle(&mut self, at: usize, input: SyncInput) {
        let Peer { sessions, replica, .. } = &mut self.peers[at];
        sessions.handle(self.now, input, replica);
        while let Some(output) = self.peers[at].sessions.poll_output() {
            match output {
                SyncOutput::Send { to, message } => self.send(at, index(to), message),
                SyncOutput::Finished { peer, report } => self.peers[at].reports.push((index(peer), report)),
                SyncOutput::Misbehaved { peer } => self.peers[at].misbehaved.push(index(peer)),
            }
        }
        let due = self.peers[at].sessions.poll_timeout().expect("there is always a next session");
        if self.peers[at].wakes_at.is_none_or(|wakes_at| due < wakes_at) {
            self.peers[at].wakes_at = Some(due);
            self.schedule(due, Event::Timeout(at));
        }
    }

    fn schedule(&mut self, at: Millis, event: Event) {
        self.scheduled += 1;
        self.events.insert((at.max(self.now), self.scheduled), event);
    }

    fn send(&mut self, from: usize, to: usize, message: SyncMessage) {
        let frame = wire::encode(&Message::Sync(message), self.version);
        let frame = frame.expect("no message is of a kind that the version does not have");
        self.messages += 1;
        self.bytes += frame.len() as u64;
        self.largest = self.largest.max(frame.len());
        if self.rng.random_range(0..1000) < self.loss {
            return;
        }
        let arrival = self.arrivals.entry((from, to)).or_default();
        let first_byte = (self.now + self.rng.random_range(1..=4)).max(*arrival);
        *arrival = first_byte + self.rate.map_or(0, |rate| frame.len() as u64 / rate);
        let arrival = *arrival;
        if self.reports_progress {
            for at in (first_byte.0..arrival.0).step_by(PROGRESS_MS as usize) {
                self.schedule(Millis(at), Event::Progress { from, to });
            }
        }
        self.schedule(arrival, Event::Deliver { from, to, frame });
    }

    /// Lets one event happen.
    pub fn step(&mut self) {
        let ((at, _), event) = self.events.pop_first().expect("there is always a next session");
        self.now = at;
        match event {
            Event::Timeout(at) => {
                self.peers[at].wakes_at = None;
                self.handle(at, SyncInput::Timeout);
            }
            Event::Deliver { from, to, frame } if self.peers[to].links.contains(&from) => {
                let message = wire::decode(Class::Sync, &frame).expect("sessions stay within the bounds");
                let Message::Sync(message) = message else { panic!("not of a session") };
                self.handle(to, SyncInput::Message { from: node_id(from), message });
            }
            Event::Progress { from, to } if self.peers[to].links.contains(&from) => {
                self.handle(to, SyncInput::Progress { peer: node_id(from) });
            }
            Event::Deliver { .. } | Event::Progress { .. } => {}
        }
    }

    /// Runs until the state is reached, or for at most `ms`.
    pub fn run_until(&mut self, ms: u64, what: &str, reached: impl Fn(&Self) -> bool) {
        let deadline = self.now + ms;
        while !reached(self) {
            assert!(self.now <= deadline, "not within {ms} ms: {what}");
            self.step();
        }
    }

    pub fn run_for(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.events.first_key_value().is_some_and(|((at, _), _)| *at <= until) {
            self.step();
        }
        self.now = until;
    }

    pub fn all_equal(&self) -> bool {
        self.peers.windows(2).all(|w| w[0].replica.states == w[1].replica.states)
    }
}

/// One session of the first with the second, until it ends; then whatever is still on its way.
pub fn one_session(a: Model, b: Model) -> Network {
    one_session_in(wire::Protocol::CURRENT.max, a, b)
}

/// As [`one_session`], in a version of the protocol.
pub fn one_session_in(version: u8, a: Model, b: Model) -> Network {
    let mut network = Network::new(1, vec![a, b]);
    network.version = version;
    network.link(0, 1);
    network.run_until(60_000, "the end of a session", |network| !network.peers[0].reports.is_empty());
    network
}
