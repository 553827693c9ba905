//! The queue of clients that wait for a lock or for leadership, laid out as in etcd's client package
//! `concurrency`: each client puts a key `name/<lease in hexadecimal>`, and the client whose key was created
//! first holds the lock. Clients of etcd and of Starling that use this layout wait in the same queue.

use crate::api::LeaseId;

/// The prefix of the keys of all clients in the queue with this name.
pub fn prefix(name: &[u8]) -> Vec<u8> {
    [name, b"/"].concat()
}

/// The key of the client that waits in the queue with this lease.
pub fn key(name: &[u8], lease: LeaseId) -> Vec<u8> {
    [name, b"/", hex(lease).as_bytes()].concat()
}

/// A lease's id in hexadecimal with its sign, as Go prints it, so that etcd's clients build the same key.
pub fn hex(lease: LeaseId) -> String {
    let sign = if lease < 0 { "-" } else { "" };
    format!("{sign}{:x}", lease.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_printed_as_go_does() {
        assert_eq!(hex(0x1234_abcd), "1234abcd");
        assert_eq!(hex(-0x1f), "-1f");
        assert_eq!(hex(i64::MIN), "-8000000000000000");
        assert_eq!(key(b"job", 0xab), b"job/ab");
        assert_eq!(prefix(b"job"), b"job/");
    }
}
