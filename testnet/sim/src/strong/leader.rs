//! The leader: when it was lost, and how long writes then took; and who is to be voter.

use std::collections::BTreeSet;

use rand::seq::IteratorRandom;
use starling_core::Input;
use starling_core::strong::StrongInput;

use super::Strong;
use crate::scenario::STRONG_KEYSPACE;
use crate::world::World;

/// Losses of leaders, and what followed.
#[derive(Debug, Default)]
pub struct Leaders {
    /// Who led, and over which voters, before the fault that is about to happen.
    before: Option<(usize, BTreeSet<usize>)>,
    /// When leaders were lost and no write has followed yet, microseconds.
    lost_us: Vec<u64>,
    /// How often one was lost.
    pub losses: u64,
    /// Microseconds from a loss to the next write that was sent later.
    pub next_write_us: Vec<u64>,
    terms: BTreeSet<u64>,
}

impl Leaders {
    /// Somebody leads.
    pub fn elected(&mut self, term: u64) {
        self.terms.insert(term);
    }

    /// Terms that had a leader.
    pub fn elections(&self) -> u64 {
        self.terms.len() as u64
    }

    /// A write was acknowledged.
    pub fn written(&mut self, start_us: u64, now_us: u64) {
        let next = &mut self.next_write_us;
        self.lost_us.retain(|lost_us| {
            let follows = start_us >= *lost_us;
            next.extend(follows.then(|| now_us - lost_us));
            !follows
        });
    }

    /// What is not known by now is none of the fault's doing: everything heals.
    pub fn give_up(&mut self) {
        self.lost_us.clear();
    }
}

impl Strong {
    pub(crate) fn before_fault(&mut self, world: &mut World) {
        let (_, voters) = world.members(STRONG_KEYSPACE);
        let leader = world.leader(STRONG_KEYSPACE).filter(|leader| world.reaches_most(*leader, &voters));
        self.leaders.before = leader.map(|leader| (leader, voters));
    }

    pub(crate) fn after_fault(&mut self, world: &mut World) {
        let Some((leader, voters)) = self.leaders.before.take() else { return };
        // Where no majority is left, the time until the next write is the fault's and not the election's.
        let others: BTreeSet<usize> = voters.iter().copied().filter(|node| *node != leader).collect();
        let lives_on = others.iter().any(|other| world.reaches_most(*other, &voters));
        if !world.reaches_most(leader, &voters) && lives_on {
            self.leaders.losses += 1;
            self.leaders.lost_us.push(world.now_us());
        }
    }

    /// One voter that does not lead makes room for a live node that is none.
    pub(crate) fn replace_voter(&mut self, world: &mut World) {
        let Some(leader) = world.leader(STRONG_KEYSPACE) else { return };
        let (members, mut voters) = world.members(STRONG_KEYSPACE);
        let leaves = voters.iter().copied().filter(|node| *node != leader).choose(&mut self.rng);
        let fits =
            |node: &usize| world.is_up(*node) && world.nodes[*node].is_replica() && !members.contains(node);
        let comes = (0..world.nodes.len()).filter(fits).choose(&mut self.rng);
        let (Some(leaves), Some(comes)) = (leaves, comes) else { return };
        voters.remove(&leaves);
        voters.insert(comes);
        let nodes = voters.into_iter().map(|node| world.nodes[node].record.id).collect();
        let token = self.token();
        world.ask(
            leader,
            Input::Strong(StrongInput::SetVoters { token, keyspace: STRONG_KEYSPACE.into(), nodes }),
        );
    }

    /// The leader hands over to another voter.
    pub(crate) fn transfer_leader(&mut self, world: &mut World) {
        let Some(leader) = world.leader(STRONG_KEYSPACE) else { return };
        let (_, voters) = world.members(STRONG_KEYSPACE);
        let Some(to) = voters.into_iter().filter(|node| *node != leader).choose(&mut self.rng) else {
            return;
        };
        let (token, to) = (self.token(), world.nodes[to].record.id);
        world.ask(
            leader,
            Input::Strong(StrongInput::Transfer { token, keyspace: STRONG_KEYSPACE.into(), to }),
        );
    }
}
