//! Epidemics of Demers et al., "Epidemic algorithms for replicated database maintenance" (PODC
//! 1987; Xerox CSL-89-1): one rumor among sites that each know all others.
//!
//! What the paper leaves open is fixed here as it has to be for the paper's tables to come out:
//!
//! - Cycles are synchronous: who knows the rumor, and who spreads it, is judged as of the beginning
//!   of the cycle. Of two sites that push to one susceptible site in a cycle, both were needed.
//! - A site never calls itself.
//! - *Counter*: a site loses interest after `k` useless cycles in a row. A cycle in which one of its
//!   contacts was needed sets the counter back to zero, a cycle in which it had contacts and none was
//!   needed adds one, however many they were, and a cycle without contact leaves it. (A site that
//!   pushes has one contact per cycle; one that is pulled from may have many.)
//! - *Coin*: in place of the counter, interest is lost with probability `1 / k` at each useless cycle.
//! - *Blind*: every cycle with a contact is useless.
//! - Who pushes calls only while it spreads the rumor. Who pulls calls in every cycle: there are
//!   other rumors to ask for.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// Which way a rumor travels over a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the caller.
    Push,
    /// To the caller.
    Pull,
    /// Both ways; two sites that spread the rumor send it to each other.
    PushPull,
}

/// What counts as a useless contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// One with a site that knew the rumor.
    Feedback,
    /// Every one.
    Blind,
}

/// When a site stops spreading the rumor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Interest {
    /// After so many useless cycles in a row.
    Counter(u32),
    /// With one chance in so many at each useless cycle.
    Coin(u32),
    /// Never: anti-entropy. The epidemic ends when every site knows the rumor.
    Forever,
}

/// How the paper is read where it leaves its semantics open. The others are there to show that they
/// do not give its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// As above: what gives the paper's tables.
    Reproduces,
    /// A contact is judged when it happens, one after the other within a cycle.
    InTurn,
    /// A needed contact does not set the counter back to zero.
    NoReset,
    /// Every useless contact counts, not every useless cycle.
    PerContact,
}

/// An epidemic algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Variant {
    /// Which way rumors travel.
    pub direction: Direction,
    /// What is useless.
    pub judgement: Judgement,
    /// How interest is lost.
    pub interest: Interest,
    /// Of two spreading sites in a useless contact only the one with the smaller counter counts it,
    /// or both if they are equal (the paper's minimization; for push-pull with counters).
    pub minimization: bool,
    /// Calls that a site answers per cycle; none: all.
    pub connections_max: Option<u32>,
    /// Further sites that a rejected caller tries within the cycle (the paper's hunting).
    pub hunts_max: u32,
    /// How the paper is read.
    pub reading: Reading,
}

impl Variant {
    /// With feedback, without minimization, and without limits on connections.
    pub fn new(direction: Direction, interest: Interest) -> Self {
        Self {
            direction,
            judgement: Judgement::Feedback,
            interest,
            minimization: false,
            connections_max: None,
            hunts_max: 0,
            reading: Reading::Reproduces,
        }
    }
}

/// What one epidemic did.
#[derive(Clone, Debug, Default)]
pub struct Epidemic {
    sites: usize,
    /// `arrivals[t]` sites learned the rumor in cycle t; the origin knew it at 0.
    arrivals: Vec<u64>,
    /// Times that the rumor was sent.
    pub sent: u64,
    /// Calls that were rejected, each try counted.
    pub rejected: u64,
    /// Cycles until nobody spread the rumor any more, or everybody knew it if interest is forever.
    pub cycles: u64,
}

impl Epidemic {
    /// Share of the sites that never learned the rumor: the paper's s.
    pub fn residue(&self) -> f64 {
        1.0 - self.arrivals.iter().sum::<u64>() as f64 / self.sites as f64
    }

    /// Times that the rumor was sent, per site: the paper's m.
    pub fn traffic(&self) -> f64 {
        self.sent as f64 / self.sites as f64
    }

    /// Mean cycle in which a site learned the rumor, over those that did after the origin.
    pub fn delay_mean(&self) -> f64 {
        let learned: u64 = self.arrivals.iter().skip(1).sum();
        let sum: u64 = self.arrivals.iter().zip(0_u64..).map(|(sites, cycle)| sites * cycle).sum();
        sum as f64 / learned.max(1) as f64
    }

    /// Cycle in which the last site learned it.
    pub fn delay_last(&self) -> f64 {
        self.arrivals.iter().rposition(|sites| *sites > 0).unwrap_or(0) as f64
    }

