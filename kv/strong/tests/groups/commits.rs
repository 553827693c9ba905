//! Followers receive the commit index without separate messages, and at once if a client waits for it.

use starling_strong::api::{Request, Write};

use crate::world::{World, clients, request, scribe};

fn put(world: &mut World, node: usize, token: u64) {
    let write = Request::Write(Write::Put(clients::put(1, token)));
    world.feed(node, request(token, write, 5_000));
    world.run_till_by(1, "an answer", |world| world.clients.answers.contains_key(&token));
}

fn applied(world: &mut World, node: usize) -> u64 {
    world.nodes[node].group.as_mut().expect("it runs").machine().applied()
}

/// Milliseconds from the answer to a write to the time when a follower has applied it.
fn behind(world: &mut World, leader: usize, follower: usize, token: u64) -> u64 {
    put(world, leader, token);
    let (began, entry) = (world.now_ms, applied(world, leader));
    world.run_till_by(1, "it is applied", |world| applied(world, follower) >= entry);
    world.now_ms - began
}

#[test]
fn one_write_after_another_takes_two_messages_to_and_from_each_follower() {
    let mut world = World::new(2, 3, 3);
    let leader = world.wait_for_leader();
    world.run_for(500);
    let sent = world.sent;
    (0..100).for_each(|token| put(&mut world, leader, token));
    // And a few heartbeats.
    let sent = world.sent - sent;
    assert!((400..450).contains(&sent), "{sent} messages");
}

#[test]
fn a_follower_is_told_soon_and_at_once_where_somebody_watches() {
    let mut world = World::new(2, 3, 3);
    let leader = world.wait_for_leader();
    world.run_for(500);
    let (watched, other) = ((leader + 1) % 3, (leader + 2) % 3);
    for token in 0..20 {
        // A heartbeat may come first.
        let behind = behind(&mut world, leader, watched, token);
        assert!((2..=6).contains(&behind), "{behind} ms, and nobody waits");
        world.run_for(50);
    }
    let group = world.nodes[watched].group.as_mut().expect("it runs");
    group.machine().watch(1, scribe::watch(0)).expect("there is room");
    for token in 20..40 {
        let follower = if token % 2 == 0 { watched } else { other };
        assert_eq!(behind(&mut world, leader, follower, token), 1, "the time of one message");
        world.run_for(50);
    }
    // When no client waits any more, this ends with the next write.
    world.nodes[watched].group.as_mut().expect("it runs").machine().unwatch(1);
    put(&mut world, leader, 40);
    world.run_for(50);
    assert!(behind(&mut world, leader, watched, 41) > 1);
}
