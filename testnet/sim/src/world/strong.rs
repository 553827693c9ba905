//! Strong keyspaces on the nodes: what their disks have synced, and what they tell their clients.

use std::collections::{BTreeSet, VecDeque};

use rand::RngExt;
use starling_core::Input;
use starling_core::strong::{
    CreateError, GroupLocation, StrongConfig, StrongMessage, StrongOutput, encode_frames,
};
use starling_kv::MemoryEngine;
use starling_proto::{Message, NodeId};
use starling_strong::api::{Answer, Failure, Member, WatchUpdate};
use starling_strong::group::{Group, GroupId, Notice};
use starling_strong::log::Log;
use starling_strong::machine::DATED;
use starling_strong::registry::{self, Registered};

use super::{Event, World};
use crate::scenario::StrongLoad;

/// The task that [`World::advance`] comes back with when there is something to [`World::listen`] to.
pub const HEARD: u32 = 0;

/// What a node says to those who use its strong keyspaces, or of itself.
#[allow(missing_docs, reason = "each variant's docs explain its fields")]
#[derive(Debug)]
pub enum Heard {
    /// A request is answered.
    Answer { token: u64, result: Result<Answer, Failure> },
    /// A watch is told something.
    Update { token: u64, update: WatchUpdate },
    /// A keyspace is made, or not.
    Created { token: u64, result: Result<GroupLocation, CreateError> },
    /// Somebody leads from this term on.
    Leader { term: u64 },
    /// Something is wrong with its part of a keyspace's group that nothing here does to it.
    Unsound { keyspace: String, notice: Notice },
    /// Its process has ended.
    Down,
}

/// How the nodes' strong sides run.
pub(super) struct Strong {
    replace_ms: u64,
    /// How long a sync takes: between these two, microseconds.
    sync_us: [u64; 2],
    heard: VecDeque<(usize, Heard)>,
}

impl Strong {
    pub(super) fn new(load: &StrongLoad) -> Self {
        let us = |ms: f64| (ms * 1000.0) as u64;
        Self {
            replace_ms: (load.replace_s * 1000.0) as u64,
            sync_us: load.sync_ms.map(us),
            heard: VecDeque::new(),
        }
    }
}

impl World {
    pub(super) fn open_strong(&mut self, index: usize) {
        let Some(Strong { replace_ms, .. }) = self.strong else { return };
        if !self.nodes[index].is_replica() {
            return;
        }
        let seed = self.draw_seed();
        let node = &mut self.nodes[index];
        let (engine, now) = (node.strong.clone(), node.now(self.now_us));
        if let Some(core) = &mut node.core {
            let config = StrongConfig { replace_ms: Some(replace_ms), ..StrongConfig::default() };
            core.open_strong(engine, config, seed, now).expect("a memory engine opens");
        }
    }

    /// Of what was not synced a part is left, or nothing.
    pub(super) fn cut_strong_power(&mut self, index: usize) {
        self.lose_strong(index, true);
    }

    /// Of what was neither logged nor flushed a part is left, or nothing.
    pub(super) fn kill_strong(&mut self, index: usize) {
        self.lose_strong(index, false);
    }

    /// Keeps a copy of what is durable on the disk of the strong keyspaces.
    pub(crate) fn copy_strong_disk(&mut self, index: usize) {
        if self.strong.is_some() && self.nodes[index].is_up() {
            self.nodes[index].old_strong = Some(self.nodes[index].strong.after_power_cut(&mut |_| 0));
        }
    }

    /// Puts the kept copy in the place of a node's disk, if it has the same members still, and their groups survive that.
    pub(crate) fn put_old_copy_back(&mut self, index: usize) {
        if self.nodes[index].is_up() {
            return;
        }
        self.nodes[index].may_lack_promises = false;
        let Some(copy) = self.nodes[index].old_strong.take() else { return };
        let is_same = registered(&copy) == registered(&self.nodes[index].strong);
        if is_same && !self.was_replaced(index) && self.survives_lost_promises(index) {
            self.nodes[index].strong = copy;
            self.nodes[index].may_lack_promises = true;
        }
    }

