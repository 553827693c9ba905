//! Peers that sent invalid messages, and how long they are banned.
//!
//! A key costs nothing, so a ban of a key alone ends with the next one: while a ban lasts, nobody who is not known as a member
//! is admitted from its host. Each further ban at a host lasts twice as long. Members behind the same address stay admitted.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    time::{Duration, Instant},
};

use starling_proto::NodeId;

use crate::admission::{Host, host};

/// Points at which a peer is disconnected and banned.
const POINTS_MAX: u32 = 100;
/// How long a peer is banned. A guess: long enough that repeated offences cost little, short enough for an operator
/// who has repaired the peer.
const BAN: Duration = Duration::from_secs(60);
/// How long strangers from a host are refused, at most. A guess.
const HOST_BAN_MAX: Duration = Duration::from_secs(3600);
/// Banned peers that are shown, at most.
const SHOWN_MAX: usize = 16;
/// Time after which one point is removed.
const FORGIVEN_EVERY: Duration = Duration::from_secs(1);
/// Offenders and hosts remembered, at most of each; the one whose last offence is oldest is evicted.
const OFFENDERS_MAX: usize = 1024;

#[derive(Debug)]
struct Offender {
    points: u32,
    last: Instant,
    ban: Option<Ban>,
}

#[derive(Debug)]
struct Ban {
    until: Instant,
    from: Option<IpAddr>,
    what: String,
}

/// A peer that was disconnected for misbehaviour, and is refused for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanReport {
    /// Its id.
    pub peer: NodeId,
    /// Where it was connected from.
    pub from: Option<IpAddr>,
    /// What it sent, for people.
    pub what: String,
    /// For how long it is still refused.
    pub left: Duration,
}

/// A host from which peers were banned.
#[derive(Debug)]
struct BannedHost {
    last: Instant,
    length: Duration,
}

impl BannedHost {
    fn until(&self) -> Instant {
        self.last + self.length
    }
}

/// The offences of peers.
#[derive(Debug, Default)]
pub(crate) struct Offenders {
    nodes: HashMap<NodeId, Offender>,
    hosts: HashMap<Host, BannedHost>,
}

impl Offenders {
    /// Adds points to a peer that is connected from an address. Returns `true` if it is to be disconnected now.
    pub(crate) fn add(
        &mut self,
        peer: NodeId,
        from: Option<IpAddr>,
        (points, what): (u32, &str),
        now: Instant,
    ) -> bool {
        make_room(&mut self.nodes, &peer, |offender| offender.last);
        let offender = self.nodes.entry(peer).or_insert(Offender { points: 0, last: now, ban: None });
        let forgiven = now.duration_since(offender.last).as_secs() / FORGIVEN_EVERY.as_secs();
        offender.points =
            offender.points.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX)) + points;
        offender.last = now;
        let is_cut_off = offender.points >= POINTS_MAX;
        if is_cut_off {
            offender.points = 0;
            offender.ban = Some(Ban { until: now + BAN, from, what: what.to_owned() });
            if let Some(from) = from {
                self.ban_host(host(from), now);
            }
        }
        is_cut_off
    }

    fn ban_host(&mut self, host: Host, now: Instant) {
        let length = match self.hosts.get(&host) {
            Some(before) if now < before.until() + HOST_BAN_MAX => (before.length * 2).min(HOST_BAN_MAX),
            // Without another ban for the longest time, it starts anew.
            _ => BAN,
        };
        make_room(&mut self.hosts, &host, |banned| banned.last);
        self.hosts.insert(host, BannedHost { last: now, length });
    }

    /// Whether the peer is banned.
    pub(crate) fn is_banned(&self, peer: &NodeId, now: Instant) -> bool {
        self.nodes.get(peer).and_then(|offender| offender.ban.as_ref()).is_some_and(|ban| now < ban.until)
    }

    /// Those that were banned last.
    pub(crate) fn banned(&self, now: Instant) -> Vec<BanReport> {
        let bans = self.nodes.iter().filter_map(|(peer, offender)| Some((*peer, offender.ban.as_ref()?)));
        let shown = |(peer, Ban { until, from, what }): (NodeId, &Ban)| {
            let left = until.checked_duration_since(now).filter(|left| !left.is_zero())?;
            Some(BanReport { peer, from: *from, what: what.clone(), left })
        };
        let mut banned: Vec<BanReport> = bans.filter_map(shown).collect();
        banned.sort_by_key(|it| (std::cmp::Reverse(it.left), it.peer));
        banned.truncate(SHOWN_MAX);
        banned
    }

    /// Whether nobody is admitted from this address who is not known as a member.
    pub(crate) fn refuses_strangers(&self, from: IpAddr, now: Instant) -> bool {
        self.hosts.get(&host(from)).is_some_and(|banned| now < banned.until())
    }
}

