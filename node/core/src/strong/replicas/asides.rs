//! Replicas that were removed from their groups and are kept aside for a while. They do not open, and serve nothing. After
//! unsafe recovery of a group, one of them may have acknowledged writes that the group lacks.
//!
//! ```text
//!   removed ──► kept aside ──► removed with all rows: after a time, for want of space, by an operator, or when its
//!                    │         node joins the group again and the group lacks nothing of it
//!                    └───────► the only member, by unsafe recovery
//! ```

use std::collections::BTreeMap;

use starling_kv::{Engine, Error};
use starling_strong::group::{GroupId, Notice};
use starling_strong::log::{Log, LogPosition};
use starling_strong::machine;
use starling_strong::members::MemberId;
use starling_strong::registry::Registered;

use super::super::context::{Context, Timer};
use super::super::directory::Directory;
use super::super::message::GroupLocation;
use super::{Joining, Replicas};

/// Replicas that are kept aside, at most. A guess.
const ASIDES_MAX: usize = 64;

/// For how long, and up to which size, removed replicas are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsideConfig {
    /// How long each is kept, milliseconds. 0: not at all.
    pub keep_ms: u64,
    /// Bytes of all, at most: the oldest is removed first.
    pub bytes_max: u64,
}

impl Default for AsideConfig {
    /// A week and 4 GiB: guesses, a holiday and two full keyspaces.
    fn default() -> Self {
        Self { keep_ms: 7 * 24 * 3_600_000, bytes_max: 4 << 30 }
    }
}

/// A replica that is kept aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// The keyspace's name.
    pub keyspace: String,
    /// The number of its member.
    pub member: MemberId,
    /// Since when it is kept, milliseconds since 1970.
    pub since_ms: u64,
    /// The last entry of its log; `None` if that cannot be read.
    pub end: Option<LogPosition>,
    /// Bytes of its state.
    pub bytes: u64,
    /// Whether it was reported that it is in the way of a new membership.
    pub was_in_the_way: bool,
}

/// Whether a group may lack what a replica has that was removed from it and whose log ends here, from the location of its
/// keyspace.
pub fn may_lack(end: Option<LogPosition>, group: &GroupId, location: Option<&GroupLocation>) -> bool {
    let location = location.filter(|location| location.group == *group);
    let (Some(location), Some(end)) = (location, end) else { return true };
    location.recoveries.may_lack(end, location.term)
}

/// The replicas on this node that are kept aside.
#[derive(Default)]
pub struct Asides(BTreeMap<GroupId, Aside>);

impl Asides {
    /// The replica of a group.
    pub fn get(&self, group: &GroupId) -> Option<&Aside> {
        self.0.get(group)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&GroupId, &Aside)> {
        self.0.iter()
    }

    pub(super) fn insert(&mut self, group: GroupId, aside: Aside) {
        self.0.insert(group, aside);
    }

    pub(super) fn remove(&mut self, group: &GroupId) -> Option<Aside> {
        self.0.remove(group)
    }

    /// The replica to remove next, and why; `None` if all may stay.
    fn surplus(&self, config: AsideConfig, wall_ms: u64, is_full: bool) -> Option<(GroupId, &'static str)> {
        let (group, oldest) = self.0.iter().min_by_key(|(_, aside)| aside.since_ms)?;
        let bytes: u64 = self.0.values().map(|aside| aside.bytes).sum();
        let reason = if is_full {
            "the disk is full"
        } else if self.0.len() > ASIDES_MAX {
            "too many are kept"
        } else if bytes > config.bytes_max {
            "they take too much space (strong.aside_bytes)"
        } else if wall_ms >= oldest.since_ms.saturating_add(config.keep_ms) {
            "its time is over (strong.aside_ms)"
        } else {
            return None;
        };
        Some((*group, reason))
    }
}

impl<E: Engine> Replicas<E> {
    /// The replicas that are kept aside.
    pub fn asides(&self) -> &Asides {
        &self.asides
    }

    /// The latest replica of a keyspace that is kept aside.
    pub fn aside_of(&self, keyspace: &str) -> Option<GroupId> {
        let all = self.asides.iter().filter(|(_, aside)| aside.keyspace == keyspace);
        all.max_by_key(|(_, aside)| aside.since_ms).map(|(group, _)| *group)
    }

    /// Closes a replica that was removed from its group, and keeps it aside. Returns the keyspace, if there was one.
    pub fn set_aside(&mut self, cx: &mut Context, group: GroupId) -> Option<String> {
        let keep_ms = self.config.aside.keep_ms;
        let keyspace = self.get(&group)?.keyspace.clone();
        if keep_ms == 0 {
            self.remove(cx, group);
            return Some(keyspace);
        }
        let replica = self.open.remove(&group)?;
        cx.timers.cancel(&Timer::Group(group));
        let (member, manual) = (replica.group.member(), replica.manual);
        // The engine's rows have one owner at a time.
        drop(replica);
        if let Err(error) = Log::set_aside(&self.engine, &group, cx.wall_ms) {
            // After a restart it is opened, and removed from its group again.
            super::removals::report(cx, keyspace.clone(), &error);
        }
        self.add_aside(Registered { group, keyspace: keyspace.clone(), member, manual }, cx.wall_ms);
        cx.notice(keyspace.clone(), Notice::KeptAside { keep_ms });
        self.remove_surplus(cx);
        Some(keyspace)
    }

