//! Single cases of the state machine.

mod common;

use common::*;
use starling_kv::{Error, MemoryEngine};
use starling_strong::api::*;
use starling_strong::machine::{ANSWERS_MAX, CLIENTS_MAX, Command, Config, DATED, Machine, WINDOW, limits};

fn named(client: u128, seq: u64, answered_below: u64, write: Write) -> Command {
    Command::Write { id: Some(RequestId { client, seq, answered_below }), fence: None, write }
}

fn sequential(prefix: &str) -> Write {
    Write::PutSequential { prefix: prefix.into(), value: Vec::new(), lease: 0 }
}

#[test]
fn a_key_has_a_history() {
    let mut machine = fresh();
    assert_eq!(machine.revision(), 1);
    for text in ["one", "two"] {
        write(&mut machine, put("k", text)).expect("puts");
    }
    let kv = &read(&machine, range(all(), 0)).expect("reads").kvs[0];
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version, &kv.value[..]), (2, 3, 2, &b"two"[..]));
    let kv = &read(&machine, range(all(), 2)).expect("reads").kvs[0];
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version, &kv.value[..]), (2, 2, 1, &b"one"[..]));
    write(&mut machine, delete("k")).expect("deletes");
    write(&mut machine, put("k", "again")).expect("puts");
    assert_eq!(read(&machine, range(all(), 4)).expect("reads"), Found::default());
    let kv = &read(&machine, range(all(), 5)).expect("reads").kvs[0];
    assert_eq!((kv.create_revision, kv.version), (5, 1));
}

#[test]
fn a_named_write_is_applied_once() {
    let engine = MemoryEngine::new();
    let mut machine = open(&engine);
    let first = apply(&mut machine, named(1, 1, 0, sequential("queue/")));
    // In the same batch, in a later one, after a restart.
    let again = named(1, 1, 0, sequential("queue/"));
    let both = apply_all(
        &mut machine,
        vec![named(1, 2, 0, sequential("queue/")), named(1, 2, 0, sequential("queue/"))],
    );
    assert_eq!(both[0], both[1]);
    assert_eq!(apply(&mut machine, again.clone()), first);
    let mut machine = open(&engine);
    assert_eq!(apply(&mut machine, again.clone()), first);
    assert_eq!(read(&machine, range(all(), 0)).expect("reads").count, 2);
    // A refusal is remembered too, even if the write would succeed now.
    let needs = || Write::Put(Put { key: b"k".to_vec(), value: None, lease: Some(0), prev: false });
    assert_eq!(apply(&mut machine, named(1, 3, 0, needs())), Err(Refusal::KeyNotFound));
    write(&mut machine, put("k", "there")).expect("puts");
    assert_eq!(apply(&mut machine, named(1, 3, 0, needs())), Err(Refusal::KeyNotFound));
    // An answer that the client has received is forgotten, and the write is never applied again.
    assert!(apply(&mut machine, named(1, 4, 4, needs())).is_ok());
    assert_eq!(apply(&mut machine, again.clone()), Err(Refusal::Forgotten));
    assert_eq!(apply(&mut open(&engine), again), Err(Refusal::Forgotten));
    // Nor is a write that is too far behind applied.
    assert!(apply(&mut machine, named(1, 5 + WINDOW, 4, needs())).is_ok());
    assert_eq!(apply(&mut machine, named(1, 5, 4, needs())), Err(Refusal::Forgotten));
    assert!(apply(&mut machine, named(1, 6, 4, needs())).is_ok());
}

#[test]
fn the_longest_silent_client_gives_way() {
    let engine = MemoryEngine::new();
    let mut machine = open(&engine);
    let clients = 1..=CLIENTS_MAX as u128 + 1;
    let commands = clients.map(|client| named(client, 1, 0, put("k", "v"))).collect();
    apply_all(&mut machine, commands);
    for mut machine in [open(&engine), machine] {
        assert_eq!(apply(&mut machine, named(1, 2, 2, put("k", "v"))), Err(Refusal::Forgotten));
        assert!(apply(&mut machine, named(2, 2, 2, put("k", "v"))).is_ok());
        machine = open(&MemoryEngine::new());
        assert_eq!(machine.revision(), 1);
    }
    let figures = open(&engine).figures();
    assert_eq!((figures.clients, figures.answers), (CLIENTS_MAX, CLIENTS_MAX + 1));
    let rows = dump(&engine).iter().filter(|(family, ..)| *family == "strong_state").count();
    assert!(rows <= CLIENTS_MAX + 2, "{rows} rows");
}

