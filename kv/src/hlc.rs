//! The hybrid logical clock of a replica (Kulkarni, Demirbas, Madappa, Avva, Leone, OPODIS 2014).

use crate::Hlc;

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

    /// Observes a timestamp of another replica. One that is more than `ahead_ms_max` ahead of the wall clock does not
    /// advance this clock; then this returns `false`.
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
