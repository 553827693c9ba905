//! Strong keyspaces on a node: the groups it is a member of, and the way to those it is not.
//!
//! Any node serves any client. A request goes to the group's leader: straight away where this node leads,
//! otherwise over the link to the leader, found by a hint that leaders write into a reserved eventual
//! keyspace ([`HINTS`]). A wrong hint costs a redirection, and heals with the next one. A read of one key is
//! asked of all members at once, which saves the leader's own question to them.
//!
//! Groups do not sleep: all groups of a node tick at the same instants and what they say to one peer
//! travels in one frame, so a hundred idle groups cost as many frames as one.

mod breaker;
mod dropped;
mod found;
mod hosted;
mod input;
mod message;
mod place;
mod probe;
mod replace;
mod route;
mod serve;
mod watch;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use starling_kv::Engine;
use starling_proto::message::Payload;
use starling_proto::timers::Timers;
use starling_proto::{Millis, NodeId, NodeRecord};
use starling_strong::group::{GroupId, GroupMessage, Notice, VOTERS_MAX};
use starling_strong::members::NodeKey;
use starling_strong::registry::Registered;

use breaker::Breaker;
use dropped::Dropped;
pub use found::CreateError;
use found::Founding;
use hosted::Hosted;
pub use input::{CoreCall, Effect, ManageError, StrongInput, StrongOutput};
pub use message::{Hint, Manage, StrongMessage, decode_frame, encode_frames};
use probe::Probes;
use route::Route;
use serve::Origin;
use watch::{Served, Watching};
use work::Removing;

use crate::Token;

/// The eventual keyspace where leaders say where their groups live: keyspace -> map of groups -> [`Hint`]. Of
/// a keyspace that was made once the map has one field.
pub const HINTS: &str = ".strong";
/// Longest name of a keyspace, bytes: as of eventual ones.
pub const KEYSPACE_BYTES_MAX: usize = 64;
/// A voter that was silent for so long is replaced by itself, milliseconds, unless the node is told
/// otherwise. Longer than a machine takes to be restarted or updated.
pub const REPLACE_MS: u64 = 600_000;
/// Most keyspaces whose place is kept in mind.
const PLACES_MAX: usize = 4096;
/// Most nodes whose record is kept in mind for the sake of groups.
const RECORDS_MAX: usize = 1024;

/// Deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A group's own.
    Group(GroupId),
    /// A request is to be tried again or given up.
    Route(u64),
    /// A watch is to be begun again.
    Watch(Token),
    /// A keyspace is being made.
    Founding(GroupId),
    /// Leaders compare what they published with how it is.
    Publish,
    /// A portion of the work that is done bit by bit.
    Work,
}

/// Strong keyspaces on one node.
pub struct Strong<E: Engine> {
    engine: E,
    me: NodeRecord,
    /// `None`: voters are replaced by hand only.
    replace_ms: Option<u64>,
    rng: ChaCha12Rng,
    groups: BTreeMap<GroupId, Hosted<E>>,
    places: BTreeMap<String, Hint>,
    /// Made more than once, on two sides of a partition.
    ambiguous: BTreeSet<String>,
    records: BTreeMap<NodeKey, NodeRecord>,
    routes: BTreeMap<u64, Route>,
    /// What groups here were asked -> who wants to know.
    origins: BTreeMap<u64, Origin>,
    /// Names the next route or origin.
    next: u64,
    breaker: Breaker,
    probes: Probes,
    watching: BTreeMap<Token, Watching>,
    /// The names under which watches of clients here are served.
    watch_ids: BTreeMap<u64, Token>,
    served: BTreeMap<u64, Served>,
    /// A peer's watch, by its own name -> ours.
    served_for: BTreeMap<(NodeKey, u64), u64>,
    /// Watches that there may be something to tell.
    to_serve: BTreeSet<u64>,
    /// Groups that may have something to say.
    touched: BTreeSet<GroupId>,
    founding: BTreeMap<GroupId, Founding>,
    /// Groups that did not open, and their keyspaces.
    unopened: BTreeMap<GroupId, String>,
    /// Groups that were dropped.
    dropped: Dropped,
    /// Those, and ones that this node was removed from, that still have rows.
    removing: BTreeMap<GroupId, Removing>,
    /// Groups that have work to be done bit by bit.
    busy: BTreeSet<GroupId>,
    /// Whose turn was last.
    worked: GroupId,
    /// To be sent in one frame per peer, with the messages of groups in `bundles` behind them.
    outbox: BTreeMap<NodeKey, Vec<StrongMessage>>,
    bundles: BTreeMap<NodeKey, Vec<(GroupId, GroupMessage)>>,
    /// Groups that wait for a sync, and for which of their writes.
    dirty: BTreeMap<GroupId, u64>,
    /// Those whose sync is under way.
    syncing: Option<BTreeMap<GroupId, u64>>,
    syncs: u64,
    timers: Timers<Timer>,
    outputs: VecDeque<Effect>,
}

