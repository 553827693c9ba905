//! What replaced a dot is seen wherever the dot is dead, unless somebody deleted it or it has expired: otherwise the value
//! would be gone with the node that replaced it.

use std::collections::BTreeSet;

use starling_kv::Dot;

use super::killed::has_expired;
use super::{History, Memory, State};

/// A replica's dead dots.
pub fn check(history: &History, state: &State, memory: &mut Memory, true_ms: u64) -> Result<(), String> {
    let dead: Vec<Dot> =
        state.seen.minus(&state.alive).filter(|dot| !memory.followed.contains(*dot)).collect();
    for dot in dead {
        if !is_followed(history, state, dot, true_ms) {
            let by = &history.followers[&dot];
            return Err(format!("{dot:?} is dead here, and what replaced it was not seen: {by:?}"));
        }
        memory.followed.add(dot);
    }
    Ok(())
}

fn is_followed(history: &History, state: &State, dot: Dot, true_ms: u64) -> bool {
    let mut left = vec![dot];
    let mut visited = BTreeSet::new();
    while let Some(dot) = left.pop() {
        let is_deleted = history.deleted.contains(dot) || has_expired(history, dot, true_ms);
        let Some(followers) = history.followers.get(&dot).filter(|_| !is_deleted) else { return true };
        if followers.iter().any(|next| state.seen.contains(*next)) {
            return true;
        }
        left.extend(followers.iter().filter(|next| visited.insert(**next)));
    }
    false
}
