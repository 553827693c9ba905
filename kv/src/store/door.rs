//! The door: limits are checked where an operation is born, and nowhere else.

use starling_types::eventual::check_keyspace;

use crate::{Batch, Kind, Limits, Op, Write, WriteError};

/// Checks everything about a batch that does not depend on what the store holds.
pub(super) fn check(batch: &Batch, limits: &Limits) -> Result<(), WriteError> {
    let mut size = 0;
    for write in &batch.writes {
        size += check_write(write, limits)?;
    }
    if size > limits.batch_bytes_max {
        return Err(WriteError::BatchTooLarge { size, max: limits.batch_bytes_max });
    }
    Ok(())
}

/// Checks one write; answers what it adds to the size of its batch.
fn check_write(write: &Write, limits: &Limits) -> Result<usize, WriteError> {
    check_keyspace(&write.keyspace)?;
    if write.key.is_empty() && write.op != Op::DeletePrefix {
        return Err(WriteError::KeyEmpty);
    }
    if write.key.len() > limits.key_bytes_max {
        return Err(WriteError::KeyTooLong { size: write.key.len(), max: limits.key_bytes_max });
    }
    if write.check.is_some() && !matches!(write.op, Op::Put(_) | Op::Delete) {
        return Err(WriteError::CheckUnsupported);
    }
    let value = |value: &[u8]| match value.len() {
        size if size > limits.value_bytes_max => {
            Err(WriteError::ValueTooLarge { size, max: limits.value_bytes_max })
        }
        size => Ok(size),
    };
    let field = |field: &[u8]| match field.len() {
        size if size > limits.field_bytes_max => {
            Err(WriteError::FieldTooLong { size, max: limits.field_bytes_max })
        }
        size => Ok(size),
    };
    let (places, content) = match &write.op {
        Op::Put(content) => (1, value(content)?),
        Op::Delete | Op::DeletePrefix | Op::Incr(_) | Op::Flag(_) => (1, 0),
        Op::SetAdd(fields) | Op::SetRemove(fields) | Op::MapDelete(fields) => {
            (fields.len(), fields.iter().map(|f| field(f)).sum::<Result<usize, _>>()?)
        }
        Op::MapPut(fields) => {
            (fields.len(), fields.iter().map(|(f, v)| Ok(field(f)? + value(v)?)).sum::<Result<usize, _>>()?)
        }
    };
    // Each place repeats the key.
    Ok(content + places.max(1) * (write.key.len() + Limits::WRITE_OVERHEAD_BYTES))
}

/// The type an operation belongs to; `None`: any.
pub(super) fn kind_of(op: &Op) -> Option<Kind> {
    match op {
        Op::Put(_) => Some(Kind::Register),
        Op::Delete | Op::DeletePrefix => None,
        Op::Incr(_) => Some(Kind::Counter),
        Op::SetAdd(_) | Op::SetRemove(_) => Some(Kind::Set),
        Op::MapPut(_) | Op::MapDelete(_) => Some(Kind::Map),
        Op::Flag(_) => Some(Kind::Flag),
    }
}