/// A client's id that was drawn at this time.
fn drawn(wall_ms: u64, number: u128) -> u128 {
    RequestId::draw(wall_ms, number)
}

/// A replica of a group that has adopted ids with a time.
fn dated(engine: &MemoryEngine) -> Machine<MemoryEngine> {
    let mut machine = open(engine);
    assert_eq!(apply_all(&mut machine, vec![Command::Adopt { version: DATED }]), [None]);
    machine
}

/// However late a write is repeated, it is not applied again: neither after so many writes of others, nor after so many
/// bytes of their answers.
#[test]
fn a_repeated_write_is_answered_or_refused_and_never_applied_twice() {
    let (few, many) = (ANSWERS_MAX as u64 + 10, 150);
    for (others, value_bytes) in [(few, 1), (many, 60_000)] {
        let engine = MemoryEngine::new();
        let mut machine = dated(&engine);
        let value = "v".repeat(value_bytes);
        let pop = || Write::PopFirst { keys: Keys::prefix(b"queue/".to_vec()) };
        write(&mut machine, put("queue/a", "item")).expect("puts");
        write(&mut machine, put("queue/b", "item")).expect("puts");
        let first = named(drawn(1000, 7), 0, 0, pop());
        let answer = apply(&mut machine, first.clone());
        assert_eq!(apply(&mut machine, first.clone()), answer);
        for number in 0..others {
            write(&mut machine, put("other", &value)).expect("puts");
            let Write::Put(put) = put("other", "new") else { panic!("a put") };
            let put = Write::Put(Put { prev: true, ..put });
            apply(&mut machine, named(drawn(1001 + number, 0), 0, 0, put)).expect("puts");
        }
        drop(machine);
        let mut machine = open(&engine);
        assert_eq!(apply(&mut machine, first.clone()), Err(Refusal::Forgotten));
        assert!(read(&machine, range(all(), 0)).expect("reads").kvs.iter().any(|kv| kv.key == b"queue/b"));
        // A new id is as good as ever, and so are those of the last clients.
        let last = drawn(1001 + others - 1, 0);
        let Write::Put(put_again) = put("other", "new") else { panic!("a put") };
        let put_again = Write::Put(Put { prev: true, ..put_again });
        assert!(apply(&mut machine, named(last, 0, 0, put_again)).is_ok());
        assert!(apply(&mut machine, named(drawn(999_999_999, 3), 0, 0, put("other", "new"))).is_ok());
    }
}

/// A client whose clock is ahead does not shorten the memory of the others.
#[test]
fn the_oldest_ids_are_forgotten_first() {
    let engine = MemoryEngine::new();
    let mut machine = dated(&engine);
    apply(&mut machine, named(drawn(9_000_000, 1), 1, 0, put("k", "ahead"))).expect("puts");
    let others = (0..ANSWERS_MAX as u64).map(|at| named(drawn(1000 + at, 2), 1, 0, put("k", "v"))).collect();
    apply_all(&mut machine, others);
    assert_eq!(machine.figures().clients, ANSWERS_MAX);
    drop(machine);
    let mut machine = open(&engine);
    assert_eq!(apply(&mut machine, named(drawn(1000, 2), 1, 0, put("k", "v"))), Err(Refusal::Forgotten));
    assert!(apply(&mut machine, named(drawn(1001, 2), 1, 0, put("k", "v"))).is_ok(), "it is remembered");
    assert!(apply(&mut machine, named(drawn(1001, 5), 1, 0, put("k", "v"))).is_ok(), "it is new");
}

