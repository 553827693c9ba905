//! The rolling hash after each of the last entries.

use std::collections::VecDeque;

/// Entries whose hash is kept in memory. A guess: more than are under way between the leader's naming
/// its hash and the slowest follower's applying that entry.
const KEPT: usize = 1024;

/// Index of an entry, hash after it.
type Hash = (u64, [u8; 32]);

/// The last hashes; indices rise by one.
#[derive(Clone, Debug, Default)]
pub(super) struct Hashes {
    last: VecDeque<Hash>,
    /// The one that was compared last: the verdict on it may take longer than it is among the last.
    compared: Option<Hash>,
}

impl Hashes {
    pub fn push(&mut self, index: u64, hash: [u8; 32]) {
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back((index, hash));
    }

    /// Keeps the hash of this entry until another one is kept.
    pub fn keep(&mut self, index: u64) {
        self.compared = self.at(index).map(|hash| (index, hash));
    }

    pub fn at(&self, index: u64) -> Option<[u8; 32]> {
        if let Some((_, hash)) = self.compared.filter(|(compared, _)| *compared == index) {
            return Some(hash);
        }
        let first = self.last.front()?.0;
        let at = usize::try_from(index.checked_sub(first)?).ok()?;
        self.last.get(at).map(|(_, hash)| *hash)
    }
}
