//! Work that is done bit by bit between everything else: long reads; removing what compaction gave up, or
//! what a replaced state left. A portion is bounded, so other groups and heartbeats go on.

use starling_kv::Engine;

use super::Group;

/// Between two portions of a long read, milliseconds: what has come meanwhile is dealt with.
const READ_PAUSE_MS: u64 = 1;
/// Between two portions of housekeeping, milliseconds. With portions of about a millisecond
/// (measured: `cargo bench -p starling-strong --bench group`) it takes a tenth of the loop at most, and
/// removes more than a busy keyspace writes.
pub const TIDY_PAUSE_MS: u64 = 10;

impl<E: Engine> Group<E> {
    /// In how many milliseconds [`Group::work`] is to be called; `None`: there is nothing to do.
    pub fn poll_work(&self) -> Option<u64> {
        if self.stopped.is_some() {
            None
        } else if self.long_reads.len() > 0 {
            Some(READ_PAUSE_MS)
        } else {
            self.machine.is_untidy().then_some(TIDY_PAUSE_MS)
        }
    }

    /// Reads go first, and leave housekeeping every fourth portion.
    fn reads_next(&mut self) -> bool {
        self.portions += 1;
        !(self.portions.is_multiple_of(4) && self.machine.is_untidy())
    }

    /// Does one bounded portion of the work that can wait.
    pub fn work(&mut self) {
        if self.stopped.is_some() || (self.reads_next() && self.read_on()) {
            return;
        }
        if let Err(error) = self.machine.maintain() {
            self.stop(error.into());
        }
    }
}
