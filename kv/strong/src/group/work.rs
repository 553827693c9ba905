//! Background work in bounded portions: long reads, and the removal of compacted revisions and of rows that a
//! replaced state left. Other groups and heartbeats are served between two portions.

use starling_kv::Engine;

use super::Group;

/// Pause between two portions of a long read, milliseconds. Inputs that arrived meanwhile are handled in it.
const READ_PAUSE_MS: u64 = 1;
/// Pause between two portions of housekeeping, milliseconds. With portions of about a millisecond
/// (measured: `cargo bench -p starling-strong --bench group`) housekeeping takes at most a tenth of the time, and
/// removes more than a busy keyspace writes.
pub const TIDY_PAUSE_MS: u64 = 10;

impl<E: Engine> Group<E> {
    /// After how many milliseconds [`Group::work`] is to be called; `None` if there is no work.
    pub fn poll_work(&self) -> Option<u64> {
        if self.stopped.is_some() {
            None
        } else if !self.unapplied.is_empty() {
            Some(0)
        } else if self.long_reads.len() > 0 || self.requests.is_left_over() {
            Some(READ_PAUSE_MS)
        } else {
            self.machine.is_untidy().then_some(TIDY_PAUSE_MS)
        }
    }

    /// Whether the next portion is for a read: three of four are while there is housekeeping to do, else all.
    fn reads_next(&mut self) -> bool {
        self.portions += 1;
        !(self.portions.is_multiple_of(4) && self.machine.is_untidy())
    }

    /// Does one portion of background work. [`Group::process_ready`] has to be called after it; it applies entries, and
    /// serves reads, that the step before had no room for.
    pub fn work(&mut self) {
        if self.stopped.is_some()
            || !self.unapplied.is_empty()
            || (self.reads_next() && (self.read_on() || self.requests.is_left_over()))
        {
            return;
        }
        if let Err(error) = self.machine.maintain() {
            self.stop(error.into());
        }
    }
}