/// A client whose clock is a little ahead is not evicted for one that is right: then all others would be refused.
#[test]
fn an_id_of_the_future_is_evicted_after_those_of_now() {
    let engine = MemoryEngine::new();
    let mut machine = dated(&engine);
    write(&mut machine, put("k", &"v".repeat(60_000))).expect("puts");
    let Write::Put(replace) = put("k", &"w".repeat(60_000)) else { panic!("a put") };
    // Just within the bound on bytes.
    for number in 0..139 {
        let replace = Write::Put(Put { prev: true, ..replace.clone() });
        apply(&mut machine, named(drawn(60_000 + number, 1), 0, 0, replace)).expect("puts");
    }
    for number in 0..20 {
        let replace = Write::Put(Put { prev: true, ..replace.clone() });
        let other = named(drawn(1_000 + number, 2), 0, 0, replace);
        assert!(apply(&mut machine, other).is_ok(), "{number}");
    }
    drop(machine);
    let mut machine = open(&engine);
    let revision = machine.revision();
    assert_eq!(apply(&mut machine, named(drawn(1_010, 2), 0, 0, put("k", "v"))), Err(Refusal::Forgotten));
    assert_eq!(machine.revision(), revision);
}

#[test]
fn a_request_id_that_was_used_for_another_write_is_refused() {
    let engine = MemoryEngine::new();
    let mut machine = dated(&engine);
    let id = drawn(1_000, 1);
    let first = apply(&mut machine, named(id, 0, 0, put("a", "1")));
    assert_eq!(apply(&mut machine, named(id, 0, 0, put("b", "1"))), Err(Refusal::RequestIdReused));
    let fence = Some(Fence { lock: b"lock".to_vec(), token: 2 });
    let request_id = Some(RequestId { client: id, seq: 0, answered_below: 0 });
    let fenced = Command::Write { id: request_id, fence, write: put("a", "1") };
    assert_eq!(apply(&mut machine, fenced), Err(Refusal::RequestIdReused));
    drop(machine);
    let mut machine = open(&engine);
    assert_eq!(apply(&mut machine, named(id, 0, 0, put("b", "1"))), Err(Refusal::RequestIdReused));
    assert_eq!(apply(&mut machine, named(id, 0, 0, put("a", "1"))), first);
}

/// Replicas of two releases apply the same until the group adopts the new version, and the same after it.
#[test]
fn ids_without_a_time_end_with_the_adoption() {
    let engine = MemoryEngine::new();
    let mut machine = open(&engine);
    let undated = || named(5, 1, 0, put("k", "v"));
    let first = apply(&mut machine, undated());
    let dated = || named(drawn(1000, 5), 1, 0, put("k", "v"));
    let second = apply(&mut machine, dated());
    assert_eq!((apply(&mut machine, undated()), machine.version()), (first, 0));
    let before = machine.hash();
    apply_all(&mut machine, vec![Command::Adopt { version: DATED }]);
    assert_ne!(machine.hash(), before);
    let adopted = machine.hash();
    apply_all(&mut machine, vec![Command::Adopt { version: DATED }]);
    assert_eq!(machine.hash(), adopted, "it adopts once");
    for mut machine in [open(&engine), machine] {
        assert_eq!(machine.version(), DATED);
        assert_eq!(apply(&mut machine, undated()), Err(Refusal::Forgotten));
        assert_eq!(apply(&mut machine, dated()), second);
    }
}

#[test]
fn a_stale_fence_is_refused() {
    let mut machine = fresh();
    let mut token = |holder: &str| write(&mut machine, put(holder, "")).expect("puts").revision;
    let (first, second) = (token("lock/a"), token("lock/b"));
    token("lock");
    token("locks/c");
    let mut fenced = |token, key: &str| {
        let fence = Some(Fence { lock: b"lock".to_vec(), token });
        apply(&mut machine, Command::Write { id: None, fence, write: put(key, "written") })
    };
    assert!(fenced(first, "k").is_ok());
    assert_eq!(fenced(second, "k"), Err(Refusal::StaleFence { token: second }));
    write(&mut machine, delete("lock/a")).expect("deletes");
    let fence = |token| Some(Fence { lock: b"lock".to_vec(), token });
    let command = |token| Command::Write { id: None, fence: fence(token), write: put("k", "later") };
    // Also where the lock changes hands in the same batch.
    let answers = apply_all(
        &mut machine,
        vec![command(first), command(second), common::command(delete("lock/b")), command(second)],
    );
    let is_ok: Vec<bool> = answers.into_iter().map(|answer| answer.expect("asked").is_ok()).collect();
    assert_eq!(is_ok, [false, true, true, false]);
}

