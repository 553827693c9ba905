use raft::Storage;
use starling_kv::MemoryEngine;

use super::*;

const GROUP: [u8; 16] = [7; 16];

fn members() -> Members {
    Members::initial(&[[1; 32], [2; 32], [3; 32]])
}

fn entry(index: u64, term: u64) -> Entry {
    Entry { index, term, data: index.to_be_bytes().to_vec().into(), ..Entry::default() }
}

fn hard(term: u64, vote: u64) -> HardState {
    let mut hard = HardState::default();
    (hard.term, hard.vote) = (term, vote);
    hard
}

fn log(engine: &MemoryEngine, last: u64) -> Log<MemoryEngine> {
    let mut log = Log::create(engine.clone(), GROUP, members(), Family::Raft).expect("memory");
    for index in 2..=last {
        log.append(&[entry(index, 2)], Some(&hard(2, 3)), 0).expect("memory");
    }
    log
}

fn reopened(engine: &MemoryEngine) -> Result<Log<MemoryEngine>, LogError> {
    Log::open(engine.clone(), GROUP).map(|log| log.expect("there is a log"))
}

/// Why the log does not open.
fn refusal(engine: &MemoryEngine) -> LogError {
    reopened(engine).err().expect("it must not open")
}

fn terms(log: &Log<MemoryEngine>) -> Vec<u64> {
    (log.base_index()..=log.last_index()).map(|index| log.term(index).expect("memory")).collect()
}

#[test]
fn what_was_written_is_there_again() {
    let engine = MemoryEngine::new();
    assert!(Log::open(engine.clone(), GROUP).expect("memory").is_none());
    let written = log(&engine, 5);
    let log = reopened(&engine).expect("memory");
    assert_eq!(terms(&log), [1, 2, 2, 2, 2]);
    assert_eq!(terms(&log), terms(&written));
    assert_eq!(log.initial_state().expect("memory").hard_state.vote, 3);
    assert_eq!(log.members(), (&members(), 1));
    let read = log.entries(2, 6, None, raft::GetEntriesContext::empty(false)).expect("memory");
    assert_eq!(read, (2..=5).map(|index| entry(index, 2)).collect::<Vec<_>>());
}

/// Only unsafe recovery opens a log that may lack what its member has promised.
#[test]
fn a_log_does_not_open_after_the_engine_has_lost_synced_rows() {
    let engine = MemoryEngine::new();
    log(&engine, 5);
    Log::mark_lost(&engine, &GROUP).expect("memory");
    assert_eq!(refusal(&engine), LogError::Lost);
    let mut log = Log::open_with_loss(engine.clone(), GROUP).expect("memory").expect("there is a log");
    assert_eq!(refusal(&engine), LogError::Lost, "to look changes nothing");
    log.force_alone(1, [1; 32], 0, &Recoveries::default()).expect("memory");
    assert_eq!(reopened(&engine).expect("memory").last_index(), 5);
    // A member that joins anew has a log of its own.
    Log::mark_lost(&engine, &GROUP).expect("memory");
    Log::destroy(&engine, GROUP).expect("memory");
    Log::join(engine.clone(), GROUP, Family::Raft).expect("memory");
    assert_eq!(reopened(&engine).expect("memory").last_index(), 0);
}

/// A member that acknowledges a change of members keeps the commit index of that moment; see [`Log::append`].
#[test]
fn the_commit_index_is_kept_with_changes_of_members() {
    let engine = MemoryEngine::new();
    let mut written = log(&engine, 4);
    let commit = |log: &Log<MemoryEngine>| log.initial_state().expect("memory").hard_state.commit;
    assert_eq!(commit(&reopened(&engine).expect("memory")), 1, "of a log without changes");
    let mut change = entry(5, 2);
    change.set_entry_type(EntryType::EntryConfChangeV2);
    written.append(&[change], None, 3).expect("memory");
    written.append(&[entry(6, 2)], None, 5).expect("memory");
    assert_eq!(commit(&reopened(&engine).expect("memory")), 3);
    // The same node as another member: its log does not reach so far.
    let joined = Log::join(engine.clone(), GROUP, Family::Raft).expect("memory");
    assert_eq!(commit(&joined), 0);
    Log::destroy(&engine, GROUP).expect("memory");
    assert!(Log::open(engine, GROUP).expect("memory").is_none());
}