    /// Whether every group with a member on a node's disk survives that this member comes back without some of what it has
    /// acknowledged: all other voters, two at least, are there and hear each other, and none of them has come back like this
    /// and not caught up, or has another process with its identity.
    pub(super) fn survives_lost_promises(&mut self, index: usize) -> bool {
        let disk = self.nodes[index].strong.clone();
        let is_aside =
            |group: &GroupId| Log::aside_since(&disk, group).expect("a memory engine reads").is_some();
        let groups: Vec<GroupId> =
            registered(&disk).into_iter().map(|it| it.group).filter(|group| !is_aside(group)).collect();
        let is_calm = self.cuts.is_empty() && self.links.drop == 0.0 && self.links.clog.is_none();
        groups.is_empty() || (is_calm && groups.into_iter().all(|group| self.spares_promises(index, group)))
    }

    fn spares_promises(&mut self, index: usize, group: GroupId) -> bool {
        let id = self.nodes[index].record.id;
        let (_, voters) = self.members_of(group);
        let others: Vec<usize> =
            voters.into_iter().filter(|voter| self.nodes[*voter].record.id != id).collect();
        let runs = |node: usize| self.nodes[node].is_up() && self.nodes[node].stalled_until_us <= self.now_us;
        let is_whole =
            |node: usize| runs(node) && !self.lacks_promises(node, group) && !self.has_double(node);
        // Two at least, of whom either may have acknowledged what this member lacks.
        others.len() > 1 && others.into_iter().all(is_whole)
    }

    /// Whether a node has come back without what it had acknowledged to a group, and may lack it still.
    fn lacks_promises(&self, index: usize, group: GroupId) -> bool {
        self.nodes[index].may_lack_promises
            && self
                .group_with(index, group)
                .is_none_or(|member| !member.takes_part() || member.rollback().is_some_and(|it| it.is_behind))
    }

    /// Whether a node that has come back without what it had acknowledged asks the others what that is.
    pub(crate) fn is_recalling(&self) -> bool {
        (0..self.nodes.len()).filter(|index| self.nodes[*index].may_lack_promises).any(|index| {
            let strong = self.nodes[index].core.as_ref().and_then(|core| core.strong());
            let groups = strong.into_iter().flat_map(starling_core::strong::Strong::groups);
            let asks = |group| self.group_with(index, group).is_some_and(|member| !member.takes_part());
            // One that gave way to another process asks nothing.
            self.process_of(&self.nodes[index].record.id) == index && groups.map(|it| *it.0).any(asks)
        })
    }

    fn group_with(&self, index: usize, group: GroupId) -> Option<&Group<MemoryEngine>> {
        self.nodes[index].core.as_ref()?.strong()?.member_of(&self.name_of(index, group)?)
    }

    /// The name under which a node has a replica of a group.
    fn name_of(&self, index: usize, group: GroupId) -> Option<String> {
        let strong = self.nodes[index].core.as_ref()?.strong()?;
        strong.groups().find(|(id, _)| **id == group).map(|(_, name)| name.to_owned())
    }

    fn lose_strong(&mut self, index: usize, power: bool) {
        if self.strong.is_none() {
            return;
        }
        let loses_all = self.rng.random_bool(0.5);
        let disk = self.nodes[index].strong.clone();
        let mut draw = |most: u64| if loses_all { 0 } else { self.rng.random_range(0..=most) };
        let left = if power { disk.after_power_cut(&mut draw) } else { disk.after_kill(&mut draw) };
        assert_eq!(left.lost_records(), None, "the end of a journal was taken for damage");
        self.nodes[index].strong = left;
    }

    /// The disk begins to sync what was written by now.
    pub(super) fn sync(&mut self, index: usize, number: u64) {
        let Some(Strong { sync_us: [least, most], .. }) = self.strong else { return };
        let at_us = self.now_us + self.rng.random_range(least..=most);
        let node = &mut self.nodes[index];
        node.syncing = Some((number, node.strong.pending()));
        self.queue.push(at_us, Event::Synced { node: index as u32, life: node.life });
    }

    pub(super) fn on_synced(&mut self, index: usize, life: u32) {
        let node = &mut self.nodes[index];
        // A power cut takes what is under way.
        if node.life != life || node.core.is_none() {
            return;
        }
        if let Some((number, pending)) = node.syncing.take() {
            node.strong.synced(&pending);
            self.trace.add(11, self.now_us, index as u64);
            self.give(index, Input::Synced(number));
        }
    }