/// The holder of a lock is found without a visit to its whole queue.
#[test]
fn a_guarded_write_visits_few_rows_however_many_wait_for_the_lock() {
    let engine = MemoryEngine::new();
    let mut machine = Machine::open(engine.clone(), GROUP, Config::default()).expect("opens");
    let waits = |number: u64| put(&format!("lock/{:04}", 9_999 - number), "");
    let answers = apply_all(&mut machine, (0..5_000).map(|number| command(waits(number))).collect());
    let tokens: Vec<u64> =
        answers.into_iter().map(|answer| answer.expect("asked").expect("puts").revision).collect();
    let guarded = |machine: &mut Machine<_>, token: u64| {
        let fence = Some(Fence { lock: b"lock".to_vec(), token });
        apply(machine, Command::Write { id: None, fence, write: put("k", "written") })
    };
    assert!(guarded(&mut machine, tokens[0]).is_ok());
    engine.meter().take();
    let mut visited = 0;
    for (number, token) in tokens.iter().enumerate().take(1_000) {
        assert!(guarded(&mut machine, *token).is_ok());
        assert_eq!(guarded(&mut machine, token + 1), Err(Refusal::StaleFence { token: token + 1 }));
        write(&mut machine, delete(&format!("lock/{:04}", 9_999 - number))).expect("deletes");
        visited += engine.meter().take().rows;
    }
    // The queue is visited once in 256 changes of the holder, and each of the three writes has its own rows.
    assert!(visited < 1_000 * (20 + 5_000 / 256), "{visited} rows");
}

#[test]
fn a_lease_lasts_its_whole_time() {
    let engine = MemoryEngine::new();
    let mut machine = open(&engine);
    let grant = |id| command(Write::LeaseGrant { id, ttl_ms: 5000 });
    machine.lead(1000);
    machine.apply(1000, vec![(1, Some(grant(7)))]).expect("applies");
    assert_eq!(machine.next_expiry(), Some(6000));
    assert_eq!(machine.expired(5999, 10), Vec::<i64>::new());
    assert!(machine.keep_alive(4000, 7).is_ok());
    assert_eq!(machine.expired(8999, 10), Vec::<i64>::new());
    assert_eq!(machine.expired(9000, 10), [7]);
    assert_eq!(machine.keep_alive(9000, 7), Err(Refusal::LeaseNotFound(7)), "it may be revoked already");
    // A follower does not time leases, and a new leader starts their times from the beginning.
    machine.follow();
    assert_eq!((machine.next_expiry(), machine.expired(99_000, 10)), (None, vec![]));
    machine.apply(20_000, vec![(2, Some(grant(8)))]).expect("applies");
    machine.lead(30_000);
    assert_eq!((machine.expired(34_999, 10), machine.expired(35_000, 10)), (vec![], vec![7, 8]));
    assert_eq!(machine.expired(35_000, 1), [7]);
    let Ok(Answer { body: Body::TimeToLive { granted_ms, left_ms, .. }, .. }) =
        machine.time_to_live(31_000, 7, false)
    else {
        panic!("a lease's time")
    };
    assert_eq!((granted_ms, left_ms), (5000, 4000));
    let mut machine = open(&engine);
    machine.lead(100_000);
    assert_eq!(machine.next_expiry(), Some(105_000));
    write(&mut machine, Write::LeaseRevoke { id: 7 }).expect("revokes");
    assert_eq!(machine.expired(105_000, 10), [8]);
    assert_eq!(machine.keep_alive(0, 7), Err(Refusal::LeaseNotFound(7)));
    let answer = write(&mut machine, Write::LeaseGrant { id: 0, ttl_ms: 5000 }).expect("grants");
    let Body::LeaseGranted { id, .. } = answer.body else { panic!("a lease") };
    assert!(id > 0 && id != 8);
}

