//! Histories under faults: machines that lose power, every kind of partition, loss, doubling, reordering
//! and clocks that run apart. Safety while it lasts; then everything heals, and the group has to live.
//!
//! `STARLING_SEEDS=FIRST..LAST cargo test --release -p starling-strong --test groups faults` runs other seeds.

use crate::world::{Weather, World, clients};

/// How long faults go on, milliseconds of virtual time.
const FAULTY_MS: u64 = 60_000;

fn seeds() -> std::ops::Range<u64> {
    let named = std::env::var("STARLING_SEEDS").ok();
    let range = named.as_deref().and_then(|named| named.split_once(".."));
    let parsed = range.and_then(|(first, last)| Some(first.parse().ok()?..last.parse().ok()?));
    parsed.unwrap_or(0..25)
}

/// One fault or its end, drawn at random. A majority of machines never loses its disk for good.
fn disturb(world: &mut World) {
    let count = world.nodes.len() as u64;
    let node = world.below(count) as usize;
    match world.below(16) {
        0 | 1 if world.is_up(node) => {
            let power_cut = world.below(2) == 0;
            world.kill(node, power_cut);
            if world.below(2) == 0 {
                world.break_links(node);
            }
        }
        0..=2 | 10..=12 => start(world, node),
        3 => world.cut_off(&[node]),
        4 => {
            let other = world.below(count) as usize;
            world.cut_off(&[node, other]);
        }
        5 => bridge(world, node),
        6 => {
            let other = world.below(count) as usize;
            world.blocked.insert((node, other));
        }
        7 => {
            let rate = 850 + world.below(301);
            world.set_rate(node, rate);
        }
        13 => cut_power(world),
        8 | 9 => world.weather = if world.below(2) == 0 { Weather::FOUL } else { Weather::FINE },
        _ => world.blocked.clear(),
    }
}

/// All lose power at once, and come back.
fn cut_power(world: &mut World) {
    for node in 0..world.nodes.len() {
        if world.is_up(node) {
            world.kill(node, true);
        }
    }
    (0..world.nodes.len()).for_each(|node| start(world, node));
}

fn start(world: &mut World, node: usize) {
    if !world.is_up(node) {
        world.start(node, node as u64 + 1).expect("what was synced is there");
    }
}

/// Two halves that only `node` can talk to.
fn bridge(world: &mut World, node: usize) {
    let (left, right): (Vec<usize>, Vec<usize>) =
        (0..world.nodes.len()).filter(|other| *other != node).partition(|other| other % 2 == 0);
    for (left, right) in left.iter().flat_map(|left| right.iter().map(move |right| (*left, *right))) {
        world.blocked.extend([(left, right), (right, left)]);
    }
}

fn run(seed: u64, nodes: usize) -> World {
    let mut world = World::new(seed, nodes, nodes);
    clients::begin(&mut world, 6, 3);
    while world.now_ms < FAULTY_MS {
        let after = 100 + world.below(1_500);
        world.run_for(after);
        disturb(&mut world);
    }
    world
}

fn heal(world: &mut World) {
    world.blocked.clear();
    world.weather = Weather::FINE;
    for node in 0..world.nodes.len() {
        world.set_rate(node, 1000);
        start(world, node);
    }
    let before = world.clients.acknowledged;
    world.run_till("writes after everything healed", |world| world.clients.acknowledged > before + 20);
    world.clients.stop = true;
    world.run_for(10_000);
    world.assert_equal();
}

fn check(nodes: usize) {
    for seed in seeds() {
        println!(
            "STARLING_SEEDS={seed}..{} cargo test --release -p starling-strong --test groups faults",
            seed + 1
        );
        let mut world = run(seed, nodes);
        heal(&mut world);
        world.clients.assert_linearizable();
        assert!(world.clients.acknowledged > 100, "only {} answers", world.clients.acknowledged);
    }
}

#[test]
fn three_members_are_linearizable_under_faults() {
    check(3);
}

#[test]
fn five_members_are_linearizable_under_faults() {
    check(5);
}

/// Under a disk that says to have synced before it has: the harness has to see it.
#[test]
fn a_lying_disk_is_caught() {
    let survives = |seed| {
        let mut world = World::new(seed, 3, 3);
        world.syncs_lie = true;
        world.weather = Weather { sync_ms: 30, ..Weather::FINE };
        clients::begin(&mut world, 6, 3);
        for _ in 0..20 {
            let after = 1_000 + world.below(2_000);
            world.run_for(after);
            cut_power(&mut world);
        }
        heal(&mut world);
        world.clients.is_linearizable()
    };
    let is_caught = |seed| !std::panic::catch_unwind(|| survives(seed)).unwrap_or(false);
    let caught = (0..10).filter(|seed| is_caught(*seed)).count();
    println!("caught in {caught} of 10 seeds");
    assert!(caught >= 9, "caught in {caught} of 10 seeds");
}
