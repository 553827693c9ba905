//! Bounds that the node checks where an operation originates, and no other node checks again.

use super::WriteError;

/// Longest name of a keyspace, bytes.
pub const KEYSPACE_BYTES_MAX: usize = 64;

/// What one write and one batch may be. The defaults are guesses at what people need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest key, bytes. At most 64 KiB.
    pub key_bytes_max: usize,
    /// Longest value of a register or of a map's field, bytes.
    pub value_bytes_max: usize,
    /// Longest element of a set and longest name of a map's field, bytes.
    pub field_bytes_max: usize,
    /// Largest batch: keys, fields and values, with [`Limits::WRITE_OVERHEAD_BYTES`] for each.
    pub batch_bytes_max: usize,
    /// Most places that the deletes of one batch remove; they report that more are left.
    pub delete_places_max: usize,
}

impl Limits {
    /// No limit but those of memory.
    pub const NONE: Self = Self {
        key_bytes_max: usize::MAX,
        value_bytes_max: usize::MAX,
        field_bytes_max: usize::MAX,
        batch_bytes_max: usize::MAX,
        delete_places_max: usize::MAX,
    };

    /// What a place costs beyond its key, field and value when a batch is measured (bytes on the
    /// wire and in rows, rounded up).
    pub const WRITE_OVERHEAD_BYTES: usize = 32;

    /// The size of a value, if it may be that large.
    pub(super) fn value(&self, size: usize) -> Result<usize, WriteError> {
        if size > self.value_bytes_max {
            return Err(WriteError::ValueTooLarge { size, max: self.value_bytes_max });
        }
        Ok(size)
    }

    /// The size of a member or of the name of a field, if it may be that large.
    pub(super) fn field(&self, size: usize) -> Result<usize, WriteError> {
        if size > self.field_bytes_max {
            return Err(WriteError::FieldTooLong { size, max: self.field_bytes_max });
        }
        Ok(size)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            key_bytes_max: 4096,
            value_bytes_max: 1 << 20,
            field_bytes_max: 4096,
            batch_bytes_max: 2 << 20,
            delete_places_max: 10_000,
        }
    }
}

/// Whether `name` may name a keyspace: 1 to [`KEYSPACE_BYTES_MAX`] of `a-z 0-9 _ . -`.
pub fn check_keyspace(name: &str) -> Result<(), WriteError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-');
    if name.is_empty() || name.len() > KEYSPACE_BYTES_MAX || !name.bytes().all(allowed) {
        return Err(WriteError::InvalidKeyspace { name: name.chars().take(KEYSPACE_BYTES_MAX).collect() });
    }
    Ok(())
}
