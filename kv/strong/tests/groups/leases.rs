//! A lease expires when no client has renewed it for its whole time, and never earlier, across changes of the leader.

use starling_strong::api::{Answer, Body, Failure, Put, Read, Request, Write};

use crate::world::{World, clients, request};

const LEASE: i64 = 7;
const TTL_MS: u64 = 2_000;
const KEY: u8 = 1;

/// Sends a request to the current leader until it is answered; `None` after two seconds.
fn ask(world: &mut World, what: &Request) -> Option<Result<Answer, Failure>> {
    let deadline = world.now_ms + 2_000;
    while world.now_ms < deadline {
        if let Some(leader) = world.leader() {
            let token = 1_000_000 + world.now_ms;
            world.feed(leader, request(token, what.clone(), 200));
            for _ in 0..20 {
                if let Some(result) = world.clients.answers.remove(&token) {
                    match result {
                        Err(Failure::Timeout(_) | Failure::OutcomeUnknown(_)) => break,
                        result => return Some(result),
                    }
                }
                world.run_for(10);
            }
        }
        world.run_for(10);
    }
    None
}

fn is_there(world: &mut World) -> bool {
    match ask(world, &Request::Read(Read::Range(clients::get(KEY)))) {
        Some(Ok(Answer { body: Body::Range(found), .. })) => !found.kvs.is_empty(),
        other => panic!("not what a range is answered: {other:?}"),
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed, 3, 3);
    world.wait_for_leader();
    world.run_for(500);
    let grant = Request::Write(Write::LeaseGrant { id: LEASE, ttl_ms: TTL_MS });
    assert!(matches!(ask(&mut world, &grant), Some(Ok(_))), "granted");
    let put = Request::Write(Write::Put(Put { lease: Some(LEASE), ..clients::put(KEY, 5) }));
    assert!(matches!(ask(&mut world, &put), Some(Ok(_))), "written");
    let mut kept_ms = world.now_ms;
    for round in 0..20 {
        if round % 4 == 3 {
            let leader = world.wait_for_leader();
            world.kill(leader, true);
            world.break_links(leader);
            world.run_for(300);
            world.start(leader);
        }
        let began = world.now_ms;
        let kept = ask(&mut world, &Request::KeepAlive { id: LEASE });
        assert!(matches!(kept, Some(Ok(_))), "kept {} ms before: {kept:?}", began - kept_ms);
        kept_ms = began;
        let pause = world.below(1_000);
        world.run_for(pause);
        assert!(is_there(&mut world), "gone {} ms after it was kept alive", world.now_ms - kept_ms);
    }
    // A new leader gives it its whole time again; then it ends.
    world.run_for(2 * TTL_MS + 1_500);
    assert!(!is_there(&mut world), "still there {} ms after it was kept alive", world.now_ms - kept_ms);
}

#[test]
fn leases_end_in_time_and_never_early() {
    for seed in 0..10 {
        run(seed);
    }
}
