//! The state of one watch.

use std::collections::VecDeque;
use std::sync::Arc;

use super::KeyChange;
use crate::api::{Event, EventKind, Revision, Watch, WatchUpdate};

/// Bytes of the pending events of one watch, at most. A watch that is polled too seldom for more reads them from
/// the engine later. A guess: a burst of a thousand small events.
const WATCH_BYTES_MAX: usize = 256 << 10;

/// A pending event: its revision, the event and its bytes.
type Waiting = (Revision, Arc<Event>, usize);

/// One watch.
///
/// While it is live, all its events from `next` on are in `waiting`. While it catches up, they are in the engine,
/// and `waiting` is empty. Either way no event is skipped, and none is returned twice.
#[derive(Debug)]
pub(super) struct Watcher {
    pub spec: Watch,
    /// The revision of the [`WatchUpdate::Created`] that was not returned yet.
    pub created: Option<Revision>,
    pub is_live: bool,
    /// The revision before which all events have been returned.
    pub next: Revision,
    pub wants_progress: bool,
    /// The revision of the last update that was returned.
    pub told: Revision,
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

impl Watcher {
    /// A new watch of a keyspace that is at `revision`.
    pub fn new(spec: Watch, revision: Revision) -> Self {
        let next = if spec.from_revision == 0 { revision + 1 } else { spec.from_revision };
        let is_live = next > revision;
        let waiting = VecDeque::new();
        let (created, told) = (Some(next - 1), next - 1);
        Self { spec, created, is_live, next, wants_progress: false, told, waiting, bytes: 0 }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the event of a change is to be added now.
    pub fn wants(&self, revision: Revision, kind: EventKind) -> bool {
        self.is_live && revision >= self.next && self.spec.only.is_none_or(|only| only == kind)
    }

    /// Adds a pending event. Without room for it, the watch goes back to catching up. `room` is what remains of
    /// [`super::WATCHES_BYTES_MAX`], in bytes. Returns whether the event was added.
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

    /// Goes back to catching up.
    fn fall_back(&mut self) {
        self.is_live = false;
        self.waiting.clear();
        self.bytes = 0;
    }

    /// Continues after a snapshot was installed. Its rows reach up to `revision`; the rows before reached up to
    /// `before`.
    pub fn resume(&mut self, before: Revision, revision: Revision) {
        if self.is_live && self.waiting.is_empty() {
            self.next = self.next.max(before + 1);
        }
        self.fall_back();
        self.is_live = self.next > revision;
    }

    /// Removes and returns the pending events of whole revisions, of about `bytes_max` bytes or of one revision.
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
        (self.next, self.told) = (revision + 1, revision);
        Some(WatchUpdate::Events { revision, events })
    }
}

/// Bytes of memory that a pending event takes, about.
pub(super) fn event_bytes(event: &Event) -> usize {
    size_of::<Event>() + size_of::<Waiting>() + event.bytes()
}

impl KeyChange<'_> {
    pub fn kind(&self) -> EventKind {
        if self.new.is_some() { EventKind::Put } else { EventKind::Delete }
    }
}
