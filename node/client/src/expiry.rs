//! The earliest time at which a lease may end, as its owner computes it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since this machine started, its sleep included: leases run while the machine sleeps.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Shortest pause after an attempt that failed. An estimate.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The time of a lease. The keyspace restarts it when a keep-alive arrives; the owner counts from when it sent the
/// keep-alive, so the lease ends for the owner too early, never too late.
#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    ttl: Duration,
    ends: Duration,
    next: Duration,
}

impl Expiry {
    /// The time of a lease whose grant was sent at `sent` and that lasts for `ttl`.
    pub fn new(sent: Duration, ttl: Duration) -> Self {
        Self { ttl, ends: sent + ttl, next: sent + ttl / 3 }
    }

    /// Handles the acknowledgement of a keep-alive that was sent at `sent`.
    pub fn renewed(&mut self, sent: Duration, ttl: Duration) {
        *self = Self::new(sent, ttl);
    }

    /// Handles the failure of a keep-alive: the next one comes sooner.
    pub fn failed(&mut self, now: Duration) {
        self.next = now + (self.ttl / 20).max(PAUSE_MIN);
    }

    /// Time before the next keep-alive; never beyond the end.
    pub fn pause(&self, now: Duration) -> Duration {
        self.next.min(self.ends).saturating_sub(now)
    }

    /// Time that is left; `None`: the lease has ended.
    pub fn left(&self, now: Duration) -> Option<Duration> {
        self.ends.checked_sub(now).filter(|left| !left.is_zero())
    }

    /// How long one keep-alive may take, so that there is time for another.
    pub fn attempt(&self, now: Duration) -> Option<Duration> {
        self.left(now).map(|left| left.min((self.ttl / 3).max(PAUSE_MIN)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_ends_a_whole_ttl_after_the_last_sign_of_life_was_sent() {
        let mut expiry = Expiry::new(ms(1_000), ms(9_000));
        assert_eq!(expiry.left(ms(9_999)), Some(ms(1)));
        assert_eq!(expiry.left(ms(10_000)), None);
        // Sent at 4 s, answered at 8 s: it counts from 4 s.
        expiry.renewed(ms(4_000), ms(9_000));
        assert_eq!(expiry.left(ms(8_000)), Some(ms(5_000)));
        assert_eq!(expiry.left(ms(13_000)), None);
        // An answer to what was sent before a long sleep changes nothing.
        expiry.renewed(ms(5_000), ms(9_000));
        assert_eq!(expiry.left(ms(60_000)), None);
    }

    #[test]
    fn it_is_kept_alive_three_times_a_ttl_and_more_often_in_need() {
        let mut expiry = Expiry::new(ms(0), ms(9_000));
        assert_eq!(expiry.pause(ms(0)), ms(3_000));
        assert_eq!(expiry.attempt(ms(3_000)), Some(ms(3_000)));
        expiry.failed(ms(4_000));
        assert_eq!(expiry.pause(ms(4_000)), ms(450));
        // Nothing is waited for beyond the end.
        expiry.failed(ms(8_900));
        assert_eq!((expiry.pause(ms(8_900)), expiry.attempt(ms(8_900))), (ms(100), Some(ms(100))));
        assert_eq!((expiry.pause(ms(9_500)), expiry.attempt(ms(9_500))), (ms(0), None));
    }

    #[test]
    fn the_clock_goes_forward() {
        let before = now();
        assert!(before > Duration::ZERO && now() >= before);
    }
}
