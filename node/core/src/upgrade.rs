//! The version of stored and replicated data that is in force in the network.
//!
//! A release that changes what nodes store or replicate must not write the new version while there are older nodes
//! that cannot read it. It reads the new version, and writes it only after the operator has switched it on
//! (`starling upgrade finalize`). A reserved eventual keyspace has a map with a field for each version that was
//! switched on: the highest one is in force. No node removes a field, so the version in force never decreases. A new
//! network starts at the newest version of its first node; without any field the first version is in force.

use starling_kv::{Batch, Engine, Field, Op, Reader, Write};

use crate::{Core, Notice, Now, Output, Software, WriteFailure};

/// The reserved eventual keyspace.
pub const UPGRADES: &str = ".upgrade";
/// Its one key: a map, version in decimal digits -> name of the software that switched it on.
const DATA: &[u8] = b"data";
/// Fields that are read, at most. A guess: far more than there will be releases that change data.
const FIELDS_MAX: usize = 1024;

/// The first version of data, in force until another one is switched on.
pub const DATA_FIRST: u16 = 1;
/// The newest version of data that this program reads and writes.
///
/// | version | what it added |
/// |---|---|
/// | 1 | everything that the first release stores |
/// | 2 | max and min registers |
/// | 3 | strong keyspaces: request ids contain the time at which they were drawn, transactions are nested up to 20 deep |
pub const DATA_NEWEST: u16 = 3;

/// The write that switches a version of data on, permanently. `by` names the software, for display.
pub fn finalize(version: u16, by: &str) -> Batch {
    let op = Op::MapPut { fields: vec![Field::new(version.to_string(), by.to_owned())] };
    Batch {
        writes: vec![Write { keyspace: UPGRADES.into(), key: DATA.into(), op, ttl_ms: None, check: None }],
    }
}

/// The contents of the reserved keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Finalized {
    /// The version of data that is in force.
    pub in_force: u16,
    /// Live entries in the reserved keyspace.
    pub entries: u64,
}

impl Finalized {
    /// Nothing was switched on.
    pub const NOTHING: Self = Self { in_force: DATA_FIRST, entries: 0 };

    fn read<E: Engine>(reader: &Reader<E>, wall_ms: u64) -> Result<Self, starling_kv::Error> {
        let fields = reader.map_entries(wall_ms, UPGRADES, DATA, None, FIELDS_MAX)?.items;
        let versions = fields.iter().filter_map(|(name, _)| std::str::from_utf8(name).ok()?.parse().ok());
        let siblings = fields.iter().map(|(_, register)| 1 + register.siblings.len() as u64);
        Ok(Self { in_force: versions.fold(DATA_FIRST, u16::max), entries: siblings.sum() })
    }
}

impl<E: Engine> Core<E> {
    /// The version of data that is in force in the network, as far as this node knows.
    pub fn data_in_force(&self) -> u16 {
        self.finalized.in_force
    }

    /// Live entries of the store, without those of the reserved keyspace.
    pub fn entries(&self) -> u64 {
        let stored = self.store.as_ref().map_or(0, |store| store.stats().entries);
        stored.saturating_sub(self.finalized.entries)
    }

    /// Puts the newest version of data in force, because this node is the first one of its network.
    pub fn start_network(&mut self, now: Now) {
        let Software { version, data_newest, .. } = &self.software;
        if *data_newest > DATA_FIRST {
            let switch = finalize(*data_newest, version);
            self.write_own(now, switch);
        }
    }

    /// Checks whether a client's batch may be written.
    ///
    /// # Errors
    /// Fails if the batch needs a version of data that is not in force.
    pub(crate) fn check_data_version(&self, batch: &Batch) -> Result<(), WriteFailure> {
        let needed = batch.writes.iter().map(|write| write.op.required_data_version()).max();
        let (needed, in_force) = (needed.unwrap_or(DATA_FIRST), self.data_in_force());
        if needed <= in_force { Ok(()) } else { Err(WriteFailure::DataVersion { needed, in_force }) }
    }

    /// Reads the version in force again. A version that this program does not know does no harm: entries of unknown
    /// kinds are kept and forwarded as opaque bytes.
    pub(crate) fn learn_data_version(&mut self, now: Now) {
        let Some(store) = &self.store else { return };
        match Finalized::read(&store.reader(), now.wall_ms) {
            Ok(found) => {
                let (in_force, newest) = (found.in_force, self.software.data_newest);
                if in_force > self.finalized.in_force.max(newest) {
                    self.outputs.push_back(Output::Notice(Notice::DataVersionAhead { in_force, newest }));
                }
                self.finalized = found;
                if let Some(strong) = &mut self.strong {
                    strong.set_version(in_force);
                }
            }
            Err(error) => self.storage_failed(error.to_string()),
        }
    }
}
