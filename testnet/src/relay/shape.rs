//! When bytes that enter a path leave it.

use std::time::Duration;

use rand::{Rng, RngExt};
use tokio::time::Instant;

/// Payload of a packet on an Ethernet path with TCP's timestamps, bytes.
const PACKET_BYTES: usize = 1448;
/// A sender that got no acknowledgement and has nothing else to send repeats a packet after this time
/// at the earliest: Linux' minimum (RFC 6298 asks for a second).
const RETRANSMISSION_MIN: Duration = Duration::from_millis(200);

/// One direction between two processes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Conditions {
    /// How long a packet takes one way, at least.
    pub latency: Duration,
    /// It takes up to so much longer, drawn.
    pub jitter: Duration,
    /// Share of packets that are lost and sent again.
    pub loss: f64,
    /// Bytes per second; unlimited if none.
    pub bytes_per_s: Option<f64>,
    /// Nothing passes.
    pub cut: bool,
}

/// Order and timing of one direction of one connection.
#[derive(Debug, Default)]
pub(super) struct Path {
    /// When the line is free again.
    free: Option<Instant>,
    /// When the last byte so far arrives: none overtakes it.
    last: Option<Instant>,
}

impl Conditions {
    /// Draws how long a packet takes.
    pub(super) fn delay(&self, random: &mut impl Rng) -> Duration {
        let jitter = if self.jitter.is_zero() {
            self.jitter
        } else {
            random.random_range(Duration::ZERO..=self.jitter)
        };
        self.latency + jitter
    }
}

impl Path {
    /// When `bytes` that enter now have arrived.
    pub fn pass(&mut self, now: Instant, bytes: usize, how: &Conditions, random: &mut impl Rng) -> Instant {
        let sending =
            how.bytes_per_s.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(bytes as f64 / rate));
        let sent = self.free.map_or(now, |free| free.max(now)) + sending;
        self.free = Some(sent);
        let mut arrival = sent + how.delay(random);
        for _ in 0..bytes.div_ceil(PACKET_BYTES) {
            while random.random_bool(how.loss.clamp(0.0, 0.99)) {
                arrival += RETRANSMISSION_MIN.max(2 * how.latency);
            }
        }
        let arrival = self.last.map_or(arrival, |last| last.max(arrival));
        self.last = Some(arrival);
        arrival
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn conditions() -> impl Strategy<Value = Conditions> {
        let ms = |range: std::ops::Range<u64>| range.prop_map(Duration::from_millis);
        let rate = prop::option::of(1_000.0..1_000_000.0);
        (ms(0..100), ms(0..50), 0.0..0.5, rate).prop_map(|(latency, jitter, loss, bytes_per_s)| Conditions {
            latency,
            jitter,
            loss,
            bytes_per_s,
            cut: false,
        })
    }

    proptest! {
        #[test]
        fn nothing_overtakes_and_nothing_exceeds_the_rate(
            how in conditions(), sizes in prop::collection::vec((1usize..20_000, 0u64..50), 1..50), seed: u64,
        ) {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let (began, mut path) = (Instant::now(), Path::default());
            let (mut now, mut last, mut bytes) = (began, began, 0);
            for (size, pause_ms) in sizes {
                now += Duration::from_millis(pause_ms);
                let arrival = path.pass(now, size, &how, &mut random);
                bytes += size;
                prop_assert!(arrival >= last && arrival >= now + how.latency);
                if let Some(rate) = how.bytes_per_s {
                    let needed = Duration::from_secs_f64(bytes as f64 / rate);
                    prop_assert!(arrival - began + Duration::from_micros(1) >= needed);
                }
                last = arrival;
            }
        }
    }

    #[test]
    fn a_lost_packet_comes_a_retransmission_later() {
        let how = Conditions { latency: Duration::from_millis(20), loss: 0.3, ..Conditions::default() };
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let now = Instant::now();
        let late = (0..10_000).map(|_| Path::default().pass(now, 100, &how, &mut random) - now);
        let late: Vec<Duration> = late.collect();
        let on_time = late.iter().filter(|late| **late == Duration::from_millis(20)).count();
        // Five standard deviations of a binomial count.
        assert!(on_time.abs_diff(7_000) < 230, "{on_time} of 10,000 came at once, at 30 % loss");
        assert!(
            late.iter().all(|late| late.as_millis() % 200 == 20),
            "each loss costs 200 ms at this round trip"
        );
    }
}
