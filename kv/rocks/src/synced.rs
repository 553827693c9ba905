//! The number of the last write that a sync has covered, in a file of its own: one for the write-ahead log, one for the
//! journal.
//!
//! RocksDB recovers a write-ahead log up to its first damaged record, whatever follows, because it cannot tell damage
//! from the end of a log whose last writes a power failure has cut. With this number it can be told: writes up to it
//! were durable, so a log that ends before it is damaged.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const CHECKSUM_BYTES: usize = 8;
const BYTES: usize = 8 + CHECKSUM_BYTES;

/// Writes that were durable, and were not there when the database was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostWrites {
    /// The last write that a sync had covered; each row that was written counts.
    pub synced: u64,
    /// The last write that was found.
    pub found: u64,
}

impl LostWrites {
    /// What the database lacks of the writes up to `recorded`, the last one that a sync had covered.
    pub(crate) fn of(recorded: Option<u64>, found: u64) -> Option<Self> {
        recorded.filter(|synced| found < *synced).map(|synced| Self { synced, found })
    }
}

/// The open file.
#[derive(Debug)]
pub struct Synced(File);

impl Synced {
    /// Opens the file, or creates it. Returns the number in it; `None` if there is no valid one: the record is not
    /// synced itself, so a power failure may leave an earlier number, or none.
    pub fn open(path: &Path) -> io::Result<(Self, Option<u64>)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut row = [0; BYTES];
        let number = match file.read_exact_at(&mut row, 0) {
            Ok(()) => decode(&row),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        Ok((Self(file), number))
    }

    /// Makes the record durable.
    pub fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    /// The number in the file, as [`Synced::open`] returns it; writes nothing.
    pub fn read(path: &Path) -> Option<u64> {
        let mut row = [0; BYTES];
        File::open(path).ok()?.read_exact_at(&mut row, 0).ok()?;
        decode(&row)
    }

    /// Records that all writes up to this one are durable.
    pub fn record(&self, number: u64) -> io::Result<()> {
        self.0.write_all_at(&encode(number), 0)
    }
}

fn encode(number: u64) -> [u8; BYTES] {
    let mut row = [0; BYTES];
    let (head, checksum) = row.split_at_mut(8);
    head.copy_from_slice(&number.to_le_bytes());
    checksum.copy_from_slice(&blake3::hash(head).as_bytes()[..CHECKSUM_BYTES]);
    row
}

fn decode(row: &[u8; BYTES]) -> Option<u64> {
    let number = u64::from_le_bytes(*row.first_chunk()?);
    (encode(number) == *row).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_written_in_part_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("SYNCED");
        let (synced, number) = Synced::open(&path).expect("opens");
        assert_eq!(number, None);
        synced.record(300).expect("writes");
        let (synced, number) = Synced::open(&path).expect("opens");
        assert_eq!(number, Some(300));
        synced.0.write_all_at(&[1], 2).expect("writes");
        assert_eq!(Synced::open(&path).expect("opens").1, None);
    }
}
