//! Rumor mongering with eager and lazy links.
//!
//! A rumor is pushed in full over *eager* links, and its id is announced over *lazy* ones. A link over
//! which known rumors arrive becomes lazy (Demers et al., PODC 1987: rumor mongering with feedback). A
//! rumor that was announced and did not arrive is grafted, which makes its link eager again (Leitao,
//! Pereira, Rodrigues: Epidemic Broadcast Trees, SRDS 2007). This state is per link and not per
//! origin: the eager links become one tree shared by all origins, with a mesh of lazy links
//! beside it. Beacons redraw that tree while it is in use, so that it stays short while the views
//! change.
//!
//! The payload is the store's: the caller joins a full rumor first and passes whether that changed the
//! live entries or the causal context (a rumor with a known dot may still supersede others). Nothing here decides by
//! a dot alone, except to graft.

mod cache;
mod graft;
mod link;
mod offer;
mod rejoin;
mod tree;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::message::{Payload, RumorId, RumorMessage};
use crate::wire::{BULK_FRAME_BYTES_MAX, bounds::RUMOR_IDS_MAX};
use crate::{Millis, NodeId};

use cache::{Cache, Rumor};
use graft::{Due, Grafts, LARGE_BYTES};
use link::{Link, PRUNE_SPREAD_MS};
use tree::{Redraw, Tree};

/// Largest payload that is pushed, bytes; a larger one is transferred by sessions, in chunks.
pub const PAYLOAD_BYTES_MAX: usize = BULK_FRAME_BYTES_MAX - 256;

/// Time between two rumors that do not cross, milliseconds: a single rumor cuts every cycle in exactly one place, so
/// its duplicates count at once. A guess at the longest time a rumor is under way.
const CROSSING_MS: u64 = 200;
/// How long the link to the former parent stays eager after a redrawing, milliseconds: longer than a rumor is under
/// way. A guess.
const LEAVE_MS: u64 = 1000;

/// Settings, in milliseconds and bytes.
#[derive(Clone, Debug)]
pub struct RumorConfig {
    /// How long announcements are gathered, milliseconds. A guess: below what users notice, and long enough to put the
    /// ids of a burst into one frame.
    pub announce_ms: u64,
    /// How long an announced rumor may take to arrive before it is grafted, milliseconds; extended automatically while
    /// rumors trail their announcements. A guess: above the delay of a
    /// queue, below a second.
    pub graft_ms: u64,
    /// How long a grafted rumor may take before the next announcer gets a graft, milliseconds (Plumtree's second,
    /// shorter timer: about one round trip). A guess.
    pub graft_again_ms: u64,
    /// Bytes of payloads kept to serve grafts, at most; the oldest is evicted.
    pub cache_bytes_max: usize,
}

impl Default for RumorConfig {
    fn default() -> Self {
        Self { announce_ms: 50, graft_ms: 100, graft_again_ms: 75, cache_bytes_max: 4 << 20 }
    }
}

/// An event that the machine handles.
#[derive(Clone, Debug)]
pub enum RumorInput {
    /// The peer entered the active view. The link begins eager.
    LinkUp {
        /// The neighbour.
        peer: NodeId,
    },
    /// The peer left it.
    LinkDown {
        /// The former neighbour.
        peer: NodeId,
    },
    /// A queue of the link was full, and a frame of this node was dropped.
    Shed {
        /// The neighbour that missed it.
        peer: NodeId,
    },
    /// This node committed a batch.
    Published {
        /// Its dots.
        id: RumorId,
        /// Its delta.
        payload: Bytes,
    },
    /// A full rumor arrived and was joined.
    Received {
        /// The link that it arrived over.
        from: NodeId,
        /// Its id.
        id: RumorId,
        /// Number of links that it has passed; 0 if unknown.
        hops: u16,
        /// Its delta, as received.
        payload: Bytes,
        /// Whether the join changed anything.
        news: bool,
    },
    /// Bytes of a frame arrived, and the frame is not complete.
    Progress,
    /// Another message of rumor mongering arrived. (A full rumor is [`RumorInput::Received`].)
    Message {
        /// The link that it arrived over.
        from: NodeId,
        /// The message.
        message: RumorMessage,
    },
    /// The store's answer to [`RumorOutput::Supply`].
    Supplied {
        /// The peer that grafted it.
        to: NodeId,
        /// The rumor's id.
        id: RumorId,
        /// What the store still has of it.
        payload: Bytes,
    },
    /// The time of `poll_timeout` has come.
    Timeout,
}

