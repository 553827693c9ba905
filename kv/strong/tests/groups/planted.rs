//! The test of the tests: each planted bug (`starling_planted`) has to be detected within [`SEEDS`] seeds. Empty
//! unless built with `RUSTFLAGS="--cfg planted"`; `./tests/run planted` does that, and prints the table.
#![cfg(planted)]

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

use starling_planted::{Bug, missed};

use crate::faults::survive;
use crate::members::lose_power_between_changes;
use crate::reads::read_large_values;
use crate::rollback::restore_copies;

/// Seeds within which every bug has to be caught.
const SEEDS: u64 = 60;
/// Machines of one seed and of the next ones. Changes of voters need machines to spare; a vote that is forgotten
/// is missed where no other can take its place.
const MACHINES: [usize; 3] = [5, 5, 3];
/// Seeds with a detected bug after which its detection rate is known well enough.
const CATCHES: usize = 5;
/// Longest excerpt of a check's message, bytes.
const WORDS_MAX: usize = 44;

/// The beginning of a check's message, without numbers.
fn words(said: &(dyn Any + Send)) -> String {
    let text = said.downcast_ref::<String>().cloned();
    let text = text.or_else(|| said.downcast_ref::<&str>().map(|text| (*text).into())).unwrap_or_default();
    let text = text.trim_start_matches("assertion `left == right` failed: ");
    let text: String = text.chars().filter(|c| !c.is_ascii_digit()).take(WORDS_MAX).collect();
    text.lines().next().unwrap_or_default().trim().into()
}

#[test]
fn every_planted_bug_is_caught() {
    // The checks of this world panic with what they miss.
    panic::set_hook(Box::new(|_| ()));
    let seeds: Vec<u64> = (0..SEEDS).collect();
    let missed = missed(&Bug::STRONG, &seeds, CATCHES, |seed| {
        let machines = MACHINES[seed as usize % MACHINES.len()];
        let run = panic::catch_unwind(AssertUnwindSafe(|| {
            // Random faults hardly ever hit the moment that the first one needs, restore no older copies, and have no large
            // values.
            if starling_planted::on(Bug::CommitForgotten) {
                lose_power_between_changes(seed);
            } else if starling_planted::on(Bug::PromisesForgotten) {
                drop(restore_copies(seed, machines));
            } else if starling_planted::on(Bug::PortionWithoutBytes) {
                read_large_values(seed);
            } else {
                drop(survive(seed, machines, 3));
            }
        }));
        run.err().map(|said| words(said.as_ref()))
    });
    drop(panic::take_hook());
    assert!(missed.is_empty(), "not noticed within {SEEDS} seeds: {missed:?}");
}