    /// Shows the witness what a node wrote without being asked, before others hear of it.
    pub(super) fn note_own_writes(&mut self, index: usize) {
        if self.strong.is_none() {
            return;
        }
        if let (Some(witness), Some(store)) = (&mut self.witness, self.nodes[index].store()) {
            witness.wrote_itself(index, store, self.now_us);
        }
    }

    /// Notes what a node said, and has it listened to.
    pub(super) fn hear(&mut self, index: usize, what: Heard) {
        let Some(strong) = &mut self.strong else { return };
        if strong.heard.is_empty() {
            self.queue.push(self.now_us, Event::Task { task: HEARD });
        }
        strong.heard.push_back((index, what));
    }

    pub(super) fn on_strong_output(&mut self, index: usize, output: StrongOutput) {
        match output {
            StrongOutput::Answer { token, result } => self.hear(index, Heard::Answer { token, result }),
            StrongOutput::Update { token, update } => self.hear(index, Heard::Update { token, update }),
            StrongOutput::Created { token, result } => {
                self.hear(index, Heard::Created { token, result });
            }
            // No client here waits for the outcome of a change of voters, or asks for a status or a survey.
            StrongOutput::Managed { .. } | StrongOutput::Status { .. } | StrongOutput::Surveyed { .. } => {}
        }
    }

    pub(super) fn on_strong_notice(&mut self, index: usize, keyspace: &str, notice: &Notice) {
        match notice {
            Notice::Leader { term, node: Some(_) } => self.hear(index, Heard::Leader { term: *term }),
            // What was said to a leader that has lost its power since, with the end of its log, is ignored; so is what
            // becomes of the replica of a voter that was replaced.
            Notice::Leader { node: None, .. }
            | Notice::Impossible { .. }
            | Notice::Asked { .. }
            // The creation of a group has failed that this one is left over from; the end of any other one would be noticed
            // by its clients.
            | Notice::Dropped
            | Notice::KeptAside { .. }
            // An older copy of its disk was put back.
            | Notice::RolledBack { .. }
            | Notice::MemberRolledBack { .. }
            | Notice::AsideRemoved { .. } => {}
            notice => {
                let (keyspace, notice) = (keyspace.into(), notice.clone());
                self.hear(index, Heard::Unsound { keyspace, notice });
            }
        }
    }

    /// The next thing that a node said, in order.
    pub fn listen(&mut self) -> Option<(usize, Heard)> {
        self.strong.as_mut()?.heard.pop_front()
    }

    /// A client's input; `false`: the node is down.
    pub fn ask(&mut self, index: usize, input: Input) -> bool {
        let is_up = self.nodes[index].is_up();
        if is_up {
            self.trace.add(12, self.now_us, index as u64);
            self.give(index, input);
        }
        is_up
    }

    /// Whether a node has a link to a member of a keyspace's group that does not know it, and handles what it sends.
    pub(crate) fn is_stranger(&self, from: usize, to: usize, keyspace: &str) -> bool {
        let id = self.nodes[from].record.id;
        let is_linked = self.nodes[to].core.as_ref().is_some_and(|core| core.is_linked(&id));
        let knows = self.replica_of(to, keyspace).is_none_or(|(_, member)| member.knows(&id.0));
        is_linked && !knows && self.nodes[to].stalled_until_us <= self.now_us
    }

    /// A node's replica of a keyspace.
    pub(crate) fn replica_of(&self, index: usize, keyspace: &str) -> Option<(GroupId, &Group<MemoryEngine>)> {
        let group = self.group_of(index, keyspace)?;
        Some((group, self.group_with(index, group)?))
    }

    /// Whether a node has recorded that a group was dropped.
    pub(crate) fn has_dropped(&self, index: usize, group: GroupId) -> bool {
        registry::dropped(&self.nodes[index].strong).expect("a memory engine reads").contains_key(&group)
    }

    /// A node gets a message of another one, over a link that both have.
    pub(crate) fn hand_over(&mut self, from: usize, to: usize, message: StrongMessage) {
        for frame in encode_frames(&[message]) {
            self.give_message(to, from, Message::Strong(frame));
        }
    }

