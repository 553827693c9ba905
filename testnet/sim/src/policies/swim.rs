//! A baseline with a full view: infection-style dissemination and failure detection as in Das,
//! Gupta, Motivala, "SWIM: scalable weakly-consistent infection-style process group membership
//! protocol" (DSN 2002), and with the additions and defaults of memberlist, the library under Serf.
//!
//! Every member knows all others. Once per protocol period it pings a random one; an update rides on
//! pings and on their acks, a limited number of times per member. Memberlist also sends updates by
//! themselves, at a shorter interval. A member that answers neither a ping nor indirect pings is
//! suspected; the suspicion is an update, which the suspect refutes with another one when it hears
//! of it, and which becomes a confirmed failure where it is not refuted in time.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::calendar::Calendar;
use super::{Estimate, Links};

/// Parameters of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Protocol {
    /// Protocol period: each member pings one other per period.
    pub period_ms: u64,
    /// Members asked for an indirect ping.
    pub indirect: u32,
    /// Interval of messages that carry updates only; none: updates ride on pings and acks alone.
    pub gossip_ms: Option<u64>,
    /// Members that such a message is sent to.
    pub gossip_nodes: u32,
    /// Of the logarithm of the number of members, in the next two.
    pub base: f64,
    /// An update is sent this many times the logarithm, rounded up, by each member.
    pub retransmit_multiplier: u32,
    /// A suspect has this many periods, times the logarithm, to refute.
    pub suspicion_multiplier: f64,
}

impl Protocol {
    /// The paper: nothing but pings. It leaves the factor of the logarithm open (λ, of which the
    /// share of members that an update misses is n^-(2λ-2)), as well as the suspicion's time; 3 for
    /// both is a guess. The period is memberlist's, for comparison.
    pub fn paper() -> Self {
        Self {
            period_ms: 1000,
            indirect: 3,
            gossip_ms: None,
            gossip_nodes: 0,
            base: std::f64::consts::E,
            retransmit_multiplier: 3,
            suspicion_multiplier: 3.0,
        }
    }

    /// Memberlist's `DefaultLANConfig` (config.go, util.go), which Serf uses: probe interval 1 s, 3
    /// indirect checks, gossip to 3 nodes every 200 ms, retransmit multiplier 4 and suspicion
    /// multiplier 4, both with decimal logarithms. Without its synchronization of full states every
    /// 30 s, and without Lifeguard's longer timeouts.
    pub fn serf() -> Self {
        Self {
            gossip_ms: Some(200),
            gossip_nodes: 3,
            base: 10.0,
            retransmit_multiplier: 4,
            suspicion_multiplier: 4.0,
            ..Self::paper()
        }
    }

    /// How often each member sends an update.
    pub fn retransmits(&self, members: usize) -> u32 {
        let reaches = |power: &u32| self.base.powf(f64::from(*power)) >= members as f64 + 1.0;
        self.retransmit_multiplier * (1..=u64::BITS).find(reaches).unwrap_or(u64::BITS)
    }

    /// How long a suspect has to refute.
    pub fn suspicion(&self, members: usize) -> Duration {
        let log = (members as f64).log(self.base).max(1.0);
        Duration::from_millis(self.period_ms).mul_f64(self.suspicion_multiplier * log)
    }
}

/// Where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Network {
    /// Members, at least 3.
    pub members: usize,
    /// What datagrams go through.
    #[serde(flatten)]
    pub links: Links,
}

/// What became of one update.
#[derive(Clone, Debug, Default)]
pub struct Spread {
    /// When each member learned it, microseconds, ascending; the origin at 0.
    pub arrivals_us: Vec<u64>,
    /// Times it was received.
    pub copies: u64,
    /// The most datagrams that it came over, one after the other.
    pub hops_max: u16,
    /// Members that held a refuted suspicion longer than the suspect had time to refute.
    pub expired: u64,
}

/// What members say about a suspect; of two updates the higher one counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Update {
    Nothing,
    /// Any update; of a suspicion: "it does not answer".
    News,
    /// "I am alive."
    Refutation,
}

#[derive(Clone, Copy)]
struct Member {
    update: Update,
    /// Times left to send it.
    budget: u32,
    hops: u16,
    /// When it learned the news.
    since_us: u64,
}

enum Event {
    Probe(u32),
    Gossip(u32),
    Ping { from: u32, to: u32, cargo: Cargo },
    Datagram { to: u32, cargo: Cargo },
}

/// What a datagram carries.
#[derive(Clone, Copy)]
struct Cargo {
    update: Update,
    hops: u16,
}

