//! Quotas: how many requests and bytes a token may cost a node.

/// A quota that refills over time: a token bucket that holds what a second brings. A cost that is known only afterwards may
/// bring it below zero; nothing is permitted then until it is refilled.
#[derive(Clone, Debug)]
pub struct Quota {
    per_s: i64,
    /// In thousandths: what a millisecond brings.
    left: i64,
    at_ms: u64,
}

/// The highest rate, far above what a node can serve: a thousandfold of it fits into an `i64`.
const PER_S_MAX: i64 = 1 << 50;

impl Quota {
    /// A full one; `None` for 0, which is no bound.
    pub fn new(per_s: u64, now_ms: u64) -> Option<Self> {
        let per_s = i64::try_from(per_s).map_or(PER_S_MAX, |per_s| per_s.min(PER_S_MAX));
        (per_s > 0).then_some(Self { per_s, left: per_s * 1000, at_ms: now_ms })
    }

    /// Whether something is permitted now; otherwise the milliseconds until it is.
    pub fn check(&mut self, now_ms: u64) -> Result<(), u64> {
        let passed_ms = i64::try_from(now_ms.saturating_sub(self.at_ms)).unwrap_or(i64::MAX);
        self.at_ms = now_ms;
        self.left = self.left.saturating_add(self.per_s.saturating_mul(passed_ms)).min(self.per_s * 1000);
        if self.left > 0 { Ok(()) } else { Err(self.left.unsigned_abs() / self.per_s.unsigned_abs() + 1) }
    }

    /// Takes a cost.
    pub fn charge(&mut self, cost: u64) {
        self.left = self.left.saturating_sub(i64::try_from(cost).unwrap_or(i64::MAX).saturating_mul(1000));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_permitted_than_the_rate_and_one_second_of_it() {
        assert!(Quota::new(0, 0).is_none());
        let mut quota = Quota::new(10, 1000).expect("a bound");
        let mut permitted = 0;
        for ms in 0..10_000 {
            if quota.check(1000 + ms).is_ok() {
                quota.charge(1);
                permitted += 1;
            }
        }
        assert!((109..=111).contains(&permitted), "{permitted}");
    }

    #[test]
    fn a_debt_is_waited_for() {
        let mut quota = Quota::new(1000, 0).expect("a bound");
        assert_eq!(quota.check(0), Ok(()));
        quota.charge(3000);
        let wait = quota.check(0).expect_err("in debt");
        assert!((2000..=2001).contains(&wait));
        assert!(quota.check(wait).is_ok());
        // A clock that goes back refills nothing.
        quota.charge(3000);
        assert!(quota.check(0).is_err());
    }

    #[test]
    fn no_number_overflows() {
        let mut quota = Quota::new(u64::MAX, 0).expect("a bound");
        quota.charge(u64::MAX);
        quota.charge(u64::MAX);
        assert!(quota.check(1).is_err());
        assert!(quota.check(u64::MAX).is_ok());
    }
}
