//! Strong keyspaces: requests, answers and events. Requests and the bodies of answers are `starling_types`'; here
//! is what the API puts around them, and how keyspaces themselves are managed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Blob;

pub use starling_types::strong::{
    Body, Compare, Delete, Fence, Found, KeyValue, Keys, Leaderless, LeaseId, Operand, Options, Put,
    REPORTED_MS, Range, Read, Relation, Request, RequestId, Revision, SilentVoter, SortBy, SortOrder, Txn,
    TxnOp, Write, answering,
};

/// Voters of a keyspace whose creation names no number: the fewest that survive the loss of one.
pub const VOTERS_DEFAULT: u8 = 3;
/// How long a request may take that names no time, milliseconds. An estimate: several elections fit.
pub const TIMEOUT_MS_DEFAULT: u64 = 5_000;
/// The longest time that a request may take, milliseconds. A longer one is cut to it. An estimate.
pub const TIMEOUT_MS_MAX: u64 = 60_000;

/// A request to create a strong keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKeyspace {
    /// Its name.
    pub name: String,
    /// Number of voters: 1, 3, 5 or 7. The node chooses them for spread and uptime.
    #[serde(default = "voters_default")]
    pub voters: u8,
    /// The voters' nodes, by name or by the first digits of their id; empty: the node chooses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    /// Whether lost voters are replaced by an operator only.
    #[serde(default)]
    pub manual: bool,
}

fn voters_default() -> u8 {
    VOTERS_DEFAULT
}

/// A request to replace the voters of a strong keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Voters {
    /// The new voters' nodes, by name or by the first digits of their id.
    pub nodes: Vec<String>,
}

/// A request to transfer the leadership of a strong keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Leader {
    /// The node that is to lead, by name or by the first digits of its id.
    pub node: String,
}

/// The status of a strong keyspace, as one of its members sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StrongInfo {
    /// Its name.
    pub name: String,
    /// The id of its Raft group, in hexadecimal. It never changes.
    pub group: String,
    /// The name of the member that answered.
    pub answered_by: String,
    /// The name of the leader; null during an election, and while too few voters answer.
    pub leader: Option<String>,
    /// The Raft term, which grows with each election.
    pub term: u64,
    /// Voters and learners.
    pub members: Vec<StrongMember>,
    /// The revision of its last change.
    pub revision: u64,
    /// Index of the last entry in the log of the member that answered.
    pub log_index: u64,
    /// Index of the last entry that this member has applied.
    pub applied_index: u64,
    /// Index of the last entry that this member knows to be committed.
    pub commit_index: u64,
    /// Number of entries that this member's log holds.
    pub log_entries: u64,
    /// What these entries take on its disk, approximately, bytes.
    pub log_bytes: u64,
    /// What the keyspace takes on its disk, superseded versions included, bytes.
    pub bytes: u64,
    /// Milliseconds since this member received a message of the leader, or last led; if it leads, of a majority; null: none
    /// since it started.
    #[serde(default)]
    pub heard_ms: Option<u64>,
    /// Whether lost voters are replaced by an operator only.
    pub manual: bool,
    /// Whether the member that answered takes no part in the keyspace and knows nothing of the other members: another
    /// process that uses its node's identity has started later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
    /// What an operator has to know about the replica on the node that was asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// How long a voter that answers sends nothing while there is no leader, milliseconds, at most: voters campaign several
/// times a second. An estimate.
const VOTER_SILENT_MS: u64 = 1_500;

impl StrongInfo {
    /// The number of voters.
    pub fn voters(&self) -> u64 {
        self.members.iter().filter(|member| member.role == "voter").count() as u64
    }

    /// The voters that are silent, in the order of their names, as far as the member that answered knows: those that have
    /// sent the leader nothing for [`REPORTED_MS`], or, while there is no leader, those that do not campaign.
    pub fn silent_voters(&self) -> Vec<SilentVoter> {
        let is_silent = |member: &StrongMember| match &self.leader {
            None => member.silent_ms.is_none_or(|ms| ms > VOTER_SILENT_MS),
            Some(leader) => {
                *leader == self.answered_by && member.silent_ms.is_some_and(|ms| ms >= REPORTED_MS)
            }
        };
        let silent = self.members.iter().filter(|it| !self.withdrawn && it.role == "voter" && is_silent(it));
        let voter = |it: &StrongMember| SilentVoter {
            keyspace: self.name.clone(),
            name: it.name.clone(),
            for_ms: it.silent_ms.unwrap_or_default(),
            revoked: it.revoked,
        };
        let mut voters: Vec<SilentVoter> = silent.map(voter).collect();
        voters.sort_by(|a, b| a.name.cmp(&b.name));
        voters
    }

