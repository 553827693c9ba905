//! What happened, revision by revision: every replica that is up is watched from where it is, and what it
//! says has to be what all others said of the same revision.

use std::collections::BTreeMap;

use starling_history::Change;
use starling_strong::api::{Event, EventKind, Keys, Revision, Watch, WatchUpdate};
use starling_strong::machine::WatchId;

use super::{Node, World};

/// The scribe's watch on every replica.
const SCRIBE: WatchId = u64::MAX;

fn watch(from_revision: Revision) -> Watch {
    Watch { keys: Keys::Range { from: Vec::new(), to: None }, from_revision, prev: false, only: None }
}

/// A change, as a history takes it down.
pub fn change(Event { kv, kind, .. }: Event) -> Change {
    Change {
        key: kv.key,
        value: (kind == EventKind::Put).then_some(kv.value),
        revision: kv.mod_revision,
        create_revision: kv.create_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

/// Takes down what a replica has applied since the last time.
pub fn listen(world: &mut World, node: usize) {
    let World { nodes, log, .. } = world;
    let Node { group: Some(group), is_scribed, is_corrupt: false, .. } = &mut nodes[node] else { return };
    if !std::mem::replace(is_scribed, true) {
        group.machine().watch(SCRIBE, watch(log.last() + 1)).expect("one watch more");
    }
    loop {
        match group.machine().poll_watch(SCRIBE, usize::MAX) {
            Ok(Some(WatchUpdate::Events { events, .. })) => {
                for (revision, changes) in by_revision(events) {
                    log.note(&format!("node {node}"), revision, changes).unwrap_or_else(|it| panic!("{it}"));
                }
            }
            // It was restored from a snapshot that begins later.
            Ok(Some(WatchUpdate::Compacted { .. })) => {
                group.machine().watch(SCRIBE, watch(log.last() + 1)).expect("one watch more");
            }
            Ok(Some(_)) => {}
            // An error: its disk is broken, and it is asked again when it is not.
            Ok(None) | Err(_) => return,
        }
    }
}

fn by_revision(events: Vec<Event>) -> BTreeMap<Revision, Vec<Change>> {
    let mut by = BTreeMap::<_, Vec<Change>>::new();
    for event in events {
        by.entry(event.kv.mod_revision).or_default().push(change(event));
    }
    by
}
