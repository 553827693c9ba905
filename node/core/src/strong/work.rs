//! Work of groups that is done bit by bit: one bounded portion of one group at a time, in turn, so that
//! messages, ticks and clients never wait for more than that.

use starling_kv::Engine;
use starling_proto::Millis;
use starling_strong::group::{GroupId, Notice, TIDY_PAUSE_MS};
use starling_strong::log::Log;
use starling_strong::machine::Leftovers;
use starling_strong::{machine, registry};

use super::{Strong, Timer};

/// A group that was dropped here.
pub struct Removing {
    keyspace: String,
    /// How far its rows are removed.
    at: Leftovers,
}

impl<E: Engine> Strong<E> {
    /// A group may have something to do.
    pub(super) fn look_for_work(&mut self, now_ms: u64, group: GroupId) {
        if let Some(pause_ms) = self.work_of(&group)
            && (self.busy.insert(group) || pause_ms < TIDY_PAUSE_MS)
        {
            self.work_in(now_ms, pause_ms);
        }
    }

    /// How long what a group has to do can wait; `None`: it has nothing to do.
    fn work_of(&self, group: &GroupId) -> Option<u64> {
        match self.groups.get(group) {
            Some(hosted) => hosted.group.poll_work(),
            None => self.removing.contains_key(group).then_some(TIDY_PAUSE_MS),
        }
    }

    fn work_in(&mut self, now_ms: u64, pause_ms: u64) {
        self.timers.set_earlier(Timer::Work, Millis(now_ms + pause_ms));
    }

    /// Lets the next group do one portion.
    pub(super) fn work(&mut self, now_ms: u64) {
        let after = |group: &&GroupId| **group > self.worked;
        let next = self.busy.iter().find(after).or_else(|| self.busy.first()).copied();
        let Some(group) = next else { return };
        self.worked = group;
        if let Some(hosted) = self.groups.get_mut(&group) {
            hosted.group.work();
            self.touched.insert(group);
        } else {
            self.remove_some(group);
        }
        let mut pause_ms = None;
        for group in std::mem::take(&mut self.busy) {
            if let Some(pause) = self.work_of(&group) {
                self.busy.insert(group);
                pause_ms = Some(pause_ms.unwrap_or(pause).min(pause));
            }
        }
        if let Some(pause_ms) = pause_ms {
            self.work_in(now_ms, pause_ms);
        }
    }

    /// From now on a group's rows are removed. It stays noted until none is left: a process that dies
    /// meanwhile goes on when it is started again.
    pub(super) fn begin_removing(&mut self, now_ms: u64, group: GroupId, keyspace: String) {
        match Log::destroy(&self.engine, group) {
            Ok(()) => {
                self.removing.insert(group, Removing { keyspace, at: Leftovers::default() });
                self.look_for_work(now_ms, group);
            }
            Err(error) => self.not_removed(keyspace, &error),
        }
    }

    fn remove_some(&mut self, group: GroupId) {
        let Some(removing) = self.removing.get_mut(&group) else { return };
        let result = match machine::destroy(&self.engine, &group, &mut removing.at) {
            Ok(true) => return,
            Ok(false) => registry::forget(&self.engine, &group),
            Err(error) => Err(error),
        };
        if let (Some(removing), Err(error)) = (self.removing.remove(&group), result) {
            self.not_removed(removing.keyspace, &error);
        }
    }

    pub(super) fn not_removed(&mut self, keyspace: String, error: &starling_kv::Error) {
        let reason = format!("what it held is not removed before the next start: {error}");
        self.notice(keyspace, Notice::NotOpened(reason));
    }
}