    /// What is known of the lack of a leader; `None`: there is one, or the member that answered cannot know.
    pub fn leaderless(&self) -> Option<Leaderless> {
        let is_leaderless = self.leader.is_none() && !self.withdrawn;
        let silent = self.silent_voters();
        let names = |of: &dyn Fn(&&SilentVoter) -> bool| {
            silent.iter().filter(of).map(|voter| voter.name.clone()).collect()
        };
        is_leaderless.then(|| Leaderless {
            keyspace: self.name.clone(),
            for_ms: self.heard_ms.unwrap_or_default(),
            voters: self.voters(),
            silent: names(&|_| true),
            revoked: names(&|voter| voter.revoked),
        })
    }
}

/// One member of a strong keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StrongMember {
    /// Its node's public key in hexadecimal.
    pub id: String,
    /// Its node's name.
    pub name: String,
    /// "voter", or "learner": a member that receives the log and has no vote.
    pub role: String,
    /// Its node's multiaddresses.
    pub addresses: Vec<String>,
    /// Entries of the leader's log that this member lacks; null if that is not known: the leader did not answer, or has
    /// no acknowledgement of this member since it leads, as in the moment after an election, and of a voter that is down.
    #[serde(default)]
    pub behind: Option<u64>,
    /// Whether the leader is sending it a snapshot.
    #[serde(default)]
    pub restoring: bool,
    /// Milliseconds since this member has sent the one that answered anything; if that one leads, at most since it leads.
    /// Null: nothing since that one started, or both follow a leader and exchange no messages.
    #[serde(default)]
    pub silent_ms: Option<u64>,
    /// Whether the network's authority has revoked its node, as far as the node that was asked knows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
}

/// The replicas of a strong keyspace on all nodes that were reached, those that do not work included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Replicas {
    /// The replicas.
    pub replicas: Vec<ReplicaInfo>,
    /// Names of members that did not answer.
    pub silent: Vec<String>,
}

/// One replica of a strong keyspace, and the end of its log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaInfo {
    /// Its node's public key in hexadecimal.
    pub id: String,
    /// Its node's name.
    pub name: String,
    /// Whether it is on the node that was asked.
    pub here: bool,
    /// The number of its member.
    pub member: u64,
    /// The term of the last entry in its log. Of two logs the one with the later term is the longer, then the one with
    /// the higher index. Null, as the next three: the log cannot be read.
    #[serde(default)]
    pub log_term: Option<u64>,
    /// Index of the last entry in its log.
    #[serde(default)]
    pub log_index: Option<u64>,
    /// Index of the last entry that it knows to be committed.
    #[serde(default)]
    pub commit_index: Option<u64>,
    /// Index of the last entry that it has applied.
    #[serde(default)]
    pub applied_index: Option<u64>,
    /// Milliseconds since it received a message of the leader, or, if it leads, of a majority; null: none since its node
    /// started.
    #[serde(default)]
    pub heard_ms: Option<u64>,
    /// Entries of the longest log that it lacks, at most; null: that is not known, because its log cannot be read, or may
    /// have entries that the longest one lacks.
    #[serde(default)]
    pub missing: Option<u64>,
    /// Whether no other log is longer.
    pub longest: bool,
    /// Whether it may have acknowledged entries that the longest log lacks: that one was recovered without them.
    #[serde(default)]
    pub may_have_more: bool,
    /// Why it does not work; absent if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    /// Why it needs an operator's attention although it works, as one that was restored from an older copy; absent if it
    /// does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impaired: Option<String>,
}

/// One request to a strong keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StrongCall {
    /// The read or the write.
    #[serde(flatten)]
    pub request: Request,
    /// How long the request may take, milliseconds; at most [`TIMEOUT_MS_MAX`].
    #[serde(default = "timeout_default")]
    pub timeout_ms: u64,
    /// Read what this node's replica holds, without asking another member.
    #[serde(default)]
    pub stale: bool,
    /// Under this name a write is applied once, however often it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// The write is refused unless this lock is held with this token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
}

fn timeout_default() -> u64 {
    TIMEOUT_MS_DEFAULT
}

impl<R: Into<Request>> From<R> for StrongCall {
    fn from(request: R) -> Self {
        let request = request.into();
        Self { request, timeout_ms: TIMEOUT_MS_DEFAULT, stale: false, request_id: None, fence: None }
    }
}

