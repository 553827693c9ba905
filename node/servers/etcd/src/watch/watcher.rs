//! One watch of a stream.

use starling_etcd_proto::etcdserverpb as pb;
use starling_strong::api::{EventKind, Keys, Revision, Watch};

use crate::convert::{unsigned, watch_keys};
use starling_service::WatchId;

/// Which changes a client wants to be told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    All,
    Only(EventKind),
    /// Nothing but that it stands, and how far it is.
    None,
}

/// What a client asked for, and how far it has been told.
pub struct Watcher {
    /// Its present name in the node: a watch that was lost is begun again under another one.
    pub id: WatchId,
    /// Its name in the stream; 0 where the client leaves it to us.
    pub number: i64,
    keys: Keys,
    prev: bool,
    wanted: Wanted,
    pub notify: bool,
    pub fragment: bool,
    /// The first revision that it has not been told; 0: it has not begun.
    pub next: Revision,
    /// The revision that the client named; 0: none.
    pub named: Revision,
    /// Updates taken since the node was last asked for more.
    pub taken: u32,
    /// How often in a row it was lost before it stood.
    pub lost: u32,
}

impl Watcher {
    /// None: the range is empty.
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
        })
    }

    /// As the node is asked for it, now or after it was lost.
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