#[test]
fn leases_are_listed_in_the_order_in_which_they_expire() {
    let mut machine = open(&MemoryEngine::new());
    let grant = |id, ttl_ms| command(Write::LeaseGrant { id, ttl_ms });
    machine.lead(0);
    machine.apply(0, vec![(1, Some(grant(1, 9000))), (2, Some(grant(2, 5000)))]).expect("applies");
    let listed = |machine: &Machine<MemoryEngine>| match machine.read(&Read::Leases).expect("memory") {
        Ok(Answer { body: Body::Leases { leases }, .. }) => leases,
        other => panic!("no leases: {other:?}"),
    };
    assert_eq!(listed(&machine), [2, 1]);
    machine.keep_alive(4900, 2).expect("is renewed");
    assert_eq!(listed(&machine), [1, 2]);
}

#[test]
fn a_revoked_lease_takes_its_keys_at_one_revision() {
    let mut machine = fresh();
    for id in [1, 2] {
        write(&mut machine, Write::LeaseGrant { id, ttl_ms: 5000 }).expect("grants");
    }
    for (key, lease) in [("a", 1), ("b", 1), ("c", 2), ("d", 1)] {
        write(&mut machine, put_leased(key, "v", lease)).expect("puts");
    }
    write(&mut machine, put("d", "without a lease")).expect("puts");
    write(&mut machine, put_leased("b", "moved", 2)).expect("puts");
    let before = machine.revision();
    let answer = write(&mut machine, Write::LeaseRevoke { id: 1 }).expect("revokes");
    assert_eq!(answer.revision, before + 1);
    let left: Vec<Vec<u8>> =
        read(&machine, range(all(), 0)).expect("reads").kvs.into_iter().map(|kv| kv.key).collect();
    assert_eq!(left, [b"b", b"c", b"d"]);
    assert_eq!(write(&mut machine, put_leased("x", "v", 1)), Err(Refusal::LeaseNotFound(1)));
}

#[test]
fn a_full_keyspace_takes_only_what_makes_room() {
    let config = Config { quota_bytes: 2000 };
    let mut machine = Machine::open(MemoryEngine::new(), GROUP, config).expect("opens");
    let value = "x".repeat(300);
    let mut puts = 0;
    let refusal = loop {
        match machine.admit(command(put("k", &value))) {
            Ok(admitted) => drop(apply(&mut machine, admitted)),
            Err(refusal) => break refusal,
        }
        puts += 1;
    };
    assert!((4..8).contains(&puts));
    let bytes = machine.bytes();
    assert_eq!(refusal, Refusal::NoSpace { bytes, max: 2000 });
    // A write with a request id is rejected through the log, because an earlier sending of it may be there.
    let one = named(1, 1, 0, put("k", "named"));
    let admitted = machine.admit(one.clone()).expect("goes into the log");
    assert!(matches!(admitted, Command::Refuse { .. }));
    let answer = apply(&mut machine, one);
    assert!(answer.is_ok());
    assert_eq!(apply(&mut machine, admitted), answer);
    let other = machine.admit(named(1, 2, 0, put("k", "named"))).expect("goes into the log");
    assert!(matches!(apply(&mut machine, other), Err(Refusal::NoSpace { .. })));
    // Deleting and compacting always work, and make room.
    for write in [delete("k"), Write::Compact { revision: machine.revision() + 1 }] {
        let admitted = machine.admit(command(write)).expect("makes room");
        apply(&mut machine, admitted).expect("applies");
    }
    while machine.maintain().expect("maintains") {}
    assert!(machine.bytes() < 100, "{}", machine.bytes());
    assert!(machine.admit(command(put("k", &value))).is_ok());
}

