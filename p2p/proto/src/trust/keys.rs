//! The keys of the authority: which ones count, and how one takes over from another.
//!
//! ```text
//! a ──> b ──> d      an arrow is a statement `Successor`, signed by both keys
//! └───> c            all four sign for the authority
//!
//! a ··> b ──> d      after `Retired a`, signed by b or d: c and all that a and c have signed are gone
//! ```
//!
//! Keys form a tree. The root is the oldest one that counts, and names the authority; those before it are kept as the way
//! to the root for their tickets and for nodes that were away. A retirement moves the root towards the key that has signed it,
//! and never back. So a key that was stolen cannot end those that came from it, and once a node has its retirement, nothing that it
//! signs counts there. A key that came from a retired one by another way is gone with it: two retirements of one key by keys
//! of which none came from the other exclude each other, and nodes that have different ones follow different authorities.
//!
//! If two keys state something about one subject, and one of them came from the other, its statement counts, whatever the serial
//! numbers. So the remaining key states everything again before it retires another one.

use std::iter;

use super::statement::Subject;
use super::{Claim, Statement, Trust};
use crate::NodeId;

/// Statements about successors that a node keeps, at most. A guess: an exchange each year for a working life.
pub const KEYS_MAX: usize = 64;

impl Trust {
    /// The keys that sign for the authority, each with the one that it came from: first the oldest one.
    pub fn keys(&self) -> impl Iterator<Item = (NodeId, Option<NodeId>)> {
        let root = self.authority().into_iter().map(|key| (key, None));
        let others = self.successions().filter(|(_, key)| self.is_live(key));
        root.chain(
            others.filter(|(_, key)| Some(*key) != self.authority()).map(|(old, new)| (new, Some(old))),
        )
    }

    /// The retired keys whose tickets still lead to the authority, the last one first.
    pub fn former_keys(&self) -> impl Iterator<Item = NodeId> {
        self.authority().into_iter().flat_map(|root| self.ancestors(root))
    }

    /// Whether the key is one of the authority, or was one before the oldest one that counts.
    pub fn is_known(&self, key: &NodeId) -> bool {
        self.is_live(key) || self.former_keys().any(|former| former == *key)
    }

    /// Whether statements of the key count.
    pub fn is_live(&self, key: &NodeId) -> bool {
        self.authority().is_some_and(|root| root == *key || self.descends(key, &root))
    }

    /// Whether a key came from another one.
    pub(super) fn descends(&self, key: &NodeId, from: &NodeId) -> bool {
        self.ancestors(*key).any(|ancestor| ancestor == *from)
    }

    /// The keys that a key came from, the last one first. They are bounded by [`KEYS_MAX`], and no key comes from itself.
    fn ancestors(&self, key: NodeId) -> impl Iterator<Item = NodeId> {
        iter::successors(self.predecessor(&key), |key| self.predecessor(key))
    }

    fn predecessor(&self, key: &NodeId) -> Option<NodeId> {
        self.about(Subject::Successor(*key)).next().map(|statement| statement.authority)
    }

    /// Each statement about a successor, as the key that signed it and the other one.
    fn successions(&self) -> impl Iterator<Item = (NodeId, NodeId)> {
        self.statements().map_while(|statement| match statement.claim {
            Claim::Successor { key, .. } => Some((statement.authority, key)),
            _ => None,
        })
    }

    /// Whether a statement that `key` follows `old` belongs to the tree: it adds a key below it, or one above all others, or is
    /// known in another version.
    pub(super) fn joins_successor(&self, old: &NodeId, key: &NodeId) -> bool {
        if self.is_known(key) && self.predecessor(key) == Some(*old) {
            return true;
        }
        let is_below = self.is_live(old) && !self.is_known(key);
        let is_above = self.is_known(key) && self.predecessor(key).is_none() && !self.is_known(old);
        (is_below || is_above) && self.successions().count() < KEYS_MAX
    }

    /// The oldest key that counts once `by` has retired `key`; `None` if it may not.
    pub(super) fn root_after(&self, key: &NodeId, by: &NodeId) -> Option<NodeId> {
        if !self.is_live(by) {
            return None;
        }
        iter::once(*by).chain(self.ancestors(*by)).find(|it| self.predecessor(it) == Some(*key))
    }

    /// The oldest key above all others, or the one to which retirements have led.
    pub(super) fn find_root(&self) -> Option<NodeId> {
        let start = self.authority()?;
        let retirement = self.about(Subject::Retired).next();
        match retirement.map(|it| (&it.claim, it.authority)) {
            Some((Claim::Retired { key }, by)) => self.root_after(key, &by).or(Some(start)),
            _ => self.ancestors(start).last().or(Some(start)),
        }
    }

    /// Whether a statement stays when the oldest key that counts has changed.
    pub(super) fn is_kept(&self, statement: &Statement) -> bool {
        match &statement.claim {
            Claim::Successor { key, .. } => self.is_known(key),
            _ => self.is_live(&statement.authority),
        }
    }
}
