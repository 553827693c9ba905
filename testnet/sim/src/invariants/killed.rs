//! None is dead that no delta killed: a dot that a replica has seen and that does not live was born dead,
//! superseded or deleted by an operation whose node had seen it, or has expired by a clock that is not far
//! off. And the replica was told so, or did it itself.

use starling_kv::Dot;

use super::{History, Memory, State};

/// Expiry takes so long after the time it was written for, less what clocks may differ by before a node
/// expires nothing, milliseconds.
const EXPIRY_MS: u64 = starling_kv::store::EXPIRY_GRACE_MS / 2 - 10_000;

/// Whether an entry may have been removed because it expired, given the true wall-clock time.
pub fn has_expired(history: &History, dot: Dot, true_ms: u64) -> bool {
    let expires_ms = history.operations.get(&dot).and_then(|minted| minted.entry.as_ref()?.expires_ms());
    expires_ms.is_some_and(|expires_ms| expires_ms.saturating_add(EXPIRY_MS) <= true_ms)
}

/// A dot that somebody claims to be dead.
pub fn check_dead(history: &mut History, dot: Dot, true_ms: u64) -> Result<(), String> {
    if history.killed.contains(dot) {
        return Ok(());
    }
    if has_expired(history, dot, true_ms) {
        history.killed.add(dot);
        return Ok(());
    }
    let entry = history.entry(dot);
    let expiry = entry.as_ref().and_then(|entry| entry.expires_ms());
    let key = entry.map(|entry| entry.key().escape_ascii().to_string()).unwrap_or_default();
    Err(format!(
        "{dot:?} at key {key} is dead, and nobody superseded or deleted it (expiry {expiry:?}, now {true_ms})"
    ))
}

/// A replica's dead dots.
pub fn check(history: &mut History, state: &State, memory: &mut Memory, true_ms: u64) -> Result<(), String> {
    let dead: Vec<Dot> =
        state.seen.minus(&state.alive).filter(|dot| !memory.told_dead.contains(*dot)).collect();
    for dot in dead {
        check_dead(history, dot, true_ms)?;
        if !has_expired(history, dot, true_ms) {
            return Err(format!("{dot:?} is dead here, and nobody told this replica so"));
        }
        memory.told_dead.add(dot);
    }
    Ok(())
}