#[test]
fn what_is_too_large_is_refused() {
    let mut machine = fresh();
    let refusal = |machine: &mut Machine<MemoryEngine>, asked: Write| {
        let admitted = machine.admit(command(asked.clone())).expect_err("is refused");
        assert_eq!(write(machine, asked), Err(admitted.clone()), "and by the log");
        admitted
    };
    let long = "k".repeat(limits::KEY_BYTES_MAX + 1);
    assert!(matches!(refusal(&mut machine, put(&long, "")), Refusal::TooLarge { .. }));
    assert_eq!(refusal(&mut machine, put("", "v")), Refusal::EmptyKey);
    assert!(matches!(
        refusal(&mut machine, put("k", &"v".repeat(limits::VALUE_BYTES_MAX + 1))),
        Refusal::TooLarge { .. }
    ));
    assert!(write(&mut machine, put("k", &"v".repeat(limits::VALUE_BYTES_MAX))).is_ok());
    assert_eq!(refusal(&mut machine, Write::LeaseGrant { id: 1, ttl_ms: 999 }), Refusal::LeaseTtl);
    let txn = |then: Vec<TxnOp>| Write::Txn(Txn { compare: Vec::new(), then, otherwise: Vec::new() });
    let op = |number: usize| {
        TxnOp::Put(Put {
            key: format!("{number}").into(),
            value: Some(Vec::new()),
            lease: Some(0),
            prev: false,
        })
    };
    let ops = |count| (0..count).map(op).collect();
    assert!(write(&mut machine, txn(ops(limits::TXN_OPS_MAX))).is_ok());
    let max = limits::TXN_OPS_MAX as u64;
    assert_eq!(refusal(&mut machine, txn(ops(limits::TXN_OPS_MAX + 1))), Refusal::TooManyOps { max });
    assert_eq!(refusal(&mut machine, txn(vec![op(1), op(1)])), Refusal::DuplicateKey);
    let nested = |depth| {
        (1..depth).fold(Txn { compare: Vec::new(), then: Vec::new(), otherwise: Vec::new() }, |inner, _| {
            Txn { compare: Vec::new(), then: vec![TxnOp::Txn(inner)], otherwise: Vec::new() }
        })
    };
    assert!(write(&mut machine, Write::Txn(nested(8))).is_ok());
    assert!(matches!(refusal(&mut machine, Write::Txn(nested(9))), Refusal::TooManyOps { .. }));
    let read = machine.read(&Read::Txn(nested(9))).expect("memory");
    assert!(matches!(read, Err(Refusal::TooManyOps { .. })), "{read:?}");
    apply_all(&mut machine, vec![Command::Adopt { version: DATED }]);
    assert!(write(&mut machine, Write::Txn(nested(20))).is_ok());
    assert!(machine.read(&Read::Txn(nested(20))).expect("memory").is_ok());
    assert!(matches!(refusal(&mut machine, Write::Txn(nested(21))), Refusal::TooManyOps { .. }));
}

#[test]
fn answers_are_bounded_and_go_on() {
    let mut machine = fresh();
    let value = "v".repeat(1 << 20);
    for number in 0..10 {
        write(&mut machine, put(&format!("k{number}"), &value)).expect("puts");
    }
    for revision in [0, machine.revision(), machine.revision() - 2] {
        let (mut from, mut keys) = (Vec::new(), 0);
        loop {
            let found = read(&machine, range(Keys::Range { from, to: None }, revision)).expect("reads");
            assert_eq!(found.count + keys, if revision == 9 { 8 } else { 10 });
            keys += found.kvs.len() as u64;
            assert!(found.kvs.len() <= 4 && !found.kvs.is_empty());
            if !found.more {
                break;
            }
            from = [&found.kvs.last().expect("a key").key[..], &[0]].concat();
        }
        assert_eq!(keys, if revision == 9 { 8 } else { 10 });
    }
    // An answer that could not be asked for again is too large, and the write is rejected before it changes anything.
    let everything = Write::Delete(Delete { keys: all(), prev: true });
    assert!(matches!(write(&mut machine, everything), Err(Refusal::TooLarge { .. })));
    assert_eq!(read(&machine, range(all(), 0)).expect("reads").count, 10);
    write(&mut machine, Write::Delete(Delete { keys: all(), prev: false })).expect("deletes");
}

