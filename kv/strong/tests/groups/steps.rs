//! What one step of a member costs, however large a request is: heartbeats and other requests wait for it.

use starling_strong::api::{
    Body, Delete, Failure, Keys, Put, Range, Read, Refusal, Request, Txn, TxnOp, Write,
};

use crate::world::{World, clients, request};
use starling_kv::engine::Cost;

/// The most that one step may cost; see [`Cost::units`]. Most of it is for entries that are applied: 16,384 rows are
/// counted, of those that are read and of the changed ones before and after, and each change also writes rows of history.
pub const STEP_UNITS: u64 = 60_000;

const TTL_MS: u64 = 60_000;
const TOKEN: u64 = 1_000_000;

/// Sends a request to a node, and returns its answer.
fn ask(world: &mut World, node: usize, token: u64, what: Request) -> Result<Body, Failure> {
    world.feed(node, request(token, what, 30_000));
    world.run_till("an answer", |world| world.clients.answers.contains_key(&token));
    world.clients.answers.remove(&token).expect("it was answered").map(|answer| answer.body)
}

/// Grants leases, each with this many keys.
fn lease_keys(world: &mut World, leader: usize, leases: i64, keys: u64, ttl_ms: u64) {
    for lease in 1..=leases {
        ask(world, leader, TOKEN, Request::Write(Write::LeaseGrant { id: lease, ttl_ms })).expect("granted");
        for first in (0..keys).step_by(100) {
            let put = |n| {
                let key = format!("lease{lease:03}/{n:06}").into_bytes();
                TxnOp::Put(Put { key, value: Some(b"v".to_vec()), lease: Some(lease), prev: false })
            };
            let then = (first..keys.min(first + 100)).map(put).collect();
            let txn = Txn { then, ..Txn::default() };
            ask(world, leader, TOKEN, Request::Write(Write::Txn(txn))).expect("put");
        }
    }
    world.longest_step = Cost::default();
}

fn count(world: &mut World, leader: usize) -> u64 {
    let all = Keys::Range { from: b"lease".to_vec(), to: None };
    let range = Range { count_only: true, ..Range::of(all) };
    match ask(world, leader, TOKEN, Request::Read(Read::Range(range))).expect("read") {
        Body::Range(found) => found.count,
        other => panic!("not what a range is answered: {other:?}"),
    }
}

#[test]
fn leases_that_expire_together_are_revoked_in_bounded_steps() {
    let mut world = World::new(1, 3, 3);
    let leader = world.wait_for_leader();
    lease_keys(&mut world, leader, 40, 500, 10_000);
    assert_eq!(count(&mut world, leader), 40 * 500);
    // They are kept alive at one instant, and expire at one.
    for lease in 1..=40 {
        world.feed(leader, request(TOKEN + lease, Request::KeepAlive { id: lease.cast_signed() }, 5_000));
    }
    world.longest_step = Cost::default();
    let (elections, began) = (world.leaders.len(), world.now_ms);
    world.run_till("all leases expire", |world| count(world, leader) == 0);
    assert!(world.now_ms < began + 20_000, "after {} ms", world.now_ms - began);
    assert_eq!(world.leaders.len(), elections, "the leader stays");
    let longest = world.longest_step;
    assert!(longest.units() <= STEP_UNITS, "a step of {longest:?}");
    world.run_for(1_000);
    world.assert_equal();
}

#[test]
fn a_lease_of_very_many_keys_is_revoked_in_bounded_steps() {
    let mut world = World::new(2, 3, 3);
    let leader = world.wait_for_leader();
    lease_keys(&mut world, leader, 1, 30_000, TTL_MS);
    // It no longer holds this key, which stays.
    let other = Put { key: b"lease001/000007".to_vec(), ..clients::put(0, 1) };
    ask(&mut world, leader, TOKEN, Request::Write(Write::Put(other))).expect("put");
    world.longest_step = Cost::default();
    let revoke = || Request::Write(Write::LeaseRevoke { id: 1 });
    assert_eq!(ask(&mut world, leader, TOKEN, revoke()), Ok(Body::LeaseRevoked));
    assert_eq!(count(&mut world, leader), 1);
    assert_eq!(ask(&mut world, leader, TOKEN, revoke()), Err(Refusal::LeaseNotFound(1).into()));
    let longest = world.longest_step;
    assert!(longest.units() <= STEP_UNITS, "a step of {longest:?}");
    world.run_for(1_000);
    world.assert_equal();
}

#[test]
fn a_write_that_visits_too_many_bytes_is_rejected_before_it_is_proposed() {
    let mut world = World::new(3, 1, 1);
    let leader = world.wait_for_leader();
    let key = |n| format!("large{n:02}").into_bytes();
    for n in 0..70 {
        let put = Put { key: key(n), value: Some(vec![7; 1 << 20]), ..clients::put(0, 0) };
        ask(&mut world, leader, TOKEN, Request::Write(Write::Put(put))).expect("put");
    }
    world.longest_step = Cost::default();
    let delete = |from, to| Delete { keys: Keys::Range { from: key(from), to: Some(key(to)) }, prev: false };
    let all = Txn { then: vec![TxnOp::Delete(delete(0, 99))], ..Txn::default() };
    for write in [Write::Delete(delete(0, 99)), Write::Txn(all)] {
        let refused = ask(&mut world, leader, TOKEN, Request::Write(write));
        assert!(matches!(refused, Err(Failure::Refused(Refusal::TooLarge { .. }))), "{refused:?}");
    }
    let longest = world.longest_step;
    assert!(longest.bytes <= 4 << 20, "a step of {longest:?}");
    for (from, to, deleted) in [(0, 35, 35), (0, 99, 35)] {
        let write = Request::Write(Write::Delete(delete(from, to)));
        assert_eq!(ask(&mut world, leader, TOKEN, write), Ok(Body::Delete { deleted, prev: Vec::new() }));
    }
}
