//! The views of a bootstrap seed: it remembers the nodes that have lately asked it, answers with them, and is never a
//! neighbour.

use std::collections::BTreeMap;

use rand::seq::IteratorRandom;
use rand_chacha::ChaCha8Rng;

use super::Views;
use crate::message::ViewMessage;
use crate::{Millis, NodeId, NodeRecord, Role};

/// Visitors that a seed remembers, at most; the one seen longest ago is evicted. A guess: enough for samples that
/// differ, at negligible memory.
const VISITORS_MAX: usize = 256;
/// Age up to which visitors are named before others, milliseconds: three times the time between two probes of a node's
/// seeds.
const VISITOR_FRESH_MS: u64 = 900_000;

/// The visitors of a seed, and when each was last seen.
#[derive(Debug, Default)]
pub(super) struct Visitors {
    seen: BTreeMap<NodeId, (Millis, NodeRecord)>,
}

impl Visitors {
    fn note(&mut self, now: Millis, record: NodeRecord) {
        self.seen.insert(record.id, (now, record));
        if self.seen.len() > VISITORS_MAX
            && let Some(id) = self.seen.iter().min_by_key(|(_, (at, _))| *at).map(|(id, _)| *id)
        {
            self.seen.remove(&id);
        }
    }

    fn sample(&self, now: Millis, size: usize, except: &NodeId, rng: &mut ChaCha8Rng) -> Vec<NodeRecord> {
        let others = || self.seen.values().filter(|(_, record)| record.id != *except);
        let fresh = others().filter(|(at, _)| now - *at < VISITOR_FRESH_MS).map(|(_, record)| record);
        let sample = fresh.sample(rng, size);
        let sample =
            if sample.is_empty() { others().map(|(_, record)| record).sample(rng, size) } else { sample };
        sample.into_iter().cloned().collect()
    }
}

impl Views {
    pub(super) fn on_message_to_seed(&mut self, now: Millis, from: NodeRecord, message: &ViewMessage) {
        match message {
            ViewMessage::Join | ViewMessage::Probe => {
                let size = self.config.shuffle_active + self.config.shuffle_passive;
                let sample = self.visitors.sample(now, size, &from.id, &mut self.rng);
                if from.role == Role::Replica {
                    self.visitors.note(now, from.clone());
                }
                if *message == ViewMessage::Join {
                    self.send(from.clone(), ViewMessage::NeighborReply { accepted: false });
                }
                self.send(from, ViewMessage::ProbeReply { sample });
            }
            ViewMessage::Neighbor { .. } => self.send(from, ViewMessage::NeighborReply { accepted: false }),
            _ => {}
        }
    }
}
