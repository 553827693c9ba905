//! Peers that sent invalid messages, and how long they are banned.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use starling_proto::NodeId;

/// Points at which a peer is disconnected and banned.
const POINTS_MAX: u32 = 100;
/// How long a peer is banned. A guess: long enough that repeated offences cost little, short enough for an operator
/// who has repaired the peer.
const BAN: Duration = Duration::from_secs(60);
/// Time after which one point is removed.
const FORGIVEN_EVERY: Duration = Duration::from_secs(1);
/// Offenders remembered, at most; the one whose last offence is oldest is evicted.
const OFFENDERS_MAX: usize = 1024;

#[derive(Debug)]
struct Offender {
    points: u32,
    last: Instant,
    banned_until: Option<Instant>,
}

/// The offences of peers. A peer may come back with another key, but not without the secret.
#[derive(Debug, Default)]
pub(crate) struct Offenders(HashMap<NodeId, Offender>);

impl Offenders {
    /// Adds points. Returns `true` if the peer is to be disconnected now.
    pub(crate) fn add(&mut self, peer: NodeId, points: u32, now: Instant) -> bool {
        if !self.0.contains_key(&peer) && self.0.len() == OFFENDERS_MAX {
            let oldest = self.0.iter().min_by_key(|(_, offender)| offender.last).map(|(peer, _)| *peer);
            oldest.and_then(|peer| self.0.remove(&peer));
        }
        let offender = self.0.entry(peer).or_insert(Offender { points: 0, last: now, banned_until: None });
        let forgiven = now.duration_since(offender.last).as_secs() / FORGIVEN_EVERY.as_secs();
        offender.points =
            offender.points.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX)) + points;
        offender.last = now;
        let is_cut_off = offender.points >= POINTS_MAX;
        if is_cut_off {
            offender.points = 0;
            offender.banned_until = Some(now + BAN);
        }
        is_cut_off
    }

    /// Whether the peer is banned.
    pub(crate) fn is_banned(&self, peer: &NodeId, now: Instant) -> bool {
        self.0.get(peer).and_then(|offender| offender.banned_until).is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_add_up_are_forgiven_and_a_ban_ends() {
        let (mut offenders, peer, start) = (Offenders::default(), NodeId([1; 32]), Instant::now());
        assert!(!offenders.add(peer, 60, start));
        assert!(!offenders.add(peer, 60, start + Duration::from_secs(30)), "30 points are forgiven");
        let cut_off = start + Duration::from_secs(31);
        assert!(offenders.add(peer, 60, cut_off));
        assert!(offenders.is_banned(&peer, cut_off + BAN / 2));
        assert!(!offenders.is_banned(&peer, cut_off + BAN));
        assert!(!offenders.add(peer, 60, cut_off + BAN), "it starts anew");
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_is_forgotten() {
        let (mut offenders, start) = (Offenders::default(), Instant::now());
        for i in 0..=OFFENDERS_MAX {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&(i as u64).to_be_bytes());
            assert!(offenders.add(NodeId(id), POINTS_MAX, start + Duration::from_millis(i as u64)));
        }
        assert_eq!(offenders.0.len(), OFFENDERS_MAX);
        assert!(!offenders.is_banned(&NodeId([0; 32]), start));
    }
}
