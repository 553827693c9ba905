//! Max and min registers against a naive reference: the writes that each live entry represents.

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::{Model, NOW, join_model, open, write};
use proptest::prelude::*;
use starling_kv::{Batch, Dot, Kind, MemoryEngine, Op, Outcome, Store};
use starling_types::eventual::{Data, Extremum};

const REPLICAS: usize = 3;

/// Replicas with what the reference knows of each.
struct Network {
    kind: Kind,
    replicas: Vec<(Store<MemoryEngine>, Model)>,
    /// The integers of the writes that each entry stands for: its own, and those that its node showed.
    stands_for: BTreeMap<Dot, Vec<i64>>,
    rumors: Vec<Bytes>,
}

#[derive(Clone, Debug)]
enum Step {
    Write { at: usize, value: i64 },
    Delete { at: usize },
    Rumor { index: usize, to: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = || 0..REPLICAS;
    let value = prop_oneof![-3i64..4, any::<i64>()];
    let step = prop_oneof![
        4 => (at(), value).prop_map(|(at, value)| Step::Write { at, value }),
        1 => at().prop_map(|at| Step::Delete { at }),
        5 => (0usize..1_000, at()).prop_map(|(index, to)| Step::Rumor { index, to }),
    ];
    prop::collection::vec(step, 1..40)
}

impl Network {
    fn new(kind: Kind) -> Self {
        let replica = |seed| (open(MemoryEngine::new(), seed), Model::new());
        let replicas = (1..=REPLICAS as u8).map(replica).collect();
        Self { kind, replicas, stands_for: BTreeMap::new(), rumors: Vec::new() }
    }

    fn best(&self, values: impl Iterator<Item = i64>) -> Option<i64> {
        if self.kind == Kind::Max { values.max() } else { values.min() }
    }

    /// The integers that the live entries of a replica stand for.
    fn live(&self, at: usize) -> Vec<i64> {
        let live = self.replicas[at].1.iter().filter(|(_, entry)| entry.is_some());
        live.flat_map(|(dot, _)| self.stands_for[dot].clone()).collect()
    }

    fn commit(&mut self, at: usize, op: Op) -> Outcome {
        let batch = Batch { writes: vec![write("k", op)] };
        let committed = self.replicas[at].0.commit(NOW, vec![batch]).expect("the engine works");
        for (dots, delta) in committed.rumors {
            let values = self.live(at);
            join_model(&mut self.replicas[at].1, &delta);
            self.stands_for.insert(Dot { actor: dots.actor, seq: dots.first }, values);
            self.rumors.push(delta);
        }
        committed.results[0].as_ref().expect("accepted")[0]
    }

    fn write(&mut self, at: usize, value: i64) -> Outcome {
        let op = if self.kind == Kind::Max { Op::Max { value } } else { Op::Min { value } };
        let outcome = self.commit(at, op);
        let dot = self.replicas[at].0.minted().expect("the write minted a dot");
        self.stands_for.get_mut(&dot).expect("noted").push(value);
        outcome
    }

    fn deliver(&mut self, index: usize, to: usize) {
        let Some(delta) = self.rumors.get(index).cloned() else { return };
        self.replicas[to].0.join(NOW, &delta).expect("a delta of our own");
        join_model(&mut self.replicas[to].1, &delta);
    }

    fn shown(&self, at: usize) -> Option<i64> {
        match self.replicas[at].0.reader().read_kind(NOW, "default", b"k", self.kind, None, 0) {
            Ok(Some(Data::Max(Extremum { value }) | Data::Min(Extremum { value }))) => Some(value),
            Ok(None) => None,
            other => panic!("{other:?}"),
        }
    }

    fn run(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Write { at, value } => {
                    let outcome = self.write(at, value);
                    assert_eq!(outcome.number(), self.shown(at).map(i128::from), "what it answers it shows");
                }
                Step::Delete { at } => drop(self.commit(at, Op::Delete)),
                Step::Rumor { index, to } => self.deliver(index % self.rumors.len().max(1), to),
            }
            self.check();
        }
        for index in 0..self.rumors.len() {
            (0..REPLICAS).for_each(|to| self.deliver(index, to));
        }
        self.check();
        assert!((1..REPLICAS).all(|at| self.shown(at) == self.shown(0)), "all replicas show the same");
    }

    fn check(&self) {
        for at in 0..REPLICAS {
            assert_eq!(self.shown(at), self.best(self.live(at).into_iter()), "replica {at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_max_register_shows_the_greatest(steps in steps()) {
        Network::new(Kind::Max).run(steps);
    }

    #[test]
    fn a_min_register_shows_the_least(steps in steps()) {
        Network::new(Kind::Min).run(steps);
    }
}

#[test]
fn concurrent_writes_merge_to_the_greatest_and_a_delete_resets_what_it_has_seen() {
    let mut network = Network::new(Kind::Max);
    network.write(0, 3);
    network.write(1, 7);
    network.deliver(0, 1);
    network.deliver(1, 0);
    assert_eq!((network.shown(0), network.shown(1)), (Some(7), Some(7)));
    network.commit(0, Op::Delete);
    assert_eq!(network.shown(0), None);
    network.write(2, 5);
    network.deliver(3, 0);
    network.deliver(2, 1);
    assert_eq!((network.shown(0), network.shown(1)), (Some(5), None), "5 was not seen by the delete");
    network.deliver(3, 1);
    assert_eq!(network.shown(1), Some(5));
}

#[test]
fn it_expires_as_other_types_do_and_is_no_register() {
    let mut store = open(MemoryEngine::new(), 1);
    let mut raise = write("k", Op::Max { value: 5 });
    raise.ttl_ms = Some(1_000);
    let put = write("k", Op::Put { value: "v".into() });
    let batches = [vec![raise], vec![put]].map(|writes| Batch { writes });
    let results = store.commit(NOW, batches.to_vec()).expect("the engine works").results;
    assert_eq!(results[0], Ok(vec![Outcome::Max { value: 5 }]));
    assert!(results[1].is_err(), "the key holds a max register");
    let shown = |wall_ms| store.reader().read(wall_ms, "default", b"k", 0).expect("reads").is_some();
    assert!(shown(NOW + 999) && !shown(NOW + 1_000));
}
