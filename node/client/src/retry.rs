//! When and how often a request is sent again.

use std::time::{Duration, Instant};

use starling_api::{Error, ErrorCode, Retry};

/// The policy of a client. A request is retried, at the next node if there are several, only if it is known to have
/// changed nothing or has the same effect twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Time since the first attempt after which none begins; 0: a request is sent once.
    pub deadline: Duration,
    /// The first pause. Each further one is twice as long, and half of each is drawn at random.
    pub pause: Duration,
    /// The longest pause.
    pub pause_max: Duration,
}

impl Default for Retries {
    /// Estimates: a pause of a few round trips, and a deadline beyond the election of a new leader.
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            pause: Duration::from_millis(50),
            pause_max: Duration::from_secs(2),
        }
    }
}

impl Retries {
    /// A request is sent once.
    pub const NONE: Self =
        Self { deadline: Duration::ZERO, pause: Duration::ZERO, pause_max: Duration::ZERO };
}

/// The attempts of one request.
#[derive(Debug)]
pub struct Attempts {
    policy: Retries,
    began: Instant,
    pause: Duration,
}

impl Attempts {
    /// The state before the first attempt.
    pub fn new(policy: Retries) -> Self {
        Self { policy, began: Instant::now(), pause: policy.pause }
    }

    /// The pause before the next attempt; `None`: the error is final. `sent` says whether the request may have
    /// reached the node.
    pub fn after(&mut self, error: &Error, sent: bool, idempotent: bool) -> Option<Duration> {
        let safe = match error.retry() {
            Retry::Never => false,
            Retry::Safe => true,
            Retry::IfIdempotent => idempotent || (error.code == ErrorCode::Unreachable && !sent),
        };
        let pause = self.pause.mul_f64(0.5 + rand::random::<f64>() / 2.0);
        if !safe || self.began.elapsed() + pause >= self.policy.deadline {
            return None;
        }
        self.pause = (self.pause * 2).min(self.policy.pause_max);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retried(code: ErrorCode, sent: bool, idempotent: bool) -> bool {
        let error = Error::new(code, "", "");
        Attempts::new(Retries::default()).after(&error, sent, idempotent).is_some()
    }

    #[test]
    fn only_what_is_safe_is_sent_again() {
        assert!(retried(ErrorCode::NotReady, true, false), "nothing was changed");
        assert!(!retried(ErrorCode::OutcomeUnknown, true, false));
        assert!(retried(ErrorCode::OutcomeUnknown, true, true));
        assert!(retried(ErrorCode::Unreachable, false, false), "it was never sent");
        assert!(!retried(ErrorCode::Unreachable, true, false));
        assert!(!retried(ErrorCode::Invalid, true, true));
    }

    #[test]
    fn pauses_grow_within_bounds_and_end_with_the_deadline() {
        let error = Error::new(ErrorCode::Timeout, "", "");
        let policy = Retries { pause_max: Duration::from_millis(200), ..Retries::default() };
        let mut attempts = Attempts::new(policy);
        for bound in [50, 100, 200, 200] {
            let pause = attempts.after(&error, true, false).expect("there is time");
            let bound = Duration::from_millis(bound);
            assert!(pause <= bound && pause >= bound / 2, "{pause:?}");
        }
        assert!(Attempts::new(Retries::NONE).after(&error, true, true).is_none());
    }
}
