//! An operator that changes the voters all the while: it replaces lost ones, grows, shrinks and moves the group, and
//! transfers leadership.

use std::collections::BTreeSet;

use starling_strong::group::{Group, Input, MemberStatus};

use super::disk::Disk;
use super::{World, key};

/// Tokens of its requests are above this.
const TOKENS: u64 = 1 << 50;

#[derive(Default)]
pub struct Operator {
    count: u64,
    /// Voters there are to be, at most.
    voters_max: usize,
    pub stop: bool,
}

impl World {
    /// Stands for gossip: nodes without a leader learn the group's location.
    pub fn gossip(&mut self) {
        let Some(members) = members(self) else { return };
        for node in 0..self.nodes.len() {
            let now = self.clock(node);
            let Some(group) = &mut self.nodes[node].group else { continue };
            if group.is_lonely(now) && !members.contains(&node) {
                group.check_membership(members.iter().map(|member| key(*member)));
                self.carry_out(node);
            }
        }
    }
}

/// Begins to change voters, whose number is from 3 to the given one.
pub fn begin(world: &mut World, voters_max: usize) {
    world.operator = Operator { voters_max, ..Operator::default() };
    world.schedule_operator(1_000);
}

/// Whether one member can be lost now, and replaced: there are three voters at least, all of them there,
/// whichever member is asked. A leader that has just been elected may not have applied yet who the others are.
pub fn can_spare_one(world: &mut World) -> bool {
    let has_leader = world.leader().is_some();
    let are_there = |it: &MemberStatus| world.is_up(usize::from(it.node[0]) - 1);
    let can_spare = |group: &Group<Disk>| {
        let status = group.status(0);
        let voters = status.members.iter().filter(|it| it.is_voter);
        !status.is_changing && voters.count() >= 3 && status.members.iter().all(are_there)
    };
    has_leader && world.nodes.iter().filter_map(|node| node.group.as_ref()).all(can_spare)
}

/// The nodes of the members, as the leader sees them.
pub fn members(world: &mut World) -> Option<BTreeSet<usize>> {
    let leader = world.leader()?;
    let group = world.nodes[leader].group.as_ref()?;
    Some(group.members().nodes.values().map(|node| usize::from(node[0]) - 1).collect())
}

/// Whether a member was lost and has not been replaced.
pub fn misses_one(world: &mut World) -> bool {
    let lost: BTreeSet<usize> = (0..world.nodes.len()).filter(|node| world.nodes[*node].is_lost).collect();
    !lost.is_empty() && members(world).is_none_or(|members| !members.is_disjoint(&lost))
}

pub fn turn(world: &mut World) {
    let pause = 500 + world.below(3_000);
    world.schedule_operator(pause);
    world.gossip();
    let Some(leader) = world.leader() else { return };
    let Some(members) = members(world) else { return };
    let count = world.nodes.len() as u64;
    world.operator.count += 1;
    let token = TOKENS + world.operator.count;
    let lost: BTreeSet<usize> = members.iter().copied().filter(|node| world.nodes[*node].is_lost).collect();
    if !lost.is_empty() {
        let nodes = members.difference(&lost).map(|node| key(*node)).collect();
        world.feed(leader, Input::SetVoters { token, nodes });
        return;
    }
    if world.operator.stop {
        return;
    }
    match world.below(4) {
        0 => {
            let to = key(world.below(count) as usize);
            world.feed(leader, Input::Transfer { token, to });
        }
        1 => {
            let size = 3 + world.below(world.operator.voters_max as u64 - 2);
            change(world, leader, size);
        }
        _ => {}
    }
}

/// One voter that does not lead makes room for a machine that is none.
pub fn swap(world: &mut World) {
    let Some(leader) = world.leader() else { return };
    let mut nodes = voters(world, leader);
    let others: Vec<usize> = (0..world.nodes.len()).filter(|node| !nodes.contains(node)).collect();
    let leaves: Vec<usize> = nodes.iter().copied().filter(|node| *node != leader).collect();
    if others.is_empty() || leaves.is_empty() {
        return;
    }
    let leaves = leaves[world.below(leaves.len() as u64) as usize];
    nodes.retain(|node| *node != leaves);
    nodes.push(others[world.below(others.len() as u64) as usize]);
    set_voters(world, leader, nodes);
}

/// Makes consecutive machines the voters, beginning at a random one.
fn change(world: &mut World, leader: usize, size: u64) {
    let count = world.nodes.len() as u64;
    let first = world.below(count);
    set_voters(world, leader, (first..first + size).map(|node| (node % count) as usize).collect());
}

fn set_voters(world: &mut World, leader: usize, nodes: Vec<usize>) {
    world.operator.count += 1;
    let token = TOKENS + world.operator.count;
    let nodes = nodes.into_iter().map(key).collect();
    world.feed(leader, Input::SetVoters { token, nodes });
}

/// The nodes of the voters, as one of them sees it.
pub fn voters(world: &World, node: usize) -> Vec<usize> {
    let Some(group) = &world.nodes[node].group else { return Vec::new() };
    let voters = group.status(0).members.into_iter().filter(|member| member.is_voter);
    voters.map(|member| usize::from(member.node[0]) - 1).collect()
}
