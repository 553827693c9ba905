//! The form in which this replica stores dots.

/// A dot with its actor interned: what is stored and indexed on this replica. The numbers have
/// no meaning on other replicas and are never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LocalDot {
    /// Index into the actor table.
    pub actor: u32,
    /// Counts from 1.
    pub seq: u64,
}

impl LocalDot {
    /// Bytes of [`LocalDot::row_key`].
    pub const KEY_BYTES: usize = 12;

    /// The key of its rows: big-endian, so that rows are in order of actor and sequence number.
    pub fn row_key(self) -> [u8; Self::KEY_BYTES] {
        let mut key = [0; Self::KEY_BYTES];
        key[..4].copy_from_slice(&self.actor.to_be_bytes());
        key[4..].copy_from_slice(&self.seq.to_be_bytes());
        key
    }

    /// The inverse of [`LocalDot::row_key`]; `None` if the length is wrong.
    pub fn from_row_key(key: &[u8]) -> Option<Self> {
        let (actor, seq) = key.split_first_chunk::<4>()?;
        Some(Self { actor: u32::from_be_bytes(*actor), seq: u64::from_be_bytes(seq.try_into().ok()?) })
    }
}
