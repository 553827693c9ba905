//! Watchers on any replica: some poll seldom and fall behind, some move from one replica to another. They have to
//! receive all events, in order and each once.

use starling_history::{Change, Told};
use starling_strong::api::{EventKind, Keys, Watch, WatchUpdate};
use starling_strong::machine::WatchId;

use super::World;
use super::scribe::change;

pub struct Watcher {
    keys: Keys,
    only: Option<EventKind>,
    /// Pauses between two looks, milliseconds, at most.
    pace_ms: u64,
    /// Its node, which run of the process it is, and the watch's name there.
    at: Option<(usize, u64, WatchId)>,
    told: Told,
}

#[derive(Default)]
pub struct Watchers {
    pub all: Vec<Watcher>,
    names: WatchId,
}

pub fn begin(world: &mut World, keys: Keys, only: Option<EventKind>, pace_ms: u64) {
    let number = world.watchers.all.len();
    world.watchers.all.push(Watcher { keys, only, pace_ms, at: None, told: Told::default() });
    world.schedule_watcher(1, number);
}

/// Performs a watcher's next step.
pub fn turn(world: &mut World, number: usize) {
    let (moves, bytes_max) = (world.below(30) == 0, 1 + world.below(64 << 10) as usize);
    let polls = 1 + world.below(8);
    if moves {
        leave(world, number);
    }
    if !is_attached(world, number) {
        attach(world, number);
    }
    for _ in 0..polls {
        if !poll(world, number, bytes_max) {
            break;
        }
    }
    let pause = 1 + world.below(world.watchers.all[number].pace_ms);
    world.schedule_watcher(pause, number);
}

fn leave(world: &mut World, number: usize) {
    let is_attached = is_attached(world, number);
    let Some((node, _, id)) = world.watchers.all[number].at.take().filter(|_| is_attached) else { return };
    if let Some(group) = &mut world.nodes[node].group {
        group.machine().unwatch(id);
    }
}

fn is_attached(world: &World, number: usize) -> bool {
    let at = world.watchers.all[number].at;
    at.is_some_and(|(node, life, _)| world.nodes[node].life == life && world.is_up(node))
}

fn attach(world: &mut World, number: usize) {
    let up: Vec<usize> = (0..world.nodes.len()).filter(|node| world.is_up(*node)).collect();
    if up.is_empty() {
        return;
    }
    let node = up[world.below(up.len() as u64) as usize];
    world.watchers.names += 1;
    let id = world.watchers.names;
    let life = world.nodes[node].life;
    let watcher = &mut world.watchers.all[number];
    let from_revision = watcher.told.resumes_from();
    let watch = Watch { keys: watcher.keys.clone(), from_revision, prev: false, only: watcher.only };
    let Some(group) = &mut world.nodes[node].group else { return };
    group.machine().watch(id, watch).expect("few watches");
    watcher.at = Some((node, life, id));
}

/// Whether there may be more.
fn poll(world: &mut World, number: usize, bytes_max: usize) -> bool {
    let watcher = &mut world.watchers.all[number];
    let Some((node, _, id)) = watcher.at else { return false };
    let Some(group) = &mut world.nodes[node].group else { return false };
    match group.machine().poll_watch(id, bytes_max) {
        Ok(Some(WatchUpdate::Created { revision })) => watcher.told.ready(revision),
        Ok(Some(WatchUpdate::Events { revision, events })) => {
            for event in events {
                watcher.told.change(change(event)).unwrap_or_else(|it| panic!("watcher {number}: {it}"));
            }
            watcher.told.up_to(revision);
        }
        Ok(Some(WatchUpdate::Progress { revision })) => watcher.told.up_to(revision),
        Ok(Some(WatchUpdate::Compacted { oldest })) => {
            watcher.at = None;
            watcher.told.compacted(oldest);
            return false;
        }
        Ok(Some(other)) => panic!("not what a watch is told: {other:?}"),
        Ok(None) => return false,
        // Its disk is broken: it goes elsewhere.
        Err(_) => {
            watcher.at = None;
            return false;
        }
    }
    true
}

fn contains(keys: &Keys, key: &[u8]) -> bool {
    match keys {
        Keys::One(one) => one == key,
        Keys::Range { from, to } => {
            from.as_slice() <= key && to.as_ref().is_none_or(|to| key < to.as_slice())
        }
    }
}

/// Lets all watchers receive the remaining events, and checks what they have received.
pub fn check(world: &mut World) {
    for number in 0..world.watchers.all.len() {
        // A step of catching up may come to nothing.
        for _ in 0..1_000 {
            if !is_attached(world, number) {
                attach(world, number);
            }
            poll(world, number, usize::MAX);
        }
    }
    for (number, watcher) in world.watchers.all.iter().enumerate() {
        let is_watched = |change: &Change| {
            let kind = if change.value.is_some() { EventKind::Put } else { EventKind::Delete };
            contains(&watcher.keys, &change.key) && watcher.only.is_none_or(|only| only == kind)
        };
        let checked =
            watcher.told.check(&format!("watcher {number}"), &world.log, world.log.last(), is_watched);
        checked.unwrap_or_else(|violation| panic!("{violation}"));
    }
}

/// What the watchers have encountered.
pub fn reached(world: &World) -> Vec<(&'static str, u64)> {
    let counts = || world.watchers.all.iter().map(|watcher| watcher.told.counts());
    let (told, gaps) = (counts().map(|(told, _)| told).sum(), counts().map(|(_, gaps)| gaps).sum());
    vec![("events told", told), ("watches that were compacted away", gaps)]
}
