//! The composition of the state machines: it passes inputs to them, and their outputs to each other or to the
//! driver. All decisions of a node are made here or below, so that a simulation of this crate is a simulation of
//! the node.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use starling_kv::store::EXPIRY_STEP_MS;
use starling_kv::{Batch, Engine, Store};
use starling_proto::detector::{Detector, DetectorConfig, DetectorInput};
use starling_proto::healing::{Healing, HealingConfig, HealingInput};
use starling_proto::rumor::{RumorConfig, RumorInput, Rumors};
use starling_proto::sync::{Sessions, SyncConfig, SyncInput};
use starling_proto::timers::Timers;
use starling_proto::trust::Certificate;
use starling_proto::view::{ViewConfig, ViewInput, Views};
use starling_proto::wire::Protocol;
use starling_proto::{Message, Millis, NodeId, NodeRecord, Role};

use crate::clock::Clock;
use crate::crawl::Crawl;
use crate::departures::Departures;
use crate::doubles::{Doubled, Doubles};
use crate::gaps::Gaps;
use crate::links::{Links, TRANSIENT_IDLE_MS};
use crate::status::Counters;
use crate::strong::Strong;
use crate::trust::Credentials;
use crate::upgrade::{DATA_NEWEST, Finalized};
use crate::{Input, Notice, Now, Output, Token};

/// Settings of the machines.
#[derive(Clone, Debug, Default)]
pub struct CoreConfig {
    /// Membership.
    pub views: ViewConfig,
    /// Remembered peers.
    pub healing: HealingConfig,
    /// Failure detection.
    pub detector: DetectorConfig,
    /// Dissemination.
    pub rumors: RumorConfig,
    /// Anti-entropy.
    pub sync: SyncConfig,
    /// Version and capabilities of the software, shown to crawls.
    pub software: Software,
}

/// The version and the capabilities of a node's software.
#[derive(Clone, Debug)]
pub struct Software {
    /// The software's version, for display.
    pub version: String,
    /// The versions of the protocol that it speaks.
    pub protocol: Protocol,
    /// The newest version of data that it reads and writes.
    pub data_newest: u16,
}

impl Default for Software {
    fn default() -> Self {
        Self { version: String::new(), protocol: Protocol::CURRENT, data_newest: DATA_NEWEST }
    }
}

impl Software {
    /// The capabilities of the previous release, for tests of upgrades: such a node speaks and writes nothing newer.
    pub fn previous() -> Self {
        let version = "previous".into();
        Self { version, protocol: Protocol::PREVIOUS, data_newest: DATA_NEWEST - 1 }
    }
}

/// Deadlines of the composition itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Close unused links.
    IdleLinks,
    /// Commit batches that were too much for the commit before.
    Commit,
    /// Notify watches of what has expired.
    Expired,
    /// Remove what expired a grace ago.
    Expire,
    /// Continue to rebuild fingerprints, or write a checkpoint.
    Maintain,
    /// Look for certificates that have expired, or are about to.
    Credentials,
}

/// Time between two checks whether the store has background work, milliseconds. A guess.
const MAINTAIN_MS: u64 = 10_000;

/// A node without its network, disk and clock. `E` is the storage engine.
pub struct Core<E: Engine> {
    pub(crate) record: NodeRecord,
    pub(crate) software: Software,
    pub(crate) finalized: Finalized,
    pub(crate) started: Millis,
    pub(crate) views: Views,
    pub(crate) healing: Healing,
    pub(crate) detector: Detector,
    pub(crate) rumors: Rumors,
    pub(crate) sessions: Sessions,
    pub(crate) store: Option<Store<E>>,
    pub(crate) strong: Option<Strong<E>>,
    pub(crate) links: Links,
    pub(crate) doubles: Doubles,
    pub(crate) departures: Departures,
    pub(crate) gaps: Gaps,
    pub(crate) credentials: Credentials,
    pub(crate) crawls: BTreeMap<u64, Crawl>,
    pub(crate) timers: Timers<Timer>,
    pub(crate) counters: Counters,
    pub(crate) clock: Clock,
    /// Clients' batches that wait for the next commit, in order.
    pub(crate) batches: VecDeque<(Token, Batch)>,
    pub(crate) outputs: VecDeque<Output>,
}

