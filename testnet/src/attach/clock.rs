//! The offset of a node's wall clock from this machine's, from the Date fields of its answers (RFC 9110, section 6.6.1).
//!
//! Such a field has whole seconds. An answer of second D to a request sent at s and answered at r, by this machine's clock,
//! says that the node's clock showed D to D + 1 s at some instant between s and r, so
//!
//! ```text
//!     D - r  <  offset  <  D + 1 s - s
//! ```
//!
//! The bounds of several answers intersect. Each request is sent when the node's second is expected to turn by the middle of
//! the bounds, so each halves them, until they are as wide as the round trip (bisection; htpdate and Cristian 1989).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use starling_client::Client;
use starling_report::millis;
use tokio::time::{sleep, timeout};

/// Requests for one estimate: a second halves about ten times until it is a millisecond; some answers help less.
const REQUESTS: usize = 14;
/// Microseconds of a second.
const SECOND_US: i64 = 1_000_000;
/// A node must answer within this time.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// Bounds of an offset, microseconds; positive: the node's clock is ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    low_us: i64,
    high_us: i64,
    /// The shortest round trip of a request.
    rtt: Duration,
}

/// A request whose answer stated a second.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// When it was sent, microseconds of this machine's clock.
    pub sent_us: i64,
    /// When it was answered.
    pub received_us: i64,
    /// The second that the answer stated, of the node's clock.
    pub second: i64,
}

impl Estimate {
    /// What one answer says.
    pub fn of(Reading { sent_us, received_us, second }: Reading) -> Self {
        Self {
            low_us: second * SECOND_US - received_us,
            high_us: (second + 1) * SECOND_US - sent_us,
            rtt: Duration::from_micros(u64::try_from(received_us - sent_us).unwrap_or_default()),
        }
    }

    /// What this estimate and one more answer say together. If they contradict each other, a clock was set in between, and
    /// the answer alone counts.
    #[must_use]
    pub fn and(self, reading: Reading) -> Self {
        let one = Self::of(reading);
        let both = Self {
            low_us: self.low_us.max(one.low_us),
            high_us: self.high_us.min(one.high_us),
            rtt: self.rtt.min(one.rtt),
        };
        if both.low_us <= both.high_us { both } else { one }
    }

    /// The offset, milliseconds: the middle of the bounds.
    pub fn offset_ms(&self) -> f64 {
        (self.low_us + self.high_us) as f64 / 2e3
    }

    /// How far it may be from that, milliseconds.
    pub fn error_ms(&self) -> f64 {
        (self.high_us - self.low_us) as f64 / 2e3
    }

    /// The shortest round trip, milliseconds.
    pub fn rtt_ms(&self) -> f64 {
        millis(self.rtt)
    }

    /// Half of the shortest round trip: from this machine to the node, as far as both ways are equally long.
    pub fn one_way(&self) -> Duration {
        self.rtt / 2
    }

    /// How long to wait from now on, so that a request that is sent then arrives as the node's second turns, by the middle of
    /// the bounds.
    fn wait(&self, now_us: i64) -> Duration {
        let one_way_us = i64::try_from(self.one_way().as_micros()).unwrap_or_default();
        let there_us = now_us + i64::midpoint(self.low_us, self.high_us) + one_way_us;
        let wait_us = (-there_us).rem_euclid(SECOND_US);
        Duration::from_micros(wait_us.unsigned_abs())
    }
}

/// This machine's wall clock as it was at the beginning of a run, moved on by its monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Wall {
    began: Instant,
    began_us: i64,
}

impl Wall {
    /// The wall clock as it is.
    pub fn now() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { began: Instant::now(), began_us: i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX) }
    }

    fn us(&self) -> i64 {
        self.began_us + i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX)
    }
}

/// Estimates the offset of a node's clock: a request a second, a limited number in all. `note` is called with each better
/// estimate, so that an end ahead of time leaves the last one.
pub async fn estimate(client: &Client, wall: Wall, note: impl Fn(Estimate)) {
    let mut known: Option<Estimate> = None;
    for _ in 0..REQUESTS {
        if let Some(known) = &known {
            sleep(known.wait(wall.us())).await;
        }
        let sent_us = wall.us();
        let Ok(Ok(date)) = timeout(ANSWER_DEADLINE, client.date()).await else {
            sleep(ANSWER_DEADLINE).await;
            continue;
        };
        let received_us = wall.us();
        let second = date.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let reading = Reading { sent_us, received_us, second: i64::try_from(second).unwrap_or_default() };
        let better = known.map_or_else(|| Estimate::of(reading), |known| known.and(reading));
        known = Some(better);
        note(better);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_answer_bounds_the_offset_to_a_second_and_the_round_trip() {
        let one = Estimate::of(Reading { sent_us: 10_400_000, received_us: 10_420_000, second: 10 });
        assert_eq!((one.low_us, one.high_us, one.rtt), (-420_000, 600_000, Duration::from_millis(20)));
        assert_eq!(one.one_way(), Duration::from_millis(10));
    }

    #[test]
    fn a_clock_that_was_set_begins_a_new_estimate() {
        let early = Estimate::of(Reading { sent_us: 10_400_000, received_us: 10_420_000, second: 10 });
        let after = Reading { sent_us: 11_400_000, received_us: 11_420_000, second: 99 };
        assert_eq!(early.and(after), Estimate::of(after));
    }

    proptest! {
        #[test]
        fn the_bounds_hold_the_offset_and_shrink_to_the_round_trip(
            offset_us in -100_000_000i64..100_000_000,
            ways in prop::collection::vec((100i64..20_000, 100i64..20_000), 20),
            begin_us in 1_000_000_000i64..2_000_000_000,
        ) {
            let mut now_us = begin_us;
            let mut known: Option<Estimate> = None;
            for (there_us, back_us) in ways {
                now_us += known.map_or(0, |known| i64::try_from(known.wait(now_us).as_micros()).expect("small"));
                let sent_us = now_us;
                let second = (sent_us + there_us + offset_us).div_euclid(SECOND_US);
                now_us += there_us + back_us;
                let reading = Reading { sent_us, received_us: now_us, second };
                let better = known.map_or_else(|| Estimate::of(reading), |known| known.and(reading));
                prop_assert!(better.low_us <= offset_us && offset_us <= better.high_us, "{better:?}");
                known = Some(better);
            }
            let known = known.expect("there were answers");
            // The longest round trip is 40 ms; bisection of a second leaves far less than that beside it.
            prop_assert!(known.high_us - known.low_us <= 41_000, "{known:?}");
        }
    }
}
