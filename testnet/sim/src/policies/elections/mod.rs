//! Elections of a leader: the textbooks' protocols and the node's own, under the same faults, counted and judged in
//! the same way.
//!
//! Each protocol is a [`machine::Machine`] for one node, without clock and network. `network` runs the machines of
//! all nodes through a [`Scenario`], and [`judge`] watches. Equal seeds give equal runs.

pub mod bully;
mod clockwise;
mod counts;
pub mod judge;
pub mod machine;
mod measure;
pub mod modified_ring;
mod network;
pub mod paxos;
pub mod raft;
pub mod ring;
mod scenario;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use counts::{Count, counts};
pub use judge::{Broken, Ending, Outcome};
pub use measure::{FAILURES, Failure, Summary, find, measure};
pub use scenario::{Begins, Crash, Order, Partition, Scenario, Slow, Who};

use bully::Bully;
use machine::{Machine, Members};
use modified_ring::ModifiedRing;
use network::Network;
use paxos::{Choice, Manner, Paxos};
use raft::VOTERS_MAX;
use rand::Rng;
use ring::{Ring, Variant};

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// [`ring`], as it was published.
    Ring,
    /// [`ring`], with candidates checked and elections repeated.
    RingChecked,
    /// [`modified_ring`].
    ModifiedRing,
    /// [`bully`].
    Bully,
    /// Paxos with proposers that duel.
    PaxosDuel,
    /// Paxos with proposers that back off.
    Paxos,
    /// Paxos with proposers that yield to a distinguished one.
    PaxosStable,
    /// Paxos with the highest value taken instead of that of the highest ballot: a planted mistake.
    PaxosMistaken,
    /// [`raft`]: the node's own.
    Raft,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Ring,
        Self::RingChecked,
        Self::ModifiedRing,
        Self::Bully,
        Self::PaxosDuel,
        Self::Paxos,
        Self::PaxosStable,
        Self::PaxosMistaken,
        Self::Raft,
    ];

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::RingChecked => "ring, checked",
            Self::ModifiedRing => "modified ring",
            Self::Bully => "bully",
            Self::PaxosDuel => "Paxos, duelling",
            Self::Paxos => "Paxos, backing off",
            Self::PaxosStable => "Paxos, stable leader",
            Self::PaxosMistaken => "Paxos, mistaken",
            Self::Raft => "Raft (the node's own)",
        }
    }

    /// Runs one election.
    pub fn run(self, scenario: &Scenario, seed: u64) -> Outcome {
        self.play(scenario, seed, false).0
    }

    /// Runs one election, and returns a line for each event.
    pub fn transcript(self, scenario: &Scenario, seed: u64) -> (Outcome, Vec<String>) {
        self.play(scenario, seed, true)
    }

    fn play(self, scenario: &Scenario, seed: u64, recorded: bool) -> (Outcome, Vec<String>) {
        match self {
            Self::Ring => each(scenario, seed, recorded, |m, _| Ring::new(Variant::Plain, m)),
            Self::RingChecked => each(scenario, seed, recorded, |m, _| Ring::new(Variant::Checked, m)),
            Self::ModifiedRing => each(scenario, seed, recorded, |m, _| ModifiedRing::new(m)),
            Self::Bully => each(scenario, seed, recorded, |m, _| Bully::new(m)),
            Self::PaxosDuel => paxos(scenario, seed, recorded, Manner::Duel, Choice::HighestBallot),
            Self::Paxos => paxos(scenario, seed, recorded, Manner::BackOff, Choice::HighestBallot),
            Self::PaxosStable => paxos(scenario, seed, recorded, Manner::Yield, Choice::HighestBallot),
            Self::PaxosMistaken => paxos(scenario, seed, recorded, Manner::BackOff, Choice::HighestValue),
            Self::Raft => {
                Network::new(scenario, seed, |cast, members, rng| raft::voters(cast, &members, rng))
                    .run(recorded)
            }
        }
    }

    /// Whether its leaders have terms, and ranks mean nothing to it.
    pub fn has_terms(self) -> bool {
        !matches!(self, Self::Ring | Self::RingChecked | Self::ModifiedRing | Self::Bully)
    }

    /// Whether its leader sends heartbeats, so that its messages never end.
    pub fn has_heartbeats(self) -> bool {
        self == Self::Raft
    }

    /// Whether it runs with so many nodes.
    pub fn takes(self, nodes: usize) -> bool {
        self != Self::Raft || nodes <= VOTERS_MAX
    }
}

/// A network of machines that know nothing of each other; each is made with a seed of its own.
fn each<M: Machine>(
    scenario: &Scenario,
    seed: u64,
    recorded: bool,
    machine: impl Fn(Members, u64) -> M,
) -> (Outcome, Vec<String>) {
    let network = Network::new(scenario, seed, |_, members, rng| {
        members.into_iter().map(|members| machine(members, rng.next_u64())).collect()
    });
    network.run(recorded)
}

fn paxos(
    scenario: &Scenario,
    seed: u64,
    recorded: bool,
    manner: Manner,
    choice: Choice,
) -> (Outcome, Vec<String>) {
    each(scenario, seed, recorded, |members, seed| Paxos::new(manner, choice, members, seed))
}
