//! The test of the tests: bugs planted on purpose (`starling_planted`), each of which some invariant has to
//! notice within [`SEEDS`] seeds. Empty unless built with `RUSTFLAGS="--cfg planted"`; `./tests/run planted`
//! does that, and prints the table.
#![cfg(planted)]

use starling_planted::{Bug, missed};
use starling_sim::scenario::{Action, Scenario, Step};
use starling_sim::swarm;

/// Seeds within which every bug has to be caught: the first ones of networks so small that they are quick.
const SEEDS: usize = 40;
/// Nodes of such a network, at most.
const NODES_MAX: usize = 12;
/// Once a bug has been caught in so many of them, its rate is known well enough.
const CATCHES: usize = 3;

/// Plants bugs in small networks whose scenarios fit.
fn assert_caught(bugs: &[Bug], fits: fn(&Scenario) -> bool) {
    let small = (1..).filter(|seed| {
        let scenario = swarm::draw(*seed);
        scenario.nodes <= NODES_MAX && fits(&scenario)
    });
    let seeds: Vec<u64> = small.take(SEEDS).collect();
    let missed = missed(bugs, &seeds, CATCHES, |seed| {
        let finding = swarm::run(&swarm::draw(seed)).expect("a drawn scenario runs");
        finding.violation.map(|violation| violation.invariant.into())
    });
    assert!(missed.is_empty(), "not noticed within {SEEDS} seeds: {missed:?}");
}

/// Whether a voter is copied, and its group may survive that its copy starts.
fn clones_a_voter(scenario: &Scenario) -> bool {
    let is_calm = scenario.links.drop == 0.0 && scenario.links.clog.is_none();
    let clones = |step: &Step| matches!(&step.action, Action::Clone { nodes, .. } if nodes.is_of_strong());
    is_calm
        && scenario.strong.as_ref().is_some_and(|strong| strong.voters > 1)
        && scenario.step.iter().any(clones)
}

#[test]
fn every_planted_bug_is_caught() {
    assert_caught(&Bug::EVENTUAL, |_| true);
}

#[test]
fn bugs_planted_in_work_queues_are_caught() {
    assert_caught(&Bug::QUEUES, |scenario| scenario.strong.as_ref().is_some_and(|strong| strong.workers > 1));
}

#[test]
fn bugs_planted_in_what_second_processes_meet_are_caught() {
    assert_caught(&Bug::DOUBLES, clones_a_voter);
}

#[test]
fn bugs_planted_in_what_strangers_send_are_caught() {
    assert_caught(&Bug::STRANGERS, |scenario| scenario.step.iter().any(|step| step.action == Action::Forge));
}

#[test]
fn bugs_planted_in_what_revoked_nodes_meet_are_caught() {
    assert_caught(&Bug::REVOKED, |scenario| {
        scenario.step.iter().any(|step| matches!(step.action, Action::Revoke { .. }))
    });
}

#[test]
fn bugs_planted_in_what_rivals_meet_are_caught() {
    assert_caught(&Bug::RIVALS, |scenario| {
        scenario.step.iter().any(|step| matches!(step.action, Action::Rivals { .. }))
    });
}
