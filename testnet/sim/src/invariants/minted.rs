//! No dot is minted twice: each run of each node mints under a name of its own, in order.

use starling_kv::Dot;

use super::{History, State};

/// The dots that a commit minted, against all that were ever minted.
pub fn check(history: &History, before: &State, after: &State, last: Option<Dot>) -> Result<(), String> {
    for dot in after.seen.minus(&before.seen) {
        check_new(history, dot)?;
        if last.is_none_or(|last| last.actor != dot.actor || last.seq < dot.seq) {
            return Err(format!("a commit brought {dot:?}, while the run's last dot is {last:?}"));
        }
    }
    Ok(())
}

/// A dot that was minted just now.
pub fn check_new(history: &History, dot: Dot) -> Result<(), String> {
    match history.operations.get(&dot) {
        Some(earlier) => Err(format!("{dot:?} was minted before, on node {}", earlier.node)),
        None => Ok(()),
    }
}