#[test]
fn a_replica_that_differs_says_so() {
    let (mut leader, engine) = (fresh(), MemoryEngine::new());
    let mut follower = open(&engine);
    for number in 0..10 {
        write(&mut leader, put("k", &number.to_string())).expect("puts");
        let text = if number == 4 { "flipped".into() } else { number.to_string() };
        write(&mut follower, put("k", &text)).expect("puts");
    }
    let check = |index| Command::CheckHash { index, hash: leader.hash_at(index).expect("is kept") };
    assert_eq!(leader.hash_at(3), follower.hash_at(3));
    apply_all(&mut follower, vec![check(3), Command::CheckHash { index: 900, hash: [1; 32] }]);
    assert_eq!(follower.diverged(), None);
    apply_all(&mut follower, vec![check(8)]);
    assert_eq!(follower.diverged(), Some(8));
    assert_eq!(open(&engine).diverged(), Some(8), "also after a restart");
    let mut same = fresh();
    for number in 0..10 {
        write(&mut same, put("k", &number.to_string())).expect("puts");
        let own = Command::CheckHash { index: same.applied(), hash: same.hash() };
        apply_all(&mut same, vec![own]);
    }
    let checks =
        (1..=20).map(|index| Command::CheckHash { index, hash: same.hash_at(index).expect("is kept") });
    let checks = checks.collect();
    let mut other = fresh();
    for number in 0..10 {
        apply_all(
            &mut other,
            vec![command(put("k", &number.to_string())), Command::CheckHash { index: 0, hash: [0; 32] }],
        );
    }
    apply_all(&mut other, checks);
    assert_eq!(other.diverged(), None);
}

#[test]
fn entries_are_applied_once_and_without_gaps() {
    let mut machine = fresh();
    let entries = |from: u64| (from..from + 3).map(|index| (index, Some(command(put("k", "v"))))).collect();
    machine.apply(0, entries(1)).expect("applies");
    let again = machine.apply(0, entries(2)).expect("applies");
    assert_eq!(again.iter().filter(|answer| answer.is_none()).count(), 2);
    assert_eq!((machine.applied(), machine.revision()), (4, 5));
    machine.apply(0, vec![(5, None)]).expect("applies");
    assert!(matches!(machine.apply(0, entries(7)), Err(Error::Corrupt { .. })));
    assert!(machine.apply(0, entries(6)).is_err(), "it has failed");
}

#[test]
fn a_failed_write_is_not_believed() {
    let engine = Failing::after(1);
    let open = || Machine::open(engine.clone(), GROUP, Config::default()).expect("opens");
    let mut machine = open();
    let entry = |index| vec![(index, Some(named(1, index, 0, put("k", &index.to_string()))))];
    machine.apply(0, entry(1)).expect("applies");
    assert_eq!(machine.apply(0, entry(2)), Err(Error::Full));
    engine.fail_after(u64::MAX);
    assert!(machine.apply(0, entry(3)).is_err() && machine.read(&Read::Leases).is_err());
    let mut machine = open();
    assert_eq!((machine.applied(), machine.revision()), (1, 2));
    assert!(machine.apply(0, entry(2)).expect("applies")[0].as_ref().is_some_and(Result::is_ok));
}

#[test]
fn compaction_removes_rows_bit_by_bit_and_goes_on_after_a_restart() {
    let engine = MemoryEngine::new();
    let mut machine = open(&engine);
    for number in 0..3000 {
        write(&mut machine, put(&format!("k{}", number % 10), &number.to_string())).expect("puts");
    }
    let revision = machine.revision();
    write(&mut machine, Write::Compact { revision }).expect("compacts");
    let (hash, rows, mut steps) = (machine.hash(), dump(&engine).len(), 0);
    while machine.is_untidy() {
        let before = dump(&engine).len();
        machine.maintain().expect("maintains");
        assert!(before - dump(&engine).len() <= 2048, "in bounded steps");
        steps += 1;
        if steps == 3 {
            machine = open(&engine);
        }
    }
    assert!(rows > 6000 && steps > 5, "{rows} rows, {steps} steps");
    // The keys, the change at the compacted revision, and the state.
    assert_eq!(dump(&engine).len(), 10 + 1 + 1);
    assert_eq!((machine.hash(), machine.bytes()), (hash, counted(&engine)));
    assert_eq!(read(&machine, range(all(), revision)).expect("reads").count, 10);
}

