//! The timers of a group: ticks and elections.
//!
//! raft-rs's election timer is not used, because it draws from a global generator. A member measures the time
//! without a message from a leader itself, and counts at most [`COUNTED_MS_MAX`] from one input to the next, so
//! that a process that was suspended does not take its own absence for the leader's.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// Time between two ticks, and between two heartbeats of a leader, milliseconds. All groups of a node tick at the
/// same instants, so that their messages to one peer share one frame.
pub const TICK_MS: u64 = 125;
/// Ticks without messages from a majority after which a leader steps down.
pub const QUORUM_TICKS: usize = 10;
/// Time without a message from the leader after which a member may vote for another one, milliseconds. Four
/// heartbeats: a stall of a busy machine is shorter.
pub const LEASE_MS: u64 = 500;
/// Upper bound of the random time between the end of [`LEASE_MS`] and a campaign, milliseconds. The first of two
/// followers campaigns after a third of it on average, well within a second of the leader's last message.
const ELECTION_SPREAD_MS: u64 = 400;
/// Time without a message from the leader after which a member campaigns, milliseconds, at most.
pub const ELECTION_MS_MAX: u64 = LEASE_MS + ELECTION_SPREAD_MS;
/// Random time between two campaigns of a candidate, milliseconds. It only has to keep candidates apart that have
/// split the votes.
const RETRY_MS: std::ops::Range<u64> = 100..400;
/// Random time between the loss of the link to the leader and a campaign, milliseconds: the leader has most likely
/// failed. The range is longer than an election takes, because other followers lose their links at the same time.
const HINTED_MS: std::ops::Range<u64> = 10..100;
/// The longest time from one input to the next that counts as time without a leader, milliseconds. After a longer
/// one, this process was suspended.
const COUNTED_MS_MAX: u64 = 2 * TICK_MS;

/// The timers of one member.
pub struct Timing {
    rng: ChaCha12Rng,
    /// When the next tick is due, milliseconds.
    tick_at: u64,
    /// Time without a leader, up to `counted_at`, milliseconds.
    quiet_ms: u64,
    counted_at: u64,
    /// The time without a leader after which this member campaigns, milliseconds.
    patience_ms: u64,
    /// When this member campaigns after the loss of its link to the leader, milliseconds.
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
        timing.patience_ms = timing.draw(LEASE_MS..ELECTION_MS_MAX);
        timing
    }

    fn draw(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.rng.next_u64() % (range.end - range.start)
    }

    /// Restarts the wait for a leader: this member received a leader's message, or granted its vote.
    pub fn heard(&mut self, now_ms: u64) {
        self.quiet_ms = 0;
        self.counted_at = now_ms;
        self.hinted_at = None;
    }

    /// Restarts the wait after the election of a leader.
    pub fn leader_elected(&mut self, now_ms: u64) {
        self.heard(now_ms);
        self.patience_ms = self.draw(LEASE_MS..ELECTION_MS_MAX);
    }

    /// Restarts the wait when this member campaigns: if it is not elected, it campaigns again.
    pub fn campaigned(&mut self, now_ms: u64) {
        self.heard(now_ms);
        self.patience_ms = self.draw(RETRY_MS);
    }

    /// Shortens the wait: the link to the leader broke.
    pub fn hint(&mut self, now_ms: u64) {
        self.quiet_ms = self.quiet_ms.max(LEASE_MS);
        if self.hinted_at.is_none() {
            self.hinted_at = Some(now_ms + self.draw(HINTED_MS));
        }
    }

    /// Whether this member may vote for another leader.
    pub fn is_lease_over(&self) -> bool {
        self.quiet_ms >= LEASE_MS
    }

    /// Advances the time. Returns whether a tick was due, and schedules the next one.
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

    /// When the next timer is due, milliseconds. A leader has ticks only.
    pub fn next(&self, is_leader: bool) -> u64 {
        if is_leader {
            return self.tick_at;
        }
        let impatient = self.counted_at + self.patience_ms.saturating_sub(self.quiet_ms);
        self.hinted_at.map_or(impatient, |at| at.min(impatient)).min(self.tick_at)
    }
}

/// The first tick after `now_ms`, at the same instants for all groups of a node.
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
