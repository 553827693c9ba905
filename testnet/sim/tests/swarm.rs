//! Fresh seeds, judged by every invariant; and the same seed gives the same run, in another process too.
//!
//! Seeds go on from a base that is printed. `STARLING_SWARM_SEED` sets it, `STARLING_SWARM_SECONDS` says how
//! long to look, and each failure prints the command that runs it again.

use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use starling_sim::swarm;

/// Where seeds begin unless the environment says otherwise.
const BASE: u64 = 20_000;
/// Time for seeds, seconds, and the most of them.
const SECONDS: u64 = 60;
const SEEDS_MAX: u64 = 400;
/// Set for the other process of [`the_same_seed_gives_the_same_run_in_another_process`].
const CHILD: &str = "STARLING_SWARM_CHILD";

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_seed_violates_an_invariant() {
    if std::env::var_os(CHILD).is_some() {
        return;
    }
    let base = from_environment("STARLING_SWARM_SEED").unwrap_or(BASE);
    let seconds = from_environment("STARLING_SWARM_SECONDS");
    let seeds_max = if seconds.is_some() { u64::MAX - base } else { SEEDS_MAX };
    let deadline = Instant::now() + Duration::from_secs(seconds.unwrap_or(SECONDS));
    let seeds = Mutex::new(base..base + seeds_max);
    let next = || seeds.lock().expect("no run panics").next().filter(|_| Instant::now() < deadline);
    let failures = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(seed) = next() {
                    let finding = swarm::run(&swarm::draw(seed)).expect("a drawn scenario runs");
                    if let Some(violation) = finding.violation {
                        let again = format!("./testnet/run swarm --seeds 1 --seed {seed}");
                        failures
                            .lock()
                            .expect("no run panics")
                            .push(format!("{violation}\n  again: {again}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no run panics");
    let done = seeds.into_inner().expect("no run panics").start - base;
    println!("{done} seeds from {base} on");
    assert!(
        failures.is_empty(),
        "{} of {done} seeds from {base} on:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn traces() -> String {
    let trace = |seed| swarm::run(&swarm::draw(seed)).expect("a drawn scenario runs").trace;
    (1..=5).map(|seed| format!("{seed}={}", trace(seed))).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_same_seed_gives_the_same_run_in_another_process() {
    if std::env::var_os(CHILD).is_some() {
        println!("traces {}", traces());
        return;
    }
    let test = std::env::current_exe().expect("a test knows its own file");
    let child = Command::new(test)
        .args(["the_same_seed_gives_the_same_run_in_another_process", "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("a test can run itself");
    let theirs = String::from_utf8_lossy(&child.stdout).into_owned();
    let ours = traces();
    assert!(theirs.contains(&format!("traces {ours}")), "here {ours}, there {theirs}");
    let words: std::collections::BTreeSet<&str> =
        ours.split_whitespace().filter_map(|w| w.split_once('=')).map(|(_, trace)| trace).collect();
    assert_eq!(words.len(), 5, "different seeds give different runs");
}
