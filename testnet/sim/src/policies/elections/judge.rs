//! What became of an election: one judge for every protocol.
//!
//! - *Safety*: nodes that know a leader know the same one of each term. Protocols without terms promise that no two
//!   live nodes lead at once.
//! - *The best*: the leader at the end is the live node of the highest rank. Promised by the protocols that choose by
//!   rank.
//! - *Liveness*: at the end all live nodes know one live leader.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Protocol;
use super::machine::{Leader, Node};
use super::network::Cast;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// All live nodes know the best live node as the leader.
    Best,
    /// All live nodes know one live leader, which is not the best one.
    Another,
    /// One live node leads, and not all others know it.
    LeftOut,
    /// No live node leads.
    Nobody,
    /// Two live nodes lead, or more.
    Two,
}

/// What one run showed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// Messages sent in the whole run.
    pub messages: u64,
    /// Bytes of these, without headers of the transport.
    pub bytes: u64,
    /// Messages sent until all live nodes knew the leader of the end.
    pub messages_known: u64,
    /// Bytes of these.
    pub bytes_known: u64,
    /// When that was, microseconds; `None`: never.
    pub known_us: Option<u64>,
    /// When the last message was delivered, microseconds; `None`: messages were still on their way at the end.
    pub quiet_us: Option<u64>,
    /// Whether two live nodes led at the same time, at any time.
    pub two_at_once: bool,
    /// Whether a term had two leaders, as any of the nodes knew them.
    pub two_in_term: bool,
}

/// A promise of a protocol that a run has broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Broken {
    /// A term had two leaders, or two nodes led at once where there are no terms.
    Safety,
    /// The leader is not the live node of the highest rank.
    Best,
    /// Not all live nodes know one live leader at the end.
    Liveness,
    /// Messages were still on their way at the end, and no heartbeats.
    End,
}

impl Outcome {
    /// The promises that the run has broken.
    pub fn broken(&self, protocol: Protocol) -> Vec<Broken> {
        let is_live = matches!(self.ending, Ending::Best | Ending::Another);
        let is_unsafe = if protocol.has_terms() { self.two_in_term } else { self.two_at_once };
        [
            (is_unsafe, Broken::Safety),
            (!protocol.has_terms() && self.ending == Ending::Another, Broken::Best),
            (!is_live, Broken::Liveness),
            (!protocol.has_heartbeats() && self.quiet_us.is_none(), Broken::End),
        ]
        .into_iter()
        .filter_map(|(is_broken, what)| is_broken.then_some(what))
        .collect()
    }
}

/// Watches one run.
#[derive(Debug)]
pub struct Judge {
    live: Vec<Node>,
    ranks: Vec<u32>,
    knows: Vec<Option<Leader>>,
    terms: BTreeMap<u64, Node>,
    had_winner: bool,
    messages: u64,
    bytes: u64,
    /// When all knew the leader, if they still do: time, messages and bytes until then.
    known: Option<(u64, u64, u64)>,
    delivered_us: u64,
    two_at_once: bool,
    two_in_term: bool,
    /// Messages on their way.
    in_flight: u64,
}

impl Judge {
    /// Watches a network with these live nodes.
    pub fn new(live: Vec<Node>, cast: &Cast) -> Self {
        Self {
            live,
            knows: vec![None; cast.ranks.len()],
            ranks: cast.ranks.clone(),
            terms: BTreeMap::new(),
            had_winner: false,
            messages: 0,
            bytes: 0,
            known: None,
            delivered_us: 0,
            two_at_once: false,
            two_in_term: false,
            in_flight: 0,
        }
    }

    /// The leader that a node knew last.
    pub fn knows(&self, node: Node) -> Option<Leader> {
        self.knows[node]
    }

    /// Since when all live nodes have known the leader, microseconds; `None`: they do not.
    pub fn known_us(&self) -> Option<u64> {
        self.known.map(|(at_us, ..)| at_us)
    }

    /// A message was sent, and is on its way.
    pub fn departed(&mut self) {
        self.in_flight += 1;
    }

    /// A message was sent; it may have been lost.
    pub fn sent(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }

    /// A message was delivered.
    pub fn delivered(&mut self, now_us: u64) {
        self.delivered_us = now_us;
        self.in_flight -= 1;
    }

    /// A node knows another leader than before. Returns whether it is the first node of the run that leads.
    pub fn learned(&mut self, now_us: u64, node: Node, leader: Option<Leader>) -> bool {
        self.knows[node] = leader;
        if let Some(Leader { term: Some(term), node: leader }) = leader {
            self.two_in_term |= *self.terms.entry(term).or_insert(leader) != leader;
        }
        let leads = leader.is_some_and(|leader| leader.node == node);
        let is_first = leads && !std::mem::replace(&mut self.had_winner, true);
        self.two_at_once |= self.leading() > 1;
        self.look(now_us);
        is_first
    }

    /// A node crashed.
    pub fn crashed(&mut self, now_us: u64, node: Node) {
        self.live.retain(|other| *other != node);
        self.look(now_us);
    }

    /// Number of live nodes that consider themselves the leader.
    fn leading(&self) -> usize {
        let leads = |node: &&Node| self.knows[**node].is_some_and(|leader| leader.node == **node);
        self.live.iter().filter(leads).count()
    }

    /// The live node that all live nodes know as the leader.
    fn agreed(&self) -> Option<Node> {
        let leader = self.knows[*self.live.first()?]?.node;
        let agree = self.live.iter().all(|node| self.knows[*node].is_some_and(|known| known.node == leader));
        (agree && self.live.contains(&leader)).then_some(leader)
    }

    fn look(&mut self, now_us: u64) {
        if self.agreed().is_none() {
            self.known = None;
        } else if self.known.is_none() {
            self.known = Some((now_us, self.messages, self.bytes));
        }
    }

    fn ending(&self) -> Ending {
        let best = self.live.iter().copied().max_by_key(|node| self.ranks[*node]);
        match (self.agreed(), self.leading()) {
            (_, 2..) => Ending::Two,
            (_, 0) => Ending::Nobody,
            (None, 1) => Ending::LeftOut,
            (leader, 1) if leader == best => Ending::Best,
            (Some(_), 1) => Ending::Another,
        }
    }

    /// The judgement, at the end.
    pub fn outcome(&self) -> Outcome {
        let (known_us, messages_known, bytes_known) =
            self.known.map_or((None, self.messages, self.bytes), |(at, m, b)| (Some(at), m, b));
        Outcome {
            ending: self.ending(),
            messages: self.messages,
            bytes: self.bytes,
            messages_known,
            bytes_known,
            known_us,
            quiet_us: (self.in_flight == 0).then_some(self.delivered_us),
            two_at_once: self.two_at_once,
            two_in_term: self.two_in_term,
        }
    }
}
