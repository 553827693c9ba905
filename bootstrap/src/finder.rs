//! The search for a first peer, in rounds: seeds and tickets, names, the local network.

use std::{collections::BTreeSet, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use tokio::time::{Instant, sleep_until};

use crate::{Mdns, dns};

/// Addresses in one round, at most.
pub const ROUND_ADDRESSES_MAX: usize = 64;
/// Those of them from the local network, at most: anybody there can announce any number.
const NEARBY_MAX: usize = 8;
/// Pause between the first round and the second; doubles from round to round. A guess: about the time after which a
/// dial fails.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest pause between two rounds. A guess at how long an operator waits.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The sources of addresses.
#[derive(Debug, Default)]
pub struct FinderConfig {
    /// Multiaddresses of seeds and of join tickets.
    pub addresses: Vec<String>,
    /// Names to look up: `seeds.example.org` or `/dnsaddr/seeds.example.org`.
    pub names: Vec<String>,
    /// Decides the order of addresses and the jitter of pauses.
    pub seed: u64,
}

/// Finds addresses to dial while a node has no peer. Remembered peers are not among them: they are records, which the
/// node dials itself.
pub struct Finder {
    config: FinderConfig,
    mdns: Option<Mdns>,
    rng: StdRng,
    rounds: u32,
    not_before: Instant,
}

impl Finder {
    /// `mdns`: present if the local network is to be searched.
    pub fn new(config: FinderConfig, mdns: Option<Mdns>) -> Self {
        let rng = StdRng::seed_from_u64(config.seed);
        Self { config, mdns, rng, rounds: 0, not_before: Instant::now() }
    }

    /// Waits until the next round is due (the first one is at once), then searches all
    /// sources. Cancel-safe: a cancelled round begins again. Returns nothing if nothing is configured or found.
    pub async fn next_round(&mut self) -> Vec<String> {
        sleep_until(self.not_before).await;
        let nearby = async {
            match &self.mdns {
                // A search takes seconds, which configured addresses do not wait for.
                Some(mdns) if self.rounds > 0 || self.config.addresses.is_empty() => mdns.search().await,
                _ => Vec::new(),
            }
        };
        let (by_name, mut nearby) = tokio::join!(dns::resolve(&self.config.names), nearby);
        let pause = self.pause();
        self.not_before = Instant::now() + pause;
        self.rounds += 1;
        let mut found = self.config.addresses.clone();
        found.extend(by_name);
        // Many nodes may start at once with the same list: each dials it in another order.
        found.shuffle(&mut self.rng);
        nearby.shuffle(&mut self.rng);
        round(found, nearby)
    }

    /// Resets the pauses after a peer was found.
    pub fn succeeded(&mut self) {
        self.rounds = 0;
    }

    fn pause(&mut self) -> Duration {
        let doubled = PAUSE_MIN.saturating_mul(1 << self.rounds.min(16));
        doubled.min(PAUSE_MAX).mul_f64(self.rng.random_range(0.75..1.25))
    }
}

/// The addresses of one round, without doubles: what was configured comes first, because whoever has no ticket can only
/// answer in the local network.
fn round(mut found: Vec<String>, mut nearby: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    found.retain(|address| seen.insert(address.clone()));
    nearby.retain(|address| seen.insert(address.clone()));
    nearby.truncate(NEARBY_MAX);
    found.truncate(ROUND_ADDRESSES_MAX - nearby.len());
    found.extend(nearby);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finder(addresses: usize, seed: u64) -> Finder {
        let addresses = (0..addresses).map(|n| format!("/ip4/192.0.2.1/tcp/{n}")).collect();
        Finder::new(FinderConfig { addresses, names: Vec::new(), seed }, None)
    }

    #[tokio::test(start_paused = true)]
    async fn rounds_come_ever_more_slowly_until_one_succeeds() {
        let mut finder = finder(1, 1);
        let start = Instant::now();
        assert_eq!(finder.next_round().await.len(), 1);
        assert_eq!(start.elapsed(), Duration::ZERO, "the first round is at once");
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let before = Instant::now();
            finder.next_round().await;
            pauses.push(before.elapsed());
        }
        assert!(pauses[0] < PAUSE_MIN * 2 && pauses[1] > pauses[0]);
        assert!(pauses.iter().all(|pause| *pause <= PAUSE_MAX * 5 / 4 + Duration::from_millis(1)));
        assert!(pauses[11] >= PAUSE_MAX * 3 / 4);
        finder.succeeded();
        finder.next_round().await;
        let before = Instant::now();
        finder.next_round().await;
        assert!(before.elapsed() < PAUSE_MIN * 2, "short pauses again");
    }

    #[tokio::test]
    async fn a_round_is_bounded_without_doubles_and_in_an_order_of_its_own() {
        let mut finder_of = [finder(100, 1), finder(100, 2)];
        finder_of[0].config.addresses.extend(finder_of[1].config.addresses.clone());
        let (a, b) = (finder_of[0].next_round().await, finder_of[1].next_round().await);
        assert_eq!(a.iter().collect::<BTreeSet<_>>().len(), ROUND_ADDRESSES_MAX);
        assert_eq!(b.len(), ROUND_ADDRESSES_MAX);
        assert_ne!(a, b);
        assert!(finder(0, 1).next_round().await.is_empty());
    }

    #[test]
    fn answers_from_the_local_network_come_last_and_are_few() {
        let addresses = |net: &str, count: usize| -> Vec<String> {
            (0..count).map(|n| format!("/ip4/{net}.{n}/tcp/7400")).collect()
        };
        let ticket = addresses("192.0.2", 3);
        let both = round(ticket.clone(), [ticket.clone(), addresses("10.0.0", 72)].concat());
        assert_eq!(both[..3], ticket);
        assert_eq!(both.len(), 3 + NEARBY_MAX);
        let many = round(addresses("192.0.2", 200), addresses("10.0.0", 3));
        assert_eq!(
            (many.len(), &many[ROUND_ADDRESSES_MAX - 3..]),
            (ROUND_ADDRESSES_MAX, &addresses("10.0.0", 3)[..])
        );
        assert_eq!(round(Vec::new(), addresses("10.0.0", 3)), addresses("10.0.0", 3));
    }
}
