//! Groups under faults: power loss and suspended processes, torn writes and failing disks, partitions of every kind,
//! lost, duplicated and reordered messages, clocks at different rates, and changes of voters all the while. Safety
//! must hold throughout; after all faults have healed, the group has to make progress.
//!
//! `STARLING_SEEDS=FIRST..LAST cargo test --release -p starling-strong --test groups faults` runs other seeds.

use starling_strong::api::{EventKind, Keys};

use crate::steps::STEP_UNITS;
use crate::world::actors;
use crate::world::roles::{janitor, locker, queuer};
use crate::world::{Treachery, Weather, World, clients, operator, watchers};

/// Duration of the faults, milliseconds of virtual time.
const FAULTY_MS: u64 = 60_000;

fn seeds() -> std::ops::Range<u64> {
    let named = std::env::var("STARLING_SEEDS").ok();
    let range = named.as_deref().and_then(|named| named.split_once(".."));
    let parsed = range.and_then(|(first, last)| Some(first.parse().ok()?..last.parse().ok()?));
    parsed.unwrap_or(0..8)
}

/// One fault, or the end of some.
#[derive(Clone, Copy)]
enum Fault {
    Kill,
    /// Faster than an election.
    Restart,
    Start,
    CutOff,
    Bridge,
    OneWay,
    Heal,
    Drift,
    PowerCut,
    Weather,
    Pause,
    BrokenDisk,
    TornLog,
    /// One voter makes room for another.
    Swap,
}

const FAULTS: [Fault; 14] = [
    Fault::Kill,
    Fault::Restart,
    Fault::Start,
    Fault::CutOff,
    Fault::Bridge,
    Fault::OneWay,
    Fault::Heal,
    Fault::Drift,
    Fault::PowerCut,
    Fault::Weather,
    Fault::Pause,
    Fault::BrokenDisk,
    Fault::TornLog,
    Fault::Swap,
];

/// The faults of one run: each often, seldom or never, in quick succession or slowly. A run with all faults at
/// once would hardly ever have enough of one.
struct Trial {
    faults: Vec<Fault>,
    pause_ms: u64,
    treachery: Option<Treachery>,
}

impl Trial {
    fn draw(world: &mut World) -> Self {
        let mut faults = Vec::new();
        for fault in FAULTS {
            let often = match fault {
                Fault::Start | Fault::Heal => 3,
                _ => [0, 0, 1, 1, 2, 8][world.below(6) as usize],
            };
            faults.extend(std::iter::repeat_n(fault, often));
        }
        let mut pause_ms = [150, 800, 1_500, 3_000][world.below(4) as usize];
        let treachery = match world.below(7) {
            0 | 1 => Some(Treachery::Voters),
            2 => Some(Treachery::Changes),
            3 => Some(Treachery::Answers),
            _ => None,
        };
        match treachery {
            // Leaders change often, and the messages of candidates are slow.
            Some(Treachery::Voters) => {
                faults = [Fault::Kill, Fault::Start].to_vec();
                pause_ms = 1_200;
            }
            Some(Treachery::Changes) => faults.extend([Fault::Swap; 8]),
            Some(Treachery::Answers) => faults = vec![Fault::Start, Fault::Drift, Fault::Pause],
            None => {}
        }
        Self { faults, pause_ms, treachery }
    }

    fn fault(&self, world: &mut World) -> Fault {
        self.faults[world.below(self.faults.len() as u64) as usize]
    }
}

/// Causes one fault, of the leader or of any member. A majority of machines never loses its disk for good.
fn disturb(world: &mut World, fault: Fault) {
    let count = world.nodes.len() as u64;
    let any = world.below(count) as usize;
    let node = world.leader().filter(|_| any.is_multiple_of(2)).unwrap_or(any);
    let other = world.below(count) as usize;
    match fault {
        Fault::Kill if world.is_up(node) => {
            let power_cut = world.below(2) == 0;
            world.kill(node, power_cut);
            if world.below(2) == 0 || world.treachery == Some(Treachery::Voters) {
                world.break_links(node);
            }
        }
        Fault::Restart if world.is_up(node) => {
            world.kill(node, true);
            start(world, node);
        }
        Fault::Start => (0..world.nodes.len()).for_each(|node| start(world, node)),
        Fault::Kill | Fault::Restart => start(world, any),
        Fault::CutOff if other.is_multiple_of(2) => world.cut_off(&[node]),
        Fault::CutOff => world.cut_off(&[node, other]),
        Fault::Bridge => bridge(world, node),
        Fault::OneWay => drop(world.blocked.insert((node, other))),
        Fault::Heal => world.blocked.clear(),
        Fault::Drift => {
            let rate = 850 + world.below(301);
            world.set_rate(any, rate);
        }
        Fault::PowerCut => world.cut_power(),
        Fault::Weather => {
            let worst = [Weather::FINE, Weather::FOUL, Weather::SLOW_DISKS][world.below(3) as usize];
            world.weather = worst;
        }
        Fault::Pause => {
            let ms = world.below(3_000);
            world.pause(node, ms);
        }
        Fault::BrokenDisk => {
            let operations = world.below(50);
            world.nodes[node].disk.break_after(operations);
        }
        Fault::TornLog if world.is_up(node) && operator::can_spare_one(world) => {
            world.tear(node);
            start(world, node);
        }
        Fault::TornLog => {}
        Fault::Swap => operator::swap(world),
    }
}

