//! The rolling hash after each of the last entries.

use std::collections::VecDeque;

/// Entries whose hash is kept in memory. A guess: more than are applied between an entry and the comparison after it.
const KEPT: usize = 1024;

/// The index of an entry, and the hash after it.
type Hash = (u64, [u8; 32]);

/// The hashes after the last entries; indices increase by one.
#[derive(Clone, Debug, Default)]
pub(super) struct Hashes {
    last: VecDeque<Hash>,
    /// The hash that was last compared, which the majority's hash may reach after it has left `last`.
    compared: Option<Hash>,
}

impl Hashes {
    pub fn push(&mut self, index: u64, hash: [u8; 32]) {
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back((index, hash));
    }

    /// Keeps the hash of this entry until the next call.
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
