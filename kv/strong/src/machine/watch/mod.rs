//! Watches: the changes of keys as events, in order and each once.
//!
//! A watch is either *live*, with its pending events in memory, or *catching up*, and reads its pending events from
//! the engine in bounded steps. A live watch whose events are not polled in time, or for which there is no room,
//! goes back to catching up. No event is lost unless its revision is compacted.
//!
//! ```text
//!        new, in the past                          new, in the future
//!               |                                          |
//!               v         all events up to now read        v
//!         catching up  ------------------------------->  live
//!               ^                                          |
//!               +-- too many bytes pending; new snapshot --+
//! ```

mod catchup;
mod index;
mod watcher;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use starling_kv::{Engine, Error};

use super::Machine;
use super::rows::Record;
use crate::api::{Event, KeyValue, Refusal, Revision, Watch, WatchUpdate};
use index::Index;
use watcher::Watcher;

/// The caller's name for a watch.
pub type WatchId = u64;

/// Watches of one keyspace on one replica, at most. A guess.
pub const WATCHES_MAX: usize = 65_536;
/// Bytes of the pending events of all watches, at most. A guess.
pub const WATCHES_BYTES_MAX: usize = 32 << 20;

/// A change of a key, from which events are made.
pub(super) struct KeyChange<'a> {
    pub revision: Revision,
    pub key: &'a [u8],
    /// The new row; `None` if the key was deleted.
    pub new: Option<&'a [u8]>,
    /// The row before the change.
    pub old: Option<&'a [u8]>,
}

impl KeyChange<'_> {
    fn event(&self, prev: bool) -> Result<Event, Error> {
        let prev = if prev { self.old } else { None };
        let prev = prev.map(Record::decode).transpose()?.map(|prev| prev.key_value(self.key));
        let gone = || KeyValue { key: self.key.to_vec(), mod_revision: self.revision, ..KeyValue::default() };
        let kv = match self.new {
            Some(row) => Record::decode(row)?.key_value(self.key),
            None => gone(),
        };
        Ok(Event { kv, kind: self.kind(), prev })
    }
}

/// All watches of a replica.
#[derive(Debug, Default)]
pub(super) struct Watches {
    table: BTreeMap<WatchId, Watcher>,
    index: Index,
    /// The watches for which [`Machine::poll_watch`] may return something.
    ready: BTreeSet<WatchId>,
    /// The watches whose progress is requested and that begin, or were continued here, after a revision that this replica
    /// has not applied yet.
    ahead: BTreeSet<(Revision, WatchId)>,
    /// Bytes of all pending events.
    bytes: usize,
}

impl Watches {
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The number of watches, and the bytes of their pending events.
    pub fn len(&self) -> (usize, usize) {
        (self.table.len(), self.bytes)
    }

    /// Adds the event of a change to the live watches of its key.
    pub fn notify(&mut self, change: &KeyChange<'_>) -> Result<(), Error> {
        let mut ids = Vec::new();
        self.index.matching(change.key, &mut ids);
        // The event without and with the previous record, each made when the first watch needs it.
        let mut events: [Option<Arc<Event>>; 2] = [None, None];
        for id in ids {
            let Some(watcher) = self.table.get_mut(&id) else { continue };
            if !watcher.wants(change.revision, change.kind()) {
                continue;
            }
            let prev = watcher.spec.prev;
            let event = match &mut events[usize::from(prev)] {
                Some(event) => event,
                none => none.insert(Arc::new(change.event(prev)?)),
            };
            let before = watcher.bytes();
            watcher.push(change.revision, event, WATCHES_BYTES_MAX.saturating_sub(self.bytes));
            self.bytes = self.bytes + watcher.bytes() - before;
            self.ready.insert(id);
        }
        Ok(())
    }

    /// Requests a [`WatchUpdate::Progress`] of every watch that was last told a revision in the older half of those that
    /// are kept. Called at each compaction: a watch without events for long would otherwise be continued elsewhere at a
    /// revision that is compacted, although it has missed nothing.
    pub fn compacted(&mut self, compacted: Revision, latest: Revision) {
        for (id, watcher) in &mut self.table {
            if watcher.told < compacted.midpoint(latest) {
                watcher.wants_progress = true;
                self.ready.insert(*id);
            }
        }
    }

    /// Continues all watches after a snapshot was installed; see [`Watcher::resume`].
    pub fn resume(&mut self, before: Revision, revision: Revision) {
        for (id, watcher) in &mut self.table {
            watcher.resume(before, revision);
            self.ready.insert(*id);
        }
        self.bytes = 0;
    }

