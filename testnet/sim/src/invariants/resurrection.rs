//! No dot goes back: what a replica has seen stays seen, and what is dead stays dead, over restarts too.

use super::State;

/// A replica now, and as it was at the last look; its disk was not lost in between.
pub fn check(before: &State, now: &State) -> Result<(), String> {
    if let Some(dot) = before.seen.minus(&now.seen).next() {
        return Err(format!("{dot:?} was seen, and is unseen now"));
    }
    match now.alive.minus(&before.alive).find(|dot| before.is_dead(*dot)) {
        Some(dot) => Err(format!("{dot:?} was dead, and lives again")),
        None => Ok(()),
    }
}
