//! The laws of joining, over random histories: lost, duplicated and reordered deltas, repair
//! between writes and interrupted repair, restarts with and without the unsynced tail.

mod common;

use bytes::Bytes;
use common::*;
use proptest::prelude::*;
use starling_kv::{MemoryEngine, Store};

/// A replica beside its model.
struct Replica {
    engine: MemoryEngine,
    store: Store<MemoryEngine>,
    model: Model,
    saved: (MemoryEngine, Model),
}

impl Replica {
    fn new(seed: u8) -> Self {
        let engine = MemoryEngine::new();
        let store = open(engine.clone(), seed);
        Self { saved: (engine.copy(), Model::new()), engine, store, model: Model::new() }
    }

    fn join(&mut self, delta: &[u8]) {
        let before = self.model.clone();
        join_model(&mut self.model, delta);
        let joined = self.store.join(NOW, delta).expect("joins");
        assert_eq!(joined.changed, self.model != before, "news is what changes entries or context");
    }

    /// Joins a delta as a session does, what died last.
    fn join_in_parts(&mut self, delta: &[u8]) {
        let before = self.model.clone();
        join_model(&mut self.model, delta);
        let joined = self.store.join_part(NOW, delta, usize::MAX).expect("joins");
        let between = state(&self.store);
        for (dot, entry) in &between {
            let died = entry.is_none() && before.get(dot) != Some(&None);
            if !died {
                continue;
            }
            let (place, body) = before[dot].as_ref().expect("a dot that was not seen is withheld");
            let written = |body: &[u8]| body[2..10].to_vec();
            let mut live = between.values().flatten().filter(|(other, _)| other == place);
            assert!(live.any(|(_, other)| written(other) > written(body)), "{dot:?} is not followed");
        }
        let rest = self.store.join(NOW, &starling_kv::deaths(&joined.withheld)).expect("joins");
        assert_eq!(joined.changed || rest.changed, self.model != before);
    }

    fn restart(&mut self, tail: bool, seed: u8) {
        if !tail {
            let (engine, model) = &self.saved;
            (self.engine, self.model) = (engine.copy(), model.clone());
        }
        self.store = open(self.engine.clone(), seed);
    }
}

/// Plays a history; every replica equals its model after every step.
fn play(steps: Vec<Step>) -> (Vec<Replica>, Vec<Bytes>) {
    let mut replicas: Vec<Replica> = (0..REPLICAS as u8).map(Replica::new).collect();
    let mut deltas: Vec<Bytes> = Vec::new();
    let mut seed = REPLICAS as u8;
    for step in steps {
        let changed = match step {
            Step::Write { at, writes } => {
                let committed = commit(&mut replicas[at].store, NOW, writes);
                for (_, delta) in committed.rumors {
                    join_model(&mut replicas[at].model, &delta);
                    deltas.push(delta);
                }
                at
            }
            Step::Rumor { index, to } => {
                if let Some(delta) = deltas.get(index % deltas.len().max(1)) {
                    replicas[to].join(delta);
                }
                to
            }
            Step::Repair { from, to, actor, first, length } => {
                let ranges = choose(&replicas[from].store, actor, first, length);
                // A small bound breaks the session off midway; what was sent has been joined.
                let (delta, _) = replicas[from].store.restrict(&ranges, 200).expect("reads");
                if length % 2 == 0 {
                    replicas[to].join(&delta);
                } else {
                    replicas[to].join_in_parts(&delta);
                }
                to
            }
            Step::Bury { from, to, actor, first, length } => {
                let ranges = choose(&replicas[from].store, actor, first, length);
                let delta = replicas[from].store.dead_among(&ranges).expect("reads");
                replicas[to].join(&delta);
                to
            }
            Step::Restart { at, tail } => {
                seed += 1;
                replicas[at].restart(tail, seed);
                at
            }
            Step::Save { at } => {
                let replica = &mut replicas[at];
                replica.saved = (replica.engine.copy(), replica.model.clone());
                at
            }
        };
        assert_eq!(state(&replicas[changed].store), replicas[changed].model);
    }
    (replicas, deltas)
}