/// What the caller has to carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RumorOutput {
    /// Send one message to several links (encode it once).
    Send {
        /// The links, ascending.
        to: Vec<NodeId>,
        /// The message.
        message: RumorMessage,
    },
    /// A graft asks for a rumor that the cache has lost: restrict the store to its dots and pass
    /// [`RumorInput::Supplied`].
    Supply {
        /// The peer that grafts it.
        to: NodeId,
        /// The rumor's id.
        id: RumorId,
    },
    /// Rumors were lost between this node and the peer: start a session with it.
    Repair {
        /// The neighbour.
        peer: NodeId,
    },
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RumorStats {
    /// Own batches.
    pub published: u64,
    /// Full rumors received that changed the store.
    pub received_new: u64,
    /// Full rumors received that changed nothing.
    pub received_old: u64,
    /// Full rumors sent, counted per link.
    pub pushed: u64,
    /// Ids announced, counted per link.
    pub announced: u64,
    /// Ids grafted.
    pub grafts_sent: u64,
    /// Ids of received grafts that were served, from the cache or the store.
    pub grafts_served: u64,
    /// Prunes sent.
    pub prunes_sent: u64,
    /// Prunes received.
    pub prunes_received: u64,
    /// Announced rumors that no peer delivered, or for which the table was full.
    pub given_up: u64,
    /// Rumors too large to push.
    pub oversized: u64,
}

/// The state machine of rumor mongering.
#[derive(Debug)]
pub struct Rumors {
    config: RumorConfig,
    rng: ChaCha8Rng,
    links: BTreeMap<NodeId, Link>,
    cache: Cache,
    grafts: Grafts,
    tree: Tree,
    /// The links to make lazy after a redrawing, once rumors under way have arrived.
    leaving: BTreeMap<NodeId, Millis>,
    /// The last rumor that arrived, and when.
    latest: Option<(RumorId, Millis)>,
    /// When another one last arrived before it.
    before: Option<Millis>,
    /// When announcements that wait are flushed.
    announce_at: Option<Millis>,
    outputs: VecDeque<RumorOutput>,
    stats: RumorStats,
}

impl Rumors {
    /// A node without links.
    pub fn new(config: RumorConfig, me: NodeId, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha8Rng::from_seed(seed);
        Self {
            tree: Tree::new(me, &mut rng),
            leaving: BTreeMap::new(),
            rng,
            cache: Cache::new(config.cache_bytes_max),
            grafts: Grafts::new(config.graft_ms, config.graft_again_ms),
            config,
            links: BTreeMap::new(),
            latest: None,
            before: None,
            announce_at: None,
            outputs: VecDeque::new(),
            stats: RumorStats::default(),
        }
    }

    /// Counters since the start.
    pub fn stats(&self) -> RumorStats {
        self.stats
    }

    /// The links that rumors are pushed over in full.
    pub fn eager(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.links.iter().filter(|(_, link)| link.eager).map(|(peer, _)| *peer)
    }

    /// Bytes of payloads kept to serve grafts.
    pub fn cached_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// The number of links, eager and lazy.
    pub fn links(&self) -> usize {
        self.links.len()
    }

    /// Rumors that were announced and have not arrived.
    pub fn wanted(&self) -> usize {
        self.grafts.wanted()
    }

    /// The next output; `None` if there is none until the next input.
    pub fn poll_output(&mut self) -> Option<RumorOutput> {
        self.outputs.pop_front()
    }

