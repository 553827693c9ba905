//! Every operation there ever was, as its origin's store took it in.

use std::collections::BTreeMap;
use std::sync::Arc;

use starling_kv::Dot;

use super::{Dots, Entry, State};

/// One operation.
#[derive(Clone, Debug)]
pub struct Minted {
    /// The node where it was born.
    pub node: usize,
    /// What it wrote; `None`: born dead.
    pub entry: Option<Arc<Entry>>,
}

/// One acknowledged increment.
#[derive(Clone, Debug)]
pub struct Increment {
    /// The counter.
    pub key: Vec<u8>,
    /// By how much.
    pub by: i64,
    /// Its operation.
    pub dot: Dot,
}

/// See the module.
#[derive(Debug, Default)]
pub struct History {
    /// By dot.
    pub operations: BTreeMap<Dot, Minted>,
    /// Dots that are dead for a reason: born so, superseded or deleted by an operation whose node had
    /// seen them, or expired in due time.
    pub killed: Dots,
    /// The dots that replaced a dot at its place, at the nodes that did so.
    pub followers: BTreeMap<Dot, Vec<Dot>>,
    /// Dots that were removed and not replaced.
    pub deleted: Dots,
    /// Increments, in the order of their acknowledgement.
    pub increments: Vec<Increment>,
}

impl History {
    /// The entry of a dot.
    pub fn entry(&self, dot: Dot) -> Option<Arc<Entry>> {
        self.operations.get(&dot)?.entry.clone()
    }

    /// Takes in what a commit changed at its origin.
    pub fn record(&mut self, node: usize, before: &State, after: &State) {
        for dot in after.seen.minus(&before.seen) {
            let entry = after.live.get(&dot).cloned();
            if entry.is_none() {
                self.killed.add(dot);
            }
            self.operations.insert(dot, Minted { node, entry });
        }
        let new: Vec<Dot> = after.alive.minus(&before.alive).collect();
        for dot in before.alive.minus(&after.alive) {
            self.killed.add(dot);
            let place = &before.live[&dot].place;
            let followers = new.iter().copied().filter(|new| after.live[new].place == *place);
            let known = self.followers.entry(dot).or_default();
            let count = known.len();
            known.extend(followers);
            if known.len() == count {
                self.deleted.add(dot);
            }
        }
    }
}
