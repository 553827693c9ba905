//! The candidates of an election, and its leader.

use std::collections::BTreeMap;

use starling_api::strong::{KeyValue, StrongEvent};

/// The candidates of an election, kept current by the events of a watch over its line.
#[derive(Clone, Debug, Default)]
pub struct Candidates(BTreeMap<Vec<u8>, KeyValue>);

/// The leader and the revision of its last proclamation. Equal values need not be reported twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// There is no candidate.
    Vacant,
    /// This candidate leads.
    Candidate {
        /// The candidate's key.
        key: Vec<u8>,
        /// The revision at which its value was last written.
        proclaimed: u64,
    },
}

impl Candidates {
    /// The candidates that have these keys.
    pub fn new(kvs: impl IntoIterator<Item = KeyValue>) -> Self {
        Self(kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect())
    }

    /// Handles an event of the watch.
    pub fn on_event(&mut self, event: StrongEvent) {
        match event {
            StrongEvent::Put { kv } => drop(self.0.insert(kv.key.clone(), kv)),
            StrongEvent::Delete { key, .. } => drop(self.0.remove(&key.0)),
            StrongEvent::Ready { .. } | StrongEvent::Compacted { .. } | StrongEvent::Lost { .. } => {}
        }
    }

    /// The leader: the candidate whose key was created first.
    pub fn leader(&self) -> Option<&KeyValue> {
        self.0.values().min_by_key(|kv| kv.create_revision)
    }

    /// The present leadership.
    pub fn leadership(&self) -> Leadership {
        match self.leader() {
            None => Leadership::Vacant,
            Some(kv) => Leadership::Candidate { key: kv.key.clone(), proclaimed: kv.mod_revision },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_api::escaped;

    fn put(key: &str, create_revision: u64, mod_revision: u64) -> StrongEvent {
        let kv = KeyValue { key: key.into(), create_revision, mod_revision, ..KeyValue::default() };
        StrongEvent::Put { kv }
    }

    #[test]
    fn the_first_candidate_leads_until_it_goes() {
        let mut all = Candidates::default();
        let leader = |all: &Candidates| all.leader().map(|kv| (escaped(&kv.key), kv.mod_revision));
        assert_eq!(leader(&all), None);
        assert_eq!(all.leadership(), Leadership::Vacant);
        all.on_event(put("e/b", 5, 5));
        all.on_event(put("e/a", 7, 7));
        assert_eq!(leader(&all), Some(("e/b".into(), 5)));
        // It proclaims another value, and leads as before.
        all.on_event(put("e/b", 5, 8));
        assert_eq!(leader(&all), Some(("e/b".into(), 8)));
        all.on_event(StrongEvent::Delete { key: "e/b".into(), revision: 9 });
        assert_eq!(leader(&all), Some(("e/a".into(), 7)));
        // It comes back, and stands behind.
        all.on_event(put("e/b", 10, 10));
        assert_eq!(leader(&all), Some(("e/a".into(), 7)));
    }
}
