//! The test of the tests: bugs planted on purpose (`starling_planted`), each of which some invariant has to
//! notice within [`SEEDS`] seeds. Empty unless built with `RUSTFLAGS="--cfg planted"`; `./tests/run planted`
//! does that, and prints the table.
#![cfg(planted)]

use starling_planted::{Bug, missed};
use starling_sim::swarm;

/// Seeds within which every bug has to be caught: the first ones of networks so small that they are quick.
const SEEDS: usize = 40;
/// Nodes of such a network, at most.
const NODES_MAX: usize = 12;
/// Once a bug has been caught in so many of them, its rate is known well enough.
const CATCHES: usize = 3;

#[test]
fn every_planted_bug_is_caught() {
    let small = (1..).filter(|seed| swarm::draw(*seed).nodes <= NODES_MAX);
    let seeds: Vec<u64> = small.take(SEEDS).collect();
    let missed = missed(&Bug::EVENTUAL, &seeds, CATCHES, |seed| {
        let finding = swarm::run(&swarm::draw(seed)).expect("a drawn scenario runs");
        finding.violation.map(|violation| violation.invariant.into())
    });
    assert!(missed.is_empty(), "not noticed within {SEEDS} seeds: {missed:?}");
}