fn start(world: &mut World, node: usize) {
    if world.nodes[node].is_down {
        world.start(node);
    }
}

/// Partitions the others into two halves, both of which `node` can reach.
fn bridge(world: &mut World, node: usize) {
    let (left, right): (Vec<usize>, Vec<usize>) =
        (0..world.nodes.len()).filter(|other| *other != node).partition(|other| other % 2 == 0);
    for (left, right) in left.iter().flat_map(|left| right.iter().map(move |right| (*left, *right))) {
        world.blocked.extend([(left, right), (right, left)]);
    }
}

/// Starts all clients and actors.
fn begin(world: &mut World) {
    clients::begin(world, 10, 3);
    for number in 1..=3 {
        actors::begin(world, locker(number));
    }
    for number in 1..=2 {
        actors::begin(world, queuer(number));
    }
    actors::begin(world, janitor());
    let all = Keys::Range { from: Vec::new(), to: None };
    watchers::begin(world, all.clone(), None, 50);
    watchers::begin(world, all, None, 8_000);
    watchers::begin(world, Keys::One(vec![1]), Some(EventKind::Put), 500);
    let queue = Keys::Range { from: b"queue/".to_vec(), to: Some(b"queue0".to_vec()) };
    watchers::begin(world, queue, Some(EventKind::Delete), 2_000);
}

pub fn run(seed: u64, nodes: usize, founders: usize) -> World {
    let mut world = World::new(seed, nodes, founders);
    begin(&mut world);
    operator::begin(&mut world, nodes.min(5));
    let trial = Trial::draw(&mut world);
    world.treachery = trial.treachery;
    match trial.treachery {
        Some(Treachery::Voters) => world.weather = Weather::SLOW,
        Some(Treachery::Answers) => world.weather = Weather::SLOW_DISKS,
        _ => {}
    }
    while world.now_ms < FAULTY_MS {
        let after = trial.pause_ms / 10 + world.below(trial.pause_ms);
        world.run_for(after);
        let fault = trial.fault(&mut world);
        disturb(&mut world, fault);
    }
    world
}

fn heal(world: &mut World) {
    world.treachery = None;
    world.blocked.clear();
    world.weather = Weather::FINE;
    for node in 0..world.nodes.len() {
        world.set_rate(node, 1000);
        world.nodes[node].disk.repair();
        start(world, node);
    }
    let before = world.clients.acknowledged;
    world.run_till("writes after everything healed", |world| world.clients.acknowledged > before + 20);
    world.run_till("who was lost is replaced", |world| !operator::misses_one(world));
    world.operator.stop = true;
    world.clients.stop = true;
    world.actors.stop = true;
    world.run_for(15_000);
}

/// What has to hold in the end.
fn check(world: &mut World) {
    world.assert_equal();
    world.assert_tidy();
    let longest = world.longest_step;
    assert!(longest.units() <= STEP_UNITS, "a step of {longest:?}");
    world.assert_linearizable();
    actors::check(world);
    watchers::check(world);
}

/// Runs random faults with all checks.
pub fn survive(seed: u64, nodes: usize, founders: usize) -> World {
    let mut world = run(seed, nodes, founders);
    heal(&mut world);
    check(&mut world);
    world
}

fn survive_all(nodes: usize, founders: usize) {
    for seed in seeds() {
        println!(
            "STARLING_SEEDS={seed}..{} cargo test --release -p starling-strong --test groups faults",
            seed + 1
        );
        survive(seed, nodes, founders);
    }
}

#[test]
fn three_members_survive_faults() {
    survive_all(3, 3);
}

#[test]
fn members_on_five_machines_survive_faults_and_changes() {
    survive_all(5, 5);
}

#[test]
fn three_of_six_machines_survive_faults_and_changes() {
    survive_all(6, 3);
}

#[test]
fn five_of_seven_machines_survive_faults_and_changes() {
    survive_all(7, 5);
}

/// The faults have the intended effects: locks change hands, tokens become stale, watches fall behind, disks fail,
/// members are lost and replaced.
#[test]
fn faults_reach_what_they_are_aimed_at() {
    let mut reached = std::collections::BTreeMap::<&str, u64>::new();
    for seed in 0..40 {
        let world = survive(seed, 6, 3);
        for (what, count) in world.reached() {
            *reached.entry(what).or_default() += count;
        }
    }
    println!("{reached:?}");
    assert!(reached.values().all(|count| *count > 0), "{reached:?}");
}

/// The harness detects a disk that reports a sync before it is durable.
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
            world.cut_power();
        }
        heal(&mut world);
        world.is_linearizable()
    };
    let is_caught = |seed| !std::panic::catch_unwind(|| survives(seed)).unwrap_or(false);
    let caught = (0..10).filter(|seed| is_caught(*seed)).count();
    println!("caught in {caught} of 10 seeds");
    assert!(caught >= 9, "caught in {caught} of 10 seeds");
}
