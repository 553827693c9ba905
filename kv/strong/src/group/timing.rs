//! When a group does something by itself: ticks and elections.
//!
//! Raft's own election timer is not used: it draws from a global generator. A member counts the time
//! without a word of a leader itself, in ticks that were carried out, so that a process that stood still
//! does not take its own absence for the leader's.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// Between two ticks, and between two heartbeats of a leader, milliseconds. All groups of a node tick at
/// the same instants, so what they say to one peer travels in one frame.
pub const TICK_MS: u64 = 125;
/// A leader that has not heard of a majority for so many ticks steps down.
pub const QUORUM_TICKS: usize = 10;
/// Without a word of the leader for so long, a member lets others be elected, milliseconds. Four
/// heartbeats: a stall of a busy machine is shorter.
pub const LEASE_MS: u64 = 500;
/// It then waits as long again as drawn from this many milliseconds, and campaigns. The first of two
/// followers campaigns after a third of it on average, well before a second has passed.
const ELECTION_SPREAD_MS: u64 = 400;
/// The same once an election failed: candidates have met, and only have to get out of each other's way.
const RETRY_MS: std::ops::Range<u64> = 100..400;
/// The same once the link to the leader broke: the leader is most likely gone. Longer than an election
/// takes, for the sake of the others to whom it broke at the same time.
const HINTED_MS: std::ops::Range<u64> = 10..100;
/// The time from one look at the clock to the next counts for so long at most, milliseconds: beyond
/// that, this process stood still.
const COUNTED_MS_MAX: u64 = 2 * TICK_MS;

/// The clock of one member.
pub struct Timing {
    rng: ChaCha12Rng,
    /// The next tick.
    tick_at: u64,
    /// Time without a leader, counted up to `counted_at`.
    quiet_ms: u64,
    counted_at: u64,
    /// The time without a leader after which this member campaigns.
    patience_ms: u64,
    /// It campaigns then, unless a leader is heard of before.
    hinted_at: Option<u64>,
}

impl Timing {
    pub fn new(seed: [u8; 32], now_ms: u64) -> Self {
        let mut timing = Self {
            rng: ChaCha12Rng::from_seed(seed),
            tick_at: next_tick(now_ms),
            quiet_ms: 0,
            counted_at: now_ms,
            patience_ms: 0,
            hinted_at: None,
        };
        timing.patience_ms = timing.draw(LEASE_MS..LEASE_MS + ELECTION_SPREAD_MS);
        timing
    }

    fn draw(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.rng.next_u64() % (range.end - range.start)
    }

    /// A leader was heard of, or a vote was given.
    pub fn heard(&mut self, now_ms: u64) {
        self.quiet_ms = 0;
        self.counted_at = now_ms;
        self.hinted_at = None;
    }

    /// A leader of a new term is known.
    pub fn settled(&mut self, now_ms: u64) {
        self.heard(now_ms);
        self.patience_ms = self.draw(LEASE_MS..LEASE_MS + ELECTION_SPREAD_MS);
    }

    /// This member campaigns; if nothing comes of it, it does so again.
    pub fn campaigned(&mut self, now_ms: u64) {
        self.heard(now_ms);
        self.patience_ms = self.draw(RETRY_MS);
    }

    /// The link to the leader broke.
    pub fn hint(&mut self, now_ms: u64) {
        self.quiet_ms = self.quiet_ms.max(LEASE_MS);
        if self.hinted_at.is_none() {
            self.hinted_at = Some(now_ms + self.draw(HINTED_MS));
        }
    }

    /// Whether another may be elected as far as this member is concerned.
    pub fn is_lease_over(&self) -> bool {
        self.quiet_ms >= LEASE_MS
    }

    /// Time has passed; whether a tick is due, which then counts as carried out.
    pub fn pass(&mut self, now_ms: u64) -> bool {
        self.quiet_ms += now_ms.saturating_sub(self.counted_at).min(COUNTED_MS_MAX);
        self.counted_at = now_ms;
        let is_due = now_ms >= self.tick_at;
        if is_due {
            self.tick_at = next_tick(now_ms);
        }
        is_due
    }

    /// Whether it is time to campaign.
    pub fn is_election_due(&self, now_ms: u64) -> bool {
        self.quiet_ms >= self.patience_ms || self.hinted_at.is_some_and(|at| at <= now_ms)
    }

    /// When to look again; a leader only ticks.
    pub fn next(&self, is_leader: bool) -> u64 {
        if is_leader {
            return self.tick_at;
        }
        let impatient = self.counted_at + self.patience_ms.saturating_sub(self.quiet_ms);
        self.hinted_at.map_or(impatient, |at| at.min(impatient)).min(self.tick_at)
    }
}

/// The same instants for all groups of a node.
fn next_tick(now_ms: u64) -> u64 {
    (now_ms / TICK_MS + 1) * TICK_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_stood_still_does_not_campaign_at_once() {
        let mut timing = Timing::new([1; 32], 0);
        assert!(timing.pass(60_000));
        assert!(!timing.is_lease_over());
        assert!(!timing.is_election_due(60_000));
    }

    #[test]
    fn silence_ends_the_lease_and_then_the_patience() {
        let mut timing = Timing::new([1; 32], 0);
        let (mut over, mut due) = (None, None);
        for now in (TICK_MS..2000).step_by(TICK_MS as usize) {
            assert!(timing.pass(now));
            over = over.or(timing.is_lease_over().then_some(now));
            due = due.or(timing.is_election_due(now).then_some(now));
        }
        assert_eq!(over, Some(LEASE_MS));
        assert!(due.is_some_and(|due| (LEASE_MS..=LEASE_MS + ELECTION_SPREAD_MS).contains(&due)));
    }

    #[test]
    fn a_broken_link_shortens_the_wait_and_a_heartbeat_ends_it() {
        let mut timing = Timing::new([1; 32], 0);
        timing.hint(50);
        assert!(timing.is_lease_over());
        assert!(timing.is_election_due(50 + HINTED_MS.end));
        timing.heard(60);
        assert!(!timing.is_election_due(50 + HINTED_MS.end));
    }
}
