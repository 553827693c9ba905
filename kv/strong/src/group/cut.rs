//! Cuts the log: removes entries that the state machine contains, durably, and that followers hardly need.

use starling_kv::Engine;

use super::{Group, Stop};

/// Bytes of entries beyond which the log is cut, however few entries it has. A guess.
const KEPT_BYTES: u64 = 32 << 20;

/// How far the state machine is durable.
#[derive(Default)]
pub struct Durable {
    /// The applied index that is known to be durable.
    applied: u64,
    /// The flush that is waited for: the last write that it has to cover, and the applied index as of that write.
    flushing: Option<(u64, u64)>,
}

impl<E: Engine> Group<E> {
    /// Removes applied entries from the log, but none after the snapshot that is being sent, and none whose changes
    /// are not durable in the machine's rows: they are applied again after a crash. A follower that lacks removed
    /// entries gets a snapshot.
    pub(super) fn cut_log(&mut self) -> Result<(), Stop> {
        let log = self.raw.store();
        let (base, applied, kept) = (log.base_index(), self.machine.applied(), self.config.kept_entries);
        let mut cut = base;
        if log.last_index() - base > 2 * kept {
            cut = applied.saturating_sub(kept);
        }
        if log.bytes() > KEPT_BYTES {
            cut = cut.max(base + (applied - base) / 2);
        }
        let cut = cut.min(self.snapshot_index().unwrap_or(u64::MAX));
        if cut > base {
            let cut = cut.min(self.durable_index(cut));
            self.raw.mut_store().compact(cut)?;
        }
        Ok(())
    }

    /// The applied index that is durable. If it is less than `wanted`, begins a flush.
    fn durable_index(&mut self, wanted: u64) -> u64 {
        let (applied, log) = (self.machine.applied(), self.raw.store());
        if !log.is_in_journal() {
            return applied;
        }
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::LogCutBeforeFlush) {
            return applied;
        }
        let (engine, durable) = (log.engine(), &mut self.durable);
        if let Some((_, index)) = durable.flushing.take_if(|(write, _)| *write <= engine.flushed()) {
            durable.applied = index;
        }
        if durable.applied < wanted {
            durable.flushing.get_or_insert((engine.written(), applied));
            // Also after one that has failed, or that began before the write.
            engine.begin_flush();
        }
        durable.applied
    }
}