    fn remove(&mut self, id: WatchId) {
        if let Some(watcher) = self.table.remove(&id) {
            self.index.remove(id, &watcher.spec.keys);
            self.bytes -= watcher.bytes();
            self.ready.remove(&id);
            self.ahead.remove(&(watcher.next - 1, id));
        }
    }
}

impl<E: Engine> Machine<E> {
    /// Begins a watch; one with the same name ends. Its first update is [`WatchUpdate::Created`].
    ///
    /// # Errors
    /// Fails with [`Refusal::TooMany`] if there are [`WATCHES_MAX`] watches, or if the keys are invalid.
    pub fn watch(&mut self, id: WatchId, spec: Watch) -> Result<(), Refusal> {
        super::check::keys(&spec.keys)?;
        if self.watches.table.len() >= WATCHES_MAX {
            return Err(Refusal::TooMany { what: "watches".into(), max: WATCHES_MAX as u64 });
        }
        self.watches.remove(id);
        self.watches.index.insert(id, &spec.keys);
        self.watches.table.insert(id, Watcher::new(spec, self.state.revision));
        self.watches.ready.insert(id);
        Ok(())
    }

    /// Whether there is a watch.
    pub fn is_watched(&self) -> bool {
        !self.watches.is_empty()
    }

    /// Ends a watch.
    pub fn unwatch(&mut self, id: WatchId) {
        self.watches.remove(id);
    }

    /// Requests a [`WatchUpdate::Progress`] of a watch after all its pending events. A watch from a revision on that this
    /// replica has not reached sends it when the replica reaches the revision before: the progress of a watch never goes
    /// backwards.
    pub fn request_progress(&mut self, id: WatchId) {
        if let Some(watcher) = self.watches.table.get_mut(&id) {
            watcher.wants_progress = true;
            self.watches.ready.insert(id);
        }
    }

    /// Removes and returns the watches for which [`Machine::poll_watch`] may return something. A caller that polls
    /// each of them until it returns `None` misses nothing: a watch is ready again when there is more.
    pub fn take_ready(&mut self) -> Vec<WatchId> {
        let revision = self.state.revision;
        while let Some(&(after, id)) = self.watches.ahead.first()
            && after <= revision
        {
            self.watches.ahead.pop_first();
            self.watches.ready.insert(id);
        }
        std::mem::take(&mut self.watches.ready).into_iter().collect()
    }

    /// The next update of a watch: events of whole revisions, of about `bytes_max` bytes or of one revision. `None` if
    /// there is none for now. [`WatchUpdate::Compacted`] ends the watch.
    ///
    /// # Errors
    /// Fails with an error of the engine. The watch is unchanged, and can be polled again.
    pub fn poll_watch(&mut self, id: WatchId, bytes_max: usize) -> Result<Option<WatchUpdate>, Error> {
        self.check_sound()?;
        let (revision, compacted) = (self.state.revision, self.state.compacted);
        let Some(watcher) = self.watches.table.get_mut(&id) else { return Ok(None) };
        if let Some(revision) = watcher.created.take() {
            return Ok(Some(WatchUpdate::Created { revision }));
        }
        if !watcher.is_live {
            if watcher.next < compacted {
                self.watches.remove(id);
                return Ok(Some(WatchUpdate::Compacted { oldest: compacted }));
            }
            let step = catchup::step(&self.engine, self.rows, watcher, revision, bytes_max)?;
            watcher.next = step.reached + 1;
            watcher.is_live = step.reached == revision;
            if !step.events.is_empty() {
                watcher.told = step.reached;
                return Ok(Some(WatchUpdate::Events { revision: step.reached, events: step.events }));
            }
            if !watcher.is_live {
                self.watches.ready.insert(id);
                return Ok(None);
            }
        }
        let before = watcher.bytes();
        if let Some(update) = watcher.take(bytes_max) {
            self.watches.bytes = self.watches.bytes + watcher.bytes() - before;
            return Ok(Some(update));
        }
        if !watcher.wants_progress {
            return Ok(None);
        }
        if revision < watcher.next - 1 {
            self.watches.ahead.insert((watcher.next - 1, id));
            return Ok(None);
        }
        watcher.wants_progress = false;
        watcher.told = revision;
        Ok(Some(WatchUpdate::Progress { revision }))
    }
}
