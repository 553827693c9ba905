//! The files of a journal, as an operating system or a simulation provides them.

use crate::Error;

/// Numbered files. A file's content may be lost until it is synced, in any part.
pub trait Files: Send + Sync + 'static {
    /// The numbers of all files, in ascending order.
    fn list(&self) -> Result<Vec<u64>, Error>;

    /// Creates a file with room for at least so many bytes, so that writing to it neither fails for lack of space nor
    /// changes how large it is. It may have any content. On an error there is no such file.
    fn create(&self, number: u64, bytes: u64) -> Result<(), Error>;

    /// The file's size, bytes.
    fn size(&self, number: u64) -> Result<u64, Error>;

    /// Reads so many bytes; fewer at the end of the file.
    fn read(&self, number: u64, offset: u64, bytes: usize) -> Result<Vec<u8>, Error>;

    /// Writes at an offset.
    fn write(&self, number: u64, offset: u64, bytes: &[u8]) -> Result<(), Error>;

    /// Makes these files durable, in this order, and with `names` also which files there are. Waits for the disk.
    fn sync(&self, numbers: &[u64], names: bool) -> Result<(), Error>;

    /// Removes a file, and makes that durable: first the last note, then the removal. Waits for the disk.
    fn remove(&self, number: u64) -> Result<(), Error>;

    /// Records beside the files how far they are durable. The record itself need not be durable before a file is removed.
    fn note(&self, position: u64) -> Result<(), Error>;

    /// The position that was recorded last, or one recorded before; `None` if there is none.
    fn noted(&self) -> Result<Option<u64>, Error>;
}
