//! The test of the tests: each bug is planted, and has to be noticed.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::{Bug, plant};

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

/// Runs `seeds` with each of the bugs planted, on as many threads as there are processors, and prints what
/// noticed it how often. `notice` says which check failed, if any. Of a bug that was caught in
/// `catches_max` seeds the rate is known well enough. Returns the bugs that were not noticed at all.
pub fn missed(
    bugs: &[Bug],
    seeds: &[u64],
    catches_max: usize,
    notice: impl Fn(u64) -> Option<String> + Sync,
) -> Vec<Bug> {
    println!("{:<26} {:>12} {:>12}  caught by", "bug", "first seed", "caught in");
    let left = Mutex::new(bugs.iter().copied());
    let next = || left.lock().expect("no run panics here").next();
    let found = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(bug) = next() {
                    let catches = hunt(bug, seeds, catches_max, &notice);
                    println!("{}", catches.line(bug));
                    found.lock().expect("no run panics here").push((bug, catches.count));
                }
            });
        }
    });
    let found = found.into_inner().expect("no run panics here");
    assert_eq!(found.len(), bugs.len());
    found.iter().filter(|(_, count)| *count == 0).map(|(bug, _)| *bug).collect()
}

fn hunt(bug: Bug, seeds: &[u64], catches_max: usize, notice: impl Fn(u64) -> Option<String>) -> Catches {
    plant(Some(bug));
    let mut catches = Catches::default();
    for seed in seeds {
        catches.seeds += 1;
        let Some(what) = notice(*seed) else { continue };
        *catches.by.entry(what).or_default() += 1;
        catches.count += 1;
        catches.first.get_or_insert(*seed);
        if catches.count == catches_max {
            break;
        }
    }
    plant(None);
    catches
}