    /// Share of the sites that did not know the rumor after each cycle.
    pub fn susceptible(&self) -> Vec<f64> {
        let mut left = self.sites as f64;
        let after = |sites: &u64| {
            left -= *sites as f64;
            left / self.sites as f64
        };
        self.arrivals.iter().map(after).collect()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Susceptible,
    Spreading,
    Removed,
}

/// What a spreading site met in a cycle.
#[derive(Clone, Copy, Default)]
struct Contacts {
    needed: bool,
    useless: u32,
}

struct Sites<'a> {
    variant: &'a Variant,
    rng: &'a mut ChaCha8Rng,
    states: Vec<State>,
    counters: Vec<u32>,
    spreading: Vec<u32>,
    /// Of this cycle.
    contacts: Vec<Contacts>,
    answered: Vec<u32>,
    learned: Vec<u32>,
    callers: Vec<u32>,
    epidemic: Epidemic,
}

/// Spreads one rumor from one site among `sites` (at least two).
pub fn spread(sites: usize, variant: &Variant, rng: &mut ChaCha8Rng) -> Epidemic {
    assert!(sites >= 2, "a rumor needs somebody to be told to");
    let mut states = vec![State::Susceptible; sites];
    states[0] = State::Spreading;
    let mut sites = Sites {
        variant,
        rng,
        states,
        counters: vec![0; sites],
        spreading: vec![0],
        contacts: vec![Contacts::default(); sites],
        answered: vec![0; sites],
        learned: Vec::new(),
        callers: (0..sites as u32).collect(),
        epidemic: Epidemic { sites, arrivals: vec![1], ..Epidemic::default() },
    };
    while !sites.is_over() {
        sites.cycle();
    }
    sites.epidemic
}

