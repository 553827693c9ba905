//! Files that are whole or absent after a crash.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Readable by the node's user only: these files contain the network's secret or its peers.
const MODE: u32 = 0o600;

/// Replaces the file in one step, synced: after a crash it is the old one or the new one.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&beside)?;
    // The mode given at opening applies only to a new file.
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // The rename is durable once the folder is synced.
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