impl StrongCall {
    /// The request, and how it is to be carried out.
    pub fn into_parts(self) -> (Request, Options) {
        let Self { request, timeout_ms, stale, request_id: id, fence } = self;
        (request, Options { timeout_ms: timeout_ms.min(TIMEOUT_MS_MAX), stale, id, fence })
    }
}

/// The answer of a strong keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StrongAnswer {
    /// The keyspace's revision when it was answered: that of the write, if it changed anything.
    pub revision: u64,
    /// The age of what a stale read returned; absent: the read was not stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<Staleness>,
    /// The outcome of the request.
    #[serde(flatten)]
    pub body: Body,
}

/// The age of what a replica holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Staleness {
    /// Milliseconds since the replica received a message of its leader, or, if it leads, of a majority; absent:
    /// none since its node started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms: Option<u64>,
    /// Index of the last log entry that it has applied.
    pub applied_index: u64,
    /// Index of the last log entry that it knows to be committed.
    pub commit_index: u64,
}

/// An event of a watch of a strong keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum StrongEvent {
    /// The watch has begun: changes from the next revision on are reported.
    Ready {
        /// The last revision that is not reported.
        revision: u64,
    },
    /// A key was written.
    Put {
        /// The key as the write left it.
        kv: KeyValue,
    },
    /// A key was deleted.
    Delete {
        /// The key.
        key: Blob,
        /// The revision of the deletion.
        revision: u64,
    },
    /// The last event: the revisions that the watch begins at are no longer kept.
    Compacted {
        /// The oldest revision that is kept.
        oldest: u64,
    },
    /// The last event: a new watch resumes from the revision after the last one reported.
    Lost {
        /// The reason, for people.
        reason: String,
    },
}

impl StrongEvent {
    /// The name of the server-sent event.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ready { .. } => "ready",
            Self::Put { .. } => "put",
            Self::Delete { .. } => "delete",
            Self::Compacted { .. } => "compacted",
            Self::Lost { .. } => "lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_flat_and_says_with_its_request_how_to_carry_it_out() {
        let request_id = Some(RequestId { client: 0xab, seq: 3, answered_below: 2 });
        let fence = Some(Fence { lock: b"job".to_vec(), token: 7 });
        let put = Write::Put(Put::new("a", "v"));
        let call = StrongCall { timeout_ms: 90_000, request_id, fence, ..put.clone().into() };
        let json = r#"{"op":"put","key":"a","value":"v","lease":0,"prev":false,"timeout_ms":90000,"stale":false,"request_id":{"client":"ab","seq":3,"answered_below":2},"fence":{"lock":"job","token":7}}"#;
        assert_eq!(serde_json::to_string(&call).expect("serializes"), json);
        assert_eq!(serde_json::from_str::<StrongCall>(json).expect("parses"), call);
        let (request, options) = call.into_parts();
        assert_eq!(request, Request::Write(put));
        assert_eq!((options.timeout_ms, options.id), (TIMEOUT_MS_MAX, request_id));
    }

    #[test]
    fn an_answer_is_flat() {
        let body = Body::Put { prev: None };
        let stale = Some(Staleness { heard_ms: None, applied_index: 4, commit_index: 5 });
        let answer = StrongAnswer { revision: 9, stale, body };
        let json = r#"{"revision":9,"stale":{"applied_index":4,"commit_index":5},"result":"put"}"#;
        assert_eq!(serde_json::to_string(&answer).expect("serializes"), json);
        assert_eq!(serde_json::from_str::<StrongAnswer>(json).expect("parses"), answer);
    }

    #[test]
    fn every_kind_of_call_is_read_with_what_stands_beside_it() {
        let put = r#""then":[{"op":"put","key":"a","value":"v"}],"timeout_ms":7"#;
        let call: StrongCall = serde_json::from_str(&format!(r#"{{"op":"txn",{put}}}"#)).expect("parses");
        assert!(matches!(call, StrongCall { request: Request::Write(Write::Txn(_)), timeout_ms: 7, .. }));
        assert!(serde_json::from_str::<StrongCall>(&format!(r#"{{"op":"txn","and":[],{put}}}"#)).is_err());
        let call: StrongCall = serde_json::from_str(r#"{"op":"leases","stale":true}"#).expect("parses");
        assert_eq!(call, StrongCall { stale: true, ..Read::Leases.into() });
    }
}
