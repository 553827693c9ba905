//! Watches through any node, resumed elsewhere when they break off.

use std::collections::BTreeMap;

use starling_core::Input;
use starling_core::strong::StrongInput;
use starling_history::{Change, Checked, QUEUE, Told, Violation};
use starling_strong::api::{Event, EventKind, Keys, Watch, WatchUpdate};

use super::{Strong, Turn};
use crate::scenario::STRONG_KEYSPACE;
use crate::world::World;

/// Updates that may come before a watcher asks for more.
const UPDATES: u32 = 8;
/// A watcher has a turn at least every so often, microseconds.
const TURN_US: u64 = 1_000_000;
/// A watch that is told nothing for so long, although something has happened, is begun anew, microseconds: where
/// messages are lost, its asking for more may be.
const SILENCE_US: u64 = 5_000_000;
/// The first change of a keyspace.
const FIRST: u64 = 2;

/// One watcher, over all its watches.
pub struct Watcher {
    number: usize,
    /// What it was told.
    pub told: Told,
    token: u64,
    node: Option<usize>,
    /// It was told everything up to there.
    to: u64,
    /// Updates since it asked for more.
    taken: u32,
    /// When it was told something last, microseconds.
    told_us: u64,
    turn_us: u64,
}

impl Watcher {
    pub(super) fn new(number: usize) -> Self {
        Self { number, told: Told::default(), token: 0, node: None, to: 0, taken: 0, told_us: 0, turn_us: 0 }
    }

    /// What it watches: everything, one key, the ends of items of the queue.
    fn watch(&self) -> Watch {
        let (keys, only) = match self.number % 4 {
            2 => (Keys::One(b"register/0".to_vec()), Some(EventKind::Put)),
            3 => {
                let to = starling_kv::engine::prefix_end(QUEUE);
                (Keys::Range { from: QUEUE.to_vec(), to }, Some(EventKind::Delete))
            }
            _ => (Keys::Range { from: Vec::new(), to: None }, None),
        };
        let from_revision = self.told.resumes_from().max(FIRST);
        Watch { keys, from_revision, prev: false, only }
    }

    fn sees_everything(&self) -> bool {
        self.number % 4 < 2
    }

    /// Whether it watches the key of a change.
    pub fn is_watched(&self, change: &Change) -> bool {
        match self.number % 4 {
            2 => change.key == b"register/0" && change.value.is_some(),
            3 => change.key.starts_with(QUEUE) && change.value.is_none(),
            _ => true,
        }
    }

    /// Whether it has been told all changes up to a revision. One that sees only some of them waits until the
    /// others have.
    pub(super) fn has_told(&self, revision: u64) -> bool {
        self.to >= revision
    }
}

impl Strong {
    /// It is the watcher's turn then, or before.
    pub(super) fn plan_watcher(&mut self, world: &World, number: usize, at_us: u64) {
        let turn_us = &mut self.watchers[number].turn_us;
        if *turn_us <= world.now_us() || at_us < *turn_us {
            *turn_us = at_us;
            self.plan(at_us, Turn::Watcher(number));
        }
    }

    /// A watcher's turn: it watches again if its watch broke off, or asks for more.
    pub(super) fn watch(&mut self, world: &mut World, number: usize) {
        if self.watchers[number].turn_us == world.now_us() {
            self.plan_watcher(world, number, world.now_us() + TURN_US);
            self.watch_or_ask(world, number);
        }
    }

    fn watch_or_ask(&mut self, world: &mut World, number: usize) {
        let Watcher { node, token, told_us, to, .. } = self.watchers[number];
        if let Some(node) = node.filter(|node| world.is_up(*node)) {
            if to >= self.revision || world.now_us() < told_us + SILENCE_US {
                self.ask_for_more(world, number);
                return;
            }
            world.ask(node, Input::Strong(StrongInput::Unwatch { tokens: vec![token] }));
        }
        let token = self.token();
        let Some(node) = self.pick(world, number.is_multiple_of(2)) else { return };
        let watcher = &mut self.watchers[number];
        (watcher.token, watcher.node, watcher.taken) = (token, Some(node), 0);
        watcher.told_us = world.now_us();
        let (keyspace, watch) = (STRONG_KEYSPACE.into(), watcher.watch());
        world.ask(node, Input::Strong(StrongInput::Watch { token, keyspace, watch, updates: UPDATES }));
    }

