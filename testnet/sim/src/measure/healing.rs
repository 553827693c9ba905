//! Faults, and how long the network takes to be whole and equal afterwards.

use starling_kv::{DotRange, Store};
use starling_report::Healing;

use super::outcome::are_equal;
use super::overlay::components;
use crate::world::World;

/// Faults whose healing is watched.
#[derive(Debug, Default)]
pub struct Healings {
    open: Vec<Episode>,
    closed: Vec<(u64, Healing)>,
}

#[derive(Debug)]
struct Episode {
    what: String,
    began_us: u64,
    one_component_us: Option<u64>,
    equal_us: Option<u64>,
    /// What a live node held when the healing began: all have to hold it.
    reference: Vec<DotRange>,
    /// Nobody writes any more: replicas have to be equal, which is more.
    is_quiet: bool,
    /// Replicas that were up then and do not hold it all.
    behind: Vec<usize>,
}

impl Healings {
    /// A healing begins now. While clients write, a replica is healed when it holds what any live one held
    /// when the healing began; once they are quiet, when all have one root.
    pub fn begin(&mut self, what: String, is_quiet: bool, world: &World) {
        let behind = (0..world.nodes.len()).filter(|&node| world.nodes[node].store().is_some()).collect();
        self.open.push(Episode {
            what,
            began_us: world.now_us(),
            one_component_us: None,
            equal_us: None,
            reference: world.recorder.writes.held(),
            is_quiet,
            behind,
        });
        self.check(world);
    }

    /// Looks how far the network is; to be called often.
    pub fn check(&mut self, world: &World) {
        let waits = self.open.iter().any(|episode| episode.one_component_us.is_none());
        let is_one = waits && components(world) <= 1;
        let now_us = world.now_us();
        for episode in &mut self.open {
            if is_one && episode.one_component_us.is_none() {
                episode.one_component_us = Some(now_us);
            }
            if episode.equal_us.is_none() {
                episode.behind.retain(|&node| {
                    let lacks =
                        |store: &Store<_>| !episode.reference.iter().all(|range| store.contains(range));
                    world.nodes[node].store().is_some_and(lacks)
                });
                if episode.behind.is_empty() && (!episode.is_quiet || are_equal(world)) {
                    episode.equal_us = Some(now_us);
                }
            }
        }
        let is_over = |episode: &Episode| episode.one_component_us.is_some() && episode.equal_us.is_some();
        let (over, open) = std::mem::take(&mut self.open).into_iter().partition(is_over);
        self.open = open;
        let over: Vec<Episode> = over;
        self.closed.extend(over.into_iter().map(|episode| (episode.began_us, episode.report())));
    }

    /// Whether any healing is under way.
    pub fn are_under_way(&self) -> bool {
        !self.open.is_empty()
    }

    /// The report's part, by time; times into the measured time, which began at `begin_us`.
    pub fn report(self, begin_us: u64) -> Vec<Healing> {
        let open = self.open.into_iter().map(|episode| (episode.began_us, episode.report()));
        let mut all: Vec<(u64, Healing)> = self.closed.into_iter().chain(open).collect();
        all.sort_by_key(|(began_us, _)| *began_us);
        let healing = |(began_us, healing): (u64, Healing)| Healing {
            healed_at_ms: began_us.saturating_sub(begin_us) / 1000,
            ..healing
        };
        all.into_iter().map(healing).collect()
    }
}

impl Episode {
    fn report(self) -> Healing {
        let after_ms = |at_us: Option<u64>| at_us.map(|at_us| (at_us - self.began_us) / 1000);
        Healing {
            one_component_ms: after_ms(self.one_component_us),
            equal_ms: after_ms(self.equal_us),
            what: self.what,
            healed_at_ms: 0,
        }
    }
}