impl Sites<'_> {
    fn is_over(&self) -> bool {
        let spreading = self.spreading.len();
        spreading == 0 || (self.variant.interest == Interest::Forever && spreading == self.states.len())
    }

    fn cycle(&mut self) {
        let mut callers = std::mem::take(&mut self.callers);
        if self.variant.direction == Direction::Push {
            callers.clone_from(&self.spreading);
        }
        if self.variant.connections_max.is_some() {
            // Nobody is always the first to call.
            callers.shuffle(self.rng);
            self.answered.fill(0);
        }
        for caller in &callers {
            if let Some(target) = self.call(*caller) {
                self.exchange(*caller as usize, target);
            }
        }
        self.callers = callers;
        self.lose_interest();
        for site in &self.learned {
            self.states[*site as usize] = State::Spreading;
        }
        self.epidemic.arrivals.push(self.learned.len() as u64);
        self.epidemic.cycles += 1;
        self.spreading.append(&mut self.learned);
    }

    /// Whom a site reaches in this cycle.
    fn call(&mut self, caller: u32) -> Option<usize> {
        for _ in 0..=self.variant.hunts_max {
            let other = self.rng.random_range(0..self.states.len() - 1);
            let target = other + usize::from(other >= caller as usize);
            let Some(max) = self.variant.connections_max else { return Some(target) };
            if self.answered[target] < max {
                self.answered[target] += 1;
                return Some(target);
            }
            self.epidemic.rejected += 1;
        }
        None
    }

    fn exchange(&mut self, caller: usize, target: usize) {
        let minimize = self.variant.minimization
            && self.states[caller] == State::Spreading
            && self.states[target] == State::Spreading;
        let (own, other) = (self.counters[caller], self.counters[target]);
        if self.variant.direction != Direction::Pull {
            self.tell(caller, target, !minimize || own <= other);
        }
        if self.variant.direction != Direction::Push {
            self.tell(target, caller, !minimize || other <= own);
        }
    }

    /// Sends the rumor, if `from` spreads it. A useless contact counts against it only if `counts`.
    fn tell(&mut self, from: usize, to: usize, counts: bool) {
        if self.states[from] != State::Spreading {
            return;
        }
        self.epidemic.sent += 1;
        let mut needed = self.states[to] == State::Susceptible;
        // A site that learns the rumor for the first time in this cycle has no contacts of its own
        // yet: its entry marks it as listed.
        if needed && std::mem::replace(&mut self.contacts[to].needed, true) {
            needed = self.variant.reading != Reading::InTurn;
        } else if needed {
            self.learned.push(to as u32);
        }
        let contacts = &mut self.contacts[from];
        if needed && self.variant.judgement == Judgement::Feedback {
            contacts.needed = true;
        } else {
            contacts.useless += u32::from(counts);
        }
    }

    /// Judges the cycle for all that spread the rumor at its beginning.
    fn lose_interest(&mut self) {
        let Self { variant, rng, states, counters, contacts, spreading, learned, .. } = self;
        spreading.retain(|site| {
            let site = *site as usize;
            let Contacts { needed, useless } = std::mem::take(&mut contacts[site]);
            let loses = match variant.interest {
                Interest::Counter(k) => {
                    let before = counters[site];
                    counters[site] = match variant.reading {
                        Reading::PerContact if needed => useless,
                        Reading::PerContact => before + useless,
                        Reading::NoReset if needed => before,
                        _ if needed => 0,
                        _ => before + useless.min(1),
                    };
                    counters[site] >= k
                }
                Interest::Coin(k) => useless > 0 && !needed && rng.random_range(0..k) == 0,
                Interest::Forever => false,
            };
            if loses {
                states[site] = State::Removed;
            }
            !loses
        });
        for site in learned {
            contacts[*site as usize] = Contacts::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    fn variants() -> impl Strategy<Value = Variant> {
        let direction = prop_oneof![Just(Direction::Push), Just(Direction::Pull), Just(Direction::PushPull)];
        let judgement = prop_oneof![Just(Judgement::Feedback), Just(Judgement::Blind)];
        let interest = prop_oneof![
            (1..5_u32).prop_map(Interest::Counter),
            (1..5_u32).prop_map(Interest::Coin),
            Just(Interest::Forever)
        ];
        (direction, judgement, interest, any::<bool>(), prop::option::of(1..3_u32), 0..3_u32).prop_map(
            |(direction, judgement, interest, minimization, connections_max, hunts_max)| Variant {
                direction,
                judgement,
                interest,
                minimization,
                connections_max,
                hunts_max,
                reading: Reading::Reproduces,
            },
        )
    }

    proptest! {
        #[test]
        fn every_epidemic_ends_and_its_figures_fit_together(
            variant in variants(), sites in 2..60_usize, seed: u64,
        ) {
            let epidemic = spread(sites, &variant, &mut ChaCha8Rng::seed_from_u64(seed));
            let reached: u64 = epidemic.arrivals.iter().sum();
            prop_assert!((1..=sites as u64).contains(&reached));
            prop_assert!(epidemic.sent + 1 >= reached, "each site but the origin was told");
            prop_assert!(epidemic.delay_mean() <= epidemic.delay_last());
            prop_assert!(epidemic.delay_last() <= epidemic.cycles as f64);
            prop_assert!(variant.interest != Interest::Forever || epidemic.residue() == 0.0);
            prop_assert!(variant.connections_max.is_some() || epidemic.rejected == 0);
        }

        /// Section 1.4: each site but one is told at least once, and sends k rumors for nothing.
        #[test]
        fn counters_bound_the_traffic_from_below(k in 1..6_u32, sites in 2..100_usize, seed: u64) {
            let variant = Variant::new(Direction::Push, Interest::Counter(k));
            let epidemic = spread(sites, &variant, &mut ChaCha8Rng::seed_from_u64(seed));
            let reached: u64 = epidemic.arrivals.iter().sum();
            prop_assert!(epidemic.sent >= (u64::from(k) + 1) * reached - 1);
        }
    }

    /// The expected share of susceptible sites after a cycle, from that before it: section 1.3.
    fn follows(direction: Direction, expected: impl Fn(f64) -> f64) {
        let sites = 100_000;
        let variant = Variant::new(direction, Interest::Forever);
        let epidemic = spread(sites, &variant, &mut ChaCha8Rng::seed_from_u64(1));
        let shares = epidemic.susceptible();
        for pair in shares.windows(2).filter(|pair| pair[0] < 0.99) {
            let mean = expected(pair[0]);
            // Of a sum of independent trials; those of push repel each other, which makes it less.
            let deviation = (mean * (1.0 - mean / pair[0]).max(0.0) / sites as f64).sqrt();
            let slack = 5.0 * deviation + 2.0 / sites as f64;
            assert!(
                (pair[1] - mean).abs() <= slack,
                "{direction:?}: {pair:?}, expected {mean} ± {deviation}"
            );
        }
    }

    #[test]
    fn susceptible_sites_become_fewer_as_the_recurrences_say() {
        follows(Direction::Pull, |p| p * p);
        follows(Direction::Push, |p| p * (p - 1.0).exp());
        follows(Direction::PushPull, |p| p * p * (p - 1.0).exp());
    }
}
