//! Raft's messages in Starling's encoding: bounded, versioned by the frame that carries them, and validated
//! before raft-rs gets them. raft-rs trusts its peers and aborts the process on an impossible message;
//! [`RaftMessage::into_raft`] passes only messages that a correct peer could have sent.
#![allow(missing_docs, reason = "numbers are those of Raft's paper")]

use bincode::{Decode, Encode};
use raft::eraftpb::{Entry, Message, MessageType, Snapshot};

use crate::limits::{INDEX_MAX, TERM_MAX};
use crate::log::entry_type;
use crate::members::{MemberId, Members};

/// Entries in one message, at most. A guess: with small writes, a few hundred kilobytes.
pub const ENTRIES_MAX: usize = 4096;
/// Longest context, bytes: the name of a read's round, or raft-rs's mark of a transfer of leadership.
const CONTEXT_BYTES_MAX: usize = 64;

/// The kind of a message of Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Kind {
    /// Replicates entries, or only the commit index.
    Append,
    /// Acknowledges or rejects an `Append` or a `Snapshot`.
    AppendReply,
    /// Asks for a vote.
    Vote,
    /// Grants or rejects a vote.
    VoteReply,
    /// Asks whether a vote would be granted.
    PreVote,
    /// Replies to `PreVote`.
    PreVoteReply,
    /// Confirms to a follower that the leader lives.
    Heartbeat,
    /// Replies to `Heartbeat`.
    HeartbeatReply,
    /// Names a snapshot for a follower that lacks entries which the log no longer has.
    Snapshot,
    /// Makes the receiver campaign at once: a transfer of leadership.
    TimeoutNow,
}

const KINDS: [(Kind, MessageType); 10] = [
    (Kind::Append, MessageType::MsgAppend),
    (Kind::AppendReply, MessageType::MsgAppendResponse),
    (Kind::Vote, MessageType::MsgRequestVote),
    (Kind::VoteReply, MessageType::MsgRequestVoteResponse),
    (Kind::PreVote, MessageType::MsgRequestPreVote),
    (Kind::PreVoteReply, MessageType::MsgRequestPreVoteResponse),
    (Kind::Heartbeat, MessageType::MsgHeartbeat),
    (Kind::HeartbeatReply, MessageType::MsgHeartbeatResponse),
    (Kind::Snapshot, MessageType::MsgSnapshot),
    (Kind::TimeoutNow, MessageType::MsgTimeoutNow),
];

/// One message of Raft. The numbers are those of Raft's paper; which of them are used depends on `kind`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RaftMessage {
    pub kind: Kind,
    pub from: MemberId,
    pub to: MemberId,
    pub term: u64,
    pub log_term: u64,
    pub index: u64,
    pub commit: u64,
    pub commit_term: u64,
    pub reject: bool,
    pub reject_hint: u64,
    pub context: Vec<u8>,
    /// The entries after `index`, without a gap.
    pub entries: Vec<WireEntry>,
    pub snapshot: Option<Box<Offer>>,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct WireEntry {
    pub kind: u8,
    pub term: u64,
    pub context: Vec<u8>,
    pub data: Vec<u8>,
}

/// A snapshot that a follower pulls in chunks.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Offer {
    /// The last entry that it contains.
    pub index: u64,
    pub term: u64,
    /// The members as of that entry.
    pub members: Members,
}

