//! Availability as clients saw it: failures are outages of one client, counted and timed.
//!
//! ```text
//! client   ok  ok  FAIL  FAIL  ok  ok  FAIL | the end
//!                  |<- down ->|        |down|
//!          |<------------ observed -------->|
//! ```
//!
//! An outage lasts from the beginning of a client's first failed operation to the end of its next successful one. One that is
//! still open when the client ends counts as a failure too, down until the end of its last operation. Of one kind of
//! operation, over all clients: MTBF = observed time / failures, MTTR = time down / failures, MTTF = MTBF - MTTR, and
//! availability = MTTF / (MTTF + MTTR), which is the share of the observed time that was not down.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The row over all kinds of operations.
pub const EVERY_OPERATION: &str = "every operation";

/// How available one kind of operation was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Availability {
    /// Which kind, or [`EVERY_OPERATION`].
    pub operation: String,
    /// Clients that used it.
    pub clients: u64,
    /// Operations.
    pub operations: u64,
    /// Operations that failed.
    pub failed: u64,
    /// Outages.
    pub failures: u64,
    /// Outages that were not over when their client ended.
    pub open: u64,
    /// Time for which clients were observed, added up, milliseconds.
    pub observed_ms: f64,
    /// Time in outages, added up, milliseconds.
    pub down_ms: f64,
    /// The longest outage, milliseconds.
    pub longest_ms: f64,
}

impl Availability {
    /// The share of the observed time that was not in an outage; 1 if nothing was observed.
    pub fn share(&self) -> f64 {
        if self.observed_ms > 0.0 { 1.0 - self.down_ms / self.observed_ms } else { 1.0 }
    }

    /// Time not in an outage, milliseconds.
    pub fn uptime_ms(&self) -> f64 {
        self.observed_ms - self.down_ms
    }

    /// The number of nines: 3 is 99.9 %. None without an outage: then it is not known.
    pub fn nines(&self) -> Option<f64> {
        self.per_failure(self.down_ms).map(|_| -(self.down_ms / self.observed_ms).log10())
    }

    /// Mean time to failure, milliseconds; none without a failure.
    pub fn mttf_ms(&self) -> Option<f64> {
        self.per_failure(self.uptime_ms())
    }

    /// Mean time to recovery, milliseconds; none without a failure.
    pub fn mttr_ms(&self) -> Option<f64> {
        self.per_failure(self.down_ms)
    }

    /// Mean time between failures, milliseconds; none without a failure.
    pub fn mtbf_ms(&self) -> Option<f64> {
        self.per_failure(self.observed_ms)
    }

    fn per_failure(&self, ms: f64) -> Option<f64> {
        (self.failures > 0).then(|| ms / self.failures as f64)
    }
}

/// What clients did, counted as it ends. Times are microseconds of one clock.
#[derive(Clone, Debug, Default)]
pub struct Availabilities {
    /// By kind of operation and client.
    kinds: BTreeMap<(&'static str, usize), Track>,
    /// By client, over all kinds.
    all: BTreeMap<usize, Track>,
}

/// One client's operations.
#[derive(Clone, Copy, Debug, Default)]
struct Track {
    operations: u64,
    failed: u64,
    first_us: Option<u64>,
    last_us: u64,
    succeeded_us: u64,
    down_since_us: Option<u64>,
    outages: u64,
    down_us: u64,
    longest_us: u64,
}

impl Track {
    fn note(&mut self, start_us: u64, end_us: u64, succeeded: bool) {
        self.operations += 1;
        self.first_us = Some(self.first_us.map_or(start_us, |first| first.min(start_us)));
        self.last_us = self.last_us.max(end_us);
        if succeeded {
            self.succeeded_us = self.succeeded_us.max(end_us);
            if let Some(since_us) = self.down_since_us.take() {
                self.outage(since_us, end_us);
            }
        } else {
            self.failed += 1;
            // One that began before another one succeeded says nothing of the time before that success.
            let since_us = start_us.max(self.succeeded_us);
            self.down_since_us = Some(self.down_since_us.map_or(since_us, |known| known.min(since_us)));
        }
    }

    fn outage(&mut self, since_us: u64, until_us: u64) {
        let lasted_us = until_us.saturating_sub(since_us);
        self.outages += 1;
        self.down_us += lasted_us;
        self.longest_us = self.longest_us.max(lasted_us);
    }

    /// Adds this client to the availability of a kind of operation.
    fn add_to(mut self, sum: &mut Availability) {
        let Some(first_us) = self.first_us else { return };
        if let Some(since_us) = self.down_since_us.take() {
            self.outage(since_us, self.last_us);
            sum.open += 1;
        }
        let ms = |us: u64| us as f64 / 1e3;
        sum.clients += 1;
        sum.operations += self.operations;
        sum.failed += self.failed;
        sum.failures += self.outages;
        sum.observed_ms += ms(self.last_us - first_us);
        sum.down_ms += ms(self.down_us);
        sum.longest_ms = sum.longest_ms.max(ms(self.longest_us));
    }
}

impl Availabilities {
    /// Counts an operation of a client. Those of one client are counted in the order of their ends.
    pub fn note(
        &mut self,
        client: usize,
        operation: &'static str,
        [start_us, end_us]: [u64; 2],
        succeeded: bool,
    ) {
        for track in [self.kinds.entry((operation, client)).or_default(), self.all.entry(client).or_default()]
        {
            track.note(start_us, end_us, succeeded);
        }
    }

