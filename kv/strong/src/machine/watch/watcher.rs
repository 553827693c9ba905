//! One watch: what it is told next.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Told;
use crate::api::{Event, EventKind, Revision, Watch, WatchUpdate};

/// Events that wait for one watch, bytes. A watch that is asked too seldom for more reads them from the
/// engine later. A guess: a burst of a thousand small events.
const WATCH_BYTES_MAX: usize = 256 << 10;

/// An event that waits, its size, and its revision.
type Waiting = (Revision, Arc<Event>, usize);

/// One watch.
///
/// Live, everything from `next` on that concerns it is in `waiting`; catching up, it is in the engine
/// and nothing waits. So either way nothing is left out, and nothing told twice.
#[derive(Debug)]
pub(super) struct Watcher {
    pub spec: Watch,
    /// Not yet told: that it stands, after this revision.
    pub created: Option<Revision>,
    pub is_live: bool,
    /// Everything before this revision has been told.
    pub next: Revision,
    pub wants_progress: bool,
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

impl Watcher {
    /// Watches a keyspace that is at `revision`.
    pub fn new(spec: Watch, revision: Revision) -> Self {
        let next = if spec.from_revision == 0 { revision + 1 } else { spec.from_revision };
        let is_live = next > revision;
        let waiting = VecDeque::new();
        Self { spec, created: Some(next - 1), is_live, next, wants_progress: false, waiting, bytes: 0 }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it wants to be told of a change now.
    pub fn wants(&self, revision: Revision, kind: EventKind) -> bool {
        self.is_live && revision >= self.next && self.spec.only.is_none_or(|only| only == kind)
    }

    /// Lets an event wait; `room` is what may wait beyond what does. Whether it does.
    pub fn push(&mut self, revision: Revision, event: &Arc<Event>, room: usize) -> bool {
        if self.waiting.is_empty() {
            self.next = revision;
        }
        let bytes = event_bytes(event);
        if bytes > room || self.bytes + bytes > WATCH_BYTES_MAX {
            self.fall_back();
            #[cfg(planted)]
            if starling_planted::on(starling_planted::Bug::WatchSkips) {
                self.next = revision;
            }
            return false;
        }
        self.waiting.push_back((revision, Arc::clone(event), bytes));
        self.bytes += bytes;
        true
    }

    /// Reads what it has not been told from the engine.
    fn fall_back(&mut self) {
        self.is_live = false;
        self.waiting.clear();
        self.bytes = 0;
    }

    /// The rows are other ones now, which go up to `revision`; so far it had seen those up to `before`.
    pub fn resume(&mut self, before: Revision, revision: Revision) {
        if self.is_live && self.waiting.is_empty() {
            self.next = self.next.max(before + 1);
        }
        self.fall_back();
        self.is_live = self.next > revision;
    }

    /// Takes the events of whole revisions, up to `bytes_max` or one revision.
    pub fn take(&mut self, bytes_max: usize) -> Option<WatchUpdate> {
        let mut revision = self.waiting.front()?.0;
        let mut events = Vec::new();
        let mut bytes = 0;
        while let Some((at, event, size)) = self.waiting.pop_front() {
            if at != revision && bytes >= bytes_max {
                self.waiting.push_front((at, event, size));
                break;
            }
            revision = at;
            bytes += size;
            events.push(Arc::unwrap_or_clone(event));
        }
        self.bytes -= bytes;
        self.next = revision + 1;
        Some(WatchUpdate::Events { revision, events })
    }
}

/// What an event takes while it waits.
pub(super) fn event_bytes(event: &Event) -> usize {
    let prev = event.prev.as_ref().map_or(0, |prev| prev.key.len() + prev.value.len());
    size_of::<Event>() + size_of::<Waiting>() + event.kv.key.len() + event.kv.value.len() + prev
}

impl Told<'_> {
    pub fn kind(&self) -> EventKind {
        if self.new.is_some() { EventKind::Put } else { EventKind::Delete }
    }
}