    fn ask_for_more(&mut self, world: &mut World, number: usize) {
        let Watcher { token, node: Some(node), taken, .. } = &mut self.watchers[number] else { return };
        let (token, node, updates) = (*token, *node, std::mem::take(taken));
        if updates > 0 {
            world.ask(node, Input::Strong(StrongInput::More { token, updates }));
        }
        // In the end it has to know how far it has come, also where nothing that it watches happens.
        world.ask(node, Input::Strong(StrongInput::Progress { token }));
    }

    pub(super) fn on_update(&mut self, world: &World, token: u64, update: WatchUpdate) {
        let Some(number) = self.watchers.iter().position(|watcher| watcher.token == token) else { return };
        let node = self.watchers[number].node;
        self.watchers[number].told_us = world.now_us();
        // The keyspace got that far, also where no client was answered: all watchers have to get there.
        if let WatchUpdate::Events { revision, .. } | WatchUpdate::Progress { revision } = &update {
            self.revision = self.revision.max(*revision);
        }
        let checked = self.take_in(number, update).map_err(|Violation(what)| {
            Violation(format!("watcher {number} through node {node:?} at {} us: {what}", world.now_us()))
        });
        self.note("watches", checked);
        let watcher = &self.watchers[number];
        // Some are slow, and fall behind.
        let pace_us = if number.is_multiple_of(3) { 1_500_000 } else { 50_000 };
        let has_gone = watcher.node.is_none();
        if has_gone || watcher.taken >= UPDATES / 2 {
            let after_us = self.below(pace_us);
            self.plan_watcher(world, number, world.now_us() + after_us);
        }
    }

    fn take_in(&mut self, number: usize, update: WatchUpdate) -> Checked {
        let watcher = &mut self.watchers[number];
        watcher.taken += 1;
        match update {
            WatchUpdate::Created { .. } => {
                // It asked for everything from the first change on.
                watcher.told.ready(FIRST - 1);
                watcher.taken -= 1;
            }
            WatchUpdate::Events { revision, events } => {
                let mut by_revision = BTreeMap::<u64, Vec<Change>>::new();
                for change in events.into_iter().map(change) {
                    watcher.told.change(change.clone())?;
                    by_revision.entry(change.revision).or_default().push(change);
                }
                watcher.told.up_to(revision);
                watcher.to = watcher.to.max(revision);
                if watcher.sees_everything() {
                    let who = format!("watcher {number}");
                    for (revision, changes) in by_revision {
                        self.log.note(&who, revision, changes)?;
                    }
                }
            }
            WatchUpdate::Progress { revision } => {
                watcher.told.up_to(revision);
                watcher.to = watcher.to.max(revision);
            }
            WatchUpdate::Compacted { oldest } => {
                watcher.told.compacted(oldest);
                watcher.node = None;
            }
            WatchUpdate::Lost { .. } => watcher.node = None,
        }
        Ok(())
    }

    pub(super) fn watches_down(&mut self, world: &World, node: usize) {
        for number in 0..self.watchers.len() {
            if self.watchers[number].node.take_if(|at| *at == node).is_some() {
                let after_us = self.below(200_000);
                self.plan_watcher(world, number, world.now_us() + after_us);
            }
        }
    }
}

fn change(event: Event) -> Change {
    let Event { kv, kind, .. } = event;
    let is_put = kind == EventKind::Put;
    let or_0 = |number: u64| if is_put { number } else { 0 };
    Change {
        key: kv.key,
        revision: kv.mod_revision,
        create_revision: or_0(kv.create_revision),
        version: or_0(kv.version),
        lease: if is_put { kv.lease } else { 0 },
        value: is_put.then_some(kv.value),
    }
}