    /// The availability of each kind of operation, and that of every operation where there are several kinds.
    pub fn report(&self) -> Vec<Availability> {
        let mut found = self.kinds();
        if found.len() > 1 {
            let mut all = Availability { operation: EVERY_OPERATION.into(), ..Availability::default() };
            self.all.values().for_each(|track| track.add_to(&mut all));
            found.push(all);
        }
        found
    }

    /// The availability of each kind of operation.
    pub fn kinds(&self) -> Vec<Availability> {
        let mut found: Vec<Availability> = Vec::new();
        for ((operation, _), track) in &self.kinds {
            if found.last().is_none_or(|last| last.operation != *operation) {
                found.push(Availability { operation: (*operation).into(), ..Availability::default() });
            }
            if let Some(last) = found.last_mut() {
                track.add_to(last);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Operations of 1 s each, one a second, by one client; `.` succeeds, `x` fails.
    fn of(client: usize, story: &str, into: &mut Availabilities) {
        for (second, outcome) in (0u64..).zip(story.chars()) {
            into.note(client, "put", [second * 1_000_000, (second + 1) * 1_000_000], outcome == '.');
        }
    }

    fn one(story: &str) -> Availability {
        let mut all = Availabilities::default();
        of(1, story, &mut all);
        all.report().remove(0)
    }

    fn assert_close(found: Option<f64>, expected: f64) {
        assert!(found.is_some_and(|found| (found - expected).abs() < 1e-9), "{found:?}, not {expected}");
    }

    #[test]
    fn an_outage_is_from_the_first_failed_operation_to_the_end_of_the_next_success() {
        let found = one("..xx....x.");
        assert_eq!((found.operations, found.failed, found.failures, found.open), (10, 3, 2, 0));
        // 2 to 5 s and 8 to 10 s, of 10.
        assert_close(Some(found.down_ms), 5_000.0);
        assert_close(Some(found.longest_ms), 3_000.0);
        assert_close(Some(found.share()), 0.5);
        assert_close(found.mttr_ms(), 2_500.0);
        assert_close(found.mttf_ms(), 2_500.0);
        assert_close(found.mtbf_ms(), 5_000.0);
        assert_close(found.nines(), 0.5f64.log10().abs());
    }

    #[test]
    fn without_a_failure_only_the_share_is_known() {
        let found = one("....");
        assert_eq!((found.failures, found.share().to_bits()), (0, 1.0f64.to_bits()));
        assert_eq!(
            (found.mttf_ms(), found.mttr_ms(), found.mtbf_ms(), found.nines()),
            (None, None, None, None)
        );
    }

    #[test]
    fn an_outage_that_is_open_at_the_end_counts_until_then() {
        let found = one("..xx");
        assert_eq!((found.failures, found.open), (1, 1));
        assert_close(Some(found.share()), 0.5);
        assert_close(Some(one("xx").share()), 0.0);
    }

    #[test]
    fn clients_have_outages_of_their_own() {
        let mut all = Availabilities::default();
        of(1, "x.........", &mut all);
        of(2, "..........", &mut all);
        let found = all.report().remove(0);
        assert_eq!((found.clients, found.failures), (2, 1));
        assert_close(Some(found.share()), 0.9);
    }

    #[test]
    fn one_kind_may_fail_while_another_one_serves_and_a_client_is_down_for_neither() {
        let mut all = Availabilities::default();
        for second in 0..10u64 {
            let at = [second * 1_000_000, second * 1_000_000 + 500_000];
            all.note(1, "get", at, true);
            all.note(1, "put", at, second >= 5);
        }
        let [get, put, every] = all.report().try_into().expect("two kinds and their sum");
        assert_eq!((get.failures, put.failures, every.operation.as_str()), (0, 1, EVERY_OPERATION));
        // Over all kinds each failed put is followed by a get: five outages of up to 1 s.
        assert_eq!(every.failures, 5);
        assert!(every.share() > put.share(), "{every:?} {put:?}");
    }

    #[test]
    fn a_failure_that_began_before_a_success_counts_from_that_success() {
        let mut all = Availabilities::default();
        all.note(1, "put", [0, 4_000], true);
        all.note(1, "put", [1_000, 6_000], false);
        all.note(1, "put", [7_000, 8_000], true);
        assert_close(Some(all.report()[0].down_ms), 4.0);
    }

    proptest! {
        #[test]
        fn times_add_up(story in prop::collection::vec(any::<bool>(), 1..60)) {
            let text: String = story.iter().map(|ok| if *ok { '.' } else { 'x' }).collect();
            let found = one(&text);
            // By hand: every second of a failed operation, and that of the success that ends an outage.
            let down = story.iter().enumerate().filter(|(i, ok)| !**ok || *i > 0 && !story[i - 1]).count();
            prop_assert!((found.down_ms - 1e3 * down as f64).abs() < 1e-6);
            prop_assert!((found.uptime_ms() + found.down_ms - 1e3 * story.len() as f64).abs() < 1e-6);
            let outages = story.iter().enumerate().filter(|(i, ok)| !**ok && (*i == 0 || story[i - 1])).count();
            prop_assert_eq!(found.failures, outages as u64);
            if let (Some(mttf), Some(mttr)) = (found.mttf_ms(), found.mttr_ms()) {
                prop_assert!((found.share() - mttf / (mttf + mttr)).abs() < 1e-9);
            }
        }
    }
}
