//! A read of many keys does not delay later requests.

use starling_strong::api::{
    Body, Compare, Keys, Operand, Options, Put, Range, Read, Relation, Request, Txn, TxnOp, Write,
};
use starling_strong::group::Input;

use crate::world::{World, clients, request};
use starling_kv::engine::Cost;

const KEYS: u64 = 60_000;
const LONG: u64 = 1_000_000;

fn fill(world: &mut World, leader: usize) {
    for first in (0..KEYS).step_by(100) {
        let put = |n: u64| {
            let (key, value) = (format!("k{n:06}").into_bytes(), Some(b"v".to_vec()));
            TxnOp::Put(Put { key, value, lease: Some(0), prev: false })
        };
        let then = (first..first + 100).map(put).collect();
        let txn = Txn { compare: Vec::new(), then, otherwise: Vec::new() };
        world.feed(leader, request(first, Request::Write(Write::Txn(txn)), 10_000));
        world.run_for(2);
    }
    world.run_for(2_000);
}

#[test]
fn puts_and_gets_go_on_while_many_keys_are_counted() {
    let mut world = World::new(1, 3, 3);
    let leader = world.wait_for_leader();
    world.run_for(500);
    fill(&mut world, leader);
    world.clients.answers.clear();
    let all = Keys::Range { from: b"k".to_vec(), to: None };
    for token in [LONG, LONG + 1] {
        let count = Range { keys: all.clone(), count_only: true, ..clients::get(0) };
        world.feed(leader, request(token, Request::Read(Read::Range(count)), 10_000));
    }
    let mut meanwhile = 0;
    while !world.clients.answers.contains_key(&LONG) {
        meanwhile += 1;
        assert!(meanwhile < 1_000, "the long read ends");
        let more = Put { key: format!("k{meanwhile:06}x").into_bytes(), ..clients::put(0, 1) };
        world.feed(leader, request(2 * LONG + meanwhile, Request::Write(Write::Put(more)), 10_000));
        world.feed(leader, request(3 * LONG + meanwhile, Request::Read(Read::Range(clients::get(1))), 500));
        world.run_for(10);
    }
    let answered = world.clients.answers.keys().filter(|token| **token > 2 * LONG).count() as u64;
    assert!(meanwhile > 2 && answered >= 2 * (meanwhile - 2), "{answered} answers in {meanwhile} rounds");
    world.run_for(1_000);
    for token in [LONG, LONG + 1] {
        let answer = world.clients.answers[&token].as_ref().expect("an answer");
        let Body::Range(found) = &answer.body else { panic!("not what a range is answered: {answer:?}") };
        assert!(found.count >= KEYS && found.count < KEYS + meanwhile, "{} keys", found.count);
    }
}

fn put(key: u8, value: u64) -> Request {
    Request::Write(Write::Put(clients::put(key, value)))
}

/// A read that names who is asked, and what it found.
fn get_at(world: &mut World, node: usize, token: u64) -> Option<Vec<u8>> {
    world.feed(node, request(token, Request::Read(Read::Range(clients::get(1))), 5_000));
    world.run_till("an answer", |world| world.clients.answers.contains_key(&token));
    let answer = world.clients.answers[&token].as_ref().expect("an answer");
    let Body::Range(found) = &answer.body else { panic!("not what a range is answered: {answer:?}") };
    found.kvs.first().map(|kv| kv.value.clone())
}

#[test]
fn a_follower_serves_what_was_committed_before_it_was_asked() {
    let mut world = World::new(2, 3, 3);
    let leader = world.wait_for_leader();
    for round in 0..20 {
        world.feed(leader, request(2 * round, put(1, round), 5_000));
        world.run_till("an answer", |world| world.clients.answers.contains_key(&(2 * round)));
        let expected = clients::put(1, round).value;
        let follower = (leader + 1 + round as usize % 2) % 3;
        assert_eq!(get_at(&mut world, follower, 2 * round + 1), expected, "round {round} at {follower}");
    }
}

#[test]
fn where_nothing_is_written_a_follower_reads_without_the_leader() {
    let mut world = World::new(4, 3, 3);
    let leader = world.wait_for_leader();
    world.feed(leader, request(0, put(1, 7), 5_000));
    world.run_till("an answer", |world| world.clients.answers.contains_key(&0));
    world.run_for(500);
    let elections = world.leaders.len();
    world.kill(leader, false);
    let began = world.now_ms;
    for (token, follower) in (1..).zip((0..3).filter(|node| *node != leader)) {
        assert_eq!(get_at(&mut world, follower, token), clients::put(1, 7).value, "at {follower}");
    }
    assert!(world.now_ms <= began + 20, "looked at every 10 ms, twice");
    assert_eq!(world.leaders.len(), elections, "nobody was elected meanwhile");
}

