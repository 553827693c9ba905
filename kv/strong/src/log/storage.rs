//! The log as raft-rs reads it.

use std::ops::ControlFlow;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use starling_kv::Engine;
use starling_kv::Error;
use starling_kv::engine::View;

use super::{Log, entry_bytes, record};

impl<E: Engine> Log<E> {
    /// Reads entries from `low` up to and without `high` from the engine: those that fit `bytes_max`, but at least one.
    pub(super) fn read(&self, low: u64, high: u64, bytes_max: u64) -> Result<Vec<Entry>, Error> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        let first = self.runs.range(..=low).next_back().copied().unwrap_or(low);
        let mut next = first;
        let (from, to) = (record::run_key(&self.group, first), record::run_key(&self.group, high));
        self.engine.view().scan(self.family, &from, Some(&to), &mut |key, row| {
            let run = record::open_run(key, row).filter(|run| run[0].index == next);
            let run = run.ok_or_else(|| Error::Corrupt { reason: format!("entry {next} of a log") })?;
            next += run.len() as u64;
            for entry in run.into_iter().filter(|entry| (low..high).contains(&entry.index)) {
                bytes += entry_bytes(&entry) as u64;
                if bytes > bytes_max && !entries.is_empty() {
                    return Ok(ControlFlow::Break(()));
                }
                entries.push(entry);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if entries.is_empty() {
            return Err(Error::Corrupt { reason: format!("entry {low} of a log is missing") });
        }
        Ok(entries)
    }
}

impl<E: Engine> Storage for Log<E> {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let mut hard = HardState::default();
        (hard.term, hard.vote) = (self.tail.term, self.tail.vote);
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::VoteForgotten) {
            hard.vote = 0;
        }
        // Applied entries are committed. A member learns the rest again, but for what it must not forget; see
        // `Log::append`. An entry beyond the end of the log is one of an earlier member of the group on this node.
        hard.commit = self.applied.max(self.base.index).max(self.commit.min(self.tail.last_index));
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::CommitForgotten) {
            hard.commit = self.applied.max(self.base.index);
        }
        Ok(RaftState::new(hard, self.base.members.conf_state()))
    }

    /// Returns no entries if the read fails, and sets [`Log::failure`]: raft-rs would panic on an error.
    fn entries(
        &self,
        low: u64,
        high: u64,
        bytes_max: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.base.index {
            return Err(StorageError::Compacted.into());
        }
        let bytes_max = bytes_max.into().unwrap_or(u64::MAX);
        if self.recent.first_index().is_some_and(|first| first <= low) {
            return Ok(self.recent.range(low, high, bytes_max));
        }
        let entries = self.read(low, high, bytes_max);
        Ok(entries.unwrap_or_else(|error| {
            self.asked.borrow_mut().failure = Some(error);
            Vec::new()
        }))
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.base.index {
            return Err(StorageError::Compacted.into());
        }
        self.term_of(index).ok_or_else(|| StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.tail.last_index)
    }

    /// The offered snapshot, if it is recent enough and names member `to`, which would reject it otherwise. If not,
    /// the next [`Log::take_wanted`] returns that one is needed.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let names = |conf: &ConfState| {
            [conf.get_voters(), conf.get_learners(), conf.get_voters_outgoing(), conf.get_learners_next()]
                .concat()
                .contains(&to)
        };
        match &self.offer {
            Some(offer)
                if offer.get_metadata().index >= request_index
                    && names(offer.get_metadata().get_conf_state()) =>
            {
                Ok(offer.clone())
            }
            _ => {
                self.asked.borrow_mut().snapshot = true;
                Err(StorageError::SnapshotTemporarilyUnavailable.into())
            }
        }
    }
}
