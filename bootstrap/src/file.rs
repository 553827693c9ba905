//! Files that are whole or absent after a crash.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Readable by the node's user only: these files contain the network's secret or its peers.
const MODE: u32 = 0o600;

/// Replaces the file in one step, synced: after a crash it is the old one or the new one. Only the node's user can read it,
/// and no link leads elsewhere: neither one under its name, nor one under that of the file that is renamed to it.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = create(&beside)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // The rename is durable once the folder is synced.
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Creates a file that only the node's user can read, in the place of what a crash may have left.
fn create(path: &Path) -> io::Result<fs::File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn links_are_replaced_and_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let [path, beside, victim] = ["secret", "secret.new", "victim"].map(|name| dir.path().join(name));
        fs::write(&victim, "untouched").expect("writes");
        for link in [&path, &beside] {
            symlink(&victim, link).expect("links");
        }
        replace(&path, b"contents").expect("writes");
        assert_eq!(fs::read_to_string(&victim).expect("reads"), "untouched");
        assert_eq!(fs::read_to_string(&path).expect("reads"), "contents");
        let metadata = fs::symlink_metadata(&path).expect("is there");
        assert!(metadata.is_file() && metadata.permissions().mode() & 0o777 == MODE);
        assert!(!beside.exists());
    }
}
