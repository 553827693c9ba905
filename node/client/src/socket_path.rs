//! Paths of unix sockets.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bytes of a path in the address of a unix socket, with its end (unix(7)).
const PATH_BYTES_MAX: usize = 108;

/// A path under which the system finds a unix socket, however long its own path is: through the descriptor of its
/// directory where it is too long. Valid until it is dropped.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    _directory: Option<File>,
}

impl SocketPath {
    /// A path for the socket at `path`, which need not exist; its directory must.
    pub fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().as_bytes().len() < PATH_BYTES_MAX {
            return Ok(Self { path: path.to_owned(), _directory: None });
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidFilename.into());
        };
        let directory = File::open(parent)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
        Ok(Self { path, _directory: Some(directory) })
    }

    /// The path to bind or to connect to.
    pub fn as_path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_socket_is_found_however_long_its_path_is() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let directory = temporary.path().join("d".repeat(PATH_BYTES_MAX));
        std::fs::create_dir(&directory).expect("makes");
        for path in [temporary.path().join("s"), directory.join("s")] {
            let short = SocketPath::of(&path).expect("the directory exists");
            let _listener = UnixListener::bind(short.as_path()).expect("binds");
            let again = SocketPath::of(&path).expect("the directory exists");
            UnixStream::connect(again.as_path()).expect("connects");
        }
    }
}
