//! What a synced write takes on this disk: no acknowledged write can take less.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::time::Instant;

use starling_report::{median, millis};

use crate::error::{Error, Result};

/// Writes that are timed.
const WRITES: usize = 200;
/// Bytes of each: a key, a value and what a log keeps beside them.
const BYTES: usize = 150;

/// Writes to a file in this folder, syncing its data each time; the median, milliseconds. The file has its
/// length before, as logs that are laid out ahead do: growing costs the file system more than the data.
pub fn write_ms(folder: &Path) -> Result<f64> {
    let path = folder.join("synced");
    let mut file = File::create(&path).map_err(Error::io(&path))?;
    let laid_out = file.write_all(&vec![0; WRITES * BYTES]).and_then(|()| file.sync_all());
    laid_out.and_then(|()| file.rewind()).map_err(Error::io(&path))?;
    let mut times = Vec::new();
    for _ in 0..WRITES {
        let began = Instant::now();
        file.write_all(&[b'v'; BYTES]).and_then(|()| file.sync_data()).map_err(Error::io(&path))?;
        times.push(millis(began.elapsed()));
    }
    std::fs::remove_file(&path).map_err(Error::io(&path))?;
    Ok(median(times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_behind() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(write_ms(folder.path()).expect("writable") > 0.0);
        assert_eq!(std::fs::read_dir(folder.path()).expect("ours").count(), 0);
    }
}