/// After a later version of the program was rolled back, its log counts as newer, not as damaged, and stays as it is.
#[test]
fn a_log_of_a_later_version_is_named_as_such() {
    for key in [record::tail_key(&GROUP), record::base_key(&GROUP)] {
        let engine = MemoryEngine::new();
        log(&engine, 5);
        let mut row = engine.get(Family::Raft, &key).expect("memory").expect("is there");
        row[0] = record::VERSION + 1;
        engine.write(vec![RowOp::Put(Family::Raft, key.to_vec(), row.clone())]).expect("memory");
        let (found, supported) = (record::VERSION + 1, record::VERSION);
        assert_eq!(refusal(&engine), LogError::Format { found, supported });
        assert_eq!(engine.get(Family::Raft, &key).expect("memory").as_deref(), Some(&row[..]));
    }
}

#[test]
fn a_new_leader_replaces_the_end() {
    let engine = MemoryEngine::new();
    let mut log = log(&engine, 9);
    log.append(&[entry(4, 3)], Some(&hard(3, 1)), 0).expect("memory");
    for log in [log, reopened(&engine).expect("memory")] {
        assert_eq!(terms(&log), [1, 2, 2, 3]);
    }
}

#[test]
fn a_log_that_lost_its_end_does_not_open() {
    let engine = MemoryEngine::new();
    log(&engine, 5);
    engine.write(vec![RowOp::Delete(Family::Raft, record::run_key(&GROUP, 5))]).expect("memory");
    assert_eq!(refusal(&engine), LogError::Truncated { found: 4, last: 5 });
}

#[test]
fn a_log_with_a_hole_or_a_flipped_bit_does_not_open() {
    let engine = MemoryEngine::new();
    log(&engine, 5);
    let key = record::run_key(&GROUP, 3);
    let mut row = engine.get(Family::Raft, &key).expect("memory").expect("memory");
    *row.last_mut().expect("a row") ^= 1;
    let torn = engine.copy();
    torn.write(vec![RowOp::Put(Family::Raft, key.clone(), row)]).expect("memory");
    let holed = engine.copy();
    holed.write(vec![RowOp::Delete(Family::Raft, key)]).expect("memory");
    for engine in [torn, holed] {
        assert_eq!(refusal(&engine), LogError::Damaged { index: 3, last: 5 });
    }
    engine.write(vec![RowOp::Delete(Family::Raft, record::base_key(&GROUP).to_vec())]).expect("memory");
    assert_eq!(refusal(&engine), LogError::Damaged { index: 0, last: 0 });
}

#[test]
fn compaction_keeps_the_rest() {
    let engine = MemoryEngine::new();
    let mut log = log(&engine, 9);
    log.compact(6).expect("memory");
    for log in [log, reopened(&engine).expect("memory")] {
        assert_eq!((log.base_index(), log.last_index()), (6, 9));
        assert_eq!(terms(&log), [2; 4]);
        assert!(log.term(5).is_err());
        let read = log.entries(7, 10, Some(0), raft::GetEntriesContext::empty(false)).expect("memory");
        assert_eq!(read, [entry(7, 2)], "one at least");
    }
}

#[test]
fn a_snapshot_replaces_the_log() {
    let engine = MemoryEngine::new();
    let mut log = log(&engine, 9);
    let point = SnapshotPoint { index: 20, term: 4, members: members() };
    let install = log.install(&point, Some(&hard(5, 0)));
    engine.write(install.rows()).expect("memory");
    log.installed(install);
    for mut log in [log, reopened(&engine).expect("memory")] {
        assert_eq!((log.base_index(), log.last_index()), (20, 20));
        assert_eq!(log.term(20).expect("memory"), 4);
        log.append(&[entry(21, 5)], None, 0).expect("memory");
        assert_eq!(terms(&log), [4, 5]);
        let back = log.install(&point, None);
        engine.write(back.rows()).expect("memory");
    }
}

