//! A crawl of the whole overlay, breadth first: each node is asked once for its description and the nodes that it
//! knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use starling_proto::message::{CrawlMessage, Description};
use starling_proto::{Message, Millis, NodeId, NodeRecord};

use crate::Token;

/// Nodes whose answers are awaited at the same time, at most. A guess.
const ASKED_MAX: usize = 32;
/// Nodes that one crawl visits, at most; the rest is left out. A guess.
const NODES_MAX: usize = 100_000;
/// Time after which a node that has not answered counts as unreachable, milliseconds. A guess.
const ANSWER_MS: u64 = 5_000;

/// One crawl in progress.
pub struct Crawl {
    token: Token,
    seen: BTreeSet<NodeId>,
    waiting: VecDeque<NodeRecord>,
    asked: BTreeMap<NodeId, (NodeRecord, Millis)>,
    answered: Vec<Description>,
    unreachable: Vec<NodeRecord>,
}

/// The result of a crawl: its token, the nodes that answered, and those that did not.
pub type Crawled = (Token, Vec<Description>, Vec<NodeRecord>);

impl Crawl {
    /// Begins a crawl with this node's own description.
    pub fn new(token: Token, own: Description) -> Self {
        let mut crawl = Self {
            token,
            seen: BTreeSet::from([own.record.id]),
            waiting: VecDeque::new(),
            asked: BTreeMap::new(),
            answered: Vec::new(),
            unreachable: Vec::new(),
        };
        crawl.learn(own);
        crawl
    }

    fn learn(&mut self, description: Description) {
        for record in &description.known {
            if self.seen.len() < NODES_MAX && self.seen.insert(record.id) {
                self.waiting.push_back(record.clone());
            }
        }
        self.answered.push(description);
    }

    /// Whether this crawl waits for an answer of the node.
    pub fn asks(&self, peer: &NodeId) -> bool {
        self.asked.contains_key(peer)
    }

    /// Handles the answer of a node. An answer that describes another node counts as none.
    pub fn on_description(&mut self, peer: NodeId, description: Description) {
        if description.record.id == peer {
            self.asked.remove(&peer);
            self.learn(description);
        } else {
            self.on_unreachable(&peer);
        }
    }

    /// Marks a node as unreachable: it could not be dialed, or its link broke.
    pub fn on_unreachable(&mut self, peer: &NodeId) {
        if let Some((record, _)) = self.asked.remove(peer) {
            self.unreachable.push(record);
        }
    }

    /// The next node to ask, if one may be asked now.
    pub fn next(&mut self, now: Millis) -> Option<(NodeRecord, Message)> {
        if self.asked.len() >= ASKED_MAX {
            return None;
        }
        let record = self.waiting.pop_front()?;
        self.asked.insert(record.id, (record.clone(), now + ANSWER_MS));
        Some((record, Message::Crawl(CrawlMessage::Describe)))
    }

    /// Marks nodes that did not answer in time as unreachable.
    pub fn handle_timeout(&mut self, now: Millis) {
        let late: Vec<NodeId> =
            self.asked.iter().filter(|(_, (_, deadline))| *deadline <= now).map(|(id, _)| *id).collect();
        for id in late {
            self.on_unreachable(&id);
        }
    }

    /// When [`Crawl::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.asked.values().map(|(_, deadline)| *deadline).min()
    }

    /// Whether every node has answered or is unreachable.
    pub fn is_finished(&self) -> bool {
        self.waiting.is_empty() && self.asked.is_empty()
    }

    /// Ends the crawl and returns its result.
    pub fn finish(self) -> Crawled {
        (self.token, self.answered, self.unreachable)
    }
}
