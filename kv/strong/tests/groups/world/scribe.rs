//! A record of all events, revision by revision. Every replica that is up is watched from its revision on, and its
//! events have to equal those of all other replicas. In half of the worlds the watch ends as soon as it has returned
//! all events, so that followers receive the commit index later.

use std::collections::BTreeMap;

use starling_history::Change;
use starling_strong::api::{Event, EventKind, Keys, Revision, Watch, WatchUpdate};
use starling_strong::machine::WatchId;

use super::{Node, World};

/// The scribe's watch on every replica.
const SCRIBE: WatchId = u64::MAX;

/// Of everything.
pub fn watch(from_revision: Revision) -> Watch {
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
    let World { nodes, log, scribe_stays, .. } = world;
    let Node { group: Some(group), scribed, is_corrupt: false, .. } = &mut nodes[node] else { return };
    if !*scribe_stays || *scribed == 0 {
        let from = if *scribed == 0 { log.last() + 1 } else { *scribed };
        group.machine().watch(SCRIBE, watch(from)).expect("one watch more");
        *scribed = from;
    }
    loop {
        match group.machine().poll_watch(SCRIBE, usize::MAX) {
            Ok(Some(WatchUpdate::Events { events, .. })) => {
                for (revision, changes) in by_revision(events) {
                    *scribed = revision + 1;
                    log.note(&format!("node {node}"), revision, changes).unwrap_or_else(|it| panic!("{it}"));
                }
            }
            // It was restored from a snapshot that begins later.
            Ok(Some(WatchUpdate::Compacted { .. })) => {
                *scribed = log.last() + 1;
                group.machine().watch(SCRIBE, watch(*scribed)).expect("one watch more");
            }
            Ok(Some(_)) => {}
            // An error: its disk is broken, and it is asked again when it is not.
            Ok(None) | Err(_) => break,
        }
    }
    if !*scribe_stays {
        group.machine().unwatch(SCRIBE);
    }
}

fn by_revision(events: Vec<Event>) -> BTreeMap<Revision, Vec<Change>> {
    let mut by = BTreeMap::<_, Vec<Change>>::new();
    for event in events {
        by.entry(event.kv.mod_revision).or_default().push(change(event));
    }
    by
}
