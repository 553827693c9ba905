//! A strong keyspace under everything that its scenario does to it.

use std::path::Path;

use starling_report::{Run, text};
use starling_sim::Simulation;
use starling_sim::scenario::{self, Scenario};

/// The scenario, some of it.
fn scenario(measure_s: u64, seed: u64) -> Scenario {
    let set = [("measure_s".to_string(), measure_s.to_string())];
    let path = Path::new("../scenarios/strong-churn.toml");
    let scenario = scenario::load(path, &set).unwrap_or_else(|error| panic!("{error}"));
    Scenario { seed, ..scenario }
}

fn run(scenario: Scenario) -> Run {
    Simulation::new(scenario).expect("no file is read").run(|_| ())
}

#[test]
fn every_promise_is_kept_and_everything_is_met() {
    let run = run(scenario(120, 1));
    println!("{}", text(std::slice::from_ref(&run)));
    let strong = run.strong.expect("it is measured");
    assert_eq!(strong.violations.first(), None, "of {}", strong.violations.len());
    let met = [
        strong.elections,
        strong.leaders_lost,
        strong.failures,
        strong.locks_held,
        strong.stale_refused,
        strong.items_popped,
        strong.changes_told,
        strong.next_write.count as u64,
        strong.write_member.count as u64,
        strong.write_outsider.count as u64,
    ];
    assert!(met.iter().all(|count| *count > 0), "{met:?}");
}

#[test]
fn equal_seeds_give_equal_runs() {
    let trace = |seed, through_codec| {
        let mut simulation = Simulation::new(scenario(40, seed)).expect("no file is read");
        if through_codec {
            simulation.world.pass_through_codec();
        }
        while simulation.step() {}
        simulation.world.trace()
    };
    let once = trace(7, false);
    assert_eq!(once, trace(7, false), "again");
    assert_eq!(once, trace(7, true), "through the codec of the wire");
    assert_ne!(once, trace(8, false));
}
