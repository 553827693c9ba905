//! The faults of machines and of the network between them.

use std::collections::BTreeSet;

use starling_strong::group::wire::{Kind, RaftMessage};
use starling_strong::group::{Group, GroupMessage, Input, OpenError, Output, Stop};
use starling_strong::log::{Log, LogError};
use starling_strong::members::{MemberId, NodeKey};

use super::disk::Disk;
use super::{Event, GROUP, Treachery, World, index, key};

impl World {
    /// Sets the rate of a node's clock, in per mille. It does not jump: that of a process
    /// counts the time that passes.
    pub fn set_rate(&mut self, node: usize, rate: u64) {
        let before = self.clock(node);
        self.nodes[node].rate = rate;
        let after = self.clock(node);
        self.nodes[node].epoch_ms += before.cast_signed() - after.cast_signed();
        self.wake(node);
    }

    /// Suspends a process for a while. Messages to it arrive when it continues.
    pub fn pause(&mut self, node: usize, ms: u64) {
        self.nodes[node].paused_until = self.nodes[node].paused_until.max(self.now_ms + ms);
    }

    pub(super) fn is_paused(&self, node: usize) -> bool {
        self.now_ms < self.nodes[node].paused_until
    }

    /// Kills the process on a node; with `power_cut`, of what was not synced only a part is left.
    pub fn kill(&mut self, node: usize, power_cut: bool) {
        let loses_all = self.syncs_lie || self.below(2) == 0;
        self.lose(node, power_cut, loses_all);
        self.put_down(node);
    }

    /// Replaces the disk of a node by what a crash leaves of it.
    pub fn lose(&mut self, node: usize, power_cut: bool, loses_all: bool) {
        let disk = self.nodes[node].disk.clone();
        let mut draw = |most: u64| if loses_all { 0 } else { self.below(most + 1) };
        let left = if power_cut { disk.after_power_cut(&mut draw) } else { disk.after_kill(&mut draw) };
        self.nodes[node].disk = left;
    }

    /// Kills the process on a node whose disk then damages a record of the log. (After a power failure too, damage to the
    /// records of the last sync would look like a torn end.)
    pub fn tear(&mut self, node: usize) {
        self.lose(node, false, false);
        let at = self.below(u64::MAX);
        self.nodes[node].was_torn = self.nodes[node].disk.damage(at);
        self.put_down(node);
    }

    /// Ends the process on a node.
    pub fn put_down(&mut self, node: usize) {
        self.nodes[node].group = None;
        self.nodes[node].is_down = true;
        self.nodes[node].life += 1;
        self.nodes[node].wake_at = 0;
        self.nodes[node].paused_until = 0;
        self.nodes[node].disk.repair();
    }

    /// A copy of what is durable on a node's disk, and its member.
    pub fn copy(&self, node: usize) -> (Disk, Option<MemberId>) {
        (self.nodes[node].disk.after_power_cut(&mut |_| 0), self.nodes[node].member)
    }

    /// Starts a node again with an earlier copy of its disk, unless it has had another member since.
    pub fn put_back(&mut self, node: usize, (disk, member): &(Disk, Option<MemberId>)) {
        self.put_down(node);
        if self.nodes[node].member == *member {
            self.nodes[node].disk = disk.after_power_cut(&mut |_| 0);
        }
        self.start(node);
    }

    /// Changes what a replica holds of a key.
    pub fn corrupt(&mut self, node: usize, key: u8) {
        self.nodes[node].is_corrupt = true;
        self.nodes[node].disk.corrupt(&[key]);
    }

    /// Whether a node has found that its replica differs from the others.
    pub fn has_diverged(&self, node: usize) -> bool {
        let group = self.nodes[node].group.as_ref();
        group.is_some_and(|group| group.status(0).stopped == Some(Stop::Diverged))
    }

