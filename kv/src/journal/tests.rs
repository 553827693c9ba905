use proptest::prelude::*;

use super::*;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

fn journal(files: &MemoryFiles) -> Journal<MemoryFiles> {
    Journal::open(files.clone()).expect("memory")
}

fn state(journal: &Journal<MemoryFiles>) -> State {
    let mut state = State::new();
    let mut add = |key: &[u8], row: &[u8]| {
        state.insert(key.to_vec(), row.to_vec());
        Ok(ControlFlow::Continue(()))
    };
    journal.scan(&[], None, &mut add).expect("memory");
    state
}

/// The numbers of the files, the sizes of their content.
fn files_of(files: &MemoryFiles) -> Vec<(u64, u64)> {
    files.list().expect("memory").into_iter().map(|at| (at, files.size(at).expect("memory"))).collect()
}

#[test]
fn rows_are_written_replaced_removed_and_read_in_order() {
    let files = MemoryFiles::default();
    let written = journal(&files);
    written.write(&[Op::Put(b"b", b"1"), Op::Put(b"a", b""), Op::Put(b"c", b"3")]).expect("memory");
    written.write(&[Op::Put(b"b", b"2"), Op::Delete(b"c"), Op::Delete(b"none")]).expect("memory");
    for journal in [written, journal(&files)] {
        assert_eq!(journal.get(b"b").expect("memory").as_deref(), Some(&b"2"[..]));
        assert_eq!(journal.get(b"c").expect("memory"), None);
        let keys: Vec<Vec<u8>> = state(&journal).into_keys().collect();
        assert_eq!(keys, [b"a".to_vec(), b"b".to_vec()]);
        let mut seen = Vec::new();
        let mut first = |key: &[u8], _: &[u8]| {
            seen.push(key.to_vec());
            Ok(ControlFlow::Break(()))
        };
        journal.scan(b"a\0", Some(b"c"), &mut first).expect("memory");
        assert_eq!(seen, [b"b".to_vec()]);
        assert_eq!(journal.figures().0, 3, "bytes of a, and of b with its row");
    }
}

#[test]
fn a_full_disk_leaves_the_journal_as_it_was_and_works_again_later() {
    let files = MemoryFiles::default();
    let journal = journal(&files);
    files.set_full(true);
    assert_eq!(journal.write(&[Op::Put(b"a", b"1")]), Err(Error::Full));
    files.set_full(false);
    journal.write(&[Op::Put(b"b", b"2")]).expect("memory");
    files.set_full(true);
    assert_eq!(journal.write(&[Op::Put(b"c", b"3"), Op::Delete(b"b")]), Err(Error::Full));
    files.set_full(false);
    journal.write(&[Op::Put(b"d", b"4")]).expect("memory");
    let expected = State::from([(b"b".to_vec(), b"2".to_vec()), (b"d".to_vec(), b"4".to_vec())]);
    assert_eq!(state(&journal), expected);
    assert_eq!(state(&self::journal(&files)), expected);
}

/// Rows of a mebibyte, each removed later, beside one that stays.
#[test]
fn space_is_given_back_also_where_an_old_row_stays() {
    let files = MemoryFiles::default();
    let journal = journal(&files);
    journal.write(&[Op::Put(b"old", b"stays")]).expect("memory");
    let row = vec![7; 1 << 20];
    for n in 0..200_u32 {
        let (key, before) = (n.to_be_bytes(), n.wrapping_sub(3).to_be_bytes());
        journal.write(&[Op::Put(&key, &row), Op::Delete(&before)]).expect("memory");
        if n % 5 == 0 {
            journal.sync().expect("memory");
        }
        assert!(journal.figures().1 as u64 <= SPARE_SEGMENTS + 4, "after {n}: {:?}", journal.figures());
    }
    journal.sync().expect("memory");
    assert!(files_of(&files).len() as u64 <= SPARE_SEGMENTS + 3, "{:?}", files_of(&files));
    let state = state(&journal);
    assert_eq!(state[&b"old"[..]], b"stays");
    assert_eq!(state.len(), 4);
    assert_eq!(self::state(&self::journal(&files)), state);
}

/// What replaces a row is not durable yet: the row's segment stays.
#[test]
fn a_segment_is_released_only_after_what_replaced_its_rows_is_durable() {
    let files = MemoryFiles::default();
    let journal = journal(&files);
    let row = vec![7; SEGMENT_BYTES as usize - 100];
    journal.write(&[Op::Put(b"k", &row)]).expect("memory");
    journal.sync().expect("memory");
    let syncing = journal.begin_sync();
    journal.write(&[Op::Put(b"k", &row[1..])]).expect("memory");
    journal.end_sync(&syncing).expect("memory");
    assert_eq!(journal.figures().1, 2);
    let cut = self::journal(&files.after_power_cut(&mut |_| 0));
    assert_eq!((cut.get(b"k").expect("memory"), cut.lost()), (Some(row.clone()), None));
    journal.sync().expect("memory");
    assert_eq!(journal.figures().1, 1);
    assert_eq!(journal.get(b"k").expect("memory").as_deref(), Some(&row[1..]));
}

