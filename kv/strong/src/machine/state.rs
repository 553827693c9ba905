//! The state of a replica: one row, written together with the rows that it describes.

use starling_kv::Error;
use starling_kv::codec::{Input, put_varint};

use super::VERSION_NEWEST;
use super::rows::{corrupt, number};
use crate::api::Revision;

/// The newest format of a keyspace's rows.
const FORMAT: u64 = 2;
/// The format of a group that has not adopted a data version: without the fields from [`State::version`] on.
const FORMAT_FIRST: u64 = 1;

/// The state of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// The live generation of rows.
    pub generation: u32,
    /// The highest generation that was ever used.
    pub generation_last: u32,
    /// Index of the last entry applied; 0 if there is none.
    pub applied: u64,
    /// Revision of the last change; 1 if there was none.
    pub revision: Revision,
    /// The oldest revision that can be read.
    pub compacted: Revision,
    /// The revision up to which superseded records were removed; at most `compacted`.
    pub swept: Revision,
    /// Bytes of keys and contents of the live generation's rows, except those in `StrongState`.
    pub bytes: u64,
    /// The rolling hash after entry `applied`.
    pub hash: [u8; 32],
    /// The entry after which this replica's hash was found to differ from the majority's; 0 if there is none.
    pub diverged: u64,
    /// The data version that the group has adopted: how commands are applied depends on it. 0 if it has adopted none.
    pub version: u16,
    /// The latest time of a request id that was evicted from the remembered answers, milliseconds since 1970.
    pub forgotten_ms: u64,
}

impl State {
    /// The state of an empty keyspace, which is at revision 1 as in etcd.
    pub fn new(generation: u32) -> Self {
        Self {
            generation,
            generation_last: generation,
            applied: 0,
            revision: 1,
            compacted: 0,
            swept: 0,
            bytes: 0,
            hash: [0; 32],
            diverged: 0,
            version: 0,
            forgotten_ms: 0,
        }
    }

    /// The state with a planted bug.
    #[cfg(planted)]
    pub fn planted(self) -> Self {
        let again = u64::from(starling_planted::on(starling_planted::Bug::AppliedTwice));
        Self { applied: self.applied.saturating_sub(again), ..self }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(96);
        let numbers = [
            if self.version == 0 { FORMAT_FIRST } else { FORMAT },
            u64::from(self.generation),
            u64::from(self.generation_last),
            self.applied,
            self.revision,
            self.compacted,
            self.swept,
            self.bytes,
            self.diverged,
        ];
        for number in numbers {
            put_varint(&mut row, number);
        }
        row.extend_from_slice(&self.hash);
        if self.version != 0 {
            put_varint(&mut row, self.version.into());
            put_varint(&mut row, self.forgotten_ms);
        }
        row
    }

    pub fn decode(row: &[u8]) -> Result<Self, Error> {
        let mut input = Input::new(row);
        let format = match input.varint() {
            Some(format @ FORMAT_FIRST..=FORMAT) => format,
            Some(found) if found > FORMAT => {
                return Err(Error::Format { found: found as u32, supported: FORMAT as u32 });
            }
            _ => return Err(corrupt("the state")),
        };
        let mut decode = || {
            let mut state = Self {
                generation: u32::try_from(input.varint()?).ok()?,
                generation_last: u32::try_from(input.varint()?).ok()?,
                applied: number(&mut input)?,
                revision: number(&mut input)?,
                compacted: number(&mut input)?,
                swept: number(&mut input)?,
                bytes: number(&mut input)?,
                diverged: number(&mut input)?,
                hash: input.array()?,
                version: 0,
                forgotten_ms: 0,
            };
            if format > FORMAT_FIRST {
                state.version = u16::try_from(input.varint()?).ok().filter(|version| *version != 0)?;
                state.forgotten_ms = number(&mut input)?;
            }
            let is_sound = state.swept <= state.compacted && state.compacted <= state.revision;
            (input.is_empty() && is_sound).then_some(state)
        };
        let state = decode().ok_or_else(|| corrupt("the state"))?;
        if state.version > VERSION_NEWEST {
            return Err(Error::Format { found: state.version.into(), supported: VERSION_NEWEST.into() });
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_a_later_version_names_both_versions() {
        let mut row = State::new(1).encode();
        assert!(State::decode(&row).is_ok());
        row[0] = FORMAT as u8 + 1;
        let error = State::decode(&row).expect_err("is of a later version");
        let (found, supported) = (FORMAT as u32 + 1, FORMAT as u32);
        assert!(matches!(error, Error::Format { found: f, supported: s } if (f, s) == (found, supported)));
        let newer = State { version: VERSION_NEWEST + 1, ..State::new(1) };
        let error = State::decode(&newer.encode()).expect_err("is of a later data version");
        assert!(matches!(error, Error::Format { found, .. } if found == u32::from(VERSION_NEWEST) + 1));
    }

    #[test]
    fn a_state_that_has_adopted_nothing_is_written_as_by_the_first_release() {
        let first = State::new(1);
        assert_eq!(first.encode()[0], FORMAT_FIRST as u8);
        let adopted = State { version: VERSION_NEWEST, forgotten_ms: 7, ..first };
        assert_eq!(State::decode(&adopted.encode()).ok(), Some(adopted));
    }
}
