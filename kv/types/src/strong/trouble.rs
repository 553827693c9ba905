//! What is wrong with strong keyspaces, as nodes report it.

use std::fmt;

#[cfg(feature = "json")]
use serde::{Deserialize, Serialize};
#[cfg(feature = "json")]
use utoipa::ToSchema;

/// How long a keyspace has no leader, or a voter sends its leader nothing, before that is reported, milliseconds. An
/// estimate: several elections, and the time from the start of a node to its first election.
pub const REPORTED_MS: u64 = 5_000;

/// A strong keyspace without a leader: it serves no writes and no linearizable reads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct Leaderless {
    /// The keyspace's name.
    pub keyspace: String,
    /// Milliseconds since it has no leader, as far as the node knows; 0: it does not know since when.
    pub for_ms: u64,
    /// The number of its voters; 0: none answers, and the node does not know how many there are.
    pub voters: u64,
    /// Names of the voters that do not answer, in order.
    pub silent: Vec<String>,
    /// Those of them whose nodes the network's authority has revoked: they never answer again.
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Vec::is_empty"))]
    pub revoked: Vec<String>,
}

impl fmt::Display for Leaderless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keyspace, for_ms, voters, silent, .. } = self;
        match for_ms {
            0 => write!(f, "keyspace {keyspace} has no leader: ")?,
            _ => write!(f, "keyspace {keyspace} has had no leader for {} s: ", for_ms / 1000)?,
        }
        f.write_str(&answering(*voters, silent))
    }
}

/// A voter of a strong keyspace that has sent its leader nothing for some seconds: the keyspace can lose one less.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct SilentVoter {
    /// The keyspace's name.
    pub keyspace: String,
    /// The name of the voter's node.
    pub name: String,
    /// Milliseconds since its last message to the leader, or since that one leads.
    pub for_ms: u64,
    /// Whether the network's authority has revoked its node: it never sends anything again.
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "std::ops::Not::not"))]
    pub revoked: bool,
}

impl SilentVoter {
    /// What is wrong, beside the name of the keyspace.
    pub fn what(&self) -> String {
        let Self { keyspace, name, for_ms, revoked } = self;
        if *revoked {
            return format!("voter {name} is revoked: {}", replace_revoked(keyspace, name));
        }
        format!("voter {name} has sent its leader nothing for {} s", for_ms / 1000)
    }
}

/// What to do about a voter whose node is revoked.
pub fn replace_revoked(keyspace: &str, name: &str) -> String {
    format!("`starling keyspace voters replace {keyspace} {name} OTHER` puts another node in its place")
}

impl fmt::Display for SilentVoter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keyspace {}: {}", self.keyspace, self.what())
    }
}

/// How many voters of a keyspace answer, and which do not, for people.
pub fn answering(voters: u64, silent: &[String]) -> String {
    if voters == 0 {
        return "none of its voters answers".into();
    }
    let answering = voters.saturating_sub(silent.len() as u64);
    let verb = if answering == 1 { "answers" } else { "answer" };
    let missing = if silent.is_empty() { String::new() } else { format!(" (not {})", silent.join(", ")) };
    format!("{answering} of its {voters} voters {verb}{missing}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_not_known_is_left_out() {
        let keyspace = String::from("orders");
        let (silent, revoked) = (vec!["b".into(), "c".into()], Vec::new());
        let known = Leaderless { keyspace, for_ms: 61_000, voters: 3, silent, revoked };
        let since = "keyspace orders has had no leader for 61 s: 1 of its 3 voters answers (not b, c)";
        assert_eq!(known.to_string(), since);
        let unknown = Leaderless { for_ms: 0, voters: 0, silent: Vec::new(), ..known };
        assert_eq!(unknown.to_string(), "keyspace orders has no leader: none of its voters answers");
    }
}