#[test]
fn a_torn_end_is_told_from_a_damaged_record_that_was_durable() {
    let files = MemoryFiles::default();
    let journal = journal(&files);
    for n in 0..4_u8 {
        journal.write(&[Op::Put(&[n], &[n; 100])]).expect("memory");
        journal.sync().expect("memory");
    }
    let synced = journal.begin_sync().0;
    journal.write(&[Op::Put(b"unsynced", &[9; 100])]).expect("memory");
    let (number, end) = files_of(&files)[0];
    // The end of the last record, which was never durable.
    let torn = files.copy();
    torn.flip(number, end - 40);
    let torn = self::journal(&torn);
    assert_eq!((state(&torn).len(), torn.lost()), (4, None));
    // The last durable record: only the note tells.
    let last = files.copy();
    last.flip(number, end - 200);
    let opened = self::journal(&last);
    let found = opened.lost().expect("it is noticed");
    assert_eq!(state(&opened).len(), 3);
    assert!(found.found < found.synced, "{found:?} {synced:?}");
    // A power failure may take the note, too. A later record tells what was durable before it.
    for early in [60, 200] {
        let middle = files.after_power_cut(&mut |bytes| bytes);
        middle.flip(number, early);
        middle.note(0).expect("memory");
        assert!(self::journal(&middle).lost().is_some(), "byte {early}");
    }
    // Noticed until the journal was written again, and then never.
    assert!(self::journal(&last).lost().is_some());
    let opened = self::journal(&last);
    opened.write(&[Op::Put(b"new", b"1")]).expect("memory");
    opened.sync().expect("memory");
    let again = self::journal(&last);
    assert_eq!((again.lost(), state(&again).len()), (None, 4));
}

#[test]
fn files_that_are_missing_or_of_a_later_version_are_noticed() {
    let files = MemoryFiles::default();
    let journal = journal(&files);
    let row = vec![7; SEGMENT_BYTES as usize / 2];
    for n in 0..6_u8 {
        journal.write(&[Op::Put(&[n], &row)]).expect("memory");
        journal.sync().expect("memory");
    }
    let numbers = files.list().expect("memory");
    for number in &numbers[1..] {
        let some = files.copy();
        some.remove(*number).expect("memory");
        assert!(self::journal(&some).lost().is_some(), "segment {number}");
    }
    let none = files.copy();
    for number in numbers {
        none.remove(number).expect("memory");
    }
    let empty = self::journal(&none);
    assert!(empty.lost().is_some() && state(&empty).is_empty());
    empty.write(&[Op::Put(b"k", b"v")]).expect("memory");
    empty.sync().expect("memory");
    assert_eq!(self::journal(&none).lost(), None);
    let first = record::First { version: record::VERSION + 1, ..record::First::default() };
    none.create(99, 0).expect("memory");
    none.write(99, 0, &record::seal(99, 0, 0, &first.encode())).expect("memory");
    assert!(matches!(Journal::open(none).err(), Some(Error::Format { .. })));
}

/// A record is as long as it claims only if its checksum says so: nothing is allocated for a claim.
#[test]
fn no_length_is_believed() {
    let files = MemoryFiles::default();
    journal(&files).write(&[Op::Put(b"k", b"v")]).expect("memory");
    let (number, _) = files_of(&files)[0];
    for bytes in [u64::MAX, u64::MAX - 31, 1 << 40, 1 << 30, 1 << 20] {
        let copy = files.copy();
        copy.write(number, record::FIRST_BYTES + 24, &bytes.to_le_bytes()).expect("memory");
        let opened = journal(&copy);
        assert_eq!((state(&opened).len(), opened.lost()), (0, None));
    }
}

/// What stays behind the end of a torn journal is never taken for records of a later run.
#[test]
fn records_behind_a_torn_end_do_not_come_back() {
    let files = MemoryFiles::default();
    let journal = journal(&files);
    journal.write(&[Op::Put(b"a", b"1")]).expect("memory");
    journal.sync().expect("memory");
    for key in [b"b", b"c"] {
        journal.write(&[Op::Put(key, b"2")]).expect("memory");
    }
    // The first of two unsynced records is lost, and the second is there.
    let mut writes = 0;
    let cut = files.after_power_cut(&mut |bytes| {
        writes += 1;
        if writes == 1 { 0 } else { bytes }
    });
    let opened = self::journal(&cut);
    assert_eq!((state(&opened).len(), opened.lost()), (1, None));
    opened.write(&[Op::Put(b"d", b"3")]).expect("memory");
    opened.sync().expect("memory");
    for cut in [cut.after_power_cut(&mut |_| 0), cut] {
        let keys: Vec<Vec<u8>> = state(&self::journal(&cut)).into_keys().collect();
        assert_eq!(keys, [b"a".to_vec(), b"d".to_vec()]);
    }
}

