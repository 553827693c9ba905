//! The node's own detector, `starling_proto`'s machine unchanged, on a random overlay of neighbours: each node watches a
//! few others, and notifies nobody. What the node does with a suspicion (it drops the link and looks for another
//! neighbour) is not simulated here: a link is made again after `RELINK_US`, and carries nothing but heartbeats.

use std::collections::{BTreeMap, VecDeque};

use starling_proto::detector::{Detector, DetectorConfig, DetectorInput, DetectorOutput};
use starling_proto::message::Heartbeat;
use starling_proto::wire::{self, Protocol};
use starling_proto::{Message, Millis, NodeId};

use super::machine::{Input, Machine, Node, Verdict};

/// Time until a link is made again whose peer was suspected, microseconds: an estimate of a dial and a handshake.
const RELINK_US: u64 = 1_000_000;

/// One node.
#[derive(Debug)]
pub struct Own {
    detector: Detector,
    neighbours: Vec<Node>,
    /// When links to suspected neighbours are tried again.
    relink: BTreeMap<Node, u64>,
    outputs: VecDeque<(Node, Heartbeat)>,
    verdicts: VecDeque<Verdict>,
}

fn id(node: Node) -> NodeId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(node as u64).to_be_bytes());
    NodeId(bytes)
}

fn node(id: &NodeId) -> Node {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&id.0[..8]);
    u64::from_be_bytes(bytes) as Node
}

impl Own {
    /// A node with its links.
    pub fn new(own: Node, neighbours: Vec<Node>) -> Self {
        let mut detector = Detector::new(DetectorConfig::default(), id(own));
        for neighbour in &neighbours {
            detector.handle(Millis(0), 0, DetectorInput::Up(id(*neighbour)));
        }
        let (outputs, verdicts) = (VecDeque::new(), VecDeque::new());
        Self { detector, neighbours, relink: BTreeMap::new(), outputs, verdicts }
    }

    fn step(&mut self, now_us: u64, input: DetectorInput) {
        let time_ms = now_us / 1000;
        self.detector.handle(Millis(time_ms), time_ms, input);
        while let Some(output) = self.detector.poll_output() {
            match output {
                DetectorOutput::Send { peer, heartbeat } => self.outputs.push_back((node(&peer), heartbeat)),
                DetectorOutput::Suspect { peer, .. } => self.condemn(now_us, node(&peer)),
            }
        }
    }

    fn condemn(&mut self, now_us: u64, about: Node) {
        if self.relink.insert(about, now_us + RELINK_US).is_none() {
            self.verdicts.push_back(Verdict { about, is_faulty: true });
        }
    }

    /// A sign of life of a neighbour whose link is down makes the link.
    fn on_message(&mut self, now_us: u64, from: Node, heartbeat: Heartbeat) {
        if self.relink.remove(&from).is_some() {
            self.verdicts.push_back(Verdict { about: from, is_faulty: false });
            self.step(now_us, DetectorInput::Up(id(from)));
        }
        self.step(now_us, DetectorInput::Heartbeat(id(from), heartbeat));
    }

    fn try_links(&mut self, now_us: u64) {
        for (neighbour, at_us) in &mut self.relink {
            if *at_us <= now_us {
                *at_us = now_us + RELINK_US;
                self.outputs.push_back((*neighbour, Heartbeat::Ping { wall_ms: now_us / 1000 }));
            }
        }
    }
}

impl Machine for Own {
    type Message = Heartbeat;
    const CONNECTED: bool = true;

    fn handle(&mut self, now_us: u64, input: Input<Heartbeat>) {
        match input {
            Input::Message { from, message } => self.on_message(now_us, from, message),
            Input::Timeout => {
                self.try_links(now_us);
                self.step(now_us, DetectorInput::Timeout);
            }
            Input::Ended(peer) => {
                self.step(now_us, DetectorInput::Down(id(peer)));
                self.condemn(now_us, peer);
            }
            Input::Restarted => {
                // A process that starts makes its links anew.
                for neighbour in self.neighbours.clone() {
                    self.step(now_us, DetectorInput::Down(id(neighbour)));
                    self.relink.remove(&neighbour);
                    self.step(now_us, DetectorInput::Up(id(neighbour)));
                    self.outputs.push_back((neighbour, Heartbeat::Ping { wall_ms: now_us / 1000 }));
                }
            }
        }
    }

    fn poll_output(&mut self) -> Option<(Node, Heartbeat)> {
        self.outputs.pop_front()
    }

    fn poll_verdict(&mut self) -> Option<Verdict> {
        self.verdicts.pop_front()
    }

    fn poll_timeout(&self) -> Option<u64> {
        let relink_us = self.relink.values().min().copied();
        let wake_us = self.detector.poll_timeout().map(|at| at.0 * 1000);
        relink_us.into_iter().chain(wake_us).min()
    }

    fn notified(&self) -> Vec<Node> {
        self.neighbours.clone()
    }

    fn bytes(message: &Heartbeat) -> usize {
        wire::encoded_len(&Message::Heartbeat(*message), Protocol::CURRENT.max).unwrap_or(0)
    }
}
