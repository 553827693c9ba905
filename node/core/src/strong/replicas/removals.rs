//! Replicas whose rows are being removed, a bounded number at a time. A replica stays registered until none
//! of its rows is left: a process that dies meanwhile continues when it is started again.

use std::collections::BTreeMap;

use starling_kv::{Engine, Error};
use starling_strong::group::{GroupId, Notice, TIDY_PAUSE_MS};
use starling_strong::log::Log;
use starling_strong::machine::Leftovers;
use starling_strong::{machine, registry};

use super::super::context::Context;

struct Removal {
    keyspace: String,
    /// The position of the removal.
    at: Leftovers,
}

/// The removals of replicas that are under way.
#[derive(Default)]
pub struct Removals {
    under_way: BTreeMap<GroupId, Removal>,
}

impl Removals {
    /// Whether rows of this group are left.
    pub fn contains(&self, group: &GroupId) -> bool {
        self.under_way.contains_key(group)
    }

    /// Whether no removal is under way.
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// How long the next portion can wait, milliseconds; `None`: nothing is left.
    pub fn poll_work(&self, group: &GroupId) -> Option<u64> {
        self.contains(group).then_some(TIDY_PAUSE_MS)
    }

    /// Destroys the log of a group; its other rows follow.
    pub fn begin<E: Engine>(&mut self, cx: &mut Context, engine: &E, group: GroupId, keyspace: String) {
        match Log::destroy(engine, group) {
            Ok(()) => {
                self.under_way.insert(group, Removal { keyspace, at: Leftovers::default() });
            }
            Err(error) => report(cx, keyspace, &error),
        }
    }

    /// Removes the next rows of a group.
    pub fn step<E: Engine>(&mut self, cx: &mut Context, engine: &E, group: GroupId) {
        let Some(removal) = self.under_way.get_mut(&group) else { return };
        let result = match machine::destroy(engine, &group, &mut removal.at) {
            Ok(true) => return,
            Ok(false) => registry::forget(engine, &group),
            Err(error) => Err(error),
        };
        if let (Some(removal), Err(error)) = (self.under_way.remove(&group), result) {
            report(cx, removal.keyspace, &error);
        }
    }
}

/// Reports that rows stay until the next start.
pub fn report(cx: &mut Context, keyspace: String, error: &Error) {
    let reason = format!("what it held is not removed before the next start: {error}");
    cx.notice(keyspace, Notice::NotOpened(reason));
}
