//! What holds of every protocol, in every scenario that has a name.

use super::*;
use crate::policies::Estimate;

/// The nodes of the default; a majority of them is alive in every scenario.
const NODES: usize = 7;
const SEEDS: u64 = 60;

fn scenario(name: &str) -> Scenario {
    Scenario::load(name, NODES, &[]).expect("it has a name")
}

/// Scenarios in which a protocol breaks a promise, and which one: whatever else it breaks is a mistake here.
fn excused(protocol: Protocol, name: &str) -> &'static [Broken] {
    const LIVENESS: &[Broken] = &[Broken::Liveness, Broken::End];
    const SAFETY: &[Broken] = &[Broken::Safety];
    const BOTH: &[Broken] = &[Broken::Safety, Broken::Liveness];
    match (protocol, name) {
        // Nothing is repeated, and no candidate is checked. Circles without a loss are rare in a storm, however often they
        // are repeated.
        (Protocol::Ring, "crash-initiator" | "crash-best" | "crash-winner" | "loss" | "storm")
        | (Protocol::RingChecked | Protocol::ModifiedRing, "storm")
        | (Protocol::PaxosDuel, _) => LIVENESS,
        // Delays and partitions are taken for deaths, and no majority is asked.
        (Protocol::RingChecked | Protocol::ModifiedRing, "partition")
        | (Protocol::Bully, "slow")
        | (Protocol::PaxosMistaken, _) => SAFETY,
        // In addition, nothing is repeated.
        (Protocol::Ring, "partition") | (Protocol::Bully, "loss" | "storm" | "partition") => BOTH,
        _ => &[],
    }
}

#[test]
fn every_promise_is_kept_where_its_assumptions_hold() {
    for (name, _, scenario) in Scenario::named(NODES) {
        for protocol in Protocol::ALL {
            for seed in 0..SEEDS {
                let outcome = protocol.run(&scenario, seed);
                let mut broken = outcome.broken(protocol);
                broken.retain(|what| !excused(protocol, name).contains(what));
                assert!(broken.is_empty(), "{protocol:?} in {name}, seed {seed}: {broken:?} {outcome:?}");
            }
        }
    }
}

#[test]
fn the_failures_that_the_literature_warns_of_happen() {
    for failure in FAILURES {
        let seed = find(&failure, &scenario(failure.scenario), 1, 2000);
        assert!(seed.is_some(), "{failure:?}");
    }
}

#[test]
fn paxos_chooses_one_value_on_every_seed_that_shows_the_planted_mistake() {
    let storm = scenario("storm");
    let shows = |seed: &u64| Protocol::PaxosMistaken.run(&storm, *seed).two_in_term;
    let seeds: Vec<u64> = (0..2000).filter(shows).collect();
    assert!(seeds.len() > 5, "{seeds:?}");
    assert!(seeds.iter().all(|seed| !Protocol::Paxos.run(&storm, *seed).two_in_term));
}

#[test]
fn a_dead_rank_circulates_on_a_plain_ring_and_not_on_a_checked_one() {
    let crash = scenario("crash-best");
    let circulates = |seed: &u64| {
        let outcome = Protocol::Ring.run(&crash, *seed);
        outcome.ending == Ending::Nobody && outcome.quiet_us.is_none()
    };
    let seed = (1..2000).find(circulates).expect("the best node dies in time");
    let longer = Scenario { deadline_ms: 2 * crash.deadline_ms, ..crash };
    let (short, long) = (Protocol::Ring.run(&crash, seed), Protocol::Ring.run(&longer, seed));
    assert!(long.messages > short.messages + 100, "{} {}", short.messages, long.messages);
    assert_eq!(Protocol::RingChecked.run(&crash, seed).ending, Ending::Best);
}

#[test]
fn equal_seeds_give_equal_runs() {
    for protocol in Protocol::ALL {
        let run = |seed| protocol.transcript(&scenario("storm"), seed);
        assert_eq!(run(7), run(7), "{protocol:?}");
        assert_ne!(run(7).1, run(8).1, "{protocol:?}");
    }
}

/// Chang and Roberts: where all nodes begin at once, n H(n) messages on average, before the announcement.
#[test]
fn the_mean_of_the_ring_is_that_of_the_paper() {
    let nodes = 30;
    let all = Scenario { initiators: nodes, ..Scenario::counted(nodes) };
    let of = |seed| Protocol::Ring.run(&all, seed).messages as f64 - nodes as f64;
    let Estimate { mean, error } = Estimate::of((0..3000).map(of));
    let expected: f64 = (1..=nodes).map(|k| nodes as f64 / k as f64).sum();
    assert!((mean - expected).abs() < 4.0 * error, "{mean} ± {error}, expected {expected}");
}

#[test]
fn messages_of_the_modified_ring_grow_with_the_ring() {
    let of = |nodes| Protocol::ModifiedRing.run(&Scenario::counted(nodes), 1);
    for nodes in [8, 16, 32] {
        let (once, twice) = (of(nodes), of(2 * nodes));
        assert_eq!(twice.messages, 2 * once.messages);
        // Two circles, each with messages of 1 to n ids; a kind, an initiator, a run, and the length of the list beside
        // them, and the winner in the second circle.
        let ids = |n: u64| 2 * n * (n + 1) / 2 + 2 * n * 4 + n;
        assert_eq!((once.bytes, twice.bytes), (ids(nodes as u64), ids(2 * nodes as u64)));
    }
}

#[test]
fn scenarios_are_set_by_path_and_checked() {
    let set = |path: &str, value: &str| Scenario::load("calm", NODES, &[(path.into(), value.into())]);
    assert!((set("links.loss", "0.5").expect("valid").links.loss - 0.5).abs() < 1e-9);
    let crash = set("crash", "{ who = \"winner\", at_ms = 3 }").expect("valid").crash;
    assert_eq!(crash, Some(Crash { who: Who::Winner, at_ms: 3 }));
    for (path, value) in [("links.loss", "1.5"), ("nodes", "2"), ("losses", "1"), ("deadline_ms", "1e12")] {
        assert!(set(path, value).is_err(), "{path}={value}");
    }
    assert!(Scenario::load("no-such-scenario", NODES, &[]).is_err());
}
