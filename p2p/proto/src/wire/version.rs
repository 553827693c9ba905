//! Versions of the protocol, and their negotiation between two nodes.
//!
//! A version fixes, for every kind of message, the layout of its body (`kinds.rs`). A release that
//! changes a layout or adds a kind raises [`Protocol::CURRENT`]`.max` and keeps the encoders of the
//! versions down to `min`; a feature bit announces what a node can do beyond its version.

use std::fmt;

use bincode::{Decode, Encode};

/// The protocol of one node: every version from `min` to `max`, and optional features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Protocol {
    /// The oldest version.
    pub min: u8,
    /// The newest version, at least `min`.
    pub max: u8,
    /// Optional abilities.
    pub features: Features,
}

/// Optional abilities, one bit each. Both sides use those that both have. Bits without a meaning here
/// are kept as received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Features(pub u64);

/// The protocol that two connected nodes have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The highest version that both speak.
    pub version: u8,
    /// The features that both have.
    pub features: Features,
}

impl Protocol {
    /// The protocol of this program.
    ///
    /// | version | what it changed |
    /// |---|---|
    /// | 1 | never released: frames carry no kind |
    /// | 2 | kinds and their versions; labels |
    /// | 3 | a crawl's description contains the capabilities of the node's software |
    /// | 4 | sessions compare digests of groups of actors |
    /// | 5 | certificates of nodes, and the statements of an authority, in the handshake and in messages |
    pub const CURRENT: Self = Self { min: 2, max: 5, features: Features(0) };

    /// The first version whose handshake has papers.
    pub const SHOWS_PAPERS: u8 = 5;

    /// [`Protocol::CURRENT`] without its newest version: that of a node of the previous release.
    /// For tests of rolling upgrades.
    pub const PREVIOUS: Self = Self { max: Self::CURRENT.max - 1, ..Self::CURRENT };

    /// The protocol that two nodes agree on; `None` if they have no version in common.
    pub fn negotiate(self, other: Self) -> Option<Negotiated> {
        let version = self.max.min(other.max);
        let features = Features(self.features.0 & other.features.0);
        (version >= self.min.max(other.min)).then_some(Negotiated { version, features })
    }
}

impl Default for Protocol {
    fn default() -> Self {
        Self::CURRENT
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "version {}", self.min)
        } else {
            write!(f, "versions {} to {}", self.min, self.max)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_and_the_common_features_are_spoken() {
        let speaks = |min, max, features| Protocol { min, max, features: Features(features) };
        let agreed = |version, features| Some(Negotiated { version, features: Features(features) });
        for (a, b, expected) in [
            (speaks(2, 3, 0b11), speaks(2, 3, 0b110), agreed(3, 0b10)),
            (speaks(2, 3, 0), speaks(2, 2, 0b1), agreed(2, 0)),
            (speaks(2, 3, 0), speaks(3, 9, 0), agreed(3, 0)),
            (speaks(2, 3, 0), speaks(4, 9, 0), None),
            (speaks(1, 1, 0), speaks(2, 3, 0), None),
        ] {
            assert_eq!(a.negotiate(b), expected, "{a}, {b}");
            assert_eq!(b.negotiate(a), expected, "{b}, {a}");
        }
    }
}
