//! A unix socket, for processes of the node's own user.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::socket::BindError;

/// Only the user may connect.
const MODE: u32 = 0o600;

/// A bound unix socket that accepts nothing yet. Dropping it leaves the file, so that the socket of a node that was killed
/// and of one that stopped look alike.
#[derive(Debug)]
pub struct LocalSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl LocalSocket {
    /// Binds `path`, in a directory that must be the user's alone, and replaces the socket of an earlier process. `short` is
    /// a path to the same place that fits into the address of a socket.
    pub fn bind(path: &Path, short: &Path) -> Result<Self, BindError> {
        let bound = || -> io::Result<UnixListener> {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = UnixListener::bind(short)?;
            fs::set_permissions(path, Permissions::from_mode(MODE))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener =
            bound().map_err(|reason| BindError::System { address: path.display().to_string(), reason })?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The listener for the runtime of the calling task.
    pub(crate) fn into_tokio(self) -> io::Result<tokio::net::UnixListener> {
        tokio::net::UnixListener::from_std(self.listener)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_socket_is_the_users_alone_and_replaces_an_earlier_one() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let path = temporary.path().join("api.sock");
        drop(LocalSocket::bind(&path, &path).expect("binds"));
        UnixStream::connect(&path).expect_err("nothing listens");
        let _socket = LocalSocket::bind(&path, &path).expect("replaces it");
        UnixStream::connect(&path).expect("it listens");
        assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o777, MODE);
    }
}
