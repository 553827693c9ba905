//! The groups on this node: their ticks, their messages, one sync for all of them.

use std::collections::BTreeSet;

use starling_kv::Engine;
use starling_proto::{Millis, NodeRecord};
use starling_strong::group::{Group, GroupConfig, GroupId, GroupMessage, Input, Notice, Output};
use starling_strong::machine;
use starling_strong::members::{MemberId, NodeKey};
use starling_strong::registry::{self, Registered};

use super::message::{Hint, StrongMessage};
use super::{CoreCall, Effect, Strong, Timer};

/// Between two looks whether what leaders have published is still so, milliseconds. A guess.
const PUBLISH_MS: u64 = 5_000;
/// Groups on one node, at most.
const GROUPS_MAX: usize = 1024;

/// A group on this node.
pub struct Hosted<E: Engine> {
    pub keyspace: String,
    pub group: Group<E>,
    /// Its voters are replaced by hand only.
    pub manual: bool,
    /// What was published last: the term, and the members' nodes with the revisions of their records.
    published: Option<Hint>,
}

impl<E: Engine> Strong<E> {
    pub(super) fn group_config(&self, group: GroupId, keyspace: &str, member: MemberId) -> GroupConfig {
        let machine = machine::Config::default();
        GroupConfig { group, keyspace: keyspace.into(), node: self.me.id.0, member, machine }
    }

    pub(super) fn open_groups(&mut self, now_ms: u64) -> Result<(), starling_kv::Error> {
        for Registered { group, keyspace, member, manual } in registry::registered(&self.engine)? {
            let config = self.group_config(group, &keyspace, member);
            let seed = self.seed();
            match Group::open(self.engine.clone(), config, seed, now_ms) {
                Ok(Some(opened)) => self.host(now_ms, group, keyspace, opened, manual),
                // Noted, and the process died before there was anything, or while it was removed.
                Ok(None) => self.begin_removing(now_ms, group, keyspace),
                Err(error) => {
                    self.unopened.insert(group, keyspace.clone());
                    self.notice(keyspace, Notice::NotOpened(error.to_string()));
                }
            }
        }
        self.timers.set(Timer::Publish, Millis(now_ms + PUBLISH_MS));
        Ok(())
    }

    pub(super) fn host(&mut self, now_ms: u64, id: GroupId, keyspace: String, group: Group<E>, manual: bool) {
        self.groups.insert(id, Hosted { keyspace, group, manual, published: None });
        self.touched.insert(id);
        self.tick_later(now_ms, id);
    }

    /// Looks up where groups live whose leader was not heard of for long: this node may not belong to them
    /// any more.
    pub(super) fn look_for_lonely(&mut self, now_ms: u64) {
        let lonely = self.groups.values().filter(|hosted| hosted.group.is_lonely(now_ms));
        for keyspace in lonely.map(|hosted| hosted.keyspace.clone()).collect::<Vec<_>>() {
            self.call(CoreCall::Lookup { keyspace });
        }
    }

    /// A group is said to live elsewhere by now: its members there know whether this node is still one.
    pub(super) fn doubt(&mut self, hint: &Hint) {
        let me = self.me.id;
        let Some(hosted) = self.groups.get_mut(&hint.group) else { return };
        let names_me = hint.members.iter().any(|record| record.id == me);
        if hint.term > hosted.group.term() && !names_me {
            hosted.group.ask_whether_member(hint.members.iter().map(|record| record.id.0));
            self.touched.insert(hint.group);
        }
    }

    /// This node's part of a new group; why not, if not.
    pub(super) fn found_here(
        &mut self,
        now_ms: u64,
        group: GroupId,
        keyspace: &str,
        founders: &[NodeRecord],
        manual: bool,
    ) -> Result<(), String> {
        self.check_room(group, keyspace)?;
        let keys: Vec<NodeKey> = founders.iter().map(|record| record.id.0).collect();
        let member = keys.iter().position(|key| *key == self.me.id.0).ok_or("not one of the founders")?;
        let member = member as MemberId + 1;
        self.learn_all(founders);
        let registered = Registered { group, keyspace: keyspace.into(), member, manual };
        registry::register(&self.engine, &registered).map_err(|error| error.to_string())?;
        let (config, seed) = (self.group_config(group, keyspace, member), self.seed());
        let founded = Group::found(self.engine.clone(), config, &keys, seed, now_ms);
        let founded = founded.map_err(|error| error.to_string())?;
        self.host(now_ms, group, keyspace.into(), founded, manual);
        Ok(())
    }

