//! The replicas on this node: one member of a Raft group each ([`Group`]). They are created, join, and are
//! removed here; between that they get their inputs, and their outputs are carried out.
//!
//! The engine keeps a registry of them: a replica is registered before its first row is written, and
//! removed from the registry after its last row, so that a process that dies in between continues when it restarts.

mod asides;
mod dropped;
mod ended;
mod recovery;
mod removals;
mod status;
mod turns;
mod withdrawal;

use std::collections::{BTreeMap, BTreeSet};

use starling_kv::Engine;
use starling_proto::Millis;
use starling_strong::group::{Group, GroupConfig, GroupId, Input, KEPT_ENTRIES, Notice, Output};
use starling_strong::log::Log;
use starling_strong::machine::DATED;
use starling_strong::members::{MemberId, NodeKey};
use starling_strong::registry::{self, Registered};

use self::asides::Asides;
pub use self::asides::{Aside, AsideConfig, may_lack};
use self::dropped::Dropped;
use self::ended::Refused;
use self::removals::Removals;
use self::turns::Turns;
use super::StrongConfig;
use super::context::{Context, Timer};
use super::directory::Directory;
use super::message::GroupLocation;

/// How long a member must not have heard from a quorum before its replica may be made the only one, milliseconds.
/// Far longer than an election takes.
pub const SILENT_MS: u64 = 10_000;
/// How long a replica stays closed after its storage failed, milliseconds. `RocksDB` checks as often whether a
/// full disk has space again.
const REOPEN_MS: u64 = 5_000;
/// Nodes that have declined to be a member of a group, of which a leader knows that, at most. A guess.
const DECLINED_MAX: usize = 64;
/// Replicas on one node, at most. A guess.
const REPLICAS_MAX: usize = 1024;

/// A replica that is open.
pub struct Replica<E: Engine> {
    /// The keyspace's name.
    pub keyspace: String,
    /// The member itself.
    pub group: Group<E>,
    /// Whether lost voters are replaced by an operator only.
    pub manual: bool,
    /// The location that this node published last, as a leader.
    published: Option<GroupLocation>,
    /// Nodes that have declined to be a member, and when, milliseconds.
    declined: BTreeMap<NodeKey, u64>,
    /// The node that created the group, and when, milliseconds; `None`: an earlier run opened it first.
    created_by: Option<(NodeKey, u64)>,
    /// Nodes that have said that the group was dropped.
    dropped_by: BTreeSet<NodeKey>,
}

/// A replica that did not open.
struct Unopened {
    keyspace: String,
    member: MemberId,
    reason: String,
}

/// What became of an invitation to be a member of a group.
pub enum Joining {
    /// The replica is here.
    Joined,
    /// It may be a moment later: the leader repeats its invitation.
    Later,
    /// This node is not going to create it, for this reason, as long as nothing changes here.
    Declined(String),
}

/// The replicas on this node.
pub struct Replicas<E: Engine> {
    engine: E,
    me: NodeKey,
    config: StrongConfig,
    /// The data version in force in the network.
    version: u16,
    /// Whether the replicas do not take part in their groups; see [`Replicas::withdraw`].
    has_withdrawn: bool,
    open: BTreeMap<GroupId, Replica<E>>,
    /// Groups that did not open.
    unopened: BTreeMap<GroupId, Unopened>,
    /// Replicas that were removed from their groups, and are kept.
    asides: Asides,
    /// Groups that were dropped.
    dropped: Dropped,
    refused: Refused,
    /// Removed replicas that still have rows.
    removals: Removals,
    /// The turns of replicas with background work.
    turns: Turns,
    /// Replicas that had an input since their outputs were processed.
    ready: BTreeSet<GroupId>,
    /// The replica whose outputs are being processed.
    draining: Option<GroupId>,
}

/// Plans that a replica whose storage failed is opened again: the disk may have space again by then.
pub fn plan_reopening(cx: &mut Context, group: GroupId) {
    cx.timers.set(Timer::Reopen(group), Millis(cx.now_ms + REOPEN_MS));
}