/// A message that a correct peer cannot have sent, with the invalid part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a member sent an invalid message: {0}")]
pub struct Impossible(pub &'static str);

fn require(holds: bool, what: &'static str) -> Result<(), Impossible> {
    if holds { Ok(()) } else { Err(Impossible(what)) }
}

impl RaftMessage {
    /// A message that says nothing but its kind, for tests and simulations.
    pub fn new(kind: Kind, from: MemberId, to: MemberId, term: u64) -> Self {
        Self {
            kind,
            from,
            to,
            term,
            log_term: 0,
            index: 0,
            commit: 0,
            commit_term: 0,
            reject: false,
            reject_hint: 0,
            context: Vec::new(),
            entries: Vec::new(),
            snapshot: None,
        }
    }

    /// Converts a message of raft-rs; `None` for a kind that members do not send. `offer` is the snapshot that the
    /// message names.
    pub fn from_raft(message: &Message, offer: Option<Offer>) -> Option<Self> {
        let kind = KINDS.iter().find(|(_, raft)| *raft == message.get_msg_type())?.0;
        let snapshot = if kind == Kind::Snapshot { Some(Box::new(offer?)) } else { None };
        let entries = message.get_entries().iter().map(WireEntry::from_raft).collect();
        Some(Self {
            kind,
            from: message.from,
            to: message.to,
            term: message.term,
            log_term: message.log_term,
            index: message.index,
            commit: message.commit,
            commit_term: message.commit_term,
            reject: message.reject,
            reject_hint: message.reject_hint,
            context: message.context.to_vec(),
            entries,
            snapshot,
        })
    }

    /// Checks that all fields are within their bounds and fit each other.
    fn check(&self) -> Result<(), Impossible> {
        let numbers = [self.from, self.to, self.index, self.commit];
        require(numbers.iter().all(|number| *number <= INDEX_MAX), "a number")?;
        let terms = [self.term, self.log_term, self.commit_term];
        require(terms.iter().all(|term| *term <= TERM_MAX), "a term")?;
        require(self.reject_hint <= INDEX_MAX, "a number")?;
        require(self.from != 0 && self.to != 0 && self.term != 0, "a number that is not given")?;
        require(self.from != self.to, "a message to itself")?;
        require(self.context.len() <= CONTEXT_BYTES_MAX, "length of a context")?;
        require(self.entries.len() <= ENTRIES_MAX, "number of entries")?;
        require(self.entries.is_empty() || self.kind == Kind::Append, "entries")?;
        require(self.snapshot.is_some() == (self.kind == Kind::Snapshot), "a snapshot")?;
        // Only index 0, before the first entry, has no term. For raft-rs, term 0 is that of a missing entry.
        let has_term = self.log_term != 0 || self.index == 0;
        require(self.kind != Kind::Append || has_term, "an entry without a term")?;
        let mut term = self.log_term.max(1);
        for entry in &self.entries {
            require(term <= entry.term && entry.term <= self.term, "order of terms")?;
            term = entry.term;
        }
        self.snapshot.as_ref().map_or(Ok(()), |offer| offer.check())
    }

    /// Validates and converts a message for raft-rs. `last_index` is that of this member's log.
    pub fn into_raft(self, last_index: u64) -> Result<Message, Impossible> {
        self.check()?;
        match self.kind {
            // A leader sends a follower no commit index beyond what the follower has acknowledged. With a higher
            // one, this log has lost its end.
            Kind::Heartbeat => require(self.commit <= last_index, "a commit beyond our log")?,
            Kind::AppendReply => require(self.reject || self.index <= last_index, "an entry beyond our log")?,
            _ => {}
        }
        let mut message = Message::default();
        let kind = KINDS.iter().find(|(kind, _)| *kind == self.kind);
        message.set_msg_type(kind.ok_or(Impossible("kind"))?.1);
        (message.from, message.to, message.term) = (self.from, self.to, self.term);
        (message.log_term, message.index) = (self.log_term, self.index);
        (message.commit, message.commit_term) = (self.commit, self.commit_term);
        (message.reject, message.reject_hint) = (self.reject, self.reject_hint);
        message.context = self.context.into();
        let entries = (self.index + 1..).zip(self.entries);
        let entries: Option<Vec<Entry>> = entries.map(|(index, entry)| entry.into_raft(index)).collect();
        message.set_entries(entries.ok_or(Impossible("type of an entry"))?.into());
        if let Some(offer) = &self.snapshot {
            message.set_snapshot(offer.snapshot());
        }
        Ok(message)
    }
}

impl WireEntry {
    fn from_raft(entry: &Entry) -> Self {
        Self {
            kind: entry.get_entry_type() as u8,
            term: entry.term,
            context: entry.context.to_vec(),
            data: entry.data.to_vec(),
        }
    }

    fn into_raft(self, index: u64) -> Option<Entry> {
        let mut entry = Entry::default();
        entry.set_entry_type(entry_type(self.kind)?);
        (entry.term, entry.index) = (self.term, index);
        entry.context = self.context.into();
        entry.data = self.data.into();
        Some(entry)
    }
}

impl Offer {
    fn check(&self) -> Result<(), Impossible> {
        require(self.index != 0 && self.index <= INDEX_MAX, "index of a snapshot")?;
        require(self.term != 0 && self.term <= TERM_MAX, "term of a snapshot")?;
        require(self.members.is_valid(), "members of a snapshot")
    }

    /// The snapshot in raft-rs's type, without data.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        (metadata.index, metadata.term) = (self.index, self.term);
        metadata.set_conf_state(self.members.conf_state());
        snapshot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append() -> RaftMessage {
        let entry = |term| WireEntry { kind: 0, term, context: Vec::new(), data: vec![1] };
        let (log_term, index, commit, entries) = (3, 7, 6, vec![entry(3), entry(5)]);
        RaftMessage { log_term, index, commit, entries, ..RaftMessage::new(Kind::Append, 1, 2, 5) }
    }

    #[test]
    fn a_message_comes_back() {
        let message = append().into_raft(0).expect("a correct message");
        assert_eq!(message.get_entries()[1].index, 9);
        assert_eq!(RaftMessage::from_raft(&message, None), Some(append()));
    }

    #[test]
    fn an_invalid_message_does_not_reach_raft() {
        let entry = |term| WireEntry { kind: 0, term, context: Vec::new(), data: Vec::new() };
        let beyond = RaftMessage { kind: Kind::AppendReply, entries: Vec::new(), ..append() };
        let wrong = [
            RaftMessage { term: 0, ..append() },
            RaftMessage { from: 0, ..append() },
            RaftMessage { to: 1, ..append() },
            RaftMessage { log_term: 0, ..append() },
            RaftMessage { log_term: 0, index: 0, entries: vec![entry(0)], ..append() },
            RaftMessage { index: u64::MAX, ..append() },
            RaftMessage { entries: vec![entry(2)], ..append() },
            RaftMessage { kind: Kind::Heartbeat, ..append() },
            RaftMessage { kind: Kind::Heartbeat, entries: Vec::new(), ..append() },
            RaftMessage { kind: Kind::Snapshot, entries: Vec::new(), ..append() },
            RaftMessage { context: vec![0; 65], ..append() },
            beyond,
        ];
        for message in wrong {
            assert!(message.clone().into_raft(5).is_err(), "{message:?}");
        }
    }
}
