//! A rolling upgrade, and the way back, under churn: nodes of two releases in one network.

use std::path::Path;

use starling_report::{Run, text};
use starling_sim::Simulation;
use starling_sim::scenario::{self, Scenario};

fn scenario(seed: u64) -> Scenario {
    let path = Path::new("../scenarios/rolling-upgrade.toml");
    let scenario = scenario::load(path, &[]).unwrap_or_else(|error| panic!("{error}"));
    Scenario { seed, ..scenario }
}

/// Runs it, and tells of each second how many nodes were in the previous release, and how many were live.
fn run(scenario: Scenario) -> (Run, Vec<(usize, usize)>) {
    let mut seconds = Vec::new();
    let simulation = Simulation::new(scenario).expect("no file is read");
    let run = simulation.run(|progress| seconds.push((progress.previous, progress.live)));
    (run, seconds)
}

#[test]
fn nothing_is_lost_and_the_strong_keyspace_is_writable_throughout() {
    let (run, previous) = run(scenario(1));
    println!("{}", text(std::slice::from_ref(&run)));
    let bad = (run.writes.missing, run.writes.lost, run.writes.resurrected);
    assert_eq!(bad, (0, 0, 0), "missing, lost, resurrected");
    assert!(run.healing.last().expect("the end is watched").equal_ms.is_some(), "replicas are not equal");
    let strong = run.strong.expect("it is measured");
    assert_eq!(strong.violations.first(), None, "of {}", strong.violations.len());
    // Whenever the leader is killed another one has to be found; within ten seconds somebody's request is
    // answered again, and every write that was sent after the loss of a leader is acknowledged.
    let answers =
        run.series.iter().find(|series| series.name.starts_with("answers of the strong")).expect("a series");
    let quiet = answers.points.windows(10).find(|window| window.iter().all(|(_, count)| *count == 0.0));
    assert_eq!(quiet, None, "ten seconds without an answer");
    // The network was upgraded, rolled back and upgraded again; it was mixed for long.
    let seconds =
        |is: fn(usize, usize) -> bool| previous.iter().filter(|(old, live)| is(*old, *live)).count();
    let mixed = seconds(|old, live| 0 < old && old < live);
    assert!(mixed > previous.len() / 3, "mixed for {mixed} s of {}", previous.len());
    let (all, few) = (seconds(|old, live| old + 1 >= live), seconds(|old, live| 5 * old < live));
    assert!(all > 20 && few > 20, "all of the previous release for {all} s, few for {few} s");
}