/// Exchanges whole states until no replica changes.
fn settle(replicas: &mut [Replica]) {
    for _ in 0..2 {
        for from in 0..replicas.len() {
            let delta = whole(&replicas[from].store);
            for (to, replica) in replicas.iter_mut().enumerate() {
                if to != from {
                    replica.join(&delta);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn replicas_equal_their_models_and_converge(steps in history(60)) {
        let (mut replicas, deltas) = play(steps);
        settle(&mut replicas);
        for replica in &replicas {
            prop_assert_eq!(&replica.model, &replicas[0].model);
            prop_assert_eq!(replica.store.root(), replicas[0].store.root());
            prop_assert_eq!(replica.store.group_hashes(3), replicas[0].store.group_hashes(3));
            assert_sound(&replica.store);
        }
        // Every acknowledged write that reached anybody is known; nothing dead comes back.
        let before = replicas[0].model.clone();
        for delta in &deltas {
            replicas[0].join(delta);
        }
        for (dot, entry) in &before {
            if entry.is_none() {
                prop_assert_eq!(replicas[0].model.get(dot), Some(&None));
            }
        }
    }

    #[test]
    fn join_commutes_associates_and_is_idempotent(steps in history(40), order in any::<u64>(), cut in any::<prop::sample::Index>()) {
        let (_, deltas) = play(steps);
        let mut forward = fresh(200);
        for delta in &deltas {
            forward.join(NOW, delta).expect("joins");
        }
        // Another order, everything twice.
        let mut shuffled = deltas.clone();
        shuffled.sort_by_key(|delta| order_of(order, delta));
        let mut backward = fresh(201);
        for delta in shuffled.iter().chain(&deltas) {
            backward.join(NOW, delta).expect("joins");
        }
        // Another grouping: some are joined elsewhere first, and arrive as one state.
        let (left, right) = deltas.split_at(if deltas.is_empty() { 0 } else { cut.index(deltas.len()) });
        let (mut grouped, mut elsewhere) = (fresh(202), fresh(203));
        for delta in left {
            grouped.join(NOW, delta).expect("joins");
        }
        for delta in right {
            elsewhere.join(NOW, delta).expect("joins");
        }
        grouped.join(NOW, &whole(&elsewhere)).expect("joins");
        prop_assert_eq!(forward.root(), backward.root());
        prop_assert_eq!(forward.root(), grouped.root());
        prop_assert_eq!(state(&forward), state(&backward));
        prop_assert_eq!(state(&forward), state(&grouped));
    }

    #[test]
    fn hashes_of_the_tree_differ_exactly_where_states_do(steps in history(50), limit in 1u64..80) {
        let (replicas, _) = play(steps);
        let (ours, theirs) = (&replicas[0], &replicas[1]);
        for (actor, ..) in ours.store.actors(0) {
            let of = |model: &Model| -> Vec<_> {
                model.iter().filter(|(dot, _)| dot.actor == actor && dot.seq <= limit).map(|(d, e)| (*d, e.clone())).collect()
            };
            let hashes = |replica: &Replica| replica.store.child_hashes(actor, limit, 1, 0, 9).expect("reads");
            let leaf = |replica: &Replica| replica.store.leaf(actor, limit, 0, 9).expect("reads");
            let low = |model: &Model| of(model).into_iter().filter(|(dot, _)| dot.seq < 64).collect::<Vec<_>>();
            prop_assert_eq!(hashes(ours) == hashes(theirs), of(&ours.model) == of(&theirs.model));
            prop_assert_eq!(leaf(ours) == leaf(theirs), low(&ours.model) == low(&theirs.model));
        }
    }
}

/// An order of deltas that `salt` chooses.
fn order_of(salt: u64, delta: &[u8]) -> u64 {
    delta.iter().fold(salt, |hash, &byte| hash.wrapping_mul(0x0100_0000_01b3).wrapping_add(u64::from(byte)))
}
