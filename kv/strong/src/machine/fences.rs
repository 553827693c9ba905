//! The holders of the locks that guard writes.
//!
//! The holder of a lock is the key with the lowest create revision in its queue: the keys under the lock's name. A queue
//! may have very many keys, and every guarded write needs the holder. So the oldest keys of a queue are remembered. A
//! key that is added is younger than all others, and the queue is visited again only after all remembered keys were
//! deleted.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::Revision;

/// Queues remembered, at most; the next one evicts all. A guess: the busy locks of a keyspace.
const QUEUES_MAX: usize = 64;
/// Oldest keys remembered of each queue, at most: it is visited once for so many changes of its holder. A guess.
const OLDEST_MAX: usize = 256;

/// The oldest keys of a queue, with their create revisions.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    oldest: BTreeSet<(Revision, Vec<u8>)>,
    /// Whether there are more keys, which are younger.
    has_more: bool,
}

impl Queue {
    /// Adds a key of the queue.
    pub fn add(&mut self, create: Revision, key: &[u8]) {
        let is_full = self.oldest.len() == OLDEST_MAX;
        if is_full && self.oldest.last().is_some_and(|(last, _)| *last <= create) {
            self.has_more = true;
            return;
        }
        self.oldest.insert((create, key.to_vec()));
        if self.oldest.len() > OLDEST_MAX {
            self.oldest.pop_last();
            self.has_more = true;
        }
    }

    /// The fencing token of the holder: the create revision of the oldest key.
    pub fn token(&self) -> Option<Revision> {
        self.oldest.first().map(|(create, _)| *create)
    }
}

/// The queues of the locks that were lately used in fences. A cache, which is not stored: it changes no answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Fences {
    /// The queues by the prefix of their keys, which ends in a slash.
    queues: BTreeMap<Vec<u8>, Queue>,
}

impl Fences {
    /// The queue with this prefix, if it is remembered.
    pub fn get(&self, prefix: &[u8]) -> Option<&Queue> {
        self.queues.get(prefix)
    }

    /// Remembers a queue.
    pub fn remember(&mut self, prefix: Vec<u8>, queue: Queue) {
        if self.queues.len() == QUEUES_MAX {
            self.queues.clear();
        }
        self.queues.insert(prefix, queue);
    }

    /// Records that a key was created at the latest revision.
    pub fn created(&mut self, key: &[u8], create: Revision) {
        for prefix in self.prefixes(key) {
            if let Some(queue) = self.queues.get_mut(prefix)
                && !queue.has_more
            {
                queue.add(create, key);
            }
        }
    }

    /// Records that a key was deleted.
    pub fn deleted(&mut self, key: &[u8], create: Revision) {
        for prefix in self.prefixes(key) {
            let Some(queue) = self.queues.get_mut(prefix) else { continue };
            queue.oldest.remove(&(create, key.to_vec()));
            if queue.oldest.is_empty() && queue.has_more {
                self.queues.remove(prefix);
            }
        }
    }

    /// The prefixes of a key that may be those of queues.
    fn prefixes<'k>(&self, key: &'k [u8]) -> impl Iterator<Item = &'k [u8]> + use<'k> {
        let key = if self.queues.is_empty() { &[] } else { key };
        let ends = key.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        ends.map(move |(at, _)| &key[..=at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Vec<u8> {
        format!("lock/{number:04}").into_bytes()
    }

    #[test]
    fn the_oldest_key_holds_the_lock_while_it_is_known() {
        let mut fences = Fences::default();
        let count = OLDEST_MAX as u64 + 50;
        let mut queue = Queue::default();
        // In the order of the keys, which is not that of their creation.
        for number in 0..count {
            queue.add(count - number, &key(number));
        }
        fences.remember(b"lock/".to_vec(), queue);
        let token = |fences: &Fences| fences.get(b"lock/").map(Queue::token);
        for create in 1..=OLDEST_MAX as u64 {
            assert_eq!(token(&fences), Some(Some(create)));
            fences.created(&key(count + create), count + create);
            fences.deleted(&key(count - create), create);
        }
        assert_eq!(token(&fences), None, "it is to be visited again");
    }

    #[test]
    fn a_queue_that_is_known_whole_stays_known() {
        let mut fences = Fences::default();
        fences.remember(b"a/b/".to_vec(), Queue::default());
        fences.remember(b"a/".to_vec(), Queue::default());
        fences.created(b"a/b/1", 5);
        fences.created(b"a/2", 6);
        fences.deleted(b"a/b/1", 5);
        assert_eq!(fences.get(b"a/b/").map(Queue::token), Some(None));
        assert_eq!(fences.get(b"a/").map(Queue::token), Some(Some(6)));
    }
}