    /// Adds a replica whose log has the mark.
    pub(super) fn add_aside(&mut self, replica: Registered, since_ms: u64) {
        let Registered { group, keyspace, member, .. } = replica;
        let (applied, bytes) = machine::stored(&self.engine, &group).unwrap_or_default();
        let end = Log::read_end(&self.engine, &group, applied).ok().flatten();
        let end = end.map(|(_, end)| end.position());
        self.asides.insert(group, Aside { keyspace, member, since_ms, end, bytes, was_in_the_way: false });
    }

    /// Removes replicas that are kept for too long or take too much space, the oldest first; on a full disk one at a
    /// time.
    pub fn remove_surplus(&mut self, cx: &mut Context) {
        let mut is_full = self.is_full() && self.removals.is_empty();
        while let Some((group, reason)) = self.asides.surplus(self.config.aside, cx.wall_ms, is_full) {
            // On a full disk a deletion may fail, too: it is tried again with the next call.
            if self.discard(cx, group, reason).is_err() {
                return;
            }
            is_full = false;
        }
    }

    /// Whether a replica is closed because the disk is full.
    fn is_full(&self) -> bool {
        let full = Error::Full.to_string();
        self.closed().any(|(_, reason)| reason == full)
    }

    /// Removes the replicas of a keyspace that are kept aside.
    ///
    /// # Errors
    /// Fails with an error of the engine. The replica is kept then.
    pub fn discard_all(&mut self, cx: &mut Context, keyspace: &str) -> Result<(), Error> {
        while let Some(group) = self.aside_of(keyspace) {
            self.discard(cx, group, "an operator has decided so")?;
        }
        Ok(())
    }

    fn discard(&mut self, cx: &mut Context, group: GroupId, reason: &'static str) -> Result<(), Error> {
        Log::destroy(&self.engine, group)?;
        if let Some(Aside { keyspace, .. }) = self.asides.remove(&group) {
            cx.notice(keyspace.clone(), Notice::AsideRemoved { reason });
            self.begin_removal(cx, group, keyspace);
        }
        Ok(())
    }

    /// Whether the group of a replica that is kept aside may lack what that one has, as far as this node knows.
    pub fn may_have_more(&self, group: &GroupId, directory: &Directory) -> bool {
        let Some(aside) = self.asides.get(group).filter(|_| !self.was_dropped(group)) else { return false };
        may_lack(aside.end, group, directory.location(&aside.keyspace))
    }

    /// Whether this node may join a group again of which it keeps a replica aside. One that the group lacks nothing of
    /// is removed for that; the leader repeats its invitation. `Joined`: it keeps none.
    pub(super) fn may_rejoin(&mut self, cx: &mut Context, group: GroupId, directory: &Directory) -> Joining {
        if self.asides.get(&group).is_none() {
            return Joining::Joined;
        }
        if !self.may_have_more(&group, directory) {
            // The leader repeats the invitation if this fails.
            let _ = self.discard(cx, group, "its node joins the group again");
            return Joining::Later;
        }
        let Some(aside) = self.asides.0.get_mut(&group) else { return Joining::Later };
        if !std::mem::replace(&mut aside.was_in_the_way, true) {
            cx.notice(aside.keyspace.clone(), Notice::AsideInTheWay);
        }
        Joining::Declined(format!(
            "it keeps a removed replica that may have writes which {name} lacks; `starling keyspace replicas {name}` \
             compares them, and `starling keyspace discard {name}` there deletes it",
            name = aside.keyspace
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asides(count: u8) -> Asides {
        let aside = |n: u8| {
            let aside = Aside {
                keyspace: "k".into(),
                member: 1,
                since_ms: 1_000 + u64::from(n),
                end: None,
                bytes: 10,
                was_in_the_way: false,
            };
            ([n; 16], aside)
        };
        Asides((0..count).map(aside).collect())
    }

    #[test]
    fn the_oldest_is_removed_first_when_its_time_or_the_space_is_over() {
        let config = AsideConfig { keep_ms: 100, bytes_max: 1_000 };
        let surplus = |asides: &Asides, config, wall_ms, is_full| {
            asides.surplus(config, wall_ms, is_full).map(|(group, _)| group[0])
        };
        assert_eq!(surplus(&asides(3), config, 1_099, false), None);
        assert_eq!(surplus(&asides(3), config, 500, false), None, "the clock went back");
        assert_eq!(surplus(&asides(3), config, 1_100, false), Some(0));
        assert_eq!(surplus(&asides(3), AsideConfig { bytes_max: 29, ..config }, 1_000, false), Some(0));
        assert_eq!(surplus(&asides(3), AsideConfig { bytes_max: 30, ..config }, 1_000, false), None);
        assert_eq!(surplus(&asides(3), config, 1_000, true), Some(0), "the disk is full");
        assert_eq!(surplus(&asides(ASIDES_MAX as u8), config, 1_000, false), None);
        assert_eq!(surplus(&asides(ASIDES_MAX as u8 + 1), config, 1_000, false), Some(0));
        assert_eq!(surplus(&asides(0), config, u64::MAX, true), None);
    }
}
