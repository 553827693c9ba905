//! Contexts claim nothing that was not joined: what a replica has seen was minted here or claimed by some
//! delta that reached it, and what a delta claims, its sender had.

use starling_kv::Dot;
use starling_kv::delta::Delta;

use super::{History, Memory, State};

/// A replica's context against all that was ever offered to it.
pub fn check(state: &State, memory: &Memory) -> Result<(), String> {
    match state.seen.minus(&memory.offered).next() {
        Some(dot) => Err(format!("claims to have seen {dot:?}, which no delta brought here")),
        None => Ok(()),
    }
}

/// A delta against its sender and against history.
pub fn check_delta(delta: &Delta<'_>, sender: &Memory, history: &History) -> Result<(), String> {
    for section in &delta.actors {
        let mut entries = section.entries.iter().peekable();
        for seq in section.claimed.spans().iter().flat_map(|&(first, last)| first..=last) {
            let dot = Dot { actor: section.actor, seq };
            if !sender.offered.contains(dot) {
                return Err(format!("sent a delta that claims {dot:?}, which the sender never saw"));
            }
            if let Some(entry) = entries.next_if(|entry| entry.seq == seq) {
                // What a later write of the same commit superseded left no entry behind to compare with.
                let wrote = history.operations.get(&dot).and_then(|minted| minted.entry.as_ref());
                if wrote.is_some_and(|wrote| wrote.place != entry.place || wrote.body != entry.body) {
                    return Err(format!("sent another content under {dot:?} than its origin wrote"));
                }
            }
        }
    }
    Ok(())
}