    fn check_room(&self, group: GroupId, keyspace: &str) -> Result<(), String> {
        if self.groups.contains_key(&group) || registry::is_reserved(&group) {
            return Err("the group exists".into());
        }
        if self.dropped.contains(&group) {
            return Err("the group was dropped".into());
        }
        if self.removing.contains_key(&group) {
            return Err("it is still removing that group".into());
        }
        if self.hosted(keyspace).is_some() {
            return Err(format!("it has another keyspace {keyspace:?}"));
        }
        if self.groups.len() >= GROUPS_MAX {
            return Err(format!("it has {GROUPS_MAX} keyspaces already"));
        }
        Ok(())
    }

    pub(super) fn on_invite(&mut self, now_ms: u64, invited: Registered, members: &[NodeRecord]) {
        let (group, member) = (invited.group, invited.member);
        // Numbers only grow: the member that is here was removed, and has not heard of it. When it has, the
        // next invitation makes the new one.
        if let Some(hosted) = self.groups.get_mut(&group).filter(|hosted| hosted.group.member() < member) {
            hosted.group.ask_whether_member(members.iter().map(|record| record.id.0));
            self.touched.insert(group);
        }
        if self.check_room(group, &invited.keyspace).is_err() {
            return;
        }
        // What is left of an earlier membership, which did not open: it is another member now. The leader
        // invites again until it hears of it.
        if let Some(keyspace) = self.unopened.remove(&group) {
            self.begin_removing(now_ms, group, keyspace);
            return;
        }
        self.learn_all(members);
        let (config, seed) = (self.group_config(group, &invited.keyspace, member), self.seed());
        let joined =
            registry::register(&self.engine, &invited).map_err(|error| error.to_string()).and_then(|()| {
                Group::join(self.engine.clone(), config, seed, now_ms).map_err(|error| error.to_string())
            });
        let Registered { keyspace, manual, .. } = invited;
        match joined {
            Ok(joined) => self.host(now_ms, group, keyspace, joined, manual),
            Err(error) => self.notice(keyspace, Notice::NotOpened(error)),
        }
    }

    /// Takes back what this node has said of a group's place, when the keyspace is dropped. Whoever drops it
    /// may not have heard of it yet, and it would come back.
    pub(super) fn unpublish(&mut self, group: GroupId) {
        let published = self.groups.get(&group).filter(|hosted| hosted.published.is_some());
        let Some(keyspace) = published.map(|hosted| hosted.keyspace.clone()) else { return };
        if self.places.get(&keyspace).is_some_and(|hint| hint.group == group) {
            self.places.remove(&keyspace);
        }
        self.call(CoreCall::Publish { keyspace, group, hint: None });
    }

    /// Removes a group from this node with all it holds.
    pub(super) fn forget_group(&mut self, now_ms: u64, group: GroupId) {
        let keyspace = match self.groups.remove(&group) {
            Some(hosted) => hosted.keyspace,
            None => match self.unopened.remove(&group) {
                Some(keyspace) => keyspace,
                None => return,
            },
        };
        self.timers.cancel(&Timer::Group(group));
        self.dirty.remove(&group);
        self.unserve_group(now_ms, &group);
        self.begin_removing(now_ms, group, keyspace);
    }

    /// When the next tick is due is known once everything has followed from this one.
    pub(super) fn tick(&mut self, now_ms: u64, group: GroupId) {
        self.feed(now_ms, group, Input::Timeout);
    }

    fn tick_later(&mut self, now_ms: u64, group: GroupId) {
        let Some(hosted) = self.groups.get(&group) else { return };
        if let Some(at) = hosted.group.poll_timeout() {
            self.timers.set(Timer::Group(group), Millis(at.max(now_ms)));
        }
    }

    pub(super) fn feed(&mut self, now_ms: u64, group: GroupId, input: Input) {
        if let Some(hosted) = self.groups.get_mut(&group) {
            hosted.group.take(now_ms, input);
            self.touched.insert(group);
        }
    }

    pub(super) fn on_groups(&mut self, now_ms: u64, from: NodeKey, bundle: Vec<(GroupId, GroupMessage)>) {
        let mut dropped = BTreeSet::new();
        for (group, message) in bundle {
            dropped.extend(self.dropped.contains(&group).then_some(group));
            self.feed(now_ms, group, Input::Message { from, message });
        }
        for group in dropped {
            self.send(&from, StrongMessage::Drop { group });
        }
    }

    pub(super) fn peer_down(&mut self, now_ms: u64, group: GroupId, peer: NodeKey) {
        let is_member = |hosted: &Hosted<E>| hosted.group.members().on(&peer).is_some();
        if self.groups.get(&group).is_some_and(is_member) {
            self.feed(now_ms, group, Input::PeerDown(peer));
        }
    }

