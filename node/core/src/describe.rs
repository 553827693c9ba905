//! Descriptions of the node for its operator and for crawls.

use starling_kv::Engine;
use starling_proto::message::{Abilities, Description, Root};
use starling_proto::wire::bounds::RECORDS_MAX;
use starling_proto::{NodeId, NodeRecord, Role};

use crate::strong::Strong;
use crate::{Core, Counters, Held, Now, PeerStatus, Status};

impl<E: Engine> Core<E> {
    /// The status of the node.
    pub fn status(&self, now: Now) -> Status {
        Status {
            record: self.record.clone(),
            uptime_ms: now.mono - self.started,
            root: self.root(),
            active: self.views.active().count(),
            passive: self.views.passive().count(),
            links: self.links.len(),
            remembered: self.healing.remembered().len(),
            clock_offset_ms: self.detector.clock_offset_ms().unwrap_or(0),
            double: self.doubles.own(now.mono).map(|(record, seen_ms)| (record.clone(), seen_ms)),
            doubled_peers: self.doubles.peers(now.mono).collect(),
            counters: self.counters(),
        }
    }

    /// Neighbours.
    pub fn active(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.views.active().map(|record| record.id)
    }

    /// Records of the passive view.
    pub fn passive(&self) -> impl Iterator<Item = &NodeRecord> {
        self.views.passive()
    }

    /// Whether the node of this record has left the network, as far as it was a neighbour of this one.
    pub fn has_left(&self, record: &NodeRecord) -> bool {
        self.departures.has_left(record)
    }

    /// Every connected peer.
    pub fn peers(&self, now: Now) -> Vec<PeerStatus> {
        let eager: Vec<NodeId> = self.rumors.eager().collect();
        let status = |(id, record): (&NodeId, &NodeRecord)| PeerStatus {
            record: record.clone(),
            active: self.views.is_active(id),
            doubled: self.doubles.is_doubled(now.mono, id),
            eager: eager.contains(id),
            phi: self.detector.phi(id, now.mono),
            rtt_ms: self.detector.rtt_ms(id),
        };
        self.links.peers().map(status).collect()
    }

    /// The sizes of the node's tables.
    pub fn held(&self) -> Held {
        let (dials, waiting) = self.links.dials();
        Held {
            rumor_bytes: self.rumors.cached_bytes(),
            rumors_wanted: self.rumors.wanted(),
            rumor_links: self.rumors.links(),
            dials,
            waiting,
            gaps: self.gaps.len(),
            outputs: self.outputs.len(),
        }
    }

    fn root(&self) -> Option<Root> {
        self.store.as_ref()?.root()
    }

    fn counters(&self) -> Counters {
        let (rumors, sync, detector) = (self.rumors.stats(), self.sessions.stats(), self.detector.counters());
        Counters {
            rumors_news: rumors.received_new,
            rumors_old: rumors.received_old,
            rumors_sent: rumors.pushed,
            grafts: rumors.grafts_sent,
            prunes: rumors.prunes_sent,
            sessions: sync.opened,
            sessions_equal: sync.equal,
            session_bytes: sync.delta_bytes_in + sync.delta_bytes_out,
            suspicions: detector.suspicions,
            self_stalls: detector.self_stalls,
            strong_unknown: self.strong.as_ref().map_or(0, Strong::messages_unknown),
            ..self.counters
        }
    }

    pub(crate) fn describe(&self, now: Now) -> Description {
        let remembered = self.healing.remembered();
        // Seeds are in no node's view, and a crawl should find them all the same.
        let seeds = remembered.iter().filter(|record| record.role == Role::Seed);
        // A neighbour that was killed is in no view any more, and an operator has to see that it does not answer.
        let known = self.views.active().chain(seeds).chain(self.healing.lost()).chain(self.views.passive());
        Description {
            record: self.record.clone(),
            version: self.software.version.clone(),
            active: self.active().collect(),
            known: known.take(RECORDS_MAX).cloned().collect(),
            root: self.root(),
            entries: self.entries(),
            uptime_ms: now.mono - self.started,
            abilities: Some(Abilities {
                protocol: self.software.protocol,
                data_newest: self.software.data_newest,
                data_in_force: self.data_in_force(),
            }),
            standing: self.standing(),
        }
    }
}
