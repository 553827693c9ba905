//! The test of the tests: bugs planted on purpose (`starling_planted`), each of which some invariant has to
//! notice within [`SEEDS`] seeds. Empty unless built with `RUSTFLAGS="--cfg planted"`; `./tests/run planted`
//! does that, and prints the table.
#![cfg(planted)]

use std::collections::BTreeMap;
use std::sync::Mutex;

use starling_planted::{Bug, plant};
use starling_sim::swarm;

/// Seeds within which every bug has to be caught: the first ones of networks so small that they are quick.
const SEEDS: usize = 40;
/// Nodes of such a network, at most.
const NODES_MAX: usize = 12;
/// Once a bug has been caught in so many of them, its rate is known well enough.
const CATCHES: usize = 3;

/// What the seeds showed of one bug.
#[derive(Debug, Default)]
struct Catches {
    by: BTreeMap<&'static str, usize>,
    count: usize,
    seeds: usize,
    first: Option<u64>,
}

impl Catches {
    fn line(&self, bug: Bug) -> String {
        let first = self.first.map_or("-".into(), |seed| seed.to_string());
        let by: Vec<String> = self.by.iter().map(|(name, count)| format!("{name} ({count})")).collect();
        let rate = format!("{} of {}", self.count, self.seeds);
        format!("{:<26} {first:>12} {rate:>12}  {}", format!("{bug:?}"), by.join(", "))
    }
}

fn hunt(bug: Bug) -> Catches {
    plant(Some(bug));
    let mut catches = Catches::default();
    let small = (1..).map(swarm::draw).filter(|scenario| scenario.nodes <= NODES_MAX);
    for scenario in small.take(SEEDS) {
        let seed = scenario.seed;
        catches.seeds += 1;
        let finding = swarm::run(&scenario).expect("a drawn scenario runs");
        let Some(violation) = finding.violation else { continue };
        *catches.by.entry(violation.invariant).or_default() += 1;
        catches.count += 1;
        catches.first.get_or_insert(seed);
        if catches.count == CATCHES {
            break;
        }
    }
    plant(None);
    catches
}

#[test]
fn every_planted_bug_is_caught() {
    println!("{:<26} {:>12} {:>12}  caught by", "bug", "first seed", "caught in");
    let bugs = Mutex::new(Bug::EVENTUAL.into_iter());
    let next = || bugs.lock().expect("no run panics").next();
    let found = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(bug) = next() {
                    let catches = hunt(bug);
                    println!("{}", catches.line(bug));
                    found.lock().expect("no run panics").push((bug, catches));
                }
            });
        }
    });
    let found = found.into_inner().expect("no run panics");
    assert_eq!(found.len(), Bug::EVENTUAL.len());
    let missed: Vec<Bug> = found.iter().filter(|(_, c)| c.count == 0).map(|(bug, _)| *bug).collect();
    assert!(missed.is_empty(), "not noticed within {SEEDS} seeds: {missed:?}");
}
