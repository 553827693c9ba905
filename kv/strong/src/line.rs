//! The line of those who want a lock, or to lead, laid out as etcd's own clients do it (its package
//! `concurrency`): everybody puts a key `name/<lease in hexadecimal>`, and it is the turn of the one that
//! was created first. Whoever keeps to it stands in the same line.

use crate::api::LeaseId;

/// What the keys of all who wait in the line of this name begin with.
pub fn prefix(name: &[u8]) -> Vec<u8> {
    [name, b"/"].concat()
}

/// The key of whoever waits there with this lease.
pub fn key(name: &[u8], lease: LeaseId) -> Vec<u8> {
    [name, b"/", hex(lease).as_bytes()].concat()
}

/// A lease as Go prints it, sign and all: other clients build the same key.
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
    }
}
