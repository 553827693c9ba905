//! Hybrid logical clocks (Kulkarni, Demirbas, Madappa, Avva, Leone, OPODIS 2014).

use std::fmt;

/// A timestamp: 48 bits of milliseconds since the Unix epoch, 16 bits of counter. It orders
/// concurrent versions of a register; nothing else depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc(pub u64);

impl Hlc {
    /// Wall-clock milliseconds since the Unix epoch.
    pub fn wall_ms(self) -> u64 {
        self.0 >> 16
    }

    /// The first timestamp of a millisecond. Times past the year 10889 count as that year.
    pub fn at(wall_ms: u64) -> Self {
        Self(wall_ms.min((1 << 48) - 1) << 16)
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.wall_ms(), self.0 & 0xffff)
    }
}
