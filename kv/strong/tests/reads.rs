//! A read in portions has the same answer as one without interruption, as of the revision at which it began.

mod common;

use common::plans::{self, Planned};
use common::*;
use proptest::prelude::*;
use starling_kv::{Engine, MemoryEngine};
use starling_strong::api::*;
use starling_strong::machine::{Command, Machine, Reading, Room};

fn commands(planned: Vec<Planned>) -> Vec<Command> {
    let command = |Planned { id, fence, write }| Command::Write { id, fence, write };
    let compacts = |planned: &Planned| matches!(planned.write, Write::Compact { .. });
    planned.into_iter().filter(|planned| !compacts(planned)).map(command).collect()
}

/// Continues a read to its end in portions of some rows, and calls `between` before each.
fn go_on<E: Engine>(
    machine: &mut Machine<E>,
    mut reading: Reading,
    rows: usize,
    mut between: impl FnMut(&mut Machine<E>),
) -> Result<Answer, Refusal> {
    loop {
        between(machine);
        if let Some(answer) = machine.go_on(&mut reading, &mut Room { rows, ..Room::ALL }).expect("reads") {
            return answer;
        }
    }
}

/// Ranges and transactions that only read, now and at the revision before.
fn reads(revision: Revision) -> Vec<Read> {
    let sorted = Range { sort: Some((SortBy::Value, SortOrder::Descending)), ..range(all(), 0) };
    let some = Keys::Range { from: b"b".to_vec(), to: Some(b"k".to_vec()) };
    let compare = |is| Compare { keys: all(), is, to: Operand::Version(1) };
    let nested = Txn {
        compare: vec![compare(Relation::Less)],
        then: vec![TxnOp::Range(range(all(), 0))],
        otherwise: vec![TxnOp::Range(range(some.clone(), 0))],
    };
    let txn = Txn {
        compare: vec![compare(Relation::Greater), compare(Relation::Equal)],
        then: vec![TxnOp::Range(range(some.clone(), 0)), TxnOp::Txn(nested.clone())],
        otherwise: vec![TxnOp::Txn(nested), TxnOp::Range(range(all(), 0))],
    };
    vec![
        Read::Range(range(all(), 0)),
        Read::Range(Range { limit: 2, ..range(some, revision.saturating_sub(1).max(1)) }),
        Read::Range(sorted),
        Read::Txn(txn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn portions_make_the_whole(
        before in prop::collection::vec(plans::planned(), 0..60),
        meanwhile in prop::collection::vec(plans::planned(), 0..60),
        rows in 1usize..6,
    ) {
        let mut machine = fresh();
        apply_all(&mut machine, commands(before));
        let meanwhile = commands(meanwhile);
        for read in reads(machine.revision()) {
            let whole = machine.read(&read).expect("reads");
            let reading = machine.begin_read(&read);
            let mut rest = meanwhile.clone();
            let answer = go_on(&mut machine, reading, rows, |machine| {
                let next = rest.pop();
                apply_all(machine, next.into_iter().collect());
            });
            prop_assert_eq!(answer, whole);
        }
    }
}

#[test]
fn keys_that_are_written_all_the_while_do_not_hold_up_a_portion() {
    let engine = MemoryEngine::new();
    let mut machine = open(&engine);
    for key in 0..50 {
        write(&mut machine, put(&format!("k{key}"), "old")).expect("puts");
    }
    let whole = machine.read(&Read::Range(range(all(), 0))).expect("reads");
    let reading = machine.begin_read(&Read::Range(range(all(), 0)));
    let answer = go_on(&mut machine, reading, 1, |machine| {
        for number in 0..200 {
            write(machine, put(&format!("k{}", number % 3), "new")).expect("puts");
        }
    });
    assert_eq!(answer, whole);
}

#[test]
fn what_is_compacted_meanwhile_is_read_again() {
    let mut machine = fresh();
    for key in 0..20 {
        write(&mut machine, put(&format!("k{key:02}"), "old")).expect("puts");
    }
    let mut turns = 0;
    let reading = machine.begin_read(&Read::Range(range(all(), 0)));
    let answer = go_on(&mut machine, reading, 4, |machine| {
        turns += 1;
        if turns == 3 {
            write(machine, put("k00", "new")).expect("puts");
            let revision = machine.revision();
            write(machine, Write::Compact { revision }).expect("compacts");
            while machine.maintain().expect("maintains") {}
        }
    });
    assert_eq!(Ok(answer), machine.read(&Read::Range(range(all(), 0))));
    assert!(turns > 6, "{turns} portions");
    // A read of a compacted revision is rejected.
    let reading = machine.begin_read(&Read::Range(range(all(), 2)));
    let answer = go_on(&mut machine, reading, 4, |_| ());
    assert!(matches!(answer, Err(Refusal::Compacted { .. })), "{answer:?}");
}