impl<E: Engine> Core<E> {
    /// A node that has just started. `store` is `None` on a bootstrap seed. `remembered` are the
    /// peers kept from earlier runs ([`Output::Remember`]). `seed` must be fresh for every start.
    pub fn new(
        config: CoreConfig,
        record: NodeRecord,
        store: Option<Store<E>>,
        remembered: Vec<NodeRecord>,
        seed: [u8; 32],
        now: Now,
    ) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let mut fork = || {
            let mut seed = [0; 32];
            rng.fill_bytes(&mut seed);
            seed
        };
        let known = remembered.clone();
        let mut core = Self {
            software: config.software,
            finalized: Finalized::NOTHING,
            started: now.mono,
            views: Views::new(config.views, record.clone(), fork(), now.mono),
            healing: Healing::new(config.healing, record.id, remembered, fork(), now.mono),
            detector: Detector::new(config.detector, record.id),
            rumors: Rumors::new(config.rumors, record.id, fork()),
            sessions: Sessions::new(config.sync, record.id, fork(), now.mono),
            record,
            store,
            strong: None,
            links: Links::default(),
            doubles: Doubles::default(),
            departures: Departures::default(),
            gaps: Gaps::default(),
            credentials: Credentials::default(),
            crawls: BTreeMap::new(),
            timers: Timers::default(),
            counters: Counters::default(),
            clock: Clock::new(now),
            batches: VecDeque::new(),
            outputs: VecDeque::new(),
        };
        if core.store.is_some() {
            core.timers.set(Timer::Expired, now.mono);
            core.timers.set(Timer::Expire, now.mono + (EXPIRY_STEP_MS - now.wall_ms % EXPIRY_STEP_MS));
            core.timers.set(Timer::Maintain, now.mono);
        }
        core.views.handle(now.mono, ViewInput::Known(known));
        core.learn_data_version(now);
        core.process_ready(now);
        core
    }

    /// The store; `None` on a seed.
    pub fn store(&self) -> Option<&Store<E>> {
        self.store.as_ref()
    }

    /// Ends the node and gives its store back, to be closed properly; `None` on a seed.
    pub fn into_store(self) -> Option<Store<E>> {
        self.store
    }

    /// Whether this node is a bootstrap seed.
    pub fn is_seed(&self) -> bool {
        self.record.role == Role::Seed
    }

    /// Whether there is a link to this peer, as far as the node is concerned.
    pub fn is_linked(&self, peer: &NodeId) -> bool {
        self.links.record(peer).is_some()
    }

    /// Handles one input and queues all outputs. It never fails: failures are counted and, where an operator can act on
    /// them, reported by an [`Output`].
    pub fn handle(&mut self, now: Now, input: Input) {
        if let Some(strong) = &mut self.strong {
            strong.set_wall_ms(now.wall_ms);
        }
        self.step(now, input);
        self.process_ready(now);
    }

    /// Passes an input to its state machine.
    fn step(&mut self, now: Now, input: Input) {
        match input {
            Input::Batch(inputs) => inputs.into_iter().for_each(|input| self.step(now, input)),
            Input::Timeout => self.handle_timeout(now),
            Input::Connected { peer, record, from, dialed, certificate } => {
                if self.admits(now, &record, certificate.as_ref()).is_ok() {
                    self.handle_connected(now, record, certificate, from, dialed.is_some());
                } else {
                    // A statement has come after the driver judged the peer.
                    self.outputs.push_back(Output::Close { peer, reason: "not admitted" });
                    self.handle_unreachable(now, peer);
                }
            }
            Input::Statements { from, authority, statements } => {
                self.learn_statements(now, from, authority, &statements);
            }
            Input::Certified(certificate) => self.handle_certified(now, certificate),
            Input::Disconnected { peer } => self.handle_disconnected(now, peer),
            Input::Unreachable { peer, address: _ } => {
                if let Some(peer) = peer {
                    self.handle_unreachable(now, peer);
                }
            }
            Input::Shed { peer, class } => {
                self.rumor(now, RumorInput::Shed { peer });
                self.handle_shed(now, peer, class);
            }
            Input::Message { peer, message } => self.handle_message(now, peer, message),
            Input::Progress { peer } => self.handle_progress(now, peer),
            Input::Write(batches) => self.handle_writes(now, batches),
            Input::Contact(addresses) => {
                self.outputs.extend(addresses.into_iter().map(Output::DialAddress));
            }
            Input::Crawl(token) => self.handle_crawl(now, token),
            Input::RecordChanged(record) => {
                self.record = record.clone();
                self.views.handle(now.mono, ViewInput::RecordChanged(record));
            }
            Input::Strong(input) => self.handle_strong(now, input),
            Input::Synced(number) => {
                if let Some(strong) = &mut self.strong {
                    strong.handle_synced(now.mono.0, number);
                }
            }
            Input::Leave => self.views.handle(now.mono, ViewInput::Leave),
        }
    }

    /// The next output; `None` if there is none until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Millis> {
        let gossips = self.store.is_some();
        [
            self.views.poll_timeout(),
            self.healing.poll_timeout(),
            self.detector.poll_timeout(),
            gossips.then(|| self.rumors.poll_timeout()).flatten(),
            gossips.then(|| self.sessions.poll_timeout()).flatten(),
            self.gaps.poll_timeout(),
            self.crawls.values().filter_map(Crawl::poll_timeout).min(),
            self.strong.as_ref().and_then(Strong::poll_timeout),
            self.timers.next(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn handle_timeout(&mut self, now: Now) {
        self.detector.handle(now.mono, now.wall_ms, DetectorInput::Timeout);
        self.views.handle(now.mono, ViewInput::Timeout);
        self.healing.handle(now.mono, HealingInput::Timeout);
        self.rumor(now, RumorInput::Timeout);
        self.sync(now, SyncInput::Timeout);
        for crawl in self.crawls.values_mut() {
            crawl.handle_timeout(now.mono);
        }
        self.check_gaps(now);
        if let Some(strong) = &mut self.strong {
            strong.handle_timeout(now.mono.0);
        }
        while let Some(timer) = self.timers.pop_due(now.mono) {
            match timer {
                Timer::IdleLinks => self.close_idle_links(now),
                Timer::Commit => self.commit(now),
                Timer::Expired => self.notify_expired(now),
                Timer::Expire => self.expire(now),
                Timer::Maintain => self.maintain(now),
                Timer::Credentials => self.check_credentials(now),
            }
        }
    }

    fn handle_connected(
        &mut self,
        now: Now,
        record: NodeRecord,
        certificate: Option<Certificate>,
        from: Option<IpAddr>,
        was_contact: bool,
    ) {
        let peer = record.id;
        if was_contact {
            self.healing.handle(now.mono, HealingInput::Contact(&record));
        }
        self.healing.handle(now.mono, HealingInput::Connected(&record));
        if let Some(strong) = &mut self.strong {
            strong.handle_connected(record.clone());
        }
        self.departures.connected(&peer);
        for message in self.links.up(now.mono, record.clone(), certificate) {
            self.send(now, peer, message);
        }
        if let Some(Doubled { message, is_new }) = self.doubles.connected(now.mono, &record) {
            if is_new {
                self.outputs.push_back(Output::Notice(Notice::PeerDoubled(peer)));
            }
            self.send(now, peer, message);
        }
        self.views.handle(now.mono, ViewInput::LinkUp { record: record.clone(), from });
        if was_contact {
            self.views.handle(now.mono, ViewInput::Contact(record));
        }
        self.timers.set_earlier(Timer::IdleLinks, now.mono + TRANSIENT_IDLE_MS);
    }

    fn handle_disconnected(&mut self, now: Now, peer: NodeId) {
        if self.links.down(&peer) {
            self.departures.link_gone(now.mono, &peer);
            self.strong_disconnected(now, peer);
            self.views.handle(now.mono, ViewInput::LinkLost(peer));
            self.crawls.values_mut().for_each(|crawl| crawl.on_unreachable(&peer));
        }
    }

    pub(crate) fn handle_unreachable(&mut self, now: Now, peer: NodeId) {
        // The peer's own dial succeeded before this one failed: the waiting messages have been sent.
        if self.links.record(&peer).is_some() {
            return;
        }
        self.links.unreachable(&peer);
        if let Some(strong) = &mut self.strong {
            strong.handle_unreachable(now.mono.0, peer);
        }
        self.views.handle(now.mono, ViewInput::Unreachable(peer));
        self.healing.handle(now.mono, HealingInput::Unreachable(&peer));
        self.crawls.values_mut().for_each(|crawl| crawl.on_unreachable(&peer));
    }

    /// Sends over an existing link; dropped if there is none (every protocol retries).
    pub(crate) fn send(&mut self, now: Now, peer: NodeId, message: Message) {
        self.send_to_all(now, vec![peer], message);
    }

    /// Sends to several peers, as [`Core::send`]; the message is encoded once.
    pub(crate) fn send_to_all(&mut self, now: Now, mut to: Vec<NodeId>, message: Message) {
        to.retain(|peer| self.links.touch(now.mono, peer));
        if !matches!(message, Message::Heartbeat(_)) {
            for peer in &to {
                self.detector.handle(now.mono, now.wall_ms, DetectorInput::Sent(*peer));
            }
        }
        if !to.is_empty() {
            self.outputs.push_back(Output::Send { to, message });
        }
    }

    /// Sends, after dialing if need be.
    pub(crate) fn send_or_dial(&mut self, now: Now, record: &NodeRecord, message: Message) {
        if self.credentials.trust.is_revoked(&record.id) {
            return self.handle_unreachable(now, record.id);
        }
        if let Ok(output) = self.links.send_or_dial(now.mono, record, message) {
            self.outputs.extend(output);
        } else {
            self.counters.dials_refused += 1;
            self.handle_unreachable(now, record.id);
        }
    }

    fn close_idle_links(&mut self, now: Now) {
        let idle = self.links.idle(now.mono, |peer| self.views.is_active(peer));
        for peer in idle {
            self.close(now, peer, "unused");
        }
        if self.links.has_transient(|peer| self.views.is_active(peer)) {
            self.timers.set_earlier(Timer::IdleLinks, now.mono + TRANSIENT_IDLE_MS);
        }
    }

    pub(crate) fn close(&mut self, now: Now, peer: NodeId, reason: &'static str) {
        if self.links.down(&peer) {
            self.outputs.push_back(Output::Close { peer, reason });
            self.strong_disconnected(now, peer);
            self.views.handle(now.mono, ViewInput::LinkLost(peer));
        }
    }

    fn check_gaps(&mut self, now: Now) {
        let Some(store) = &self.store else { return };
        let late: Vec<NodeId> = self
            .gaps
            .due(now.mono)
            .into_iter()
            .filter(|(range, _)| !store.contains(range))
            .map(|(_, peer)| peer)
            .collect();
        for peer in late {
            self.sync(now, SyncInput::Want { peer });
        }
    }

    /// Lets the store rebuild a bounded part of its fingerprints, or write a checkpoint of them.
    fn maintain(&mut self, now: Now) {
        let Some(store) = &mut self.store else { return };
        let again = match store.maintain(now.wall_ms) {
            Ok(true) => now.mono,
            Ok(false) => now.mono + MAINTAIN_MS,
            Err(error) => {
                self.storage_failed(error.to_string());
                now.mono + MAINTAIN_MS
            }
        };
        self.timers.set(Timer::Maintain, again);
    }
}
