//! Which process opened a connection: the kernel knows. `/proc/net/tcp` names the inode of each socket,
//! and a process that holds it has it among its open files.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::Member;

/// The process among `processes` that dialed from `dialer` to `own`. `proc` is where the process file
/// system is mounted.
pub fn find(proc: &Path, dialer: SocketAddr, own: SocketAddr, processes: &[(Member, u32)]) -> Option<Member> {
    let table = fs::read_to_string(proc.join("net/tcp")).ok()?;
    let inode = inode(&table, dialer, own)?;
    let socket = format!("socket:[{inode}]");
    let holds = |pid: u32| {
        let files = fs::read_dir(proc.join(pid.to_string()).join("fd")).into_iter().flatten().flatten();
        files
            .filter_map(|file| fs::read_link(file.path()).ok())
            .any(|target| target.as_os_str() == socket.as_str())
    };
    processes.iter().find(|(_, pid)| holds(*pid)).map(|(member, _)| *member)
}

/// The inode of the socket with these ends. A socket that nobody holds any more has none.
fn inode(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let (local, remote) = (shown(local)?, shown(remote)?);
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let ends = (fields.next()?, fields.next()?);
        let inode = fields.nth(6)?.parse().ok()?;
        (ends == (local.as_str(), remote.as_str()) && inode != 0).then_some(inode)
    })
}

/// An address as the table shows it: the four bytes as one number of this machine's byte order.
fn shown(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port()))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_process_that_dialed_is_found_and_no_other() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let dialed = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (_accepted, peer) = listener.accept().expect("somebody dialed");
        let own = listener.local_addr().expect("bound");
        let us = (7, std::process::id());
        assert_eq!(find(Path::new("/proc"), peer, own, &[us]), Some(7));
        assert_eq!(find(Path::new("/proc"), peer, own, &[]), None);
        drop(dialed);
        assert_eq!(find(Path::new("/proc"), peer, own, &[us]), None);
    }
}
