//! Fresh seeds, judged by every invariant; and the same seed gives the same run, in another process too.
//!
//! Seeds go on from a base that is printed. `STARLING_SWARM_SEED` sets it, `STARLING_SWARM_SECONDS` says how
//! long to look, and each failure prints the command that runs it again.

use std::process::Command;
use std::time::{Duration, Instant};

use starling_sim::{Threads, swarm};

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
    let seeds_max = if seconds.is_some() { u64::MAX } else { SEEDS_MAX };
    let deadline = Instant::now() + Duration::from_secs(seconds.unwrap_or(SECONDS));
    let seeds = (base..base.saturating_add(seeds_max)).take_while(|_| Instant::now() < deadline);
    let run = |seed| (seed, swarm::run(&swarm::draw(seed)).expect("a drawn scenario runs").violation);
    let (mut done, mut failures) = (0, Vec::new());
    Threads::new(None).each(seeds, run, |(seed, violation)| {
        done += 1;
        failures.extend(
            violation.map(|violation| {
                format!("{violation}\n  again: ./testnet/run swarm --seeds 1 --seed {seed}")
            }),
        );
    });
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
