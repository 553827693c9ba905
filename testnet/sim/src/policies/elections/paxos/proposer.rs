//! The proposer: asks for promises, and proposes.

use std::collections::BTreeMap;

use super::{Ballot, Choice, Value};
use crate::policies::elections::machine::Node;

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Idle,
    /// Promises so far, with what each acceptor has accepted.
    Preparing(BTreeMap<Node, Option<(Ballot, Value)>>),
    /// Its value is proposed.
    Proposed,
}

/// One proposer of one instance.
#[derive(Debug, Default)]
pub struct Proposer {
    phase: Phase,
    ballot: Option<Ballot>,
    /// The highest round that it has seen.
    round: u64,
}

impl Proposer {
    /// Whether it waits for acceptors.
    pub fn is_busy(&self) -> bool {
        !matches!(self.phase, Phase::Idle)
    }

    /// Begins a ballot above all that it has seen.
    pub fn begin(&mut self, own: Node) -> Ballot {
        self.round += 1;
        let ballot = Ballot { round: self.round, node: own as u64 };
        self.ballot = Some(ballot);
        self.phase = Phase::Preparing(BTreeMap::new());
        ballot
    }

    /// Ends its ballot without a result.
    pub fn abandon(&mut self) {
        self.phase = Phase::Idle;
    }

    /// Notes a ballot of another proposer.
    pub fn see(&mut self, ballot: Ballot) {
        self.round = self.round.max(ballot.round);
    }

    /// An acceptor has rejected its ballot for a higher one. Returns whether the ballot was the current one.
    pub fn on_reject(&mut self, promised: Ballot) -> bool {
        self.see(promised);
        let lost = self.is_busy() && self.ballot.is_some_and(|own| own < promised);
        if lost {
            self.abandon();
        }
        lost
    }

    /// An acceptor has promised. With the promises of a majority, returns the value to propose: its own, if no
    /// acceptor has accepted any.
    pub fn on_promise(
        &mut self,
        from: Node,
        ballot: Ballot,
        accepted: Option<(Ballot, Value)>,
        rule: (usize, Choice, Value),
    ) -> Option<Value> {
        let (majority, choice, own) = rule;
        let Phase::Preparing(promises) = &mut self.phase else { return None };
        if self.ballot != Some(ballot) {
            return None;
        }
        promises.insert(from, accepted);
        if promises.len() < majority {
            return None;
        }
        let accepted = promises.values().copied().flatten();
        let chosen = match choice {
            Choice::HighestBallot => accepted.max_by_key(|(ballot, _)| *ballot),
            Choice::HighestValue => accepted.max_by_key(|(_, value)| *value),
        };
        self.phase = Phase::Proposed;
        Some(chosen.map_or(own, |(_, value)| value))
    }
}
