//! Elections, writes and reads.

use crate::world::{World, clients, request};
use starling_strong::api::{Read, Request, Write};

#[test]
fn a_group_elects_a_leader_and_keeps_it() {
    let mut world = World::new(1, 3, 3);
    world.wait_for_leader();
    let elections = world.leaders.len();
    world.run_for(600_000);
    assert_eq!(world.leaders.len(), elections, "ten quiet minutes");
}

#[test]
fn what_is_written_is_read_everywhere() {
    let mut world = World::new(2, 3, 3);
    clients::begin(&mut world, 5, 3);
    world.run_for(20_000);
    world.clients.stop = true;
    world.run_for(5_000);
    assert!(world.clients.acknowledged > 500, "{}", world.clients.acknowledged);
    world.assert_linearizable();
    world.assert_equal();
}

#[test]
fn a_group_of_one_works() {
    let mut world = World::new(3, 1, 1);
    clients::begin(&mut world, 3, 2);
    world.run_for(10_000);
    assert!(world.clients.acknowledged > 100, "{}", world.clients.acknowledged);
    world.assert_linearizable();
}

/// Time from the death of the leader to the next acknowledged write, milliseconds.
fn failover(seed: u64, says_so: bool) -> u64 {
    let mut world = World::new(seed, 3, 3);
    let leader = world.wait_for_leader();
    let after = 1_000 + world.below(1_000);
    world.run_for(after);
    world.kill(leader, false);
    if says_so {
        world.break_links(leader);
    }
    let killed = world.now_ms;
    let mut token = 0;
    while world.clients.answers.values().all(Result::is_err) {
        token += 1;
        if let Some(leader) = world.leader() {
            let write = Request::Write(Write::Put(clients::put(1, token)));
            world.feed(leader, request(token, write, 1_000));
        }
        world.run_for(5);
        assert!(world.now_ms < killed + 10_000, "nobody took over");
    }
    let took = world.now_ms - killed;
    world.start(leader);
    world.run_for(2_000);
    world.assert_equal();
    took
}

fn median_and_max(mut times: Vec<u64>) -> (u64, u64) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() - 1])
}

#[test]
fn a_dead_leader_is_replaced_at_once_where_links_break() {
    let (median, max) = median_and_max((0..40).map(|seed| failover(seed, true)).collect());
    println!("killed: median {median} ms, max {max} ms");
    assert!(median <= 150 && max <= 500, "median {median} ms, max {max} ms");
}

#[test]
fn a_silent_leader_is_replaced_within_a_second() {
    let (median, max) = median_and_max((0..40).map(|seed| failover(seed, false)).collect());
    println!("silent: median {median} ms, max {max} ms");
    assert!(median <= 1_000 && max <= 2_000, "median {median} ms, max {max} ms");
}

#[test]
fn without_a_majority_nothing_is_answered_and_the_missing_are_named() {
    let mut world = World::new(4, 3, 3);
    let leader = world.wait_for_leader();
    world.run_for(1_000);
    world.cut_off(&[leader]);
    let write = Request::Write(Write::Put(clients::put(1, 7)));
    world.feed(leader, request(1, write, 2_000));
    let read = Request::Read(Read::Range(clients::get(1)));
    world.feed(leader, request(2, read, 2_000));
    world.run_for(3_000);
    assert!(!matches!(world.clients.answers.get(&1), Some(Ok(_))), "a write without a majority");
    assert!(!matches!(world.clients.answers.get(&2), Some(Ok(_))), "a read without a majority");
    let now = world.clock(leader);
    let group = world.nodes[leader].group.as_ref().expect("it is up");
    assert!(!group.is_leader(), "it steps down");
    assert_eq!(group.missing(now).len(), 2);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = |seed| {
        let mut world = World::new(seed, 3, 3);
        world.weather = crate::world::Weather::FOUL;
        clients::begin(&mut world, 4, 2);
        world.run_for(20_000);
        world.trace()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}
