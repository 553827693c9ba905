//! Faults, drawn from the seed: voters are killed and started again, or stand still for a while.

use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use starling_sim::churn::exponential;
use tokio::time::{Instant, sleep_until};

use super::members::Members;
use super::tally::Tally;
use crate::error::Result;

/// A killed voter is started again after this time, at most; one of four at once.
const DOWN_MS: u64 = 4_000;
/// A voter stands still for so long: less than is noticed, and more than a lease lasts.
const STILL_MS: std::ops::Range<u64> = 50..6_000;

/// Whom a fault is for.
#[derive(Clone, Copy, Debug)]
enum Target {
    Leader,
    Follower,
    /// The leader and as many more as a majority needs.
    Majority,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Majority => "a majority at once",
        }
    }
}

/// Lets faults happen, one every `every` on average, until then; whoever is away comes back with the end.
pub async fn run(
    members: &Members,
    tally: &Tally,
    mut random: ChaCha8Rng,
    every: Duration,
    end: Instant,
) -> Result<()> {
    let mut away = FuturesUnordered::new();
    let mut next = Instant::now();
    loop {
        next += every.mul_f64(exponential(&mut random));
        let waits = sleep_until(next.min(end));
        tokio::pin!(waits);
        loop {
            tokio::select! {
                () = &mut waits => break,
                Some(done) = away.next() => { let (): () = done?; }
            }
        }
        members.check()?;
        if next >= end {
            return away.try_collect().await;
        }
        // Everything is drawn before anybody is asked, so that the next fault is the same one.
        let target = match random.random_range(0..10) {
            0..=4 => Target::Leader,
            5..=7 => Target::Follower,
            _ => Target::Majority,
        };
        let mut order: Vec<usize> = (0..members.voters()).collect();
        order.shuffle(&mut random);
        let fates: Vec<(bool, u64)> = order.iter().map(|_| draw(&mut random)).collect();
        let leader = members.leader().await.unwrap_or(order[0]);
        order.retain(|voter| *voter != leader);
        order.insert(0, leader);
        let chosen = match target {
            Target::Leader => &order[..1],
            Target::Follower => &order[1..2],
            Target::Majority => &order[..=members.voters() / 2],
        };
        for (voter, (is_kill, ms)) in chosen.iter().copied().zip(fates) {
            if !members.up().contains(&voter) {
                continue;
            }
            let name = if is_kill { "killed" } else { "stopped" };
            tally.count(|counts| *counts.faults.entry((target.name(), name)).or_default() += 1);
            let until = end.min(Instant::now() + Duration::from_millis(ms));
            let members = members.clone();
            away.push(async move {
                if is_kill { members.kill(voter, until).await } else { members.stop(voter, until).await }
            });
        }
    }
}

/// Whether a voter is killed, and for how long it is away.
fn draw(random: &mut ChaCha8Rng) -> (bool, u64) {
    if random.random_ratio(1, 2) {
        let is_at_once = random.random_ratio(1, 4);
        let ms = random.random_range(0..DOWN_MS);
        (true, if is_at_once { 0 } else { ms })
    } else {
        (false, random.random_range(STILL_MS))
    }
}
