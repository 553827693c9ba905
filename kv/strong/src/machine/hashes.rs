//! The rolling hash after each of the last entries.

use std::collections::VecDeque;

/// Entries whose hash is kept in memory. A guess: more than are under way between the leader's naming
/// its hash and the slowest follower's applying that entry.
const KEPT: usize = 1024;

/// Index of an entry, hash after it; indices rise by one.
#[derive(Clone, Debug, Default)]
pub(super) struct Hashes(VecDeque<(u64, [u8; 32])>);

impl Hashes {
    pub fn push(&mut self, index: u64, hash: [u8; 32]) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((index, hash));
    }

    pub fn at(&self, index: u64) -> Option<[u8; 32]> {
        let first = self.0.front()?.0;
        let at = usize::try_from(index.checked_sub(first)?).ok()?;
        self.0.get(at).map(|(_, hash)| *hash)
    }
}