impl<E: Engine> Strong<E> {
    /// Goes on with the groups that the engine has. Voters of groups that this node leads are replaced
    /// when they were silent for `replace_ms`; see [`REPLACE_MS`].
    ///
    /// # Errors
    /// The engine's. A single group that does not open is left out, and said.
    pub fn open(
        engine: E,
        me: NodeRecord,
        replace_ms: Option<u64>,
        seed: [u8; 32],
        now_ms: u64,
    ) -> Result<Self, starling_kv::Error> {
        let mut rng = ChaCha12Rng::from_seed(seed);
        // Names of requests must not be those of an earlier run: its answers may still be on their way.
        let next = rng.next_u64() >> 1;
        let dropped = Dropped::load(&engine)?;
        let mut strong = Self {
            engine,
            me,
            replace_ms,
            rng,
            groups: BTreeMap::new(),
            places: BTreeMap::new(),
            ambiguous: BTreeSet::new(),
            records: BTreeMap::new(),
            routes: BTreeMap::new(),
            origins: BTreeMap::new(),
            next,
            breaker: Breaker::default(),
            probes: Probes::default(),
            watching: BTreeMap::new(),
            watch_ids: BTreeMap::new(),
            served: BTreeMap::new(),
            served_for: BTreeMap::new(),
            to_serve: BTreeSet::new(),
            touched: BTreeSet::new(),
            founding: BTreeMap::new(),
            unopened: BTreeMap::new(),
            dropped,
            removing: BTreeMap::new(),
            busy: BTreeSet::new(),
            worked: GroupId::default(),
            outbox: BTreeMap::new(),
            bundles: BTreeMap::new(),
            dirty: BTreeMap::new(),
            syncing: None,
            syncs: 0,
            timers: Timers::default(),
            outputs: VecDeque::new(),
        };
        strong.open_groups(now_ms)?;
        strong.process_ready(now_ms);
        Ok(strong)
    }

    /// Handles a client's request. `known` are the replicas of the network that this node can name: the
    /// candidates for the members of a keyspace.
    pub fn handle_client(&mut self, now_ms: u64, input: StrongInput, known: Vec<NodeRecord>) {
        match input {
            StrongInput::Request { token, keyspace, request, options } => {
                self.handle_request(now_ms, token, keyspace, request, options);
            }
            StrongInput::Watch { token, keyspace, watch, updates } => {
                self.handle_watch(now_ms, token, keyspace, watch, updates);
            }
            StrongInput::More { token, updates } => self.handle_more(now_ms, token, updates),
            StrongInput::Progress { token } => self.handle_progress(token),
            StrongInput::Unwatch { token } => self.handle_unwatch(token),
            StrongInput::Create { token, keyspace, voters, on, manual } => {
                let members = self.plan(&keyspace, voters, &on, known);
                self.handle_create(now_ms, token, &keyspace, members, manual);
            }
            StrongInput::Drop { token, keyspace } => self.handle_drop(now_ms, token, &keyspace),
            StrongInput::SetVoters { token, keyspace, nodes } => {
                let known = known.into_iter().filter(|record| nodes.contains(&record.id));
                self.handle_manage(now_ms, token, keyspace, Manage::Voters(known.collect()));
            }
            StrongInput::Transfer { token, keyspace, to } => {
                self.handle_manage(now_ms, token, keyspace, Manage::Transfer(to.0));
            }
            StrongInput::Status { token, keyspace, of_leader } => {
                self.handle_status(now_ms, token, keyspace, of_leader);
            }
            StrongInput::Recover { token, keyspace } => self.handle_recover(now_ms, token, &keyspace),
        }
    }

    /// The next effect; complete only after [`Strong::process_ready`].
    pub fn poll_output(&mut self) -> Option<Effect> {
        self.outputs.pop_front()
    }