    /// Passes on what groups say until none has anything left.
    pub(super) fn drain_groups(&mut self, now_ms: u64) {
        while let Some(group) = self.touched.pop_first() {
            if let Some(hosted) = self.groups.get_mut(&group) {
                hosted.group.follow(now_ms);
            }
            while let Some(output) = self.groups.get_mut(&group).and_then(|hosted| hosted.group.poll_output())
            {
                self.on_group_output(now_ms, group, output);
            }
            self.tick_later(now_ms, group);
            self.look_for_work(now_ms, group);
        }
    }

    fn on_group_output(&mut self, now_ms: u64, group: GroupId, output: Output) {
        match output {
            Output::Send { to, message } => self.bundles.entry(to).or_default().push((group, message)),
            Output::Sync(write) => {
                self.dirty.insert(group, write);
            }
            Output::Answer { token, result } => self.on_group_answer(token, result),
            Output::Redirect { token, leader } => self.on_group_redirect(now_ms, group, token, leader),
            Output::Changed { token, result } => self.on_group_changed(now_ms, token, result),
            Output::Invite { node, member } => {
                let Some(hosted) = self.groups.get(&group) else { return };
                let (keyspace, manual) = (hosted.keyspace.clone(), hosted.manual);
                let members = self.member_records(group);
                self.send(&node, StrongMessage::Invite { group, keyspace, member, members, manual });
            }
            Output::Removed => self.forget_group(now_ms, group),
            Output::Notice(notice) => self.on_group_notice(now_ms, group, notice),
        }
    }

    fn on_group_notice(&mut self, now_ms: u64, group: GroupId, notice: Notice) {
        let Some(hosted) = self.groups.get(&group) else { return };
        let keyspace = hosted.keyspace.clone();
        if let Notice::Leader { node: Some(node), .. } = notice {
            if node == self.me.id.0 {
                self.publish(group);
            }
            self.led_by(now_ms, &keyspace, node);
        }
        self.notice(keyspace, notice);
    }

    /// Records of a group's members, the leader's first.
    pub(super) fn member_records(&self, group: GroupId) -> Vec<NodeRecord> {
        let Some(hosted) = self.groups.get(&group) else { return Vec::new() };
        let leader = hosted.group.leader();
        let mut nodes: Vec<NodeKey> = hosted.group.members().nodes.values().copied().collect();
        nodes.sort_by_key(|node| Some(*node) != leader);
        nodes.iter().filter_map(|node| self.record(node)).collect()
    }

    /// Where a group is, as far as this member knows.
    pub(super) fn hint_of(&self, group: GroupId) -> Option<Hint> {
        let hosted = self.groups.get(&group)?;
        let term = hosted.group.term();
        let voters = hosted.group.members().voters.len() as u8;
        Some(Hint { group, term, members: self.member_records(group), voters })
    }

    pub(super) fn publish_changes(&mut self, now_ms: u64) {
        self.look_for_lonely(now_ms);
        let led = self.groups.iter().filter(|(_, hosted)| hosted.group.is_leader());
        for group in led.map(|(group, _)| *group).collect::<Vec<_>>() {
            self.publish(group);
            self.look_for_lost(now_ms, group);
        }
        self.timers.set(Timer::Publish, Millis(now_ms + PUBLISH_MS));
    }

    fn publish(&mut self, group: GroupId) {
        let hint = self.hint_of(group);
        let Some(hosted) = self.groups.get_mut(&group) else { return };
        if hosted.published != hint {
            hosted.published.clone_from(&hint);
            let keyspace = hosted.keyspace.clone();
            if let Some(hint) = hint.clone() {
                self.remember(keyspace.clone(), hint);
            }
            self.call(CoreCall::Publish { keyspace, group, hint });
        }
    }

    /// One sync at a time, for everything that was written until it begins.
    pub(super) fn begin_sync(&mut self) {
        if self.syncing.is_none() && !self.dirty.is_empty() {
            self.syncing = Some(std::mem::take(&mut self.dirty));
            self.syncs += 1;
            self.outputs.push_back(Effect::Sync(self.syncs));
        }
    }

    /// Handles the end of a sync that [`Effect::Sync`] asked for.
    pub fn handle_synced(&mut self, now_ms: u64, number: u64) {
        if number != self.syncs {
            return;
        }
        for (group, write) in self.syncing.take().unwrap_or_default() {
            self.feed(now_ms, group, Input::Synced(write));
        }
    }
}
