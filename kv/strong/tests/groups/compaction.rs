//! Compacted rows are removed from every disk while the group works.

use starling_strong::api::{Request, Write};

use crate::world::{World, clients, request};

const WRITES: u64 = 6_000;

#[test]
fn what_is_compacted_is_gone_from_every_disk_also_after_a_restart() {
    let mut world = World::new(1, 3, 3);
    let leader = world.wait_for_leader();
    world.run_for(500);
    for n in 0..WRITES {
        let write = Request::Write(Write::Put(clients::put((n % 10) as u8, n)));
        world.feed(leader, request(n, write, 5_000));
        if n % 100 == 0 {
            world.run_for(10);
        }
    }
    world.run_for(1_000);
    let sizes = |world: &World| world.nodes.iter().map(|node| node.disk.strong_bytes()).collect::<Vec<_>>();
    let before = sizes(&world);
    let compact = Request::Write(Write::Compact { revision: WRITES });
    world.feed(leader, request(WRITES, compact, 5_000));
    // Long enough to have begun, and not to have ended.
    world.run_for(60);
    let half = sizes(&world);
    for (before, half) in before.iter().zip(&half) {
        assert!(*half < *before && *half > *before / 10, "{before} bytes, then {half}");
    }
    let hash = |world: &mut World, node: usize| {
        world.nodes[node].group.as_mut().map(|group| (group.machine().applied(), group.machine().hash()))
    };
    let other = (leader + 1) % 3;
    let hashes = hash(&mut world, leader);
    world.kill(other, true);
    world.start(other);
    world.run_for(3_000);
    world.assert_tidy();
    world.assert_equal();
    assert_eq!(hash(&mut world, leader), hashes, "it is no part of the state");
    for (before, after) in before.iter().zip(sizes(&world)) {
        assert!(after < before / 50, "{before} bytes, in the end {after}");
    }
}
