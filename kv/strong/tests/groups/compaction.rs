//! Compacted rows are removed from every disk while the group works.

use starling_strong::api::{Failure, Put, Read, Refusal, Request, Write};
use starling_strong::group::History;
use starling_strong::machine::Config;

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

/// Few entries, and more bytes than a log keeps.
#[test]
fn a_log_of_large_entries_is_cut() {
    let mut world = World::new(1, 3, 3);
    let leader = world.wait_for_leader();
    world.run_for(500);
    for n in 0..60 {
        let large = Put { value: Some(vec![n; 900_000]), ..clients::put(n % 4, 0) };
        world.feed(leader, request(n.into(), Request::Write(Write::Put(large)), 5_000));
        world.run_for(300);
    }
    let status = world.nodes[leader].group.as_ref().expect("up").status(0);
    assert!(
        status.last_index > 60 && status.base_index > 0,
        "{} to {}",
        status.base_index,
        status.last_index
    );
    assert!(status.log_bytes < 40 << 20, "{} bytes are kept", status.log_bytes);
}

/// Overwrites ten keys, a hundred writes at a time with a pause after them; returns the writes that were refused.
fn overwrite(world: &mut World, writes: u64, value_bytes: usize, pause_ms: u64) -> usize {
    let leader = world.wait_for_leader();
    for n in 0..writes {
        let value = vec![b'v'; value_bytes];
        let put = Put { value: Some(value), ..clients::put((n % 10) as u8, n) };
        world.feed(leader, request(n, Request::Write(Write::Put(put)), 5_000));
        if n % 100 == 99 {
            world.run_for(pause_ms);
        }
    }
    world.run_for(1_000);
    let is_refused =
        |n: &u64| matches!(world.clients.answers[n], Err(Failure::Refused(Refusal::NoSpace { .. })));
    (0..writes).filter(is_refused).count()
}

/// The revision, and the oldest one that can be read, on the leader.
fn revisions(world: &mut World) -> (u64, u64) {
    let leader = world.wait_for_leader();
    let machine = world.nodes[leader].group.as_mut().expect("it leads").machine();
    (machine.revision(), machine.compacted())
}

#[test]
fn history_that_is_old_enough_is_compacted_automatically() {
    let history = History { revisions: 1_000, ms: 60_000 };
    let mut world = World::with_bounds(2, 3, 3, history, Config::default());
    assert_eq!(overwrite(&mut world, WRITES, 8, 10), 0);
    let sizes = |world: &World| world.nodes.iter().map(|node| node.disk.strong_bytes()).collect::<Vec<_>>();
    let before = sizes(&world);
    world.run_for(50_000);
    assert_eq!(revisions(&mut world).1, 0, "an hour, here a minute, is kept");
    world.run_for(20_000);
    let (last, oldest) = revisions(&mut world);
    assert_eq!(oldest, last - 1_000, "the last revisions are kept");
    for (before, after) in before.iter().zip(sizes(&world)) {
        assert!(after < before / 4, "{before} bytes, in the end {after}");
    }
    let leader = world.wait_for_leader();
    let mut read = |revision| {
        let range = starling_strong::api::Range { revision, ..clients::get(1) };
        let machine = world.nodes[leader].group.as_mut().expect("it leads").machine();
        machine.read(&Read::Range(range)).expect("reads")
    };
    assert!(read(oldest).is_ok());
    assert!(matches!(read(oldest - 1), Err(Refusal::Compacted { .. })));
    // Nothing is written meanwhile, so that nothing is proposed.
    let index = |world: &World| world.nodes[leader].group.as_ref().map(|group| group.status(0).last_index);
    let before = index(&world);
    world.run_for(3_600_000);
    assert_eq!(index(&world), before);
    world.assert_tidy();
    world.assert_equal();
}

/// Twenty times the quota passes through ten keys.
#[test]
fn overwritten_keys_do_not_fill_the_quota() {
    let (writes, value_bytes) = (20_000, 4_000);
    let config = Config { quota_bytes: writes * value_bytes as u64 / 20 };
    let mut world = World::with_bounds(3, 3, 3, History::default(), config);
    assert_eq!(overwrite(&mut world, writes, value_bytes, 500), 0);
    world.run_for(5_000);
    let (last, oldest) = revisions(&mut world);
    assert!(last - oldest >= 10, "some history is left: {oldest} to {last}");
    world.assert_equal();
}

/// A hundredth of the revisions that are kept is more than the quota.
#[test]
fn large_values_do_not_fill_the_quota_either() {
    let config = Config { quota_bytes: 16 << 20 };
    let mut world = World::with_bounds(5, 3, 3, History::default(), config);
    let leader = world.wait_for_leader();
    for n in 0..300 {
        let put = Put { value: Some(vec![b'v'; 200_000]), ..clients::put(1, n) };
        world.feed(leader, request(n, Request::Write(Write::Put(put)), 5_000));
        world.run_for(50);
    }
    world.run_for(1_000);
    assert!(world.clients.answers.values().all(Result::is_ok), "{:?}", world.clients.answers);
    world.assert_equal();
}

#[test]
fn without_automatic_compaction_all_history_is_kept() {
    let mut world = World::with_bounds(4, 3, 3, History { revisions: 100, ms: 0 }, Config::default());
    assert_eq!(overwrite(&mut world, WRITES, 8, 10), 0);
    world.run_for(7_200_000);
    assert_eq!(revisions(&mut world).1, 0);
}