    /// Notifies the others that their links to a node broke.
    pub fn break_links(&mut self, node: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.feed(other, Input::PeerDown(key(node)));
        }
    }

    /// Starts a killed node again. A log that was damaged does not open: its node is lost as a member, and
    /// may be invited as another one.
    pub fn start(&mut self, node: usize) {
        self.nodes[node].is_down = false;
        self.nodes[node].disk.repair();
        let Some(member) = self.nodes[node].member else { return };
        let (seed, now) = (self.seed(), self.clock(node));
        let disk = self.nodes[node].disk.clone();
        // Opened again after the damage.
        let disk = if self.nodes[node].was_torn { disk.after_kill(&mut |_| 0) } else { disk };
        self.nodes[node].disk = disk.clone();
        if disk.has_lost_records() {
            Log::mark_lost(&disk, &GROUP).expect("memory");
        }
        match Group::open(disk, self.config(node, member), seed, now) {
            Ok(Some(group)) => self.adopt(node, group),
            // It was invited and lost its power before it had said anything: it is invited again.
            Ok(None) => self.nodes[node].member = None,
            Err(OpenError::Log(LogError::Lost | LogError::Damaged { .. } | LogError::Truncated { .. }))
                if self.nodes[node].was_torn =>
            {
                self.lost += 1;
                self.nodes[node].is_lost = true;
                self.nodes[node].member = None;
            }
            Err(error) => panic!("node {node} does not open: {error}"),
        }
    }

    /// All lose power at once, and come back.
    pub fn cut_power(&mut self) {
        for node in 0..self.nodes.len() {
            if self.is_up(node) {
                self.kill(node, true);
            }
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_down {
                self.start(node);
            }
        }
    }

    /// Cuts these off from all others, both ways.
    pub fn cut_off(&mut self, some: &[usize]) {
        for inside in some {
            for outside in (0..self.nodes.len()).filter(|node| !some.contains(node)) {
                self.blocked.extend([(*inside, outside), (outside, *inside)]);
            }
        }
    }

    /// See [`Treachery::Answers`].
    pub(super) fn betray_answer(&mut self, output: &Output) {
        let is_answer = matches!(output, Output::Answer { result: Ok(_), .. });
        if self.treachery == Some(Treachery::Answers) && is_answer && self.below(40) == 0 {
            self.schedule(self.now_ms, Event::PowerCut);
        }
    }

    /// See [`Treachery::Changes`].
    pub(super) fn betray_change(&mut self, node: usize) {
        let Some(group) = &self.nodes[node].group else { return };
        let members = group.members();
        let now: BTreeSet<NodeKey> =
            members.voters.iter().filter_map(|voter| members.nodes.get(voter)).copied().collect();
        let is_leader = group.is_leader();
        let before = std::mem::replace(&mut self.nodes[node].voters, now.clone());
        if self.treachery == Some(Treachery::Changes) && is_leader && !before.is_empty() && before != now {
            let left: Vec<usize> = before.iter().map(index).filter(|other| *other != node).collect();
            self.cut_off(&left);
            self.betrayed.1 += 1;
            self.schedule(self.now_ms + 2_500, Event::Unblock);
        }
    }

    /// See [`Treachery::Voters`].
    pub(super) fn betray_voter(&mut self, from: usize, to: usize, message: &GroupMessage) {
        let gives_vote =
            matches!(message, GroupMessage::Raft(RaftMessage { kind: Kind::VoteReply, reject: false, .. }));
        if self.treachery == Some(Treachery::Voters) && gives_vote && self.below(4) > 0 {
            let (at, life) = (self.now_ms + 1, self.nodes[from].life);
            self.betrayed.0 += 1;
            self.schedule(at, Event::Restart { node: from, life });
            if self.below(2) == 0 {
                self.hide_candidate(to, from);
            }
        }
    }

    /// Lets a candidate receive the vote, but send nothing: others campaign in the same term, and ask the voter.
    fn hide_candidate(&mut self, candidate: usize, voter: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != candidate) {
            self.blocked.insert((candidate, other));
            if other != voter {
                self.blocked.insert((other, candidate));
            }
            if other != voter && self.nodes[other].is_down {
                self.start(other);
            }
        }
        self.schedule(self.now_ms + 2_500, Event::Unblock);
    }
}