impl<E: Engine> Replicas<E> {
    /// Opens the replicas that the engine has. One that does not open is left out, and reported.
    ///
    /// # Errors
    /// Fails with an error of the engine.
    pub fn open(engine: E, config: StrongConfig, cx: &mut Context) -> Result<Self, starling_kv::Error> {
        let dropped = Dropped::load(&engine)?;
        let registered = registry::registered(&engine)?;
        let mut replicas = Self {
            engine,
            me: cx.me,
            config,
            version: 0,
            has_withdrawn: false,
            open: BTreeMap::new(),
            unopened: BTreeMap::new(),
            asides: Asides::default(),
            dropped,
            refused: Refused::default(),
            removals: Removals::default(),
            turns: Turns::default(),
            ready: BTreeSet::new(),
            draining: None,
        };
        for replica in registered {
            match Log::aside_since(&replicas.engine, &replica.group)? {
                Some(since_ms) => replicas.add_aside(replica, since_ms),
                None => replicas.open_one(cx, replica),
            }
        }
        Ok(replicas)
    }

    fn open_one(&mut self, cx: &mut Context, replica: Registered) {
        let config = self.config(&replica);
        let Registered { group, keyspace, manual, member } = replica;
        match Group::open(self.engine.clone(), config, cx.seed(), cx.now_ms) {
            Ok(Some(opened)) => self.host(cx, group, keyspace, opened, manual),
            // The process died between the registration and the first row, or during the removal.
            Ok(None) => self.begin_removal(cx, group, keyspace),
            Err(error) => {
                let reason = error.to_string();
                let unopened = Unopened { keyspace: keyspace.clone(), member, reason: reason.clone() };
                self.unopened.insert(group, unopened);
                if error.is_storage() {
                    plan_reopening(cx, group);
                }
                cx.notice(keyspace, Notice::NotOpened(reason));
            }
        }
    }

    /// Opens a replica again whose storage failed, with what is durable.
    pub fn reopen(&mut self, cx: &mut Context, group: GroupId) {
        let has_stopped = self.open.get(&group).is_some_and(|replica| replica.group.stopped().is_some());
        if !has_stopped && !self.unopened.contains_key(&group) {
            return;
        }
        let Ok(registered) = registry::registered(&self.engine) else {
            plan_reopening(cx, group);
            return;
        };
        if let Some(replica) = registered.into_iter().find(|replica| replica.group == group) {
            // The engine's rows have one owner at a time.
            self.open.remove(&group);
            self.unopened.remove(&group);
            self.open_one(cx, replica);
        }
    }

    fn config(&self, replica: &Registered) -> GroupConfig {
        let Registered { group, keyspace, member, .. } = replica.clone();
        let StrongConfig { machine, history, .. } = self.config;
        let in_journal = self.version >= DATED;
        let (node, kept_entries) = (self.me, KEPT_ENTRIES);
        GroupConfig { group, keyspace, node, member, machine, history, kept_entries, in_journal }
    }

    /// The data version in force in the network.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Sets the data version in force in the network.
    pub fn set_version(&mut self, version: u16) {
        self.version = version;
        for replica in self.open.values_mut() {
            replica.group.set_version(version);
        }
    }

    fn host(&mut self, cx: &mut Context, id: GroupId, keyspace: String, mut group: Group<E>, manual: bool) {
        group.set_version(self.version);
        self.withdraw_if_due(&mut group);
        let (published, declined) = (None, BTreeMap::new());
        let (created_by, dropped_by) = (None, BTreeSet::new());
        let replica = Replica { keyspace, group, manual, published, declined, created_by, dropped_by };
        self.open.insert(id, replica);
        self.ready.insert(id);
        self.set_timer(cx, id);
    }

    /// All replicas, by their groups.
    pub fn iter(&self) -> impl Iterator<Item = (&GroupId, &Replica<E>)> {
        self.open.iter()
    }

    /// The replica of a group.
    pub fn get(&self, group: &GroupId) -> Option<&Replica<E>> {
        self.open.get(group)
    }

    /// The replica of a group, for reads of its state and for watches.
    pub fn get_mut(&mut self, group: &GroupId) -> Option<&mut Replica<E>> {
        self.open.get_mut(group)
    }