#[test]
fn a_write_looks_at_a_bounded_number_of_keys() {
    let max = limits::WRITE_KEYS_MAX;
    let key = |n: usize| format!("k{n:06}").into_bytes();
    let put = |n| TxnOp::Put(Put { key: key(n), value: Some(Vec::new()), lease: Some(0), prev: false });
    let txn =
        |compare: Vec<Compare>, then: Vec<TxnOp>| Write::Txn(Txn { compare, then, otherwise: Vec::new() });
    let mut machine = fresh();
    let numbers: Vec<usize> = (0..=max).collect();
    let puts = numbers.chunks(limits::TXN_OPS_MAX).map(|chunk| chunk.iter().map(|n| put(*n)).collect());
    apply_all(&mut machine, puts.map(|then| command(txn(Vec::new(), then))).collect());
    let before = machine.revision();

    let between = |from: usize, to: usize| Keys::Range { from: key(from), to: Some(key(to)) };
    let look = |keys: Keys| TxnOp::Range(Range { count_only: true, ..Range::of(keys) });
    let remove = |keys: Keys| TxnOp::Delete(Delete { keys, prev: false });
    let exist = |keys: Keys| Compare { keys, is: Relation::Greater, to: Operand::Version(0) };
    let half = max / 2;
    let past = TxnOp::Range(Range { revision: before - 1, ..Range::of(all()) });
    for (compare, then) in [
        (vec![], vec![put(0), look(all())]),
        (vec![], vec![put(0), past]),
        (vec![], vec![remove(between(0, half)), remove(between(half, max + 1))]),
        (vec![], vec![remove(all())]),
        (vec![exist(all())], vec![put(0)]),
        (vec![exist(between(0, half))], vec![put(0), look(between(0, half + 2))]),
    ] {
        let refused = write(&mut machine, txn(compare, then));
        assert!(matches!(refused, Err(Refusal::TooMany { .. })), "{refused:?}");
        assert_eq!(machine.revision(), before, "nothing was changed");
    }
    // A read outside a write has no bound on the keys that it visits.
    let counted = Range { count_only: true, ..range(all(), 0) };
    assert_eq!(read(&machine, counted).expect("reads").count, max as u64 + 1);
    let fits = txn(vec![exist(between(0, half))], vec![remove(between(half, max))]);
    write(&mut machine, fits).expect("as many as are allowed");
    assert_eq!(read(&machine, range(all(), 0)).expect("reads").count, half as u64 + 1);
}

#[test]
fn the_history_of_one_large_revision_is_removed_in_small_steps() {
    let engine = MemoryEngine::new();
    let mut machine = Machine::open(engine.clone(), GROUP, Config::default()).expect("opens");
    let commands = (0..20_000).map(|number| command(put(&format!("k{number:05}"), "v"))).collect();
    apply_all(&mut machine, commands);
    let delete_all = Write::Delete(Delete { keys: all(), prev: false });
    write(&mut machine, delete_all).expect("deletes");
    write(&mut machine, put("last", "v")).expect("puts");
    let revision = machine.revision();
    write(&mut machine, Write::Compact { revision }).expect("compacts");
    let (mut longest, mut more) = (0, true);
    while more {
        engine.meter().take();
        more = machine.maintain().expect("maintains");
        longest = longest.max(engine.meter().take().rows);
    }
    // One row lists up to 64 KiB of changes, and each of them has two rows of history.
    assert!(longest < 20_000, "{longest} rows in one step");
    assert_eq!(machine.bytes(), counted(&engine));
}