    /// When [`RumorInput::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Millis> {
        [self.announce_at, self.grafts.next_due(), self.tree.next_due(), self.leaving.values().min().copied()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Handles one input. `knows` returns whether every dot of a rumor is in the causal context.
    pub fn handle(&mut self, now: Millis, input: RumorInput, knows: &dyn Fn(&RumorId) -> bool) {
        match input {
            RumorInput::LinkUp { peer } => self.handle_link_up(now, peer),
            RumorInput::LinkDown { peer } => self.handle_link_down(now, peer),
            RumorInput::Shed { peer } => self.repair(peer),
            RumorInput::Published { id, payload } => self.handle_published(now, id, payload),
            RumorInput::Received { from, id, hops, payload, news } => {
                self.on_full(now, from, id, hops, payload, news);
            }
            RumorInput::Progress => self.grafts.progress(now),
            RumorInput::Message { from, message } => self.on_message(now, from, message, knows),
            RumorInput::Supplied { to, id, payload } => self.push(vec![to], id, 0, payload),
            RumorInput::Timeout => self.handle_timeout(now, knows),
        }
    }

    /// Makes the link to a parent in the tree eager at both ends.
    fn attach_to(&mut self, parent: NodeId) {
        if let Some(link) = self.links.get_mut(&parent) {
            link.eager = true;
            link.detached();
            self.leaving.remove(&parent);
            self.send(vec![parent], RumorMessage::Graft { ids: Vec::new() });
        }
    }

    fn handle_link_up(&mut self, now: Millis, peer: NodeId) {
        self.links.entry(peer).or_default();
        // A new neighbour gets the last beacon, and so its place in the tree, at once.
        if let Some(beacon) = self.tree.last_beacon(now) {
            self.send(vec![peer], RumorMessage::Beacon(beacon));
        }
    }

    /// Forwards a beacon, and changes the parent if the beacon's path has.
    fn redraw(&mut self, now: Millis, redraw: Redraw) {
        let Redraw { beacon, known_by, parent, leave } = redraw;
        let to = self.links.keys().copied().filter(|peer| !known_by.contains(peer)).collect();
        self.send(to, RumorMessage::Beacon(beacon));
        self.links.values_mut().for_each(Link::redrawn);
        // Sent again at each redrawing, so that the two ends do not disagree for long.
        if let Some(parent) = parent {
            self.attach_to(parent);
        }
        // The link to the old parent stays eager for a while, so that no rumor is lost in between.
        if let Some(parent) = leave.filter(|parent| self.links.contains_key(parent)) {
            self.leaving.insert(parent, now + LEAVE_MS);
        }
    }

    /// Makes the links to former parents lazy, except to those that are children by now.
    fn leave_former_parents(&mut self, now: Millis) {
        let due = self.leaving.iter().filter(|(_, at)| **at <= now);
        let former: Vec<NodeId> = due.map(|(peer, _)| *peer).collect();
        for peer in former {
            self.leaving.remove(&peer);
            let Some(link) = self.links.get_mut(&peer).filter(|link| !link.is_child()) else { continue };
            if link.prune(now) {
                self.stats.prunes_sent += 1;
                self.send(vec![peer], RumorMessage::Prune);
            }
        }
    }

    fn handle_published(&mut self, now: Millis, id: RumorId, payload: Bytes) {
        self.stats.published += 1;
        if self.eager().next().is_none()
            && let Some(link) = self.brought_news_last(None).and_then(|peer| self.links.get_mut(&peer))
        {
            link.eager = true;
        }
        self.spread(now, None, id, 0, payload);
    }

    fn on_full(&mut self, now: Millis, from: NodeId, id: RumorId, hops: u16, payload: Bytes, news: bool) {
        self.grafts.arrived(now, &id, from);
        self.grafts.received(now, payload.len());
        if let Some((other, at)) = self.latest.replace((id, now))
            && other != id
        {
            self.before = Some(at);
        }
        if news {
            self.stats.received_new += 1;
            if let Some(link) = self.links.get_mut(&from) {
                link.on_news(now);
            }
            self.adopt(now, from);
            self.spread(now, Some(from), id, hops, payload);
        } else {
            self.stats.received_old += 1;
            self.grafts.came_again(now, &id);
            let superfluous = self.superfluous(&id, from);
            self.prune_link(now, superfluous);
        }
        if let Some(link) = self.links.get_mut(&from) {
            link.forget_announcement(&id);
        }
    }

    fn is_in_tree(&self, peer: &NodeId) -> bool {
        self.tree.parent() == Some(*peer) || self.links.get(peer).is_some_and(Link::is_child)
    }

    /// Of two links that brought the same rumor, the one that is not in the tree, or else the later one.
    fn superfluous(&self, id: &RumorId, later: NodeId) -> NodeId {
        let earlier = self.cache.bringer(id).filter(|peer| self.is_in_tree(&later) && !self.is_in_tree(peer));
        earlier.unwrap_or(later)
    }

    /// Prunes a link over which known rumors arrive. Not the last eager link, which seems superfluous only because of a
    /// frame under way, and not one of the tree, which has no cycle: then another link is superfluous.
    fn prune_link(&mut self, now: Millis, from: NodeId) {
        let is_drawn = self.tree.is_drawn(now);
        let alone = !self.eager().any(|peer| peer != from);
        if alone || is_drawn && self.is_in_tree(&from) {
            return;
        }
        let alone_on_its_way = self.before.is_none_or(|at| now - at > CROSSING_MS);
        let at_once = is_drawn || alone_on_its_way;
        let patience_ms = if at_once { 0 } else { self.rng.random_range(0..=PRUNE_SPREAD_MS) };
        #[cfg(planted)]
        let patience_ms =
            if starling_planted::on(starling_planted::Bug::NothingGrafted) { 0 } else { patience_ms };
        let Some(link) = self.links.get_mut(&from) else { return };
        if !link.on_duplicate(now, patience_ms) || !link.prune(now) {
            return;
        }
        self.stats.prunes_sent += 1;
        self.send(vec![from], RumorMessage::Prune);
    }

    /// Pushes over eager links and announces over lazy ones, except the one that the rumor arrived over.
    fn spread(&mut self, now: Millis, from: Option<NodeId>, id: RumorId, hops: u16, payload: Bytes) {
        self.tree.in_use(now, from.is_none(), &mut self.rng);
        if payload.len() > PAYLOAD_BYTES_MAX {
            self.stats.oversized += 1;
            let peers: Vec<NodeId> = self.links.keys().copied().filter(|peer| Some(*peer) != from).collect();
            for peer in peers {
                self.repair(peer);
            }
            return;
        }
        let (is_large, is_drawn) = (payload.len() >= LARGE_BYTES, self.tree.is_drawn(now));
        let parent = self.tree.parent();
        let (mut eager, mut offered, mut full) = (Vec::new(), Vec::new(), Vec::new());
        for (peer, link) in self.links.iter_mut().filter(|(peer, _)| Some(**peer) != from) {
            if link.eager && (!is_large || link.is_grafted() || parent == Some(*peer)) {
                eager.push(*peer);
            } else if link.eager && !is_drawn {
                offered.push(*peer);
            } else if link.announce_later(id) >= RUMOR_IDS_MAX {
                full.push(*peer);
            }
        }
        self.offer(offered, id);
        if self.links.values().any(Link::has_announcements) {
            self.announce_at.get_or_insert(now + self.config.announce_ms);
        }
        for peer in full {
            self.announce(peer);
        }
        self.cache.insert(id, Rumor { payload: payload.clone(), hops, bringer: from, at: now });
        self.push(eager, id, hops.saturating_add(1), payload);
    }

    fn push(&mut self, to: Vec<NodeId>, id: RumorId, hops: u16, payload: Bytes) {
        self.stats.pushed += to.len() as u64;
        self.send(to, RumorMessage::Full { id, hops, payload: Payload(payload) });
    }

    fn on_message(
        &mut self,
        now: Millis,
        from: NodeId,
        message: RumorMessage,
        knows: &dyn Fn(&RumorId) -> bool,
    ) {
        match message {
            RumorMessage::Full { .. } => debug_assert!(false, "a full rumor is joined first"),
            RumorMessage::Announce { ids } => self.on_announce(now, from, ids, knows),
            RumorMessage::Graft { ids } => self.on_graft(from, ids),
            RumorMessage::Prune => {
                self.stats.prunes_received += 1;
                if let Some(link) = self.links.get_mut(&from) {
                    link.on_prune();
                }
                // The parent did not know that this node is its child, or there is a better one.
                if let Some(parent) = self.tree.lost(from) {
                    self.attach_to(parent);
                }
            }
            RumorMessage::Rejoin { as_child, ids } => self.on_rejoin(now, from, as_child, &ids, knows),
            RumorMessage::Beacon(beacon) => {
                if self.links.contains_key(&from) {
                    self.tree.on_beacon(now, from, beacon);
                }
            }
        }
    }

    fn on_announce(
        &mut self,
        now: Millis,
        from: NodeId,
        ids: Vec<RumorId>,
        knows: &dyn Fn(&RumorId) -> bool,
    ) {
        let takes_offers = self.takes_offers(now, from);
        let (mut gap, mut offered) = (false, Vec::new());
        for id in ids {
            let Some(link) = self.links.get_mut(&from) else { return };
            link.forget_announcement(&id);
            if knows(&id) {
                continue;
            }
            if takes_offers {
                offered.push(id);
            } else if !self.grafts.announced(now, id, from, &mut self.rng) {
                self.stats.given_up += 1;
                gap = true;
            }
        }
        if !offered.is_empty() {
            self.take_offer(now, from, offered);
        }
        if gap {
            self.repair(from);
        }
    }

    fn on_graft(&mut self, from: NodeId, ids: Vec<RumorId>) {
        let Some(link) = self.links.get_mut(&from) else { return };
        link.eager = true;
        link.grafted();
        if ids.is_empty() {
            link.attached();
        }
        for id in BTreeSet::from_iter(ids) {
            self.stats.grafts_served += 1;
            match self.cache.get(&id) {
                Some((payload, hops)) => self.push(vec![from], id, hops.saturating_add(1), payload),
                None => self.outputs.push_back(RumorOutput::Supply { to: from, id }),
            }
        }
    }

    fn handle_timeout(&mut self, now: Millis, knows: &dyn Fn(&RumorId) -> bool) {
        if self.announce_at.is_some_and(|at| at <= now) {
            self.announce_at = None;
            let peers: Vec<NodeId> = self.links.keys().copied().collect();
            for peer in peers {
                self.announce(peer);
            }
        }
        self.graft_what_is_due(now, knows);
        if let Some(redraw) = self.tree.poll(now) {
            self.redraw(now, redraw);
        }
        self.leave_former_parents(now);
    }

    fn announce(&mut self, peer: NodeId) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        let ids = link.take_announcements();
        if !ids.is_empty() {
            self.stats.announced += ids.len() as u64;
            self.send(vec![peer], RumorMessage::Announce { ids });
        }
    }

