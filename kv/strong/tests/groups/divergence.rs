//! A diverged replica stops serving, whether it leads or follows, and the others continue.

use starling_strong::api::{Put, Request, Write};
use starling_strong::group::{Input, Output};

use crate::world::{World, clients, key, request};

/// Entries within which there is more than one comparison.
const WRITES: u64 = 10_000;

/// Rewrites one key, whose value is kept: what it was before shows in the state.
fn write(world: &mut World, from: u64) {
    for n in from..from + WRITES {
        if n % 100 == 0 {
            world.run_for(30);
        }
        let Some(leader) = world.leader() else { continue };
        let kept = Put { value: None, ..clients::put(1, 0) };
        world.feed(leader, request(n, Request::Write(Write::Put(kept)), 5_000));
    }
    world.run_for(2_000);
}

/// Writes so much of other keys that what is damaged next is read from the disk.
fn write_others(world: &mut World, leader: usize) {
    for n in 0..12 {
        let large = Put { value: Some(vec![n; 900_000]), ..clients::put(100 + n, 0) };
        world.feed(leader, request(u64::from(n) + 2, Request::Write(Write::Put(large)), 5_000));
        world.run_for(200);
    }
}

fn run(seed: u64, leads: bool) {
    let mut world = World::new(seed, 3, 3);
    let leader = world.wait_for_leader();
    world.run_for(1_000);
    world.feed(leader, request(1, Request::Write(Write::Put(clients::put(1, 7))), 1_000));
    world.run_for(1_000);
    write_others(&mut world, leader);
    let victim = if leads { leader } else { (leader + 1) % 3 };
    world.corrupt(victim, 1);
    write(&mut world, 1_000);
    let diverged: Vec<usize> = (0..3).filter(|node| world.has_diverged(*node)).collect();
    assert_eq!(diverged, [victim], "who says to have diverged; node {leader} led");
    world.clients.answers.clear();
    write(&mut world, 100_000);
    let answered = world.clients.answers.values().filter(|answer| answer.is_ok()).count();
    assert!(answered > 9_000, "the others go on: {answered} answers");
    // It still counts as diverged after a restart.
    world.kill(victim, false);
    world.start(victim);
    world.run_for(2_000);
    assert!(world.has_diverged(victim) && world.leader() != Some(victim));
}

#[test]
fn a_follower_that_differs_stops() {
    run(1, false);
}

/// Whoever asks a stopped replica to change something is answered.
#[test]
fn a_stopped_member_refuses_changes() {
    let mut world = World::new(4, 1, 1);
    let leader = world.wait_for_leader();
    world.nodes[leader].disk.break_after(0);
    world.feed(leader, request(1, Request::Write(Write::Put(clients::put(1, 7))), 1_000));
    let group = world.nodes[leader].group.as_mut().expect("up");
    assert!(group.stopped().is_some());
    group.handle(1, Input::SetVoters { token: 5, nodes: vec![] });
    group.handle(1, Input::Transfer { token: 6, to: key(1) });
    let outputs = std::iter::from_fn(|| group.poll_output());
    let refused: Vec<u64> = outputs
        .filter_map(|output| match output {
            Output::Changed { token, result: Err(_) } => Some(token),
            _ => None,
        })
        .collect();
    assert_eq!(refused, [5, 6]);
}

#[test]
fn a_leader_that_differs_stops_and_another_one_leads() {
    run(2, true);
}

/// A machine that was restored from an older copy returns with another state, and nobody may write for long.
#[test]
fn a_member_that_returns_with_another_state_stops_at_once() {
    let mut world = World::new(3, 3, 3);
    let leader = world.wait_for_leader();
    world.run_for(1_000);
    world.feed(leader, request(1, Request::Write(Write::Put(clients::put(1, 7))), 1_000));
    world.run_for(1_000);
    write_others(&mut world, leader);
    let victim = (leader + 1) % 3;
    world.corrupt(victim, 1);
    let kept = Put { value: None, ..clients::put(1, 0) };
    world.feed(leader, request(100, Request::Write(Write::Put(kept)), 5_000));
    world.run_for(20_000);
    assert!(!world.has_diverged(victim), "nothing has made anybody look");
    world.kill(victim, false);
    world.run_for(3_000);
    world.start(victim);
    world.run_for(2_000);
    assert!(world.has_diverged(victim));
    // Links that come and go do not fill the log.
    let index = |world: &World| world.nodes[leader].group.as_ref().map(|group| group.status(0).last_index);
    let before = index(&world).expect("it leads");
    world.run_for(60_000);
    assert_eq!(index(&world), Some(before));
}
