//! The status of a group and of its members.

use bincode::{Decode, Encode};

use super::Revision;

/// The status of the group that owns a keyspace, as the member that answered sees it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Status {
    /// The group's name for ever.
    pub group: [u8; 16],
    /// The member that answered.
    pub member: u64,
    /// The member that leads; none during an election, and while too few voters answer.
    pub leader: Option<u64>,
    /// The Raft term.
    pub term: u64,
    /// Voters and learners.
    pub members: Vec<Member>,
    /// The revision of the last change that the member has applied.
    pub revision: Revision,
    /// The last entry of its log.
    pub log_index: u64,
    /// The last entry that its state machine has applied.
    pub applied_index: u64,
    /// The last entry that the member knows most voters to have.
    pub commit_index: u64,
    /// Entries that its log keeps.
    pub log_entries: u64,
    /// Roughly what they take on disk, bytes.
    pub log_bytes: u64,
    /// What the keyspace takes on disk, superseded versions included, bytes.
    pub bytes: u64,
    /// Milliseconds since the member last heard from its leader, or last led; on a leader, from a majority. None: not
    /// since its process started.
    pub heard_ms: Option<u64>,
    /// Lost voters are not replaced automatically.
    pub manual: bool,
}

/// One member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Member {
    /// Its id within the group.
    pub id: u64,
    /// Its node's public key.
    pub node: [u8; 32],
    /// Its node's name.
    pub name: String,
    /// It replicates the log and has no vote.
    pub learner: bool,
    /// Entries of the leader's log that it does not have. None: the member that answered is not the leader, or has no
    /// acknowledgement of it since it leads.
    pub behind: Option<u64>,
    /// It is receiving a snapshot; only the leader knows.
    pub restoring: bool,
    /// Milliseconds since its last message to the member that answered; if that one leads, or since it leads. None: none
    /// since that process started, or both follow a leader.
    pub silent_ms: Option<u64>,
    /// Addresses of its node for nodes, as URLs.
    pub peer_urls: Vec<String>,
    /// Addresses of its node for clients, as URLs.
    pub client_urls: Vec<String>,
}
