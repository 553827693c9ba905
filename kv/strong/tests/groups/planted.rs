//! The test of the tests: bugs planted on purpose (`starling_planted`), each of which has to be noticed within
//! [`SEEDS`] seeds. Empty unless built with `RUSTFLAGS="--cfg planted"`; `./tests/run planted` does that, and
//! prints the table.
#![cfg(planted)]

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;

use starling_planted::{Bug, plant};

use crate::faults::survive;

/// Seeds within which every bug has to be caught.
const SEEDS: u64 = 40;
/// Once a bug has been caught in so many of them, its rate is known well enough.
const CATCHES: usize = 5;
/// Longest excerpt of what a check says.
const WORDS_MAX: usize = 44;

/// What the seeds showed of one bug.
#[derive(Default)]
struct Catches {
    by: BTreeMap<String, usize>,
    count: usize,
    seeds: usize,
    first: Option<u64>,
}

impl Catches {
    fn line(&self, bug: Bug) -> String {
        let first = self.first.map_or("-".into(), |seed| seed.to_string());
        let by: Vec<String> = self.by.iter().map(|(what, count)| format!("{what} ({count})")).collect();
        let rate = format!("{} of {}", self.count, self.seeds);
        format!("{:<26} {first:>12} {rate:>12}  {}", format!("{bug:?}"), by.join(", "))
    }
}

fn hunt(bug: Bug) -> Catches {
    plant(Some(bug));
    let mut catches = Catches::default();
    for seed in 0..SEEDS {
        catches.seeds += 1;
        let run = panic::catch_unwind(AssertUnwindSafe(|| drop(survive(seed, 5, 3))));
        let Err(said) = run else { continue };
        *catches.by.entry(words(said.as_ref())).or_default() += 1;
        catches.count += 1;
        catches.first.get_or_insert(seed);
        if catches.count == CATCHES {
            break;
        }
    }
    plant(None);
    catches
}

/// The beginning of what a check said, without numbers.
fn words(said: &(dyn std::any::Any + Send)) -> String {
    let text = said.downcast_ref::<String>().cloned();
    let text = text.or_else(|| said.downcast_ref::<&str>().map(|text| (*text).into())).unwrap_or_default();
    let text = text.trim_start_matches("assertion `left == right` failed: ");
    let text: String = text.chars().filter(|c| !c.is_ascii_digit()).take(WORDS_MAX).collect();
    text.lines().next().unwrap_or_default().trim().into()
}

#[test]
fn every_planted_bug_is_caught() {
    panic::set_hook(Box::new(|_| ()));
    println!("{:<26} {:>12} {:>12}  caught by", "bug", "first seed", "caught in");
    let bugs = Mutex::new(Bug::STRONG.into_iter());
    let next = || bugs.lock().expect("no run panics here").next();
    let found = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(bug) = next() {
                    let catches = hunt(bug);
                    println!("{}", catches.line(bug));
                    found.lock().expect("no run panics here").push((bug, catches));
                }
            });
        }
    });
    drop(panic::take_hook());
    let found = found.into_inner().expect("no run panics here");
    assert_eq!(found.len(), Bug::STRONG.len());
    let missed: Vec<Bug> = found.iter().filter(|(_, c)| c.count == 0).map(|(bug, _)| *bug).collect();
    assert!(missed.is_empty(), "not noticed within {SEEDS} seeds: {missed:?}");
}