/// A process dies before it has synced its segment, and the next one before it has synced the next segment. Of the two
/// files only the second one is there after the power failure.
#[test]
fn a_segment_without_the_one_before_it_does_not_count_unless_that_was_released() {
    let files = MemoryFiles::default();
    journal(&files).write(&[Op::Put(b"a", b"1")]).expect("memory");
    journal(&files).write(&[Op::Put(b"b", b"2")]).expect("memory");
    let mut changes = 0;
    let cut = files.after_power_cut(&mut |bytes| {
        changes += 1;
        if changes <= 3 { 0 } else { bytes }
    });
    assert_eq!(cut.list().expect("memory"), [2]);
    let opened = journal(&cut);
    assert_eq!((state(&opened).len(), opened.lost()), (0, None));
    // The note of the sync after which the first segment was released is durable.
    let written = journal(&files);
    written.write(&[Op::Put(b"a", b"3"), Op::Put(b"b", b"4")]).expect("memory");
    written.sync().expect("memory");
    let cut = files.after_power_cut(&mut |_| 0);
    assert_eq!(cut.list().expect("memory"), [3]);
    let opened = journal(&cut);
    assert_eq!((state(&opened).len(), opened.lost()), (2, None));
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u8, Option<u16>)>),
    Sync,
    Reopen,
    /// A power failure; what it leaves of each change is drawn from the number.
    Cut(u64),
    Full(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Rows of up to two mebibytes, so that segments come and go.
    let op = (0u8..12, prop::option::weighted(0.7, any::<u16>()));
    prop::collection::vec(
        prop_oneof![
            8 => prop::collection::vec(op, 1..6).prop_map(Step::Write),
            4 => Just(Step::Sync),
            1 => Just(Step::Reopen),
            1 => any::<u64>().prop_map(Step::Cut),
            1 => any::<bool>().prop_map(Step::Full),
        ],
        1..120,
    )
}

fn row(number: u16) -> Vec<u8> {
    let bytes = if number.is_multiple_of(3) { usize::from(number) << 5 } else { usize::from(number % 64) };
    vec![number as u8; bytes]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever is in a file, the journal opens; and what was durable before it is there.
    #[test]
    fn any_bytes_behind_the_end_are_no_records(bytes in prop::collection::vec(any::<u8>(), 0..4_000), number in 1u64..3) {
        let files = MemoryFiles::default();
        let journal = Journal::open(files.clone()).expect("memory");
        journal.write(&[Op::Put(b"k", b"v")]).expect("memory");
        journal.sync().expect("memory");
        if number == 2 {
            files.create(2, 0).expect("memory");
        }
        let end = files.size(number).expect("memory");
        files.write(number, end, &bytes).expect("memory");
        let opened = Journal::open(files).expect("memory");
        prop_assert_eq!((state(&opened).len(), opened.lost()), (1, None));
    }

    /// The journal is a map. After a power failure it is the map after one of the writes since the last sync, or
    /// after that one; never is a torn end taken for damage.
    #[test]
    fn a_journal_is_a_map_that_survives_what_it_promised(steps in steps()) {
        let mut files = MemoryFiles::default();
        let mut journal = Journal::open(files.clone()).expect("memory");
        // The states after each write since the last sync.
        let mut states = vec![State::new()];
        for step in steps {
            match step {
                Step::Write(ops) => {
                    let ops: Vec<(Vec<u8>, Option<Vec<u8>>)> =
                        ops.into_iter().map(|(key, number)| (vec![key], number.map(row))).collect();
                    let borrowed: Vec<Op<'_>> = ops.iter().map(|(key, row)| match row {
                        Some(row) => Op::Put(key, row),
                        None => Op::Delete(key),
                    }).collect();
                    if journal.write(&borrowed).is_ok() {
                        let mut state = states.last().expect("one").clone();
                        for (key, row) in ops {
                            match row {
                                Some(row) => drop(state.insert(key, row)),
                                None => drop(state.remove(&key)),
                            }
                        }
                        states.push(state);
                    }
                }
                Step::Sync => {
                    journal.sync().expect("memory");
                    states.drain(..states.len() - 1);
                }
                Step::Reopen => journal = self::journal(&files),
                Step::Full(is_full) => files.set_full(is_full),
                Step::Cut(mut seed) => {
                    files = files.after_power_cut(&mut |bytes| {
                        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        match seed >> 62 {
                            0 => 0,
                            1 => (seed >> 8) as usize % (bytes + 1),
                            _ => bytes,
                        }
                    });
                    journal = self::journal(&files);
                    let now = state(&journal);
                    prop_assert!(states.contains(&now), "{} states", states.len());
                    states = vec![now];
                }
            }
            prop_assert_eq!(journal.lost(), None);
            prop_assert_eq!(&state(&journal), states.last().expect("one"));
        }
    }
}