#[test]
fn a_failed_read_is_reported_and_does_not_panic() {
    let engine = MemoryEngine::new();
    log(&engine, 5);
    let mut log = reopened(&engine).expect("memory");
    log.recent.clear();
    engine.write(vec![RowOp::Delete(Family::Raft, record::run_key(&GROUP, 3))]).expect("memory");
    let read = log.entries(3, 6, None, raft::GetEntriesContext::empty(false)).expect("memory");
    assert!(read.is_empty());
    assert!(matches!(log.failure(), Some(Error::Corrupt { .. })));
}

#[test]
fn a_destroyed_log_is_gone_and_another_stays() {
    let engine = MemoryEngine::new();
    log(&engine, 5);
    let mut other = Log::create(engine.clone(), [8; 16], members(), Family::Raft).expect("memory");
    other.append(&[entry(2, 2)], Some(&hard(2, 0)), 0).expect("memory");
    Log::destroy(&engine, GROUP).expect("memory");
    assert!(Log::open(engine.clone(), GROUP).expect("memory").is_none());
    assert!(Log::open(engine, [8; 16]).is_ok_and(|log| log.is_some()));
}

/// Logs in the engine's journal.
mod in_journal {
    use super::*;
    use crate::log::witness::{members_row, term_row};

    fn log(engine: &MemoryEngine, last: u64) -> Log<MemoryEngine> {
        let mut log = Log::create(engine.clone(), GROUP, members(), Family::Journal).expect("memory");
        for index in 2..=last {
            log.append(&[entry(index, 2)], Some(&hard(2, 3)), index - 1).expect("memory");
        }
        log
    }

    fn rows(engine: &MemoryEngine, family: Family) -> usize {
        let mut rows = 0;
        let mut count = |_: &[u8], _: &[u8]| {
            rows += 1;
            Ok(ControlFlow::Continue(()))
        };
        engine.view().scan(family, &[], None, &mut count).expect("memory");
        rows
    }

    fn commit(log: &Log<MemoryEngine>) -> u64 {
        log.initial_state().expect("memory").hard_state.commit
    }

    #[test]
    fn a_log_is_there_again_with_its_commit_index() {
        let engine = MemoryEngine::with_disk();
        let mut written = log(&engine, 5);
        assert_eq!(commit(&reopened(&engine).expect("whole")), 4);
        written.record_commit(5).expect("memory");
        written.record_commit(3).expect("memory");
        let mut log = reopened(&engine).expect("whole");
        assert!(log.is_in_journal());
        assert_eq!((terms(&log), commit(&log)), (vec![1, 2, 2, 2, 2], 5));
        log.compact(4).expect("memory");
        assert_eq!(reopened(&engine).expect("whole").base_index(), 4);
        Log::destroy(&engine, GROUP).expect("memory");
        assert_eq!((rows(&engine, Family::Journal), rows(&engine, Family::Raft)), (0, 0));
        assert!(Log::open(engine, GROUP).expect("memory").is_none());
    }

    /// What release 0.1.0 reads names a later version, so that it keeps the replica as it is.
    #[test]
    fn the_first_release_takes_the_log_for_one_of_a_later_version() {
        let engine = MemoryEngine::with_disk();
        log(&engine, 5);
        for key in [record::tail_key(&GROUP), record::base_key(&GROUP)] {
            let row = engine.get(Family::Raft, &key).expect("memory").expect("there is a mark");
            assert_eq!(record::later_version(&row), Some(2));
        }
        assert_eq!(rows(&engine, Family::Raft), 2);
    }

    #[test]
    fn a_log_is_moved_once_also_after_a_crash_in_between() {
        let engine = MemoryEngine::with_disk();
        let mut log = super::log(&engine, 9);
        let (before, vote) = (terms(&log), 3);
        // A first attempt has copied some rows, of when the log was another one.
        let key = record::run_key(&GROUP, 9);
        for key in [key, record::run_key(&GROUP, 10)] {
            engine.write(vec![RowOp::Put(Family::Journal, key, vec![7])]).expect("memory");
        }
        assert_eq!(terms(&reopened(&engine).expect("the rows here count")), before);
        log.move_to_journal().expect("memory");
        log.append(&[entry(10, 2)], None, 9).expect("memory");
        engine.synced(&engine.pending());
        let cut = engine.after_power_cut(&mut |_| 0);
        for engine in [engine, cut] {
            let log = reopened(&engine).expect("whole");
            assert!(log.is_in_journal());
            assert_eq!(terms(&log), [&before[..], &[2]].concat());
            assert_eq!(log.initial_state().expect("memory").hard_state.vote, vote);
            assert_eq!(rows(&engine, Family::Raft), 2, "the marks");
        }
    }

