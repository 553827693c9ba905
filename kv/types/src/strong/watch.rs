//! Watches: changes of keys as a stream.

use bincode::{Decode, Encode};

use super::{KeyValue, Keys, Revision};

/// Bytes of events from which on an update is large. A guess: four such updates of a watch, the usual credit, may be under
/// way together.
const LARGE_BYTES: usize = 64 << 10;

/// A subscription to the changes of keys.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Watch {
    /// The keys.
    pub keys: Keys,
    /// The first revision to report; 0: from the next change on.
    pub from_revision: Revision,
    /// Report what was there before each change.
    pub prev: bool,
    /// Only changes of this kind; none: all.
    pub only: Option<EventKind>,
}

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum EventKind {
    /// A key was written.
    Put,
    /// A key was deleted.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Event {
    /// What is there now. Of a deletion: its key and its revision.
    pub kv: KeyValue,
    /// The kind of the change.
    pub kind: EventKind,
    /// What was there before, if the watch reports it.
    pub prev: Option<KeyValue>,
}

impl Event {
    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        let prev = self.prev.as_ref().map_or(0, |prev| prev.key.len() + prev.value.len());
        self.kv.key.len() + self.kv.value.len() + prev
    }
}

impl WatchUpdate {
    /// Bytes of the keys and values of its events.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Events { events, .. } => events.iter().map(Event::bytes).sum(),
            Self::Created { .. } | Self::Progress { .. } | Self::Compacted { .. } | Self::Lost { .. } => 0,
        }
    }

    /// Whether its subscriber should allow the next one as soon as it has handled this one: few large updates are under
    /// way at a time.
    pub fn is_large(&self) -> bool {
        self.bytes() > LARGE_BYTES
    }
}

/// One message to the subscriber of a watch.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum WatchUpdate {
    /// The watch has begun: changes from the next revision after this one on will be reported.
    Created {
        /// The revision.
        revision: Revision,
    },
    /// Changes in order; those of one revision arrive together.
    Events {
        /// All changes up to this revision have been reported.
        revision: Revision,
        /// The changes.
        events: Vec<Event>,
    },
    /// All changes up to a revision have been reported; sent on request, now and then where nothing
    /// changes, and when the revision that was last reported is soon compacted.
    Progress {
        /// The revision.
        revision: Revision,
    },
    /// The end: the revisions that the watch begins at are no longer kept.
    Compacted {
        /// The oldest revision that is.
        oldest: Revision,
    },
    /// The end: the subscriber is too slow, or the replica is gone. To be resumed from the revision after the
    /// last one reported.
    Lost {
        /// Why, for people.
        reason: String,
    },
}