struct Infection<'a> {
    protocol: &'a Protocol,
    network: &'a Network,
    rng: &'a mut ChaCha8Rng,
    now_us: u64,
    members: Vec<Member>,
    /// Members with an update still to send, and datagrams under way that carry one.
    active: usize,
    /// The member that the news is about, if it can refute.
    suspect: Option<usize>,
    events: Calendar<Event>,
    spread: Spread,
}

/// Spreads an update of a random member until nobody has to send it any more.
pub fn spread(protocol: &Protocol, network: &Network, rng: &mut ChaCha8Rng) -> Spread {
    Infection::new(protocol, network, None, rng).run(0)
}

/// Spreads a suspicion of a member that lives, and its refutation.
pub fn refute(protocol: &Protocol, network: &Network, rng: &mut ChaCha8Rng) -> Spread {
    Infection::new(protocol, network, Some(0), rng).run(1)
}

impl<'a> Infection<'a> {
    fn new(
        protocol: &'a Protocol,
        network: &'a Network,
        suspect: Option<usize>,
        rng: &'a mut ChaCha8Rng,
    ) -> Self {
        let member = Member { update: Update::Nothing, budget: 0, hops: 0, since_us: 0 };
        let mut infection = Self {
            protocol,
            network,
            rng,
            now_us: 0,
            members: vec![member; network.members],
            active: 0,
            suspect,
            events: Calendar::new(),
            spread: Spread::default(),
        };
        for member in 0..network.members as u32 {
            let phase = infection.rng.random_range(0..protocol.period_ms * 1000);
            infection.events.push(phase, Event::Probe(member));
            if let Some(gossip_ms) = protocol.gossip_ms {
                let phase = infection.rng.random_range(0..gossip_ms * 1000);
                infection.events.push(phase, Event::Gossip(member));
            }
        }
        infection
    }

    fn run(mut self, origin: usize) -> Spread {
        self.learn(origin, Cargo { update: Update::News, hops: 0 });
        while self.active > 0
            && let Some((at_us, event)) = self.events.pop()
        {
            self.now_us = at_us;
            match event {
                Event::Probe(member) => self.probe(member),
                Event::Gossip(member) => self.gossip(member),
                Event::Ping { from, to, cargo } => {
                    self.receive(to, cargo);
                    let cargo = self.cargo(to);
                    self.send(Event::Datagram { to: from, cargo }, cargo);
                }
                Event::Datagram { to, cargo } => self.receive(to, cargo),
            }
        }
        let expired = |m: &&Member| m.update == Update::News;
        if self.suspect.is_some() {
            self.spread.expired += self.members.iter().filter(expired).count() as u64;
        }
        self.spread
    }

    fn probe(&mut self, member: u32) {
        let cargo = self.cargo(member);
        let to = self.other(member);
        self.send(Event::Ping { from: member, to, cargo }, cargo);
        self.events.push(self.now_us + self.protocol.period_ms * 1000, Event::Probe(member));
    }

    fn gossip(&mut self, member: u32) {
        let Some(gossip_ms) = self.protocol.gossip_ms else { return };
        for _ in 0..self.protocol.gossip_nodes {
            let cargo = self.cargo(member);
            if cargo.update > Update::Nothing {
                let to = self.other(member);
                self.send(Event::Datagram { to, cargo }, cargo);
            }
        }
        self.events.push(self.now_us + gossip_ms * 1000, Event::Gossip(member));
    }

    fn other(&mut self, member: u32) -> u32 {
        let other = self.rng.random_range(0..self.network.members as u32 - 1);
        other + u32::from(other >= member)
    }

    /// What a member's next datagram carries.
    fn cargo(&mut self, member: u32) -> Cargo {
        let member = &mut self.members[member as usize];
        if member.budget == 0 {
            return Cargo { update: Update::Nothing, hops: 0 };
        }
        member.budget -= 1;
        self.active -= usize::from(member.budget == 0);
        Cargo { update: member.update, hops: member.hops + 1 }
    }

    fn send(&mut self, event: Event, cargo: Cargo) {
        let Some(delay_us) = self.network.links.draw_us(self.rng) else { return };
        self.active += usize::from(cargo.update > Update::Nothing);
        self.events.push(self.now_us + delay_us, event);
    }

    fn receive(&mut self, to: u32, cargo: Cargo) {
        if cargo.update == Update::Nothing {
            return;
        }
        self.active -= 1;
        self.spread.copies += 1;
        if cargo.update > self.members[to as usize].update {
            self.learn(to as usize, cargo);
        }
    }

