//! The learner: a value is chosen when a majority of the acceptors has accepted it in one ballot.

use std::collections::{BTreeMap, BTreeSet};

use super::{Ballot, Value};
use crate::policies::elections::machine::Node;

/// One learner of one instance.
#[derive(Debug, Default)]
pub struct Learner {
    accepted: BTreeMap<Ballot, BTreeSet<Node>>,
    chosen: Option<Value>,
}

impl Learner {
    /// The chosen value, as far as it is known. Were another one chosen later, it would be that one: the judge notices.
    pub fn chosen(&self) -> Option<Value> {
        self.chosen
    }

    /// An acceptor has accepted a value. Returns whether it is known to be chosen since then.
    pub fn on_accepted(&mut self, from: Node, ballot: Ballot, value: Value, majority: usize) -> bool {
        let acceptors = self.accepted.entry(ballot).or_default();
        let is_new = acceptors.insert(from) && acceptors.len() == majority;
        if is_new {
            self.chosen = Some(value);
        }
        is_new
    }

    /// Another learner knows the value.
    pub fn on_chosen(&mut self, value: Value) {
        self.chosen = Some(value);
    }
}
