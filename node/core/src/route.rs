//! Routing: messages to the state machines, and the machines' outputs to each other and to the driver.

use starling_kv::Engine;
use starling_proto::detector::{DetectorInput, DetectorOutput};
use starling_proto::healing::{HealingInput, HealingOutput};
use starling_proto::message::{CrawlMessage, RumorId, RumorMessage, ViewMessage};
use starling_proto::rumor::{RumorInput, RumorOutput};
use starling_proto::sync::{Ending, Replica, ReplicaError, SyncInput, SyncOutput};
use starling_proto::view::{ViewInput, ViewOutput};
use starling_proto::{Message, NodeId, NodeRecord};

use crate::core::Timer;
use crate::crawl::Crawl;
use crate::links::TRANSIENT_IDLE_MS;
use crate::replica::StoreReplica;
use crate::strong::Strong;
use crate::upgrade::UPGRADES;
use crate::{Core, Notice, Now, Output, Token};

impl<E: Engine> Core<E> {
    pub(crate) fn handle_message(&mut self, now: Now, peer: NodeId, message: Message) {
        if !self.links.touch(now.mono, &peer) {
            return;
        }
        let sign_of_life = match &message {
            Message::Heartbeat(heartbeat) => DetectorInput::Heartbeat(peer, *heartbeat),
            _ => DetectorInput::Heard(peer),
        };
        self.detector.handle(now.mono, now.wall_ms, sign_of_life);
        match message {
            Message::View(message) => {
                if let Some(record) = self.links.record(&peer).cloned() {
                    self.on_view(now, record, message);
                }
            }
            Message::Heartbeat(_) => {}
            Message::Rumor(RumorMessage::Full { id, hops, payload }) => {
                self.on_full_rumor(now, peer, id, hops, payload.0);
            }
            Message::Rumor(message) => self.rumor(now, RumorInput::Message { from: peer, message }),
            Message::Sync(message) => self.sync(now, SyncInput::Message { from: peer, message }),
            Message::Strong(frame) => {
                if let Some(strong) = &mut self.strong {
                    strong.handle_frame(now.mono.0, peer, &frame);
                }
            }
            Message::Trust(message) => self.on_trust_message(now, peer, message),
            Message::Crawl(CrawlMessage::Describe) => {
                let description = Box::new(self.describe(now));
                self.send(now, peer, Message::Crawl(CrawlMessage::Description(description)));
            }
            Message::Crawl(CrawlMessage::Description(description)) => {
                let mut description = Some(*description);
                for crawl in self.crawls.values_mut() {
                    if let Some(answer) = description.take_if(|_| crawl.asks(&peer)) {
                        crawl.on_description(peer, answer);
                    }
                }
            }
        }
    }

