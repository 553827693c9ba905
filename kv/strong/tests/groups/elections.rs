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

/// Milliseconds without a leader, the voters, and those of them that are silent, as a member sees it.
fn leaderless(world: &World, node: usize) -> (Option<u64>, usize, Vec<usize>) {
    let group = world.nodes[node].group.as_ref().expect("it is up");
    let (voters, silent) = group.silent_voters(world.clock(node));
    let silent = silent.iter().map(|node| usize::from(node[0]) - 1).collect();
    (group.leaderless_ms(world.clock(node)), voters, silent)
}

#[test]
fn a_member_counts_how_long_it_has_no_leader_and_which_voters_are_silent() {
    let mut world = World::new(8, 3, 3);
    let leader = world.wait_for_leader();
    world.run_for(1_000);
    assert!((0..3).all(|node| leaderless(&world, node).0.is_none()), "all know the leader");
    let others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    // An election is over within seconds.
    world.kill(leader, false);
    world.run_till("another leader", |world| world.leader().is_some_and(|new| new != leader));
    world.run_for(1_000);
    assert!(others.iter().all(|node| leaderless(&world, *node).0.is_none()), "both know the new one");
    // The one that is left of three, whether it led or not, and after its restart.
    for left in &others {
        world.start(leader);
        for node in &others {
            if !world.is_up(*node) {
                world.start(*node);
            }
        }
        world.wait_for_leader();
        world.run_for(2_000);
        let mut gone: Vec<usize> = (0..3).filter(|node| node != left).collect();
        for node in &gone {
            world.kill(*node, false);
        }
        world.run_for(12_000);
        let (for_ms, voters, mut silent) = leaderless(&world, *left);
        assert!(for_ms.is_some_and(|ms| (8_000..12_000).contains(&ms)), "{for_ms:?}");
        silent.sort_unstable();
        gone.sort_unstable();
        assert_eq!((voters, silent), (3, gone));
        world.kill(*left, false);
        world.start(*left);
        world.run_for(3_000);
        let (for_ms, ..) = leaderless(&world, *left);
        assert!(for_ms.is_some_and(|ms| (2_500..=3_000).contains(&ms)), "{for_ms:?}");
        let heard_ms =
            world.nodes[*left].group.as_ref().and_then(|it| it.status(world.clock(*left)).heard_ms);
        assert_eq!(heard_ms, None, "no leader since it started");
    }
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
