//! A crawl of the whole overlay: breadth first, each node asked once for its surroundings.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use starling_proto::message::{CrawlMessage, Description};
use starling_proto::{Message, Millis, NodeId, NodeRecord};

use crate::Token;

/// Most nodes asked at the same time.
const ASKED_MAX: usize = 32;
/// Most nodes one crawl visits; the rest is left out.
const NODES_MAX: usize = 100_000;
/// A node that has not answered by then counts as unreachable, milliseconds.
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

/// What a crawl found: its token, the nodes that answered, those that did not.
pub type Crawled = (Token, Vec<Description>, Vec<NodeRecord>);

impl Crawl {
    /// Begins with this node's own description.
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

    /// Takes the answer of a node that was asked. One that describes somebody else counts as none.
    pub fn on_description(&mut self, peer: NodeId, description: Description) {
        if description.record.id == peer {
            self.asked.remove(&peer);
            self.learn(description);
        } else {
            self.on_unreachable(&peer);
        }
    }

    /// The node could not be dialed, or its link broke.
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

    /// Gives up on nodes that did not answer in time.
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

    /// Whether everybody has answered or been given up.
    pub fn is_finished(&self) -> bool {
        self.waiting.is_empty() && self.asked.is_empty()
    }

    /// The result.
    pub fn finish(self) -> Crawled {
        (self.token, self.answered, self.unreachable)
    }
}