    /// When to call [`Strong::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.timers.next()
    }

    /// Groups and keyspaces that this node is a member of.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupId, &str)> {
        self.groups.iter().map(|(group, hosted)| (group, hosted.keyspace.as_str()))
    }

    /// Whether this node has a replica of a keyspace, or knows where it is.
    pub(crate) fn knows(&self, keyspace: &str) -> bool {
        self.places.contains_key(keyspace)
            || self.hosted(keyspace).is_some()
            || self.is_ambiguous(keyspace)
            || self.is_asked(keyspace)
    }

    /// Whether a keyspace was made more than once, as far as this node has heard.
    pub(crate) fn is_ambiguous(&self, keyspace: &str) -> bool {
        self.ambiguous.contains(keyspace)
    }

    /// Whether this node leads a keyspace's group.
    pub fn leads(&self, keyspace: &str) -> bool {
        let hosted = self.hosted(keyspace).and_then(|group| self.groups.get(&group));
        hosted.is_some_and(|hosted| hosted.group.is_leader())
    }

    /// Handles what is due: [`Strong::poll_timeout`] has been reached.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        while let Some(timer) = self.timers.pop_due(Millis(now_ms)) {
            match timer {
                Timer::Group(group) => self.tick(now_ms, group),
                Timer::Route(id) => self.retry(now_ms, id),
                Timer::Watch(token) => self.watch_again(now_ms, token),
                Timer::Founding(group) => self.give_up_founding(now_ms, group),
                Timer::Publish => self.publish_changes(now_ms),
                Timer::Work => self.work(now_ms),
            }
        }
    }

    /// Handles a frame of a peer.
    pub fn handle_frame(&mut self, now_ms: u64, from: NodeId, frame: &Payload) {
        let from = from.0;
        // What cannot be decoded is dropped, as if it had been lost.
        let Ok(messages) = decode_frame(frame) else { return };
        self.breaker.works(&from);
        for message in messages {
            self.on_message(now_ms, from, message);
        }
    }

    fn on_message(&mut self, now_ms: u64, from: NodeKey, message: StrongMessage) {
        match message {
            StrongMessage::Groups(bundle) => self.on_groups(now_ms, from, bundle),
            StrongMessage::Found { group, keyspace, founders, manual } => {
                self.on_found(now_ms, from, group, &keyspace, &founders, manual);
            }
            StrongMessage::Founded { group, refusal } => self.on_founded(now_ms, from, group, refusal),
            StrongMessage::Invite { group, keyspace, member, members, manual } => {
                let registered = Registered { group, keyspace, member, manual };
                self.on_invite(now_ms, registered, &members);
            }
            StrongMessage::Drop { group } => {
                self.unpublish(group);
                self.drop_here(now_ms, group);
            }
            StrongMessage::Ask { id, group, request, options } => {
                self.on_ask(now_ms, from, id, group, request, options);
            }
            StrongMessage::Answered { id, result } => self.finish(id, result),
            StrongMessage::Elsewhere { id, leader, missing } => {
                self.on_elsewhere(now_ms, id, leader, &missing);
            }
            StrongMessage::Manage { id, group, change } => self.on_manage(now_ms, from, id, group, change),
            StrongMessage::Managed { id, result } => self.on_managed(now_ms, id, result),
            StrongMessage::Describe { id, group } => self.on_describe(now_ms, from, id, group),
            StrongMessage::Described { id, status } => self.on_described(now_ms, id, status),
            StrongMessage::Watch { id, group, watch, updates } => {
                self.on_watch(now_ms, from, id, group, watch, updates);
            }
            StrongMessage::More { id, updates } => self.on_more(from, id, updates),
            StrongMessage::Progress { id } => self.on_progress(from, id),
            StrongMessage::Update { id, number, update } => {
                self.on_update(now_ms, from, id, number, update);
            }
            StrongMessage::Unwatch { id } => self.on_unwatch(from, id),
            StrongMessage::Check { id, heard, updates } => self.on_check(from, id, heard, updates),
            StrongMessage::Checked { id, told } => self.on_checked(now_ms, from, id, told),
            StrongMessage::Probe { id, group, read } => self.on_probe(from, id, group, read.as_ref()),
            StrongMessage::Probed { id, probed } => self.on_probed(now_ms, from, id, probed),
        }
    }

    /// Notes the address of a peer whose link is up.
    pub fn handle_connected(&mut self, record: NodeRecord) {
        self.learn(record);
    }

    /// Handles the loss of a link: what was sent may have arrived.
    pub fn handle_disconnected(&mut self, now_ms: u64, peer: NodeId) {
        self.handle_down(now_ms, peer.0, true);
    }

    /// Handles a failed dial: nothing arrived.
    pub fn handle_unreachable(&mut self, now_ms: u64, peer: NodeId) {
        self.handle_down(now_ms, peer.0, false);
    }

    fn handle_down(&mut self, now_ms: u64, peer: NodeKey, was_connected: bool) {
        for group in self.groups.keys().copied().collect::<Vec<_>>() {
            self.peer_down(now_ms, group, peer);
        }
        self.breaker.failed(peer, now_ms);
        self.routes_down(now_ms, peer, was_connected);
        self.probes_down(now_ms, peer);
        self.watches_down(now_ms, peer);
    }

    /// Keeps a node's address in mind.
    fn learn(&mut self, record: NodeRecord) {
        let key = record.id.0;
        let is_newer = self.records.get(&key).is_none_or(|known| record.supersedes(known));
        if !is_newer || key == self.me.id.0 {
            return;
        }
        if self.records.len() >= RECORDS_MAX && !self.records.contains_key(&key) {
            let needed = self.needed();
            let spare = self.records.keys().find(|key| !needed.contains(*key)).copied();
            match spare {
                Some(spare) => self.records.remove(&spare),
                None => return,
            };
        }
        self.records.insert(key, record);
    }

    fn learn_all(&mut self, records: &[NodeRecord]) {
        for record in records {
            self.learn(record.clone());
        }
    }

    /// Nodes that share a group with this one.
    fn needed(&self) -> BTreeSet<NodeKey> {
        self.groups.values().flat_map(|hosted| hosted.group.members().nodes.values().copied()).collect()
    }

    fn record(&self, node: &NodeKey) -> Option<NodeRecord> {
        if *node == self.me.id.0 {
            return Some(self.me.clone());
        }
        let known = || self.records.get(node);
        let hinted =
            || self.places.values().flat_map(|hint| &hint.members).find(|record| record.id.0 == *node);
        known().or_else(hinted).cloned()
    }

    /// What people call a node.
    fn name(&self, node: &NodeKey) -> String {
        self.record(node).map_or_else(|| NodeId(*node).short(), |record| record.name)
    }

    /// Goes out with all else that is said to that node at this instant.
    fn send(&mut self, to: &NodeKey, message: StrongMessage) {
        self.outbox.entry(*to).or_default().push(message);
    }

    fn flush(&mut self) {
        for (to, bundle) in std::mem::take(&mut self.bundles) {
            for part in message::split(bundle) {
                self.send(&to, StrongMessage::Groups(part));
            }
        }
        for (to, messages) in std::mem::take(&mut self.outbox) {
            let Some(record) = self.record(&to) else { continue };
            for frame in encode_frames(&messages) {
                self.outputs.push_back(Effect::Send { to: Box::new(record.clone()), frame });
            }
        }
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        seed
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound.max(1)
    }

    /// The group of a keyspace, if this node is a member.
    fn hosted(&self, keyspace: &str) -> Option<GroupId> {
        self.groups.iter().find(|(_, hosted)| hosted.keyspace == keyspace).map(|(group, _)| *group)
    }

    /// Handles what [`HINTS`] holds of a keyspace. Several groups: it was created more than once.
    pub fn handle_hints(&mut self, now_ms: u64, keyspace: &str, hints: Vec<Hint>) {
        let groups: BTreeSet<GroupId> = hints.iter().map(|hint| hint.group).collect();
        if groups.len() > 1 {
            self.ambiguous.insert(keyspace.into());
        } else {
            self.ambiguous.remove(keyspace);
        }
        let Some(hint) = hints.into_iter().max_by_key(|hint| hint.term) else {
            // It was dropped. Where this node is a member, the others say so.
            self.places.remove(keyspace);
            return;
        };
        self.doubt(&hint);
        let known = self.places.get(keyspace);
        let is_new = known.is_none_or(|known| known.group != hint.group || known.term < hint.term);
        let leader = hint.leader();
        self.remember(keyspace.into(), hint);
        if let Some(leader) = leader.filter(|_| is_new) {
            self.led_by(now_ms, keyspace, leader);
        }
    }

    fn remember(&mut self, keyspace: String, hint: Hint) {
        let is_older = self
            .places
            .get(&keyspace)
            .is_some_and(|known| known.group == hint.group && known.term > hint.term);
        if is_older {
            return;
        }
        if self.places.len() >= PLACES_MAX && !self.places.contains_key(&keyspace) {
            self.places.pop_first();
        }
        for record in &hint.members {
            self.learn(record.clone());
        }
        self.places.insert(keyspace, hint);
    }

    /// Processes what the inputs handled so far have caused, in one pass: replicas that have something to
    /// process, watches, frames, and at most one sync. Inputs handled before it share frames and log entries.
    pub fn process_ready(&mut self, now_ms: u64) {
        self.drain_groups(now_ms);
        self.serve_watches(now_ms);
        self.flush();
        self.begin_sync();
    }

    /// Gives a client something.
    fn reply(&mut self, output: StrongOutput) {
        self.outputs.push_back(Effect::Client(output));
    }

    /// Consults the rest of the node.
    fn call(&mut self, call: CoreCall) {
        self.outputs.push_back(Effect::Call(call));
    }

    fn notice(&mut self, keyspace: String, notice: Notice) {
        self.outputs.push_back(Effect::Notice { keyspace, notice });
    }
}
