//! The state machine agrees with a reference model: for random requests, with the log split into batches at random,
//! and stopped and opened again at random.

mod common;

use common::model::Model;
use common::plans::{self, Planned};
use common::*;
use proptest::prelude::*;
use starling_kv::MemoryEngine;
use starling_strong::api::*;
use starling_strong::machine::{Applied, Command, Config, Machine};

fn commands(planned: &[Planned]) -> Vec<Command> {
    let command = |planned: &Planned| {
        let Planned { id, fence, write } = planned.clone();
        Command::Write { id, fence, write }
    };
    planned.iter().map(command).collect()
}

fn play(model: &mut Model, planned: &[Planned]) -> Vec<Applied> {
    planned.iter().map(|p| Some(model.write(p.id, p.fence.as_ref(), &p.write))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn answers_are_the_models(
        batches in prop::collection::vec(prop::collection::vec(plans::planned(), 1..6), 1..16),
        ranges in prop::collection::vec(plans::range(), 1..20),
        reads in prop::collection::vec(plans::txn(), 1..10),
    ) {
        let (mut machine, mut model) = (fresh(), Model::new());
        for batch in &batches {
            let answers = apply_all(&mut machine, commands(batch));
            prop_assert_eq!(answers, play(&mut model, batch));
            prop_assert_eq!(machine.revision(), model.revision());
            prop_assert_eq!(machine.compacted(), model.compacted);
        }
        let mut maintained = machine.maintain().expect("maintains");
        loop {
            for range in &ranges {
                prop_assert_eq!(read(&machine, range.clone()), model.range(range));
            }
            for revision in model.compacted.max(1)..=model.revision() {
                let range = range(all(), revision);
                prop_assert_eq!(read(&machine, range.clone()), model.range(&range), "at {}", revision);
            }
            if !maintained {
                break;
            }
            maintained = machine.maintain().expect("maintains");
        }
        for read in reads {
            let answer = machine.read(&Read::Txn(read.clone())).expect("reads");
            let mut copy = model.clone();
            let wanted = copy.write(None, None, &Write::Txn(read));
            if copy.revision() == model.revision() && answer != Err(Refusal::NotARead) {
                prop_assert_eq!(answer, wanted);
            }
        }
        for (id, keys) in &model.leases {
            let Body::TimeToLive { keys: held, .. } = machine.time_to_live(0, *id, true).expect("exists").body
            else {
                panic!("a lease's time")
            };
            prop_assert_eq!(held, keys.iter().cloned().collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_log_alone_makes_the_state(
        planned in prop::collection::vec(plans::planned(), 1..60),
        batches in prop::collection::vec((1usize..8, any::<bool>()), 1..60),
    ) {
        let (at_once, in_steps) = (MemoryEngine::new(), MemoryEngine::new());
        let mut whole = open(&at_once);
        let answers = apply_all(&mut whole, commands(&planned));
        let mut machine = open(&in_steps);
        let mut rest = &planned[..];
        let mut told = Vec::new();
        for (size, restart) in batches.into_iter().cycle() {
            let (batch, later) = rest.split_at(size.min(rest.len()));
            told.extend(apply_all(&mut machine, commands(batch)));
            rest = later;
            if restart {
                machine = open(&in_steps.copy());
                machine = if later.is_empty() { machine } else { open(&in_steps) };
            }
            if later.is_empty() {
                break;
            }
        }
        prop_assert_eq!(told, answers);
        prop_assert_eq!(machine.hash(), whole.hash());
        prop_assert_eq!(machine.bytes(), whole.bytes());
        prop_assert_eq!(dump(&in_steps), dump(&at_once));
        prop_assert_eq!(machine.bytes(), counted(&in_steps));
    }

    #[test]
    fn compaction_keeps_what_can_be_read(
        planned in prop::collection::vec(plans::planned(), 1..80),
        at in 1u64..80,
        steps in 0usize..4,
    ) {
        let engine = MemoryEngine::new();
        let (mut machine, mut model) = (open(&engine), Model::new());
        apply_all(&mut machine, commands(&planned));
        play(&mut model, &planned);
        let compact = Write::Compact { revision: at.min(model.revision()) };
        prop_assert_eq!(write(&mut machine, compact.clone()), model.write(None, None, &compact));
        for _ in 0..steps {
            machine.maintain().expect("maintains");
        }
        machine = open(&engine);
        while machine.maintain().expect("maintains") {}
        for revision in model.compacted.max(1)..=model.revision() {
            let range = range(all(), revision);
            prop_assert_eq!(read(&machine, range.clone()), model.range(&range), "at {}", revision);
        }
        prop_assert_eq!(machine.bytes(), counted(&engine));
        // Deleting and compacting everything leaves the change that did it.
        write(&mut machine, Write::Delete(Delete { keys: all(), prev: false })).expect("deletes");
        let now = machine.revision();
        drop(write(&mut machine, Write::Compact { revision: now }));
        while machine.maintain().expect("maintains") {}
        prop_assert_eq!(machine.bytes(), counted(&engine));
        let rows = dump(&engine);
        prop_assert!(rows.iter().all(|(family, ..)| !["strong_now", "strong_past"].contains(family)), "{:?}", rows);
    }

    #[test]
    fn a_crash_applies_nothing_twice_or_half(
        planned in prop::collection::vec(plans::planned(), 1..60),
        batch in 1usize..20,
        crashes in prop::collection::vec(0u64..8, 1..10),
    ) {
        let at_once = MemoryEngine::new();
        let mut whole = open(&at_once);
        apply_all(&mut whole, commands(&planned));
        let engine = Failing::after(0);
        let mut crashes = crashes.into_iter();
        loop {
            // Each time it is opened, it works for some writes and then fails; in the end it works.
            engine.fail_after(crashes.next().unwrap_or(u64::MAX));
            let mut machine = Machine::open(engine.clone(), GROUP, Config::default()).expect("opens");
            let log = (1..).zip(commands(&planned)).skip(machine.applied() as usize);
            let entries: Vec<_> = log.map(|(index, command)| (index, Some(command))).collect();
            let is_done = entries.chunks(batch).all(|entries| {
                machine.apply(0, entries.to_vec()).is_ok() && machine.maintain().is_ok()
            });
            if is_done {
                break;
            }
        }
        let mut machine = open(&engine.engine);
        prop_assert_eq!((machine.applied(), machine.hash()), (whole.applied(), whole.hash()));
        while machine.maintain().expect("maintains") || whole.maintain().expect("maintains") {}
        prop_assert_eq!(dump(&engine.engine), dump(&at_once));
    }
}
