//! One watch of a stream.

use starling_etcd_proto::etcdserverpb as pb;
use starling_service::{WatchId, WatchPlace};
use starling_strong::api::{EventKind, Keys, Revision, Watch};

use crate::convert::{unsigned, watch_keys};

/// The kinds of events that a client asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    All,
    Only(EventKind),
    /// No events, only the creation and progress.
    None,
}

/// A client's watch, and its position.
pub struct Watcher {
    /// Its current id in the node: a lost watch is begun again with another one.
    pub id: WatchId,
    /// Its id in the stream; 0 if the client lets the server choose.
    pub number: i64,
    keys: Keys,
    prev: bool,
    wanted: Wanted,
    pub notify: bool,
    pub fragment: bool,
    /// The first revision whose events were not sent yet; 0 before the watch has begun.
    pub next: Revision,
    /// The revision that the client named; 0 if it named none.
    pub named: Revision,
    /// Updates received since further ones were last granted.
    pub taken: u32,
    /// How often in a row it was lost before it had begun.
    pub lost: u32,
    /// Among the watches of the client's token.
    pub place: WatchPlace,
}

impl Watcher {
    /// Parses a client's request; `None` if the range is empty.
    pub fn parse(asked: pb::WatchCreateRequest) -> Option<Self> {
        use pb::watch_create_request::FilterType;
        let without = |filter: FilterType| asked.filters.contains(&i32::from(filter));
        let (no_put, no_delete) = (without(FilterType::Noput), without(FilterType::Nodelete));
        Some(Self {
            id: WatchId::fresh(),
            number: asked.watch_id,
            keys: watch_keys(asked.key, asked.range_end)?,
            prev: asked.prev_kv,
            wanted: match (no_put, no_delete) {
                (false, false) => Wanted::All,
                (true, false) => Wanted::Only(EventKind::Delete),
                (false, true) => Wanted::Only(EventKind::Put),
                (true, true) => Wanted::None,
            },
            notify: asked.progress_notify,
            fragment: asked.fragment,
            next: unsigned(asked.start_revision),
            named: unsigned(asked.start_revision),
            taken: 0,
            lost: 0,
            place: WatchPlace::default(),
        })
    }

    /// The watch to begin in the node, at first or after it was lost.
    pub fn watch(&self) -> Watch {
        let only = match self.wanted {
            Wanted::Only(kind) => Some(kind),
            Wanted::All | Wanted::None => None,
        };
        Watch { keys: self.keys.clone(), from_revision: self.next, prev: self.prev, only }
    }

    pub fn is_mute(&self) -> bool {
        self.wanted == Wanted::None
    }
}
