//! Reads of nodes outside of a group.

use crate::strong::{answer, create, get, leader, put, value};
use crate::world::{World, settled};

/// A network with a strong keyspace of three, its members, and a node that is none.
fn from_outside(seed: u64) -> (World, Vec<usize>, usize) {
    let mut world = settled(seed, 8);
    let members = create(&mut world, "orders", 3, &[]);
    let outside = (1..=8).find(|node| !members.contains(node)).expect("there are more nodes");
    (world, members, outside)
}

#[test]
fn a_read_from_outside_takes_one_round_trip() {
    let (mut world, _, outside) = from_outside(4);
    answer(&mut world, outside, "orders", put("k", "v")).0.expect("written");
    // Links to all members are there after the first read.
    answer(&mut world, outside, "orders", get("k")).0.expect("read");
    for _ in 0..30 {
        world.run(50);
        let (read, took) = answer(&mut world, outside, "orders", get("k"));
        assert_eq!(value(read).as_deref(), Some("v"));
        // A message takes 10 ms at most here, and answers are looked for every 5 ms. Where the leader had to ask
        // its followers, many a read would take longer.
        assert!(took <= 25, "{took} ms");
    }
}

#[test]
fn a_read_from_outside_sees_what_was_written_at_the_leader_before() {
    let (mut world, members, outside) = from_outside(5);
    for round in 0..50 {
        let written = format!("v{round}");
        let writer = members[round % members.len()];
        answer(&mut world, writer, "orders", put("k", &written)).0.expect("written");
        let (read, _) = answer(&mut world, outside, "orders", get("k"));
        assert_eq!(value(read), Some(written));
    }
}

#[test]
fn a_read_from_outside_does_without_a_member_that_is_gone() {
    for seed in 0..20 {
        let (mut world, members, outside) = from_outside(seed);
        answer(&mut world, outside, "orders", put("k", "v")).0.expect("written");
        let leads = leader(&mut world, "orders", &members);
        let gone = members.iter().find(|node| **node != leads).expect("a follower");
        world.kill(*gone);
        for _ in 0..10 {
            let (read, took) = answer(&mut world, outside, "orders", get("k"));
            assert_eq!(value(read).as_deref(), Some("v"));
            assert!(took <= 150, "seed {seed}: {took} ms, no read waits for the member that is gone");
        }
    }
}
