//! What entries of the log tell the state machine.

use bincode::{Decode, Encode};

use crate::api::{Fence, Refusal, RequestId, Write};
use crate::codec::{self, Malformed, Nesting};

/// First byte of an encoded command.
const FORMAT: u8 = 1;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Nesting")]
pub enum Command {
    /// A client's write.
    Write {
        /// Its name: under it, it is applied once.
        id: Option<RequestId>,
        /// Refused unless this lock is held.
        fence: Option<Fence>,
        /// What to do.
        write: Write,
    },
    /// A named write that the leader refuses for a reason outside the log (the quota). It goes through
    /// the log, because an earlier sending of the same write may be in it: that one's answer counts.
    Refuse {
        /// The write's name.
        id: RequestId,
        /// Why.
        refusal: Refusal,
    },
    /// The state hash that most voters have after an entry: a replica that has another one has diverged.
    CheckHash {
        /// The entry.
        index: u64,
        /// The rolling hash after it.
        hash: [u8; 32],
    },
    /// Every member tells the leader its state hash after the entry before this one.
    TellHash,
}

impl Command {
    /// As it stands in the log.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&(FORMAT, self))
    }

    /// Reads [`Command::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => codec::decode(rest, "command"),
            _ => Err(Malformed { what: "command: unknown format" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The replica then stops and names the entry: `Stop::Unreadable`.
    #[test]
    fn a_command_of_a_later_version_is_not_read() {
        let mut bytes = Command::TellHash.encode();
        assert_eq!(Command::decode(&bytes), Ok(Command::TellHash));
        bytes[0] = FORMAT + 1;
        assert_eq!(Command::decode(&bytes), Err(Malformed { what: "command: unknown format" }));
        assert!(Command::decode(&[FORMAT, 250]).is_err(), "an unknown command of a known version");
    }
}
