//! The files of the journal, beside those of the database.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use starling_kv::Error;
use starling_kv::journal::{Files, SEGMENT_BYTES};

use super::synced::Synced;

/// The beginning of the files' names; their numbers follow.
const PREFIX: &str = "journal-";
/// A file that was removed, and becomes the next one: to sync a file that does not grow, and was written before, costs
/// the file system half as much.
const SPARE: &str = "journal-spare";
/// The file with the position that was durable after the last sync.
const NOTE: &str = "JOURNAL-SYNCED";
/// Files kept open. A guess: those of a few groups.
const OPEN_MAX: usize = 16;

struct Dir {
    path: PathBuf,
    is_read_only: bool,
    open: Mutex<BTreeMap<u64, Arc<File>>>,
    note: Mutex<Option<Synced>>,
}

/// The files of a directory. Clones share them.
#[derive(Clone)]
pub struct DirFiles(Arc<Dir>);

impl DirFiles {
    /// The files in a directory that exists.
    pub fn new(path: &Path) -> Self {
        Self::with(path, false)
    }

    /// The files in a directory that exists, for a journal that is opened and read, and never written.
    pub fn read_only(path: &Path) -> Self {
        Self::with(path, true)
    }

    fn with(path: &Path, is_read_only: bool) -> Self {
        let (path, open, note) = (path.to_owned(), Mutex::default(), Mutex::default());
        Self(Arc::new(Dir { path, is_read_only, open, note }))
    }

    fn path(&self, number: u64) -> PathBuf {
        self.0.path.join(format!("{PREFIX}{number:010}"))
    }

    fn opened(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<File>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, number: u64) -> Result<Arc<File>, Error> {
        if let Some(file) = self.opened().get(&number) {
            return Ok(Arc::clone(file));
        }
        let path = self.path(number);
        let file =
            OpenOptions::new().read(true).write(!self.0.is_read_only).open(&path).map_err(failed(&path))?;
        Ok(self.keep_open(number, file))
    }

    /// The oldest one is closed if there are too many: it is read least.
    fn keep_open(&self, number: u64, file: File) -> Arc<File> {
        let (file, mut open) = (Arc::new(file), self.opened());
        open.insert(number, Arc::clone(&file));
        while open.len() > OPEN_MAX {
            open.pop_first();
        }
        file
    }

    fn sync_names(&self) -> Result<(), Error> {
        let path = &self.0.path;
        File::open(path).and_then(|dir| dir.sync_all()).map_err(failed(path))
    }

    fn note_lock(&self) -> MutexGuard<'_, Option<Synced>> {
        self.0.note.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_file(&self) -> io::Result<(Synced, Option<u64>)> {
        Synced::open(&self.0.path.join(NOTE))
    }
}

/// The error of an operation on a file.
fn failed(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |error| match Errno::from_io_error(&error) {
        Some(Errno::NOSPC | Errno::DQUOT) => Error::Full,
        _ => Error::Storage { reason: format!("{}: {error}", path.display()) },
    }
}

/// Allocates space, where the file system can.
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => file.set_len(bytes),
        result => Ok(result?),
    }
}

impl Files for DirFiles {
    fn list(&self) -> Result<Vec<u64>, Error> {
        let path = &self.0.path;
        let mut numbers = Vec::new();
        for entry in fs::read_dir(path).map_err(failed(path))? {
            let name = entry.map_err(failed(path))?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u64>().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn create(&self, number: u64, bytes: u64) -> Result<(), Error> {
        let (path, spare) = (self.path(number), self.0.path.join(SPARE));
        let is_reused = bytes <= SEGMENT_BYTES && fs::rename(&spare, &path).is_ok();
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed(&path))?;
        if !is_reused && let Err(error) = allocate(&file, bytes) {
            let _ = fs::remove_file(&path);
            return Err(failed(&path)(error));
        }
        self.keep_open(number, file);
        Ok(())
    }

    fn size(&self, number: u64) -> Result<u64, Error> {
        let path = self.path(number);
        Ok(self.file(number)?.metadata().map_err(failed(&path))?.len())
    }

    fn read(&self, number: u64, offset: u64, bytes: usize) -> Result<Vec<u8>, Error> {
        let path = self.path(number);
        let file = self.file(number)?;
        let left = file.metadata().map_err(failed(&path))?.len().saturating_sub(offset);
        let mut read = vec![0; bytes.min(left as usize)];
        file.read_exact_at(&mut read, offset).map_err(failed(&path))?;
        Ok(read)
    }

    fn write(&self, number: u64, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path(number);
        self.file(number)?.write_all_at(bytes, offset).map_err(failed(&path))
    }

    /// Fails with [`Error::Storage`] on a full disk, too: the space was allocated before, and the system may have dropped
    /// what it could not write.
    fn sync(&self, numbers: &[u64], names: bool) -> Result<(), Error> {
        for number in numbers {
            let path = self.path(*number);
            let failed = |error| Error::Storage { reason: format!("{}: {error}", path.display()) };
            self.file(*number)?.sync_data().map_err(failed)?;
        }
        if names { self.sync_names() } else { Ok(()) }
    }

    fn remove(&self, number: u64) -> Result<(), Error> {
        if self.0.is_read_only {
            return Ok(());
        }
        let (path, spare) = (self.path(number), self.0.path.join(SPARE));
        let is_spare = !spare.exists() && self.size(number)? == SEGMENT_BYTES;
        if let Some(note) = &*self.note_lock() {
            note.sync().map_err(failed(&self.0.path.join(NOTE)))?;
        }
        self.opened().remove(&number);
        let removed = if is_spare { fs::rename(&path, spare) } else { fs::remove_file(&path) };
        removed.map_err(failed(&path))?;
        self.sync_names()
    }

    fn note(&self, position: u64) -> Result<(), Error> {
        let mut note = self.note_lock();
        let write = |note: &Synced| note.record(position);
        match &*note {
            Some(note) => write(note),
            None => self.note_file().and_then(|(opened, _)| write(note.insert(opened))),
        }
        .map_err(failed(&self.0.path.join(NOTE)))
    }

    fn noted(&self) -> Result<Option<u64>, Error> {
        let path = self.0.path.join(NOTE);
        if !path.exists() {
            return Ok(None);
        }
        if self.0.is_read_only {
            return Ok(Synced::read(&path));
        }
        self.note_file().map(|(_, noted)| noted).map_err(failed(&path))
    }
}
