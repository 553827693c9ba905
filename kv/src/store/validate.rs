//! Validation of writes. Limits are checked only where an operation originates.

use starling_types::eventual::check_keyspace;

use crate::{Batch, Check, Limits, Op, Write, WriteError};

/// Checks everything about a batch that does not depend on what the store holds.
///
/// # Errors
/// Why the store would refuse it.
pub fn check(batch: &Batch, limits: &Limits) -> Result<(), WriteError> {
    let mut size = 0;
    for write in &batch.writes {
        size += check_write(write, limits)?;
    }
    if size > limits.batch_bytes_max {
        return Err(WriteError::BatchTooLarge { size, max: limits.batch_bytes_max });
    }
    Ok(())
}

/// Checks one write; returns what it adds to the size of its batch.
fn check_write(write: &Write, limits: &Limits) -> Result<usize, WriteError> {
    check_keyspace(&write.keyspace)?;
    if write.key.is_empty() && write.op != Op::DeletePrefix {
        return Err(WriteError::KeyEmpty);
    }
    if write.key.len() > limits.key_bytes_max {
        return Err(WriteError::KeyTooLong { size: write.key.len(), max: limits.key_bytes_max });
    }
    let removes =
        matches!(write.op, Op::Delete | Op::DeletePrefix | Op::SetRemove { .. } | Op::MapDelete { .. });
    let supported = match write.check {
        None => true,
        Some(Check::Concurrent) => !removes,
        Some(Check::Absent | Check::Version(_)) => matches!(write.op, Op::Put { .. } | Op::Delete),
    };
    if !supported {
        return Err(WriteError::CheckUnsupported);
    }
    let (places, bytes) = write.op.size(limits)?;
    // Each place repeats the key.
    Ok(bytes + places * (write.key.len() + Limits::WRITE_OVERHEAD_BYTES))
}
