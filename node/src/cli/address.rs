//! Where a command finds its node if it is not given an address.

use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use starling_api::API_DEFAULT;
use starling_api::admin::SOCKET_FILE;
use starling_client::SocketPath;

use super::environment;
use super::failure::Failure;
use crate::config::default_data_dir;

/// The unix socket of the data directory that `up` uses by default, if a node listens there; else the default address.
pub fn default() -> Result<String, Failure> {
    let data_dir = environment::variable("STARLING_DATA_DIR")?.map_or_else(default_data_dir, PathBuf::from);
    let socket = data_dir.join(SOCKET_FILE);
    let address = socket.to_str().filter(|_| is_listening(&socket)).map(|socket| format!("unix:{socket}"));
    Ok(address.unwrap_or_else(|| API_DEFAULT.into()))
}

/// Whether a process listens on a unix socket and this one may connect. Does not wait.
fn is_listening(socket: &Path) -> bool {
    let connected = || -> std::io::Result<()> {
        let path = SocketPath::of(socket)?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        Ok(connect(&stream, &SocketAddrUnix::new(path.as_path())?)?)
    };
    // A queue of connections that is full belongs to a process, which may be busy.
    connected().map_or_else(|error| error.kind() == std::io::ErrorKind::WouldBlock, |()| true)
}