    fn learn(&mut self, member: usize, mut cargo: Cargo) {
        if self.suspect == Some(member) {
            cargo.update = Update::Refutation;
        }
        let budget = self.protocol.retransmits(self.network.members);
        let known = &mut self.members[member];
        self.active += usize::from(known.budget == 0);
        let suspected = known.update == Update::News;
        let patience = self.protocol.suspicion(self.network.members);
        if suspected && Duration::from_micros(self.now_us - known.since_us) > patience {
            self.spread.expired += 1;
        }
        *known = Member { update: cargo.update, budget, hops: cargo.hops, since_us: self.now_us };
        if !suspected {
            self.spread.arrivals_us.push(self.now_us);
        }
        self.spread.hops_max = self.spread.hops_max.max(cargo.hops);
    }
}

/// How long a failure takes to be noticed, in protocol periods from the failure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Detection {
    /// Until the first ping of the failed member, where members are drawn at random (section 3): the
    /// paper expects e / (e - 1).
    pub random: Estimate,
    /// The same where each member goes through a shuffled list (section 4.3).
    pub in_turn: Estimate,
}

/// Fails a member, `trials` times.
pub fn detect(members: usize, trials: u32, rng: &mut ChaCha8Rng) -> Detection {
    let mut first = |draw: fn(&mut ChaCha8Rng, usize) -> f64| {
        Estimate::of((0..trials).map(|_| {
            let turns = (1..members).map(|_| draw(rng, members - 1));
            turns.fold(f64::INFINITY, f64::min).floor() + 1.0
        }))
    };
    // A member's turn to ping the failed one, counted in its own periods. Periods are aligned with
    // the failure, as in the paper's analysis.
    let random = first(|rng, others| {
        let missed: f64 = rng.random();
        (1.0 - missed).ln() / (1.0 - 1.0 / others as f64).ln()
    });
    let in_turn = first(|rng, others| rng.random_range(0..others) as f64);
    Detection { random, in_turn }
}

/// The chance that one probe of a live member ends in a suspicion: the ping or its ack is lost, and
/// so is one of the four datagrams of each indirect ping.
pub fn false_suspicion(protocol: &Protocol, loss: f64) -> f64 {
    let arrives = 1.0 - loss;
    (1.0 - arrives.powi(2)) * (1.0 - arrives.powi(4)).powf(f64::from(protocol.indirect))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn network(loss: f64) -> Network {
        Network { members: 500, links: Links { latency_min_ms: 10, latency_max_ms: 50, loss } }
    }

    #[test]
    fn every_member_sends_an_update_as_often_as_it_may_and_no_more() {
        for protocol in [Protocol::paper(), Protocol::serf()] {
            for seed in 0..5 {
                let spread = spread(&protocol, &network(0.0), &mut ChaCha8Rng::seed_from_u64(seed));
                let reached = spread.arrivals_us.len() as u64;
                assert_eq!(spread.copies, reached * u64::from(protocol.retransmits(500)));
                assert_eq!(reached, 500, "nobody is left out at this number of retransmissions");
                assert!(spread.arrivals_us.is_sorted());
            }
        }
    }

    #[test]
    fn logarithms_are_rounded_as_memberlist_rounds_them() {
        let times = |members| Protocol::serf().retransmits(members);
        assert_eq!([times(9), times(10), times(999), times(1000)], [4, 8, 12, 16]);
        assert_eq!(Protocol::serf().suspicion(1000).as_millis(), 12_000);
    }

    #[test]
    fn equal_seeds_spread_equally() {
        let arrivals =
            |seed| spread(&Protocol::serf(), &network(0.1), &mut ChaCha8Rng::seed_from_u64(seed)).arrivals_us;
        assert_eq!(arrivals(7), arrivals(7));
        assert_ne!(arrivals(7), arrivals(8));
    }

    #[test]
    fn the_first_ping_of_a_failed_member_comes_when_the_paper_says() {
        let members = 1000;
        let detection = detect(members, 1000, &mut ChaCha8Rng::seed_from_u64(1));
        let others = members as f64 - 1.0;
        let expected = 1.0 / (1.0 - (1.0 - 1.0 / others).powf(others));
        let Estimate { mean, error } = detection.random;
        assert!((mean - expected).abs() <= 4.0 * error, "{mean} ± {error}, expected {expected}");
    }

    #[test]
    fn a_suspect_refutes_in_time_and_not_when_there_is_no_time() {
        let hasty = Protocol { suspicion_multiplier: 0.02, ..Protocol::serf() };
        let expired = |protocol: &Protocol| -> u64 {
            let run = |seed| refute(protocol, &network(0.05), &mut ChaCha8Rng::seed_from_u64(seed)).expired;
            (0..10).map(run).sum()
        };
        assert_eq!(expired(&Protocol::serf()), 0);
        assert!(expired(&hasty) > 0);
    }
}
