//! The acceptor: what it has promised and accepted is all that Paxos remembers.

use super::{Ballot, Message, Value};

/// One acceptor of one instance.
#[derive(Debug, Default)]
pub struct Acceptor {
    /// It accepts nothing below this ballot.
    promised: Option<Ballot>,
    accepted: Option<(Ballot, Value)>,
}

impl Acceptor {
    /// Promises to accept nothing of a lower ballot, and returns what it has accepted; or rejects.
    pub fn on_prepare(&mut self, instance: u64, ballot: Ballot) -> Message {
        if let Some(promised) = self.promised.filter(|promised| *promised >= ballot) {
            return Message::Reject { instance, promised };
        }
        self.promised = Some(ballot);
        Message::Promise { instance, ballot, accepted: self.accepted }
    }

    /// Accepts a value, unless it has promised not to.
    pub fn on_accept(&mut self, instance: u64, ballot: Ballot, value: Value) -> Message {
        if let Some(promised) = self.promised.filter(|promised| *promised > ballot) {
            return Message::Reject { instance, promised };
        }
        self.promised = Some(ballot);
        self.accepted = Some((ballot, value));
        Message::Accepted { instance, ballot, value }
    }
}
