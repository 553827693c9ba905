//! What happened, revision by revision: every replica that is up is watched from where it is, and what it
//! says has to be what all others said of the same revision.

use std::collections::BTreeMap;

use starling_strong::api::{Event, EventKind, Keys, Revision, Watch, WatchUpdate};
use starling_strong::machine::WatchId;

use super::{Node, World};

/// The scribe's watch on every replica.
const SCRIBE: WatchId = u64::MAX;

/// Everything that was ever applied anywhere.
#[derive(Default)]
pub struct Scribe {
    /// Revision -> changes, and when they were first seen.
    pub changes: BTreeMap<Revision, (u64, Vec<Event>)>,
}

impl Scribe {
    /// The last revision that was seen anywhere.
    pub fn last(&self) -> Revision {
        self.changes.last_key_value().map_or(1, |(revision, _)| *revision)
    }

    /// Changes of keys that begin with `prefix`, in order.
    pub fn events<'s>(&'s self, prefix: &'s [u8]) -> impl Iterator<Item = &'s Event> {
        let events = self.changes.values().flat_map(|(_, events)| events);
        events.filter(move |event| event.kv.key.starts_with(prefix))
    }
}

fn watch(from_revision: Revision) -> Watch {
    Watch { keys: Keys::Range { from: Vec::new(), to: None }, from_revision, prev: false, only: None }
}

/// Takes down what a replica has applied since the last time.
pub fn listen(world: &mut World, node: usize) {
    let World { now_ms, nodes, scribe, .. } = world;
    let Node { group: Some(group), is_scribed, is_corrupt: false, .. } = &mut nodes[node] else { return };
    if !std::mem::replace(is_scribed, true) {
        group.machine().watch(SCRIBE, watch(scribe.last() + 1)).expect("one watch more");
    }
    loop {
        match group.machine().poll_watch(SCRIBE, usize::MAX) {
            Ok(Some(WatchUpdate::Events { events, .. })) => {
                for (revision, events) in by_revision(events) {
                    take_down(scribe, *now_ms, node, revision, events);
                }
            }
            // It was restored from a snapshot that begins later.
            Ok(Some(WatchUpdate::Compacted { .. })) => {
                group.machine().watch(SCRIBE, watch(scribe.last() + 1)).expect("one watch more");
            }
            Ok(Some(_)) => {}
            // An error: its disk is broken, and it is asked again when it is not.
            Ok(None) | Err(_) => return,
        }
    }
}

fn by_revision(events: Vec<Event>) -> BTreeMap<Revision, Vec<Event>> {
    let mut by = BTreeMap::<_, Vec<Event>>::new();
    for event in events {
        by.entry(event.kv.mod_revision).or_default().push(event);
    }
    by
}

fn take_down(scribe: &mut Scribe, now: u64, node: usize, revision: Revision, events: Vec<Event>) {
    if let Some((_, known)) = scribe.changes.get(&revision) {
        assert_eq!(*known, events, "node {node} differs at revision {revision}");
    } else {
        let last = scribe.last();
        assert_eq!(revision, last + 1, "node {node} goes on at {revision} after {last}");
        scribe.changes.insert(revision, (now, events));
    }
}

/// The state that these changes make: key -> create revision.
pub fn replay(live: &mut BTreeMap<Vec<u8>, Revision>, event: &Event) {
    match event.kind {
        EventKind::Put => drop(live.insert(event.kv.key.clone(), event.kv.create_revision)),
        EventKind::Delete => drop(live.remove(&event.kv.key)),
    }
}
