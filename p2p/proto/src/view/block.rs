//! Address blocks: nodes in one probably have the same operator.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::NodeRecord;

/// A /24 of IPv4 or a /48 of IPv6: about what one customer of a provider gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the prefixes")]
pub enum Block {
    V4([u8; 3]),
    V6([u8; 6]),
}

impl Block {
    /// The block of the record's first address. `None` for loopback and for names, which are not
    /// limited.
    pub fn of(record: &NodeRecord) -> Option<Self> {
        let mut parts = record.addresses.first()?.split('/').skip(1);
        match (parts.next()?, parts.next()?) {
            ("ip4", text) => {
                let ip: Ipv4Addr = text.parse().ok()?;
                let prefix = *ip.octets().first_chunk()?;
                (!ip.is_loopback()).then_some(Self::V4(prefix))
            }
            ("ip6", text) => {
                let ip: Ipv6Addr = text.parse().ok()?;
                let prefix = *ip.octets().first_chunk()?;
                (!ip.is_loopback()).then_some(Self::V6(prefix))
            }
            _ => None,
        }
    }

    /// How many of `records` are in the same block as `record`; 0 if that has none.
    pub(crate) fn count<'a>(record: &NodeRecord, records: impl Iterator<Item = &'a NodeRecord>) -> usize {
        let Some(block) = Self::of(record) else { return 0 };
        records.filter(|other| Self::of(other) == Some(block)).count()
    }
}