    /// All replicas, for their watches.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Replica<E>> {
        self.open.values_mut()
    }

    /// The group of a keyspace, if this node has a replica of it.
    pub fn of(&self, keyspace: &str) -> Option<GroupId> {
        self.open.iter().find(|(_, replica)| replica.keyspace == keyspace).map(|(group, _)| *group)
    }

    /// The group of a keyspace whose replica on this node did not open.
    pub fn unopened_of(&self, keyspace: &str) -> Option<GroupId> {
        self.unopened.iter().find(|(_, unopened)| unopened.keyspace == keyspace).map(|(group, _)| *group)
    }

    /// The keyspaces of the replicas on this node that do not work, each with the reason.
    pub fn closed(&self) -> impl Iterator<Item = (&str, String)> {
        let stopped = |replica: &'_ Replica<E>| Some(replica.group.stopped()?.to_string());
        let stopped = self.open.values().filter_map(move |it| Some((it.keyspace.as_str(), stopped(it)?)));
        stopped.chain(self.unopened.values().map(|it| (it.keyspace.as_str(), it.reason.clone())))
    }

    /// The replica on this node that serves a keyspace. One that has stopped does not, unless it is the only member.
    pub fn serving(&self, keyspace: &str) -> Option<(GroupId, &Replica<E>)> {
        let group = self.of(keyspace)?;
        let replica = self.get(&group)?;
        let is_alone = replica.group.members().nodes.keys().all(|member| *member == replica.group.member());
        (is_alone || replica.group.stopped().is_none()).then_some((group, replica))
    }

    /// The group of a keyspace that no replica on this node serves, and the other members: as a stopped replica knows
    /// them, or else as gossip does.
    pub fn elsewhere(&self, keyspace: &str, directory: &Directory) -> Option<(GroupId, Vec<NodeKey>)> {
        let known = self.of(keyspace).and_then(|group| Some((group, &self.get(&group)?.group)));
        let (group, mut members) = if let Some((id, group)) = known.filter(|(_, group)| group.is_informed()) {
            (id, group.members().nodes.values().copied().collect())
        } else {
            let location = directory.location(keyspace)?;
            (location.group, location.members.iter().map(|record| record.id.0).collect::<Vec<_>>())
        };
        members.retain(|node| *node != self.me);
        Some((group, members))
    }

    /// Whether a group was dropped, as far as this node knows.
    pub fn was_dropped(&self, group: &GroupId) -> bool {
        self.dropped.contains(group)
    }

    /// The keyspace of a replica here, whether it is open or not.
    pub fn keyspace_of(&self, group: &GroupId) -> Option<String> {
        let open = self.open.get(group).map(|replica| &replica.keyspace);
        let unopened = || self.unopened.get(group).map(|unopened| &unopened.keyspace);
        open.or_else(unopened).or_else(|| self.asides.get(group).map(|aside| &aside.keyspace)).cloned()
    }

    /// The nodes that share a group with this one.
    pub fn nodes(&self) -> BTreeSet<NodeKey> {
        self.open.values().flat_map(|replica| replica.group.members().nodes.values().copied()).collect()
    }

    /// Creates this node's replica of a new group, or returns why not. It is not an error if the replica exists.
    pub fn create(
        &mut self,
        cx: &mut Context,
        group: GroupId,
        keyspace: &str,
        members: &[NodeKey],
        manual: bool,
    ) -> Result<(), String> {
        if self.get(&group).is_some_and(|replica| replica.keyspace == keyspace) {
            return Ok(());
        }
        self.check_room(group, keyspace)?;
        let place = members.iter().position(|key| *key == self.me).ok_or("not one of the initial members")?;
        let replica = Registered { group, keyspace: keyspace.into(), member: place as MemberId + 1, manual };
        registry::register(&self.engine, &replica).map_err(|error| error.to_string())?;
        let config = self.config(&replica);
        let created = Group::create(self.engine.clone(), config, members, cx.seed(), cx.now_ms);
        let created = created.map_err(|error| error.to_string())?;
        self.host(cx, group, replica.keyspace, created, manual);
        Ok(())
    }

    /// Creates the replica of a member that was added on this node. `members`: the nodes that the invitation names, and
    /// the one that sent it.
    pub fn join(
        &mut self,
        cx: &mut Context,
        invited: Registered,
        members: &[NodeKey],
        directory: &Directory,
    ) -> Joining {
        let (group, member) = (invited.group, invited.member);
        let hosts = members.iter().copied();
        if let Some(replica) = self.open.get_mut(&group).filter(|replica| replica.group.member() == member) {
            replica.group.introduce_hosts(hosts.clone());
        }
        // Member ids only grow: the member that is here was removed, and does not know it yet. Once it does,
        // the next invitation creates the new one.
        if let Some(replica) = self.open.get_mut(&group).filter(|replica| replica.group.member() < member) {
            replica.group.check_membership(members.iter().copied());
            self.ready.insert(group);
        }
        match self.may_rejoin(cx, group, directory) {
            Joining::Joined => {}
            not_yet => return not_yet,
        }
        if self.open.contains_key(&group) || self.dropped.contains(&group) || self.removals.contains(&group) {
            return Joining::Later;
        }
        if let Err(reason) = self.check_room(group, &invited.keyspace) {
            return Joining::Declined(reason);
        }
        // Rows of an earlier membership, which did not open. The leader repeats the invitation until the new
        // member replies, so there is time to remove them.
        if let Some(Unopened { keyspace, .. }) = self.unopened.remove(&group) {
            self.begin_removal(cx, group, keyspace);
            return Joining::Later;
        }
        let config = self.config(&invited);
        let seed = cx.seed();
        let joined =
            registry::register(&self.engine, &invited).map_err(|error| error.to_string()).and_then(|()| {
                Group::join(self.engine.clone(), config, hosts, seed, cx.now_ms)
                    .map_err(|error| error.to_string())
            });
        let Registered { keyspace, manual, .. } = invited;
        match joined {
            Ok(joined) => {
                self.host(cx, group, keyspace, joined, manual);
                Joining::Joined
            }
            Err(error) => {
                cx.notice(keyspace, Notice::NotOpened(error));
                Joining::Later
            }
        }
    }

    /// Notes that a node declines to be a member of a group.
    pub fn on_declined(&mut self, now_ms: u64, group: GroupId, node: NodeKey, reason: String) {
        if let Some(replica) = self.open.get_mut(&group)
            && replica.group.members().on(&node).is_some()
        {
            replica.declined.insert(node, now_ms);
            if replica.declined.len() > DECLINED_MAX {
                replica.declined.pop_first();
            }
        }
        self.step(now_ms, group, Input::Declined { node, reason });
    }

    fn check_room(&self, group: GroupId, keyspace: &str) -> Result<(), String> {
        if self.open.contains_key(&group) || registry::is_reserved(&group) {
            return Err("the group exists".into());
        }
        if self.dropped.contains(&group) {
            return Err("the group was dropped".into());
        }
        if self.asides.get(&group).is_some() {
            return Err("it keeps a removed replica of that group".into());
        }
        if self.removals.contains(&group) {
            return Err("it is still removing that group".into());
        }
        if self.of(keyspace).is_some() {
            return Err(format!("it has another keyspace {keyspace:?}"));
        }
        if self.open.len() >= REPLICAS_MAX {
            return Err(format!("it has {REPLICAS_MAX} keyspaces already"));
        }
        Ok(())
    }

    /// Gives a replica another name. Returns whether that is durable; if not, nothing has changed.
    pub fn rename(&mut self, cx: &mut Context, group: GroupId, name: &str) -> bool {
        let renamed = registry::registered(&self.engine).and_then(|all| {
            let Some(replica) = all.into_iter().find(|replica| replica.group == group) else { return Ok(()) };
            registry::register(&self.engine, &Registered { keyspace: name.into(), ..replica })
        });
        if let Err(error) = renamed {
            cx.notice(name.into(), Notice::NotOpened(format!("it cannot be renamed: {error}")));
            return false;
        }
        if let Some(replica) = self.open.get_mut(&group) {
            replica.keyspace = name.into();
            replica.published = None;
            replica.group.rename(name.into());
        }
        if let Some(unopened) = self.unopened.get_mut(&group) {
            unopened.keyspace = name.into();
        }
        true
    }

    /// Records that a group was dropped, so that this node has no replica of it again.
    pub fn note_dropped(&mut self, cx: &mut Context, group: GroupId) {
        if let Err(error) = self.dropped.add(&self.engine, group) {
            let keyspace = self.get(&group).map(|replica| replica.keyspace.clone()).unwrap_or_default();
            removals::report(cx, keyspace, &error);
        }
    }

    /// Closes a replica and removes its rows in portions. Returns whether there was one.
    pub fn remove(&mut self, cx: &mut Context, group: GroupId) -> bool {
        let closed = self.open.remove(&group).map(|replica| replica.keyspace);
        let unopened = || self.unopened.remove(&group).map(|unopened| unopened.keyspace);
        let Some(keyspace) = closed.or_else(unopened) else { return false };
        cx.timers.cancel(&Timer::Group(group));
        self.begin_removal(cx, group, keyspace);
        true
    }

    fn begin_removal(&mut self, cx: &mut Context, group: GroupId, keyspace: String) {
        self.removals.begin(cx, &self.engine, group, keyspace);
        self.plan_work(cx, group);
    }

    /// Passes an input to a replica; its outputs come with [`Replicas::poll_output`].
    pub fn step(&mut self, now_ms: u64, group: GroupId, input: Input) {
        if let Some(replica) = self.open.get_mut(&group) {
            replica.group.step(now_ms, input);
            self.ready.insert(group);
        }
    }

    /// Notifies the groups that this node shares with a peer that its link is gone.
    pub fn peer_down(&mut self, now_ms: u64, peer: NodeKey) {
        let shared = self.open.iter().filter(|(_, replica)| replica.group.members().on(&peer).is_some());
        for group in shared.map(|(group, _)| *group).collect::<Vec<_>>() {
            self.step(now_ms, group, Input::PeerDown(peer));
        }
    }

    /// The next output of any replica that had an input.
    pub fn poll_output(&mut self, cx: &mut Context) -> Option<(GroupId, Output)> {
        loop {
            let group = match self.draining {
                Some(group) => group,
                None => self.begin_draining(cx.now_ms)?,
            };
            if let Some(output) = self.open.get_mut(&group).and_then(|replica| replica.group.poll_output()) {
                return Some((group, output));
            }
            self.draining = None;
            self.set_timer(cx, group);
            self.plan_work(cx, group);
        }
    }

    fn begin_draining(&mut self, now_ms: u64) -> Option<GroupId> {
        let group = self.ready.pop_first()?;
        if let Some(replica) = self.open.get_mut(&group) {
            replica.group.process_ready(now_ms);
        }
        self.draining = Some(group);
        Some(group)
    }

    fn set_timer(&mut self, cx: &mut Context, group: GroupId) {
        if let Some(at) = self.open.get(&group).and_then(|replica| replica.group.poll_timeout()) {
            cx.timers.set(Timer::Group(group), Millis(at.max(cx.now_ms)));
        }
    }

    /// Plans a replica's next portion of background work, if it has any.
    fn plan_work(&mut self, cx: &mut Context, group: GroupId) {
        if let Some(pause_ms) = self.work_of(&group)
            && self.turns.add(group, pause_ms)
        {
            cx.timers.set_earlier(Timer::Work, Millis(cx.now_ms + pause_ms));
        }
    }

    /// How long the background work of a replica can wait, milliseconds; `None`: it has none.
    fn work_of(&self, group: &GroupId) -> Option<u64> {
        match self.open.get(group) {
            Some(replica) => replica.group.poll_work(),
            None => self.removals.poll_work(group),
        }
    }

    /// Lets the next replica do one portion of its background work.
    pub fn work(&mut self, cx: &mut Context) {
        let Some(group) = self.turns.next() else { return };
        if let Some(replica) = self.open.get_mut(&group) {
            replica.group.work();
            self.ready.insert(group);
        } else {
            self.removals.step(cx, &self.engine, group);
        }
        let mut soonest = None;
        for group in self.turns.take() {
            if let Some(pause_ms) = self.work_of(&group) {
                self.turns.add(group, pause_ms);
                soonest = Some(soonest.unwrap_or(pause_ms).min(pause_ms));
            }
        }
        if let Some(pause_ms) = soonest {
            cx.timers.set_earlier(Timer::Work, Millis(cx.now_ms + pause_ms));
        }
    }

    /// Asks the members of a group whose location does not name this node whether it is still one of them.
    pub fn check_membership(&mut self, location: &GroupLocation) {
        let me = self.me;
        let Some(replica) = self.open.get_mut(&location.group) else { return };
        let nodes = location.members.iter().map(|record| record.id.0);
        if location.term > replica.group.term() && !nodes.clone().any(|node| node == me) {
            replica.group.check_membership(nodes);
            self.ready.insert(location.group);
        }
    }

    /// Keyspaces without messages of their leader for long: this node may no longer be a member of them.
    pub fn lonely(&self, now_ms: u64) -> Vec<String> {
        let lonely = self.open.values().filter(|replica| replica.group.is_lonely(now_ms));
        lonely.map(|replica| replica.keyspace.clone()).collect()
    }

    /// Groups that this node leads.
    pub fn led(&self) -> Vec<GroupId> {
        self.open.iter().filter(|(_, replica)| replica.group.is_leader()).map(|(group, _)| *group).collect()
    }

    /// The location to publish, with its keyspace, if it is not the one that was published last.
    pub fn publish(&mut self, group: GroupId, directory: &Directory) -> Option<(String, GroupLocation)> {
        let location = self.location(group, directory)?;
        let replica = self.open.get_mut(&group)?;
        if replica.published.as_ref() == Some(&location) {
            return None;
        }
        replica.published = Some(location.clone());
        Some((replica.keyspace.clone(), location))
    }

    /// The keyspace of a group whose location this node published. The location counts as withdrawn from now
    /// on.
    pub fn unpublish(&mut self, group: &GroupId) -> Option<String> {
        let replica = self.open.get_mut(group)?;
        replica.published.take().map(|_| replica.keyspace.clone())
    }
}
