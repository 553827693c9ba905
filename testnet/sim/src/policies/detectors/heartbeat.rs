//! Heartbeats: each node sends one per period to those that watch it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bincode::Encode;
use starling_strong::codec;

use super::machine::{Input, Machine, Node, Verdict};
use super::silence::{Patience, Silence};

/// Who watches whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Node 0 watches all others, and notifies them of its verdicts. Nobody watches it.
    Central,
    /// Each node watches the one before it, and notifies all others of its verdicts.
    Ring,
    /// Every node watches all others. Of a large network only the first nodes do, at most this many, and the others only
    /// send: what one node watches does not depend on the others.
    All {
        /// Nodes that watch.
        watching: usize,
    },
}

impl Shape {
    /// The nodes that watch a node.
    pub fn watchers(self, node: Node, nodes: usize) -> Vec<Node> {
        match self {
            Self::Central => {
                if node == 0 {
                    Vec::new()
                } else {
                    vec![0]
                }
            }
            Self::Ring => vec![(node + 1) % nodes],
            Self::All { watching } => (0..watching.min(nodes)).filter(|other| *other != node).collect(),
        }
    }
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode)]
pub enum Message {
    /// The sender is alive.
    Heartbeat,
    /// A verdict of the sender.
    Verdict(u32, bool),
}

/// Settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Who watches whom.
    pub shape: Shape,
    /// How long a silence may last.
    pub patience: Patience,
    /// Time between two heartbeats, microseconds.
    pub period_us: u64,
}

#[derive(Debug)]
struct Watched {
    heard_us: u64,
    silence: Silence,
    due_us: u64,
    is_faulty: bool,
}

/// One node.
#[derive(Debug)]
pub struct Heartbeats {
    config: Config,
    own: Node,
    nodes: usize,
    next_us: u64,
    watched: BTreeMap<Node, Watched>,
    /// When each watched node that is considered alive has been silent for too long.
    due: BTreeSet<(u64, Node)>,
    outputs: VecDeque<(Node, Message)>,
    verdicts: VecDeque<Verdict>,
}

impl Heartbeats {
    /// A node that sends its first heartbeat at `first_us`.
    pub fn new(config: Config, own: Node, nodes: usize, first_us: u64) -> Self {
        let mut node = Self {
            config,
            own,
            nodes,
            next_us: first_us,
            watched: BTreeMap::new(),
            due: BTreeSet::new(),
            outputs: VecDeque::new(),
            verdicts: VecDeque::new(),
        };
        let watched: Vec<Node> = match config.shape {
            Shape::Central if own == 0 => (1..nodes).collect(),
            Shape::Ring => vec![(own + nodes - 1) % nodes],
            Shape::All { watching } if own < watching => (0..nodes).filter(|other| *other != own).collect(),
            Shape::Central | Shape::All { .. } => Vec::new(),
        };
        for other in watched {
            let silence = Silence::new(config.patience, config.period_us);
            // The first heartbeat comes within a period.
            let due_us = config.period_us + silence.bound_us();
            node.watched.insert(other, Watched { heard_us: 0, silence, due_us, is_faulty: false });
            node.due.insert((due_us, other));
        }
        node
    }

    fn on_heartbeat(&mut self, now_us: u64, from: Node) {
        let Some(watched) = self.watched.get_mut(&from) else { return };
        if watched.heard_us > 0 && !watched.is_faulty {
            watched.silence.learn(now_us - watched.heard_us);
        }
        watched.heard_us = now_us;
        self.due.remove(&(watched.due_us, from));
        watched.due_us = now_us + watched.silence.bound_us();
        self.due.insert((watched.due_us, from));
        if std::mem::take(&mut watched.is_faulty) {
            self.find(from, false);
        }
    }

    /// Comes to a verdict.
    fn find(&mut self, about: Node, is_faulty: bool) {
        self.verdicts.push_back(Verdict { about, is_faulty });
        if !matches!(self.config.shape, Shape::All { .. }) {
            let others = (0..self.nodes).filter(|other| *other != self.own && *other != about);
            self.outputs.extend(others.map(|other| (other, Message::Verdict(about as u32, is_faulty))));
        }
    }

    fn condemn(&mut self, node: Node) {
        let Some(watched) = self.watched.get_mut(&node) else { return };
        self.due.remove(&(watched.due_us, node));
        if !std::mem::replace(&mut watched.is_faulty, true) {
            self.find(node, true);
        }
    }

    fn on_timeout(&mut self, now_us: u64) {
        if self.next_us <= now_us {
            self.next_us = now_us + self.config.period_us;
            let watchers = self.config.shape.watchers(self.own, self.nodes);
            self.outputs.extend(watchers.into_iter().map(|to| (to, Message::Heartbeat)));
        }
        while let Some((due_us, node)) = self.due.first().copied()
            && due_us <= now_us
        {
            self.condemn(node);
        }
    }
}

impl Machine for Heartbeats {
    type Message = Message;
    const CONNECTED: bool = false;

    fn handle(&mut self, now_us: u64, input: Input<Message>) {
        match input {
            Input::Message { from, message: Message::Heartbeat } => self.on_heartbeat(now_us, from),
            Input::Message { message: Message::Verdict(about, is_faulty), .. } => {
                self.verdicts.push_back(Verdict { about: about as Node, is_faulty });
            }
            Input::Timeout => self.on_timeout(now_us),
            Input::Ended(node) => self.condemn(node),
            Input::Restarted => {
                self.next_us = now_us;
                // It has heard nothing while it was down.
                self.due.clear();
                for (node, watched) in &mut self.watched {
                    watched.heard_us = now_us;
                    watched.due_us = now_us + watched.silence.bound_us();
                    if !watched.is_faulty {
                        self.due.insert((watched.due_us, *node));
                    }
                }
            }
        }
    }

    fn poll_output(&mut self) -> Option<(Node, Message)> {
        self.outputs.pop_front()
    }

    fn poll_verdict(&mut self) -> Option<Verdict> {
        self.verdicts.pop_front()
    }

    fn poll_timeout(&self) -> Option<u64> {
        let due_us = self.due.first().map_or(u64::MAX, |(due_us, _)| *due_us);
        Some(due_us.min(self.next_us))
    }

    fn notified(&self) -> Vec<Node> {
        self.config.shape.watchers(self.own, self.nodes)
    }

    fn bytes(message: &Message) -> usize {
        codec::encoded_len(message)
    }
}
