//! The commands in the entries of the log.

use bincode::{Decode, Encode};

use super::VERSION_NEWEST;
use crate::api::{Fence, Refusal, RequestId, Write};
use crate::codec::{self, Malformed, Nesting};

/// First byte of an encoded command.
const FORMAT: u8 = 1;

/// The command of one entry.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Nesting")]
pub enum Command {
    /// A client's write.
    Write {
        /// The request id, with which the write is applied at most once.
        id: Option<RequestId>,
        /// The lock that the client has to hold; without it the write is rejected.
        fence: Option<Fence>,
        /// The write.
        write: Write,
    },
    /// Rejects a write with a request id for a reason outside the log (the quota). The rejection goes through the
    /// log, because an earlier sending of the write may be in it: then the answer to that one is returned.
    Refuse {
        /// The request id of the write.
        id: RequestId,
        /// The reason.
        refusal: Refusal,
    },
    /// The state hash that a majority of the voters has after an entry. A replica with another one has diverged.
    CheckHash {
        /// The entry.
        index: u64,
        /// The rolling hash after it.
        hash: [u8; 32],
    },
    /// Makes every member send the leader its state hash after the entry before this one.
    SendHash,
    /// Adopts a data version: from here on commands are applied as that version has it. Proposed once the version is in
    /// force in the network, because older programs do not read it.
    Adopt {
        /// The data version, at most [`VERSION_NEWEST`].
        version: u16,
    },
    /// Drops the keyspace: the group ends with this entry, which changes nothing in the state. Proposed by a group that
    /// has adopted data version 3.
    Drop,
}

impl Command {
    /// The command as the data of an entry.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&(FORMAT, self))
    }

    /// Decodes what [`Command::encode`] has encoded.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => match codec::decode(rest, "command")? {
                Self::Adopt { version } if version > VERSION_NEWEST => {
                    Err(Malformed { what: "command: unknown data version" })
                }
                command => Ok(command),
            },
            _ => Err(Malformed { what: "command: unknown format" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The replica stops on such a command with `Stop::Unreadable`, which names the entry.
    #[test]
    fn a_command_of_a_later_version_is_not_read() {
        let mut bytes = Command::SendHash.encode();
        assert_eq!(Command::decode(&bytes), Ok(Command::SendHash));
        bytes[0] = FORMAT + 1;
        assert_eq!(Command::decode(&bytes), Err(Malformed { what: "command: unknown format" }));
        assert!(Command::decode(&[FORMAT, 250]).is_err(), "an unknown command of a known version");
        assert!(Command::decode(&Command::Adopt { version: VERSION_NEWEST }.encode()).is_ok());
        assert!(Command::decode(&Command::Adopt { version: VERSION_NEWEST + 1 }.encode()).is_err());
    }
}
