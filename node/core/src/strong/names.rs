//! The locations that are published under the names of keyspaces, and names under which several groups are.
//!
//! ```text
//!   published: A, B     A has precedence (see `precedence`)
//!
//!   a node that uses A   stays with it
//!   any other node       CheckName ──► members of A ──► NameConfirmed, of most voters: uses A from now on
//!   a member of B        the same, and then gives its replica another name, under which B goes on
//! ```
//! A node that waits for the confirmation rejects requests under the name. No group changes its name because of what is
//! published alone: that may be wrong, or outdated.

use starling_kv::Engine;
use starling_strong::group::{GroupId, Notice};
use starling_strong::machine::DATED;
use starling_strong::members::NodeKey;

use super::directory::Published;
use super::input::CoreCall;
use super::message::{GroupLocation, StrongMessage};
use super::{Strong, precedence};

impl<E: Engine> Strong<E> {
    pub(super) fn on_locations(&mut self, keyspace: &str, mut locations: Vec<GroupLocation>) {
        locations.retain(|location| !self.withdraw_outdated(keyspace, location));
        let own = self.replicas.of(keyspace).or_else(|| self.replicas.unopened_of(keyspace));
        let decides = self.replicas.version() >= DATED;
        match self.directory.published(keyspace, locations, own, decides) {
            Published::Nothing => {}
            Published::At { location, is_first_rival } => {
                if is_first_rival && own.is_some() {
                    self.cx.notice(keyspace.into(), Notice::Rival);
                }
                self.on_location(keyspace, location);
            }
            Published::Contested => self.confirm_name(keyspace),
        }
    }

    fn on_location(&mut self, keyspace: &str, location: GroupLocation) {
        self.replicas.check_membership(&location);
        let leader = location.leader().filter(|_| self.directory.is_news(keyspace, &location));
        self.directory.remember(keyspace, location, || self.replicas.nodes());
        if let Some(leader) = leader {
            self.requests().on_leader(keyspace, leader);
        }
    }

    /// Removes the location of a group that was dropped, or has a replica here with another name: a node that does not know it
    /// has published that, and may not be there any more. The members of a dropped group are notified: all of them may
    /// have been away. Returns whether it was one.
    fn withdraw_outdated(&mut self, keyspace: &str, location: &GroupLocation) -> bool {
        let GroupLocation { group, members, .. } = location;
        let has_other_name = self.replicas.get(group).is_some_and(|replica| replica.keyspace != keyspace);
        let was_dropped = self.replicas.was_dropped(group);
        if was_dropped {
            self.directory.learn_all(members, || self.replicas.nodes());
            self.drops.add(self.cx.now_ms, *group, members.iter().map(|record| record.id.0));
            self.repeat_drops();
            if self.replicas.version() < DATED {
                self.notify_dropped(location);
            }
        }
        if was_dropped || has_other_name {
            self.cx.call(CoreCall::Publish { keyspace: keyspace.into(), group: *group, location: None });
        }
        was_dropped || has_other_name
    }

    /// Asks the members of the group with precedence whether the name is theirs.
    fn confirm_name(&mut self, keyspace: &str) {
        let Some(GroupLocation { group, members, .. }) = self.directory.unconfirmed(keyspace).cloned() else {
            return;
        };
        self.directory.learn_all(&members, || self.replicas.nodes());
        for member in members {
            self.cx.send(&member.id.0, StrongMessage::CheckName { group, keyspace: keyspace.into() });
        }
    }

    pub(super) fn on_check_name(&mut self, from: NodeKey, group: GroupId, keyspace: String) {
        let replica = self.replicas.get(&group).filter(|replica| replica.group.stopped().is_none());
        if replica.is_some_and(|replica| replica.keyspace == keyspace) {
            self.cx.send(&from, StrongMessage::NameConfirmed { group, keyspace });
        }
    }

    pub(super) fn on_name_confirmed(&mut self, from: NodeKey, group: GroupId, keyspace: &str) {
        let Some(location) = self.directory.confirm(keyspace, group, from) else { return };
        let other = self.replicas.of(keyspace).or_else(|| self.replicas.unopened_of(keyspace));
        if let Some(other) = other.filter(|other| *other != group)
            && !self.give_way(keyspace, other)
        {
            return;
        }
        self.directory.decide(keyspace);
        self.on_location(keyspace, location);
        self.watches().on_moved(keyspace, group);
    }

    /// Gives a replica another name, because another group has its own. Returns whether that is durable.
    fn give_way(&mut self, keyspace: &str, group: GroupId) -> bool {
        let name = precedence::aside_name(keyspace, &group);
        if !self.replicas.rename(&mut self.cx, group, &name) {
            return false;
        }
        self.directory.forget_group(&group);
        self.served().on_replica_gone(&group);
        self.cx.call(CoreCall::Publish { keyspace: keyspace.into(), group, location: None });
        if self.replicas.led().contains(&group) {
            self.publish(group);
        }
        self.cx.notice(keyspace.into(), Notice::GaveWay { name });
        true
    }
}