    /// Bytes of an incomplete message count as use of the link and as a sign of life.
    pub(crate) fn handle_progress(&mut self, now: Now, peer: NodeId) {
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::OnlyWholeFramesCount) {
            return;
        }
        if self.links.touch(now.mono, &peer) {
            self.detector.handle(now.mono, now.wall_ms, DetectorInput::Progress(peer));
            self.rumor(now, RumorInput::Progress);
            self.sync(now, SyncInput::Progress { peer });
        }
    }

    fn on_view(&mut self, now: Now, record: NodeRecord, message: ViewMessage) {
        if let Some(incarnation) = self.doubles.reported(now.mono, &self.record, &message) {
            self.outputs.push_back(Output::Notice(Notice::IdentityConflict { incarnation }));
        }
        if let Some(strong) = self.strong.as_mut().filter(|_| self.doubles.has_later()) {
            strong.withdraw(now.mono.0);
        }
        let links = &self.links;
        let linked = |id: &NodeId| links.record(id).map(|record| record.incarnation);
        for (peer, message) in self.doubles.mentioned(now.mono, &record.id, &message, linked) {
            self.send(now, peer, message);
        }
        if message == ViewMessage::Disconnect {
            self.departures.disconnects(now.mono, &record);
        }
        self.healing.handle(now.mono, HealingInput::Message { from: &record, message: &message });
        self.views.handle(now.mono, ViewInput::Message { from: record, message });
    }

    fn on_full_rumor(&mut self, now: Now, from: NodeId, id: RumorId, hops: u16, payload: bytes::Bytes) {
        let Some(store) = &mut self.store else { return };
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::KnownRumorsFiltered) && store.contains(&id) {
            return self.rumor(now, RumorInput::Received { from, id, hops, payload, news: false });
        }
        let mut replica = StoreReplica::new(store, now.wall_ms);
        let joined = replica.join(&payload);
        let changes = std::mem::take(&mut replica.changes);
        let failure = replica.failure.take();
        let gap = id.first > 1 && {
            let before = starling_proto::DotRange { actor: id.actor, first: 1, last: id.first - 1 };
            !store.contains(&before)
        };
        self.changed(now, changes);
        match joined {
            Ok(report) => {
                if gap {
                    self.gaps.note(now.mono, id.actor, id.first, from);
                }
                self.rumor(now, RumorInput::Received { from, id, hops, payload, news: report.changed });
            }
            Err(ReplicaError::Malformed) => self.bad_delta(now, from),
            Err(ReplicaError::Storage) => self.storage_failed(failure.unwrap_or_default()),
        }
    }

    fn bad_delta(&mut self, now: Now, from: NodeId) {
        self.counters.bad_deltas += 1;
        self.outputs.push_back(Output::Notice(Notice::BadDelta(from)));
        let what = "sent a delta that cannot be decoded";
        self.outputs.push_back(Output::Misbehaved { peer: from, what });
        self.close(now, from, what);
    }

    pub(crate) fn changed(&mut self, now: Now, changes: Vec<starling_kv::Change>) {
        self.lookup_changed(now, &changes);
        if changes.iter().any(|change| change.keyspace == UPGRADES) {
            self.learn_data_version(now);
        }
        if !changes.is_empty() {
            self.outputs.push_back(Output::Changed(changes));
        }
        self.plan_expired(now);
    }

    pub(crate) fn rumor(&mut self, now: Now, input: RumorInput) {
        let Some(store) = &self.store else { return };
        let knows = |id: &RumorId| store.contains(id);
        self.rumors.handle(now.mono, input, &knows);
    }

    pub(crate) fn sync(&mut self, now: Now, input: SyncInput) {
        let Some(store) = &mut self.store else { return };
        let mut replica = StoreReplica::new(store, now.wall_ms);
        self.sessions.handle(now.mono, input, &mut replica);
        let (changes, failure) = (replica.changes, replica.failure);
        self.changed(now, changes);
        if let Some(failure) = failure {
            self.storage_failed(failure);
        }
    }

    pub(crate) fn handle_crawl(&mut self, now: Now, token: Token) {
        let crawl = Crawl::new(token, self.describe(now));
        self.crawls.insert(token, crawl);
    }

    /// Passes the outputs of each machine to the others or to the driver, in turns, until none has any left. This is
    /// the only loop of the node that runs until there is nothing to do.
    pub(crate) fn process_ready(&mut self, now: Now) {
        while self.pass_outputs_on(now) {}
    }

    /// Passes on the outputs of every machine once. Returns whether there were any.
    fn pass_outputs_on(&mut self, now: Now) -> bool {
        let mut any = false;
        while let Some(output) = self.views.poll_output() {
            any = true;
            self.on_view_output(now, output);
        }
        while let Some(output) = self.healing.poll_output() {
            any = true;
            self.on_healing_output(now, output);
        }
        while let Some(output) = self.detector.poll_output() {
            any = true;
            self.on_detector_output(now, output);
        }
        while let Some(output) = self.rumors.poll_output() {
            any = true;
            self.on_rumor_output(now, output);
        }
        while let Some(output) = self.sessions.poll_output() {
            any = true;
            self.on_sync_output(now, output);
        }
        any |= self.advance_crawls(now);
        if let Some(strong) = &mut self.strong {
            strong.process_ready(now.mono.0);
        }
        while let Some(effect) = self.strong.as_mut().and_then(Strong::poll_output) {
            any = true;
            self.on_strong_effect(now, effect);
        }
        any
    }

    fn on_view_output(&mut self, now: Now, output: ViewOutput) {
        match output {
            ViewOutput::Send { to, message } => self.send_or_dial(now, &to, Message::View(message)),
            ViewOutput::Up(peer) => {
                let id = peer.id;
                self.healing.handle(now.mono, HealingInput::Up(&peer));
                self.detector.handle(now.mono, now.wall_ms, DetectorInput::Up(id));
                self.rumor(now, RumorInput::LinkUp { peer: id });
                self.sync(now, SyncInput::LinkUp { peer: id });
                self.outputs.push_back(Output::Notice(Notice::NeighborUp(id)));
            }
            ViewOutput::Down { peer, reason } => {
                let failed = reason.is_failure();
                self.healing.handle(now.mono, HealingInput::Down { peer: &peer, failed });
                self.detector.handle(now.mono, now.wall_ms, DetectorInput::Down(peer));
                self.rumor(now, RumorInput::LinkDown { peer });
                self.sync(now, SyncInput::LinkDown { peer });
                self.timers.set_earlier(Timer::IdleLinks, now.mono + TRANSIENT_IDLE_MS);
                self.outputs.push_back(Output::Notice(Notice::NeighborDown(peer, reason.text())));
            }
            ViewOutput::NeedContacts => {
                self.views.handle(now.mono, ViewInput::Known(self.healing.remembered()));
                self.outputs.push_back(Output::NeedContacts);
            }
        }
    }

    fn on_healing_output(&mut self, now: Now, output: HealingOutput) {
        match output {
            HealingOutput::Send { to, message } => self.send_or_dial(now, &to, Message::View(message)),
            HealingOutput::Merge(record) => self.views.handle(now.mono, ViewInput::Merge(record)),
            HealingOutput::Remember(records) => self.outputs.push_back(Output::Remember(records)),
            HealingOutput::NeedContacts => self.outputs.push_back(Output::NeedContacts),
        }
    }

    fn on_detector_output(&mut self, now: Now, output: DetectorOutput) {
        match output {
            DetectorOutput::Send { peer, heartbeat } => self.send(now, peer, Message::Heartbeat(heartbeat)),
            DetectorOutput::Suspect { peer, silent_ms } => {
                self.outputs.push_back(Output::Notice(Notice::Suspected { peer, silent_ms }));
                self.views.handle(now.mono, ViewInput::Suspected(peer));
                self.close(now, peer, "suspected of having failed");
            }
        }
    }

    fn on_rumor_output(&mut self, now: Now, output: RumorOutput) {
        match output {
            RumorOutput::Send { to, message } => self.send_to_all(now, to, Message::Rumor(message)),
            RumorOutput::Supply { to, id } => match self.supply(&id) {
                // Only the rumor itself names what it superseded; the store's restriction claims the rumor's own dots. A
                // session brings the rest, without which a deleted value would stay.
                Some(payload) => {
                    self.rumor(now, RumorInput::Supplied { to, id, payload });
                    self.sync(now, SyncInput::Want { peer: to });
                }
                None => self.sync(now, SyncInput::Want { peer: to }),
            },
            RumorOutput::Repair { peer } => self.sync(now, SyncInput::Want { peer }),
        }
    }

    fn on_sync_output(&mut self, now: Now, output: SyncOutput) {
        match output {
            SyncOutput::Send { to, message } => self.send(now, to, Message::Sync(message)),
            SyncOutput::Finished { peer, report } => {
                self.outputs.push_back(Output::Notice(Notice::SessionFinished {
                    peer,
                    equal: report.ending == Ending::Equal,
                    took_ms: report.duration_ms,
                    bytes: report.delta_bytes_in + report.delta_bytes_out,
                }));
            }
            SyncOutput::Misbehaved { peer } => self.bad_delta(now, peer),
        }
    }

    /// Advances all crawls. Returns whether any made progress.
    fn advance_crawls(&mut self, now: Now) -> bool {
        let mut asks = Vec::new();
        let mut finished = Vec::new();
        for (token, crawl) in &mut self.crawls {
            while let Some(ask) = crawl.next(now.mono) {
                asks.push(ask);
            }
            if asks.is_empty() && crawl.is_finished() {
                finished.push(*token);
            }
        }
        let moved = !asks.is_empty() || !finished.is_empty();
        for (record, message) in asks {
            self.send_or_dial(now, &record, message);
        }
        for crawl in finished.into_iter().filter_map(|token| self.crawls.remove(&token)) {
            let (token, nodes, unreachable) = crawl.finish();
            self.outputs.push_back(Output::Crawled { token, nodes, unreachable });
        }
        moved
    }
}
