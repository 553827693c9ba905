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

/// A replica's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    last: Hlc,
}

impl Clock {
    /// A timestamp later than every one given or observed before.
    pub fn tick(&mut self, wall_ms: u64) -> Hlc {
        self.last = Hlc::at(wall_ms).max(Hlc(self.last.0.saturating_add(1)));
        self.last
    }

    /// Learns of a timestamp of another replica. One that is more than `ahead_ms_max` ahead of the
    /// wall clock does not move this clock; then the answer is false.
    pub fn observe(&mut self, other: Hlc, wall_ms: u64, ahead_ms_max: u64) -> bool {
        let near = other.wall_ms() <= wall_ms.saturating_add(ahead_ms_max);
        #[cfg(planted)]
        let near = near || starling_planted::on(starling_planted::Bug::FutureTimestampBelieved);
        #[cfg(planted)]
        let near = near && !starling_planted::on(starling_planted::Bug::ClockNotAdvanced);
        if near {
            self.last = self.last.max(other);
        }
        near
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_rise_even_when_the_wall_clock_falls() {
        let mut clock = Clock::default();
        let first = clock.tick(1_000);
        let second = clock.tick(900);
        assert!(second > first);
        assert_eq!(second.wall_ms(), 1_000);
    }

    #[test]
    fn a_future_timestamp_does_not_move_the_clock() {
        let mut clock = Clock::default();
        assert!(!clock.observe(Hlc::at(100_000), 1_000, 60_000));
        assert_eq!(clock.tick(1_000).wall_ms(), 1_000);
        assert!(clock.observe(Hlc::at(61_000), 1_000, 60_000));
        assert_eq!(clock.tick(1_000).wall_ms(), 61_000);
    }
}