/// Makes room for a key that is not in a full map: the entry that is oldest goes.
fn make_room<K: Copy + Eq + Hash, V>(map: &mut HashMap<K, V>, key: &K, time: impl Fn(&V) -> Instant) {
    if !map.contains_key(key) && map.len() == OFFENDERS_MAX {
        let oldest = map.iter().min_by_key(|(_, value)| time(value)).map(|(key, _)| *key);
        oldest.and_then(|key| map.remove(&key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_add_up_are_forgiven_and_a_ban_ends() {
        let (mut offenders, peer, start) = (Offenders::default(), NodeId([1; 32]), Instant::now());
        assert!(!offenders.add(peer, None, (60, "lies"), start));
        assert!(
            !offenders.add(peer, None, (60, "lies"), start + Duration::from_secs(30)),
            "30 points are forgiven"
        );
        let cut_off = start + Duration::from_secs(31);
        assert!(offenders.add(peer, None, (60, "lies"), cut_off));
        assert!(offenders.is_banned(&peer, cut_off + BAN / 2));
        let shown = BanReport { peer, from: None, what: "lies".into(), left: BAN / 2 };
        assert_eq!(offenders.banned(cut_off + BAN / 2), [shown]);
        assert!(offenders.banned(cut_off + BAN).is_empty());
        assert!(!offenders.is_banned(&peer, cut_off + BAN));
        assert!(!offenders.add(peer, None, (60, "lies"), cut_off + BAN), "it starts anew");
    }

    #[test]
    fn a_host_is_refused_longer_with_each_ban_and_no_other_is() {
        let (mut offenders, start) = (Offenders::default(), Instant::now());
        let (from, neighbor) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let mut ban = |n, at| assert!(offenders.add(NodeId([n; 32]), Some(from), (POINTS_MAX, "lies"), at));
        ban(1, start);
        ban(2, start + BAN / 2);
        assert!(offenders.refuses_strangers(from, start + BAN * 2));
        assert!(!offenders.refuses_strangers(from, start + BAN * 3));
        assert!(!offenders.refuses_strangers(neighbor, start));
        for n in 3..40 {
            assert!(offenders.add(NodeId([n; 32]), Some(from), (POINTS_MAX, "lies"), start + BAN));
        }
        assert!(!offenders.refuses_strangers(from, start + BAN + HOST_BAN_MAX));
        let later = start + HOST_BAN_MAX * 3;
        assert!(offenders.add(NodeId([1; 32]), Some(from), (POINTS_MAX, "lies"), later));
        assert!(!offenders.refuses_strangers(from, later + BAN), "it starts anew");
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_is_forgotten() {
        let (mut offenders, start) = (Offenders::default(), Instant::now());
        for i in 0..=OFFENDERS_MAX {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&(i as u64).to_be_bytes());
            assert!(offenders.add(
                NodeId(id),
                None,
                (POINTS_MAX, "lies"),
                start + Duration::from_millis(i as u64)
            ));
        }
        assert_eq!(offenders.nodes.len(), OFFENDERS_MAX);
        assert_eq!(offenders.banned(start).len(), SHOWN_MAX);
        assert!(!offenders.is_banned(&NodeId([0; 32]), start));
    }
}
