//! A bound on the lines that each place of the program logs. Peers and clients cause lines, and some can cause any number of
//! them: a log must fill no disk, and the lines of other places must stay findable in it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata};
use tracing_subscriber::layer::{Context, Filter};

/// Lines of one place in a row. A guess: what happens to every peer of a node at once, each with a line, fits in.
const BURST: u32 = 100;
/// Time after which a place may log one line more.
const REFILL: Duration = Duration::from_secs(1);
/// Time between two reports of lines that were left out.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Leaves out the lines beyond the bound, and counts them. Clones share the counts. Lines that are only logged on request,
/// of the levels debug and trace, are not bounded.
#[derive(Clone, Debug, Default)]
pub struct LogLimit(Arc<Mutex<HashMap<Identifier, Place>>>);

/// A place of the program.
#[derive(Debug)]
struct Place {
    lines: Lines,
    /// Left out since the last report.
    left_out: u64,
    metadata: &'static Metadata<'static>,
}

/// The lines that a place may log.
#[derive(Debug)]
struct Lines {
    left: u32,
    refilled: Instant,
}

impl LogLimit {
    fn lock(&self) -> MutexGuard<'_, HashMap<Identifier, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a line of this place is logged at this time.
    fn admit(&self, metadata: &'static Metadata<'static>, now: Instant) -> bool {
        let mut places = self.lock();
        let new = || Place { lines: Lines { left: BURST, refilled: now }, left_out: 0, metadata };
        let place = places.entry(metadata.callsite()).or_insert_with(new);
        let is_admitted = place.lines.take(now);
        place.left_out += u64::from(!is_admitted);
        is_admitted
    }

    /// The places with lines that were left out since the last call, and how many.
    fn take_left_out(&self) -> Vec<(&'static Metadata<'static>, u64)> {
        let mut places = self.lock();
        let left_out = places.values_mut().filter(|place| place.left_out > 0);
        left_out.map(|place| (place.metadata, std::mem::take(&mut place.left_out))).collect()
    }

    /// Logs, now and then, which lines were left out. Never completes.
    pub async fn report(&self) {
        loop {
            tokio::time::sleep(REPORT_INTERVAL).await;
            for (metadata, count) in self.take_left_out() {
                let (module, line) = (metadata.target(), metadata.line().unwrap_or(0));
                tracing::warn!(module, line, count, "lines like the last ones of this place were not logged");
            }
        }
    }
}

impl Lines {
    /// Takes one line, if there is one.
    fn take(&mut self, now: Instant) -> bool {
        let refills = now.saturating_duration_since(self.refilled).as_secs() / REFILL.as_secs();
        if refills > 0 {
            self.left = self.left.saturating_add(u32::try_from(refills).unwrap_or(u32::MAX)).min(BURST);
            self.refilled = now;
        }
        let is_left = self.left > 0;
        self.left -= u32::from(is_left);
        is_left
    }
}

impl<S> Filter<S> for LogLimit {
    fn enabled(&self, _metadata: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _context: &Context<'_, S>) -> bool {
        *event.metadata().level() > Level::INFO || self.admit(event.metadata(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tracing_subscriber::filter::FilterExt;
    use tracing_subscriber::layer::{Layer, SubscriberExt};

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_place_that_logs_without_end_is_bounded_and_no_other_is_affected() {
        let (log, limit) = (Log::default(), LogLimit::default());
        let writer = log.clone();
        let filter = tracing_subscriber::EnvFilter::new("info").and(limit.clone());
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_filter(filter);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for n in 0..10_000 {
                tracing::warn!(n, "a peer is hostile");
            }
            tracing::info!("the leader is known");
        });
        let text = String::from_utf8(log.0.lock().expect("not poisoned").clone()).expect("text");
        let of = |part: &str| text.lines().filter(|line| line.contains(part)).count();
        // A slow machine may need some seconds for them.
        assert!((100..1_000).contains(&of("hostile")), "{} lines", of("hostile"));
        assert_eq!(of("the leader is known"), 1);
        let left_out: Vec<u64> = limit.take_left_out().into_iter().map(|(_, count)| count).collect();
        assert_eq!(left_out, [10_000 - of("hostile") as u64]);
        assert!(limit.take_left_out().is_empty(), "it was reported");
    }

    #[test]
    fn a_place_may_log_again_after_a_while() {
        let start = Instant::now();
        let mut lines = Lines { left: 1, refilled: start };
        assert!(lines.take(start) && !lines.take(start));
        assert!(lines.take(start + REFILL) && !lines.take(start + REFILL));
        let later = start + Duration::from_secs(1_000_000);
        assert_eq!((0..2 * BURST).filter(|_| lines.take(later)).count(), BURST as usize);
    }
}
