//! Address blocks: nodes in one probably have the same operator.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{NodeId, NodeRecord};

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
            ("ip4", text) => Self::of_ip(text.parse::<Ipv4Addr>().ok()?.into()),
            ("ip6", text) => Self::of_ip(text.parse::<Ipv6Addr>().ok()?.into()),
            _ => None,
        }
    }

    fn of_ip(ip: IpAddr) -> Option<Self> {
        let ip = ip.to_canonical();
        let block = match ip {
            IpAddr::V4(ip) => Self::V4(*ip.octets().first_chunk()?),
            IpAddr::V6(ip) => Self::V6(*ip.octets().first_chunk()?),
        };
        (!ip.is_loopback()).then_some(block)
    }
}

/// The blocks of peers. Of a peer with a link it is that of the link's other end, whatever its record names: otherwise one
/// machine could name a block for each of its identities, and be all neighbours of a node.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    linked: BTreeMap<NodeId, Option<Block>>,
}

impl Blocks {
    /// Records a new link; `from`: the address of its other end, if it has one.
    pub fn linked(&mut self, peer: NodeId, from: Option<IpAddr>) {
        if let Some(ip) = from {
            self.linked.insert(peer, Block::of_ip(ip));
        }
    }

    /// Records the end of a link.
    pub fn unlinked(&mut self, peer: &NodeId) {
        self.linked.remove(peer);
    }

    /// The block of a peer.
    pub fn of(&self, record: &NodeRecord) -> Option<Block> {
        self.linked.get(&record.id).copied().unwrap_or_else(|| Block::of(record))
    }

    /// How many of `records` are in the same block as `record`; 0 if that has none.
    pub fn count<'a>(&self, record: &NodeRecord, records: impl Iterator<Item = &'a NodeRecord>) -> usize {
        let Some(block) = self.of(record) else { return 0 };
        records.filter(|other| self.of(other) == Some(block)).count()
    }
}
