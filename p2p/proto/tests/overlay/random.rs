//! Random histories of starts, failures, departures and partitions.

use proptest::prelude::*;
use starling_proto::view::ViewInput;

use crate::invariants::{bounded, connected};
use crate::network::{Network, id, local};

const NODES: usize = 12;

#[derive(Clone, Debug)]
enum Step {
    Start(usize),
    Kill(usize),
    Leave(usize),
    Split(u16),
    Heal,
    Run(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..NODES).prop_map(Step::Start),
        2 => (0..NODES).prop_map(Step::Kill),
        1 => (0..NODES).prop_map(Step::Leave),
        1 => any::<u16>().prop_map(Step::Split),
        1 => Just(Step::Heal),
        4 => (1..20_000u64).prop_map(Step::Run),
    ]
}

fn apply(network: &mut Network, incarnation: &mut u64, step: &Step) {
    match *step {
        Step::Start(index) if !network.nodes.contains_key(&id(index)) => {
            *incarnation += 1;
            let mut record = local(index);
            record.incarnation = *incarnation;
            network.start(record, vec![], (0..NODES).filter(|other| *other != index).map(id).collect());
        }
        Step::Start(_) => {}
        Step::Kill(index) => drop(network.kill(id(index))),
        Step::Leave(index) => {
            network.input(id(index), ViewInput::Leave);
            network.run(50);
            network.kill(id(index));
        }
        Step::Split(mask) => network.split((0..NODES).filter(|bit| mask >> bit & 1 == 1).map(id).collect()),
        Step::Heal => network.heal(),
        Step::Run(ms) => network.run(ms),
    }
    bounded(network);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever happened, once faults stop the living become one symmetric overlay.
    #[test]
    fn ends_as_one_symmetric_overlay(seed: u64, steps in prop::collection::vec(step(), 1..60)) {
        let mut network = Network::new(seed);
        let mut incarnation = 0;
        for step in &steps {
            apply(&mut network, &mut incarnation, step);
        }
        network.heal();
        let least = network.nodes.len().saturating_sub(1).min(2);
        network.run_until(900_000, "one overlay", |n| connected(n, least));
    }
}
