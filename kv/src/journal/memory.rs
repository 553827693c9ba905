//! Files of simulations: what was written and not synced may be lost, in any part.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::Files;
use crate::Error;

/// A change of the files that is not durable yet.
#[derive(Clone, Debug)]
enum Change {
    Create(u64, usize),
    Write(u64, u64, Vec<u8>),
}

#[derive(Clone, Debug, Default)]
struct State {
    /// The files as a process sees them.
    files: BTreeMap<u64, Vec<u8>>,
    durable: BTreeMap<u64, Vec<u8>>,
    unsynced: VecDeque<Change>,
    /// How many changes there have been.
    changes: u64,
    noted: Option<u64>,
    /// The note before the last one: the note itself is not synced.
    noted_before: Option<u64>,
    is_full: bool,
}

/// Files in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles(Arc<Mutex<State>>);

impl MemoryFiles {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An independent copy of the files as a process sees them.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    /// Makes all changes fail as on a full disk, or succeed again.
    pub fn set_full(&self, is_full: bool) {
        self.state().is_full = is_full;
    }

    /// How many changes there have been: a sync that begins now covers them.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// How many of them are not durable.
    pub fn unsynced(&self) -> usize {
        self.state().unsynced.len()
    }

    /// Records the end of a sync of the first so many changes.
    pub fn synced(&self, changes: u64) {
        let State { durable, unsynced, changes: all, .. } = &mut *self.state();
        while *all - (unsynced.len() as u64) < changes
            && let Some(change) = unsynced.pop_front()
        {
            apply(durable, change);
        }
    }

    /// The files after a power failure. Of each change that was not synced, `keep` returns how many bytes of it, at most
    /// its length, are on the disk; a file of whose creation no byte is there does not exist.
    #[must_use]
    pub fn after_power_cut(&self, keep: &mut dyn FnMut(usize) -> usize) -> Self {
        let State { mut durable, unsynced, noted_before, .. } = self.state().clone();
        for change in unsynced {
            match change {
                Change::Create(number, bytes) if keep(1) == 1 => {
                    apply(&mut durable, Change::Create(number, bytes));
                }
                Change::Write(number, offset, mut bytes) => {
                    bytes.truncate(keep(bytes.len()));
                    apply(&mut durable, Change::Write(number, offset, bytes));
                }
                Change::Create(..) => {}
            }
        }
        let files = durable.clone();
        let state = State { files, durable, noted: noted_before, noted_before, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Flips a bit of a file, as a failing disk does.
    pub fn flip(&self, number: u64, offset: u64) {
        let State { files, durable, .. } = &mut *self.state();
        for files in [files, durable] {
            if let Some(byte) = files.get_mut(&number).and_then(|file| file.get_mut(offset as usize)) {
                *byte ^= 1;
            }
        }
    }
}

fn apply(files: &mut BTreeMap<u64, Vec<u8>>, change: Change) {
    match change {
        Change::Create(number, bytes) => {
            files.insert(number, vec![0; bytes]);
        }
        Change::Write(number, offset, bytes) => {
            if let Some(file) = files.get_mut(&number) {
                let end = offset as usize + bytes.len();
                file.resize(file.len().max(end), 0);
                file[offset as usize..end].copy_from_slice(&bytes);
            }
        }
    }
}

impl State {
    fn change(&mut self, change: Change) -> Result<(), Error> {
        if self.is_full {
            return Err(Error::Full);
        }
        apply(&mut self.files, change.clone());
        self.unsynced.push_back(change);
        self.changes += 1;
        Ok(())
    }
}

impl Files for MemoryFiles {
    fn list(&self) -> Result<Vec<u64>, Error> {
        Ok(self.state().files.keys().copied().collect())
    }

    /// Files of simulations grow with their content: thousands of them exist at once.
    fn create(&self, number: u64, _: u64) -> Result<(), Error> {
        self.state().change(Change::Create(number, 0))
    }

    fn size(&self, number: u64) -> Result<u64, Error> {
        Ok(self.state().files.get(&number).map_or(0, Vec::len) as u64)
    }

    fn read(&self, number: u64, offset: u64, bytes: usize) -> Result<Vec<u8>, Error> {
        let state = self.state();
        let file = state.files.get(&number).map_or(&[][..], Vec::as_slice);
        let from = (offset as usize).min(file.len());
        Ok(file[from..file.len().min(from.saturating_add(bytes))].to_vec())
    }

    fn write(&self, number: u64, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.state().change(Change::Write(number, offset, bytes.to_vec()))
    }

    fn sync(&self, _: &[u64], _: bool) -> Result<(), Error> {
        self.synced(self.changes());
        Ok(())
    }

    fn remove(&self, number: u64) -> Result<(), Error> {
        let mut state = self.state();
        state.noted_before = state.noted;
        state.files.remove(&number);
        state.durable.remove(&number);
        Ok(())
    }

    fn note(&self, position: u64) -> Result<(), Error> {
        let mut state = self.state();
        state.noted_before = state.noted;
        state.noted = Some(position);
        Ok(())
    }

    fn noted(&self) -> Result<Option<u64>, Error> {
        Ok(self.state().noted)
    }
}
