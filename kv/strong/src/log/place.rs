//! Where the rows of a log are: in the engine's journal, or among its other rows.

use std::ops::ControlFlow;

use starling_kv::engine::{Family, RowOp, View, prefix_end};
use starling_kv::{Engine, Error};

use super::{Log, record};

/// Bytes of rows that are written to the journal at once while a log is moved, about. A guess.
const MOVED_BYTES: usize = 1 << 20;

/// The family that has the rows of a group's log.
pub fn family<E: Engine>(engine: &E, group: &[u8; 16]) -> Result<Family, Error> {
    let mark = engine.get(Family::Raft, &record::tail_key(group))?;
    let is_moved = engine.has_journal() && mark.as_deref() == Some(&record::IN_JOURNAL);
    Ok(if is_moved { Family::Journal } else { Family::Raft })
}

/// The rows that stand for those in the journal; see [`record::IN_JOURNAL`].
pub fn marks(group: &[u8; 16]) -> [RowOp; 2] {
    let mark = |key: record::Key| RowOp::Put(Family::Raft, key.to_vec(), record::IN_JOURNAL.to_vec());
    [record::tail_key(group), record::base_key(group)].map(mark)
}

/// Removes every row of a group's log in one family.
pub fn remove_rows<E: Engine>(engine: &E, family: Family, group: &[u8; 16]) -> Result<(), Error> {
    if family == Family::Journal && !engine.has_journal() {
        return Ok(());
    }
    let mut ops = Vec::new();
    engine.view().scan(family, group, prefix_end(group).as_deref(), &mut |key, _| {
        ops.push(RowOp::Delete(family, key.to_vec()));
        Ok(ControlFlow::Continue(()))
    })?;
    if ops.is_empty() { Ok(()) } else { engine.write(ops) }
}

impl<E: Engine> Log<E> {
    /// Moves the log to the engine's journal, if it is not there. Waits for the disk. Until the last write the rows that
    /// are here count: after a crash in between, the log is moved again.
    pub fn move_to_journal(&mut self) -> Result<(), Error> {
        if self.is_in_journal() || !self.engine.has_journal() {
            return Ok(());
        }
        remove_rows(&self.engine, Family::Journal, &self.group)?;
        let (mut copies, mut bytes, mut removals) = (Vec::new(), 0, Vec::new());
        let to = prefix_end(&self.group);
        let stays = [
            record::lost_key,
            record::aside_key,
            record::recoveries_key,
            record::hosts_key,
            record::former_key,
        ];
        let stays = stays.map(|key| key(&self.group));
        self.engine.view().scan(Family::Raft, &self.group, to.as_deref(), &mut |key, row| {
            if stays.iter().any(|it| key == it) {
                return Ok(ControlFlow::Continue(()));
            }
            copies.push(RowOp::Put(Family::Journal, key.to_vec(), row.to_vec()));
            removals.push(RowOp::Delete(Family::Raft, key.to_vec()));
            bytes += row.len();
            if bytes >= MOVED_BYTES {
                bytes = 0;
                self.engine.write(std::mem::take(&mut copies))?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        self.engine.write(copies)?;
        self.engine.sync_journal()?;
        removals.extend(marks(&self.group));
        self.engine.write(removals)?;
        self.family = Family::Journal;
        Ok(())
    }
}