#[test]
fn who_comes_too_late_costs_no_entry_of_the_log() {
    let mut world = World::new(3, 3, 3);
    let leader = world.wait_for_leader();
    world.feed(leader, request(0, put(1, 7), 5_000));
    world.run_till("an answer", |world| world.clients.answers.contains_key(&0));
    let last = |world: &World| world.nodes[leader].group.as_ref().expect("it leads").status(0).last_index;
    let before = last(&world);
    let swap = |from| Request::Write(Write::Txn(clients::cas(1, from, 8)));
    for token in 1..=50 {
        world.feed(leader, request(token, swap(6), 5_000));
    }
    // One entry that frees the way for the last one, though the way was closed when it was asked.
    world.feed(leader, request(51, put(1, 9), 5_000));
    world.feed(leader, request(52, swap(9), 5_000));
    world.run_till("all answers", |world| (1..=52).all(|token| world.clients.answers.contains_key(&token)));
    let succeeded = |token| {
        let answer = world.clients.answers[&token].as_ref().expect("an answer");
        matches!(answer.body, Body::Txn { succeeded: true, .. })
    };
    assert!(!(1..=50).any(succeeded), "the value is 7 or 9, and never 6");
    // It may be evaluated before or after the put, and its answer is that of the state then.
    let swapped = u64::from(succeeded(52));
    assert_eq!(last(&world) - before, 1 + swapped);
}

/// Values of the tests with large ones, and the bytes of each.
const LARGE: u64 = 48;
const LARGE_BYTES: usize = 1 << 20;

fn large(n: u64) -> Put {
    Put { key: format!("large{n:03}").into_bytes(), value: Some(vec![7; LARGE_BYTES]), ..clients::put(0, 0) }
}

/// A leader with [`LARGE`] large values.
fn with_large_values(seed: u64) -> (World, usize) {
    let mut world = World::new(seed, 3, 3);
    let leader = world.wait_for_leader();
    for n in 0..LARGE {
        world.feed(leader, request(n, Request::Write(Write::Put(large(n))), 10_000));
        world.run_till("an answer", |world| world.clients.answers.contains_key(&n));
    }
    world.run_for(1_000);
    world.longest_step = Cost::default();
    (world, leader)
}

/// The bytes of one step without writes: a portion of the reads that arrived together, a portion of a long one, and the
/// last row of each.
const STEP_BYTES: u64 = 2 * ((1 << 20) + 2 * LARGE_BYTES as u64);

#[test]
fn large_values_are_read_in_steps_of_bounded_bytes() {
    read_large_values(5);
}

/// Reads large values in every way that may visit all of them.
pub fn read_large_values(seed: u64) {
    let (mut world, leader) = with_large_values(seed);
    let range = |range: Range| Read::Range(Range { keys: all(), ..range });
    let all_but = |range| Range { count_only: true, ..range };
    let txn = Txn { then: vec![TxnOp::Range(all_but(Range::of(all())))], ..Txn::default() };
    let reads = [
        range(all_but(Range::of(all()))),
        range(Range { keys_only: true, ..Range::of(all()) }),
        range(Range { limit: 1, ..Range::of(all()) }),
        range(Range { revision: 10, count_only: true, ..Range::of(all()) }),
        Read::Txn(txn),
    ];
    for (token, read) in (LONG..).zip(&reads) {
        world.feed(leader, request(token, Request::Read(read.clone()), 20_000));
        world.run_till("an answer", |world| world.clients.answers.contains_key(&token));
        let answer = world.clients.answers[&token].as_ref().expect("an answer");
        let expected = if token == LONG + 3 { 9 } else { LARGE };
        let mut body = &answer.body;
        if let Body::Txn { bodies, .. } = body {
            body = &bodies[0];
        }
        let Body::Range(found) = body else { panic!("not what a range is answered: {answer:?}") };
        assert_eq!(found.count, expected, "{read:?}");
        let longest = std::mem::take(&mut world.longest_step);
        assert!(longest.bytes <= STEP_BYTES, "{read:?}: a step of {longest:?}");
    }
}

#[test]
fn single_keys_that_are_read_at_once_share_a_portion() {
    let (mut world, leader) = with_large_values(6);
    let one = |n| Read::Range(Range::of(Keys::One(large(n).key)));
    let lost = Txn {
        compare: vec![Compare {
            keys: Keys::One(large(0).key),
            is: Relation::Equal,
            to: Operand::Version(9),
        }],
        otherwise: vec![TxnOp::Range(Range::of(Keys::One(large(0).key)))],
        ..Txn::default()
    };
    let stale = |read| {
        let options = Options { timeout_ms: 20_000, stale: true, id: None, fence: None };
        move |token| Input::Request { token, request: Request::Read(read), options }
    };
    // Those that arrive before the round with the followers is over are served in one step.
    for n in 0..LARGE {
        world.feed(leader, request(LONG + n, Request::Read(one(n)), 20_000));
        world.feed(leader, request(2 * LONG + n, Request::Write(Write::Txn(lost.clone())), 20_000));
        world.feed(leader, stale(one(n))(3 * LONG + n));
    }
    let tokens = (1..=3).flat_map(|kind| (0..LARGE).map(move |n| kind * LONG + n));
    world.run_till("all answers", |world| {
        tokens.clone().all(|token| world.clients.answers.contains_key(&token))
    });
    assert!(world.clients.answers.values().all(Result::is_ok));
    // The conditions of the transactions are evaluated as they arrive, too.
    assert!(world.longest_step.bytes <= STEP_BYTES, "a step of {:?}", world.longest_step);
}

fn all() -> Keys {
    Keys::Range { from: b"large".to_vec(), to: Some(b"largf".to_vec()) }
}
