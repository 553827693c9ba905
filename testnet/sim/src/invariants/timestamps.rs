//! Timestamps follow causality: a write is later than what it superseded. And they follow the clock: no
//! foreign timestamp moves them further ahead of the node's own clock than it may.

use super::State;

/// Timestamps of others further ahead than this do not count, milliseconds: the store's default.
const AHEAD_MS_MAX: u64 = 60_000;

/// The entries that a commit wrote, given the node's clock and the latest it has shown in this run.
pub fn check(before: &State, after: &State, wall_ms: u64, wall_ms_max: u64) -> Result<(), String> {
    for dot in after.alive.minus(&before.seen) {
        let entry = &after.live[&dot];
        let written_ms = entry.written() >> 16;
        if written_ms > wall_ms_max.saturating_add(AHEAD_MS_MAX) {
            let ahead_ms = written_ms - wall_ms_max;
            return Err(format!("{dot:?} has a timestamp {ahead_ms} ms ahead of its node's clock"));
        }
        let superseded = before.live.iter().filter(|(_, other)| other.place == entry.place);
        for (other, observed) in superseded {
            let is_near = observed.written() >> 16 <= wall_ms.saturating_add(AHEAD_MS_MAX);
            if is_near && observed.written() >= entry.written() {
                return Err(format!(
                    "{dot:?} is no later by its timestamp than {other:?}, which it superseded"
                ));
            }
        }
    }
    Ok(())
}