    /// The node that leads a keyspace's group in the newest term, among those whose process runs.
    pub fn leader(&mut self, keyspace: &str) -> Option<usize> {
        let leads = |world: &Self, node: usize| {
            world.nodes[node].core.as_ref().is_some_and(|core| core.leads(keyspace))
        };
        let leaders: Vec<usize> = (0..self.nodes.len()).filter(|node| leads(self, *node)).collect();
        leaders.into_iter().max_by_key(|node| {
            let group = self.group_of(*node, keyspace)?;
            self.standing(*node, group).map(|(term, ..)| term)
        })
    }

    /// Whether a node is a member of a keyspace's group.
    pub fn is_member(&self, index: usize, keyspace: &str) -> bool {
        self.group_of(index, keyspace).is_some()
    }

    /// Whether every live replica knows that nodes decide which of several groups has a name: the first node of the network
    /// may have been lost with the data version that it put in force.
    pub(crate) fn decides_names(&self) -> bool {
        let mut replicas =
            self.nodes.iter().filter(|node| node.is_replica()).filter_map(|node| node.core.as_ref());
        replicas.all(|core| core.data_in_force() >= DATED)
    }

    /// Whether a node is a voter of any group.
    pub(crate) fn votes(&self, index: usize) -> bool {
        let strong = self.nodes[index].core.as_ref().and_then(|core| core.strong());
        strong.is_some_and(|strong| strong.votes().next().is_some())
    }

    fn group_of(&self, index: usize, keyspace: &str) -> Option<GroupId> {
        let strong = self.nodes[index].core.as_ref()?.strong()?;
        strong.groups().find(|(_, name)| *name == keyspace).map(|(group, _)| *group)
    }

    /// Term, applied entries and members of a group, as the member on a node knows them.
    fn standing(&mut self, index: usize, group: GroupId) -> Option<(u64, u64, Vec<Member>)> {
        let node = &mut self.nodes[index];
        let now_ms = node.now(self.now_us).mono.0;
        let status = node.core.as_mut()?.strong_mut()?.status_of(now_ms, group)?;
        Some((status.term, status.applied_index, status.members))
    }

    /// The nodes of all members of a keyspace's group and of the voters among them, as the live member knows them that has
    /// applied the most.
    pub fn members(&mut self, keyspace: &str) -> (BTreeSet<usize>, BTreeSet<usize>) {
        let all = (0..self.nodes.len()).filter_map(|node| Some((node, self.group_of(node, keyspace)?)));
        self.newest_members(all.collect())
    }

    /// The nodes of all members of a group, whatever its keyspace is called, and of the voters among them.
    pub fn members_of(&mut self, group: GroupId) -> (BTreeSet<usize>, BTreeSet<usize>) {
        self.newest_members((0..self.nodes.len()).map(|node| (node, group)).collect())
    }

    fn newest_members(&mut self, of: Vec<(usize, GroupId)>) -> (BTreeSet<usize>, BTreeSet<usize>) {
        let standings = of.into_iter().filter_map(|(node, group)| self.standing(node, group));
        let newest = standings.max_by_key(|(term, applied, _)| (*applied, *term));
        let members = newest.map(|(.., members)| members).unwrap_or_default();
        let node = |member: &Member| self.process_of(&NodeId(member.node));
        (
            members.iter().map(node).collect(),
            members.iter().filter(|member| !member.learner).map(node).collect(),
        )
    }

    /// Whether a node runs and reaches most of these, both ways.
    pub fn reaches_most(&self, index: usize, nodes: &BTreeSet<usize>) -> bool {
        let runs = |node: usize| self.nodes[node].is_up() && self.nodes[node].stalled_until_us <= self.now_us;
        let is_reached = |other: &&usize| {
            runs(**other)
                && (**other == index || !(self.is_cut(index, **other) || self.is_cut(**other, index)))
        };
        runs(index) && 2 * nodes.iter().filter(is_reached).count() > nodes.len()
    }

    /// Whether a node's process runs.
    pub fn is_up(&self, index: usize) -> bool {
        self.nodes[index].is_up()
    }
}

/// The members of groups on a disk.
pub(super) fn registered(disk: &MemoryEngine) -> Vec<Registered> {
    registry::registered(disk).expect("a memory engine reads")
}