    /// A power failure while a replica was created: nothing was promised.
    #[test]
    fn a_log_of_which_only_the_marks_are_durable_is_none() {
        let engine = MemoryEngine::with_disk();
        log(&engine, 5);
        let cut = engine.after_power_cut(&mut |most| if most == 2 { 0 } else { most });
        assert_eq!((rows(&cut, Family::Raft), rows(&cut, Family::Journal)), (2, 0));
        assert!(Log::open(cut, GROUP).expect("memory").is_none());
    }

    /// The machine's rows became durable, and the entries that they contain did not, or others are in their place.
    #[test]
    fn a_log_begins_anew_at_what_the_machine_contains() {
        for (applied, term, last) in [(7, 2, 7), (4, 3, 4), (4, 2, 5)] {
            let engine = MemoryEngine::with_disk();
            let mut log = log(&engine, 5);
            let joined = Members { next: 9, ..members() };
            let beside = vec![term_row(&GROUP, term), members_row(&GROUP, &joined, 4)];
            engine.write_unlogged(beside).expect("memory");
            log.reconcile(applied).expect("memory");
            for log in [log, reopened(&engine).expect("whole")] {
                assert_eq!((log.last_index(), log.term_of(applied)), (last, Some(term)), "{applied} {term}");
                assert_eq!(log.members(), (&joined, 4));
                let hard = log.initial_state().expect("memory").hard_state;
                assert_eq!((hard.term, hard.vote), (term.max(2), if term == 3 { 0 } else { 3 }));
            }
        }
    }
}

/// Entries that are appended together are one row, so that replaced ends and removed beginnings fall within rows.
mod runs {
    use proptest::prelude::*;

    use super::*;

    /// Steps of three numbers: entries to replace at the end (in a later term), entries to append, and entries to
    /// remove at the beginning.
    fn steps() -> impl Strategy<Value = Vec<(u64, u64, u64)>> {
        prop::collection::vec((0u64..6, 1u64..8, 0u64..6), 1..20)
    }

    fn read(log: &Log<MemoryEngine>) -> Vec<(u64, u64)> {
        let (low, high) = (log.base_index() + 1, log.last_index() + 1);
        let entries = if low < high { log.read(low, high, u64::MAX).expect("memory") } else { Vec::new() };
        entries.iter().map(|entry| (entry.index, entry.term)).collect()
    }

    proptest! {
        /// The log's entries are those of a plain list, both before and after it is opened again.
        #[test]
        fn a_log_of_runs_is_a_list(
            steps in steps(),
            family in prop_oneof![Just(Family::Raft), Just(Family::Journal)],
        ) {
            let engine = MemoryEngine::with_disk();
            let mut log = Log::create(engine.clone(), GROUP, members(), family).expect("memory");
            let mut list: Vec<(u64, u64)> = Vec::new();
            let mut term = 1;
            for (back, count, cut) in steps {
                let back = back.min(log.last_index() - log.base_index());
                term += back.min(1);
                let first = log.last_index() + 1 - back;
                list.truncate(list.len() - back as usize);
                let entries: Vec<_> = (first..first + count).map(|index| entry(index, term)).collect();
                list.extend(entries.iter().map(|entry| (entry.index, entry.term)));
                log.append(&entries, Some(&hard(term, 0)), 0).expect("memory");
                let wanted = log.base_index() + cut;
                log.compact(wanted).expect("memory");
                prop_assert!(log.base_index() <= wanted, "not more than was asked for");
                list.retain(|(index, _)| *index > log.base_index());
                prop_assert_eq!(&read(&log), &list);
                let opened = reopened(&engine).expect("whole");
                prop_assert_eq!(&read(&opened), &list);
                prop_assert_eq!(&opened.runs, &log.runs);
            }
        }
    }
}