    fn graft_what_is_due(&mut self, now: Millis, knows: &dyn Fn(&RumorId) -> bool) {
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::NothingGrafted) {
            self.grafts.forget();
            return;
        }
        let mut asked: BTreeMap<NodeId, Vec<RumorId>> = BTreeMap::new();
        loop {
            let links = &self.links;
            let is_linked = |peer: &NodeId| links.contains_key(peer);
            let is_eager = |peer: &NodeId| links.get(peer).is_some_and(|link| link.eager);
            let Some(due) = self.grafts.pop_due(now, knows, is_linked, is_eager) else { break };
            match due {
                Due::Ask { peer, id } => {
                    if let Some(link) = self.links.get_mut(&peer) {
                        link.eager = true;
                    }
                    asked.entry(peer).or_default().push(id);
                }
                Due::GiveUp { last } => {
                    self.stats.given_up += 1;
                    self.outputs.extend(last.map(|peer| RumorOutput::Repair { peer }));
                }
            }
        }
        for (peer, ids) in asked {
            self.stats.grafts_sent += ids.len() as u64;
            for ids in ids.chunks(RUMOR_IDS_MAX) {
                self.send(vec![peer], RumorMessage::Graft { ids: ids.to_vec() });
            }
        }
    }

    fn repair(&mut self, peer: NodeId) {
        let repair = RumorOutput::Repair { peer };
        if self.links.contains_key(&peer) && self.outputs.back() != Some(&repair) {
            self.outputs.push_back(repair);
        }
    }

    fn send(&mut self, to: Vec<NodeId>, message: RumorMessage) {
        if !to.is_empty() {
            self.outputs.push_back(RumorOutput::Send { to, message });
        }
    }
}
