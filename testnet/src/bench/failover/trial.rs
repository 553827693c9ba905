//! One fault, and the way back.

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tokio::sync::oneshot;

use super::writer::Writer;
use super::{KEYSPACE, MEMBERS, OUTSIDER};
use crate::bench::keyspace::{caught_up, led, served};
use crate::error::{Error, Result};
use crate::network::{Network, Stopped};

/// Writes before the fault: it meets a client that is at work.
const LEAD_WRITES: u32 = 20;
/// The fault comes somewhere within this time, so that it meets writes at every stage. Microseconds.
const JITTER_US: u64 = 20_000;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9 of the leader.
    KilledLeader,
    /// SIGSTOP of the leader.
    StoppedLeader,
    /// kill -9 of a follower.
    KilledFollower,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// From the fault to the first acknowledgement of a write that was begun after it.
    pub recovery: Duration,
    /// Elections from before the fault until everything is whole again.
    pub elections: u64,
    /// Requests that the client sent to another node.
    pub sent_again: u64,
}

impl Fault {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::KilledLeader => "kill -9 of the leader",
            Self::StoppedLeader => "SIGSTOP of the leader",
            Self::KilledFollower => "kill -9 of a follower",
        }
    }

    /// Tells its random choices apart from those of the others.
    pub fn stream(self) -> u64 {
        match self {
            Self::KilledLeader => 20,
            Self::StoppedLeader => 21,
            Self::KilledFollower => 22,
        }
    }

    fn victim(self, leader: usize, random: &mut ChaCha8Rng) -> usize {
        match self {
            Self::KilledLeader | Self::StoppedLeader => leader,
            Self::KilledFollower => {
                let followers: Vec<usize> = MEMBERS.into_iter().filter(|member| *member != leader).collect();
                followers[random.random_range(0..followers.len())]
            }
        }
    }
}

/// Lets a client write, makes a node fail meanwhile, and brings it back; returns when every node serves
/// and the one that failed has what was written.
pub async fn run(
    network: &mut Network,
    fault: Fault,
    patience: Duration,
    random: &mut ChaCha8Rng,
) -> Result<Trial> {
    let before = led(network, KEYSPACE, OUTSIDER).await?;
    let victim = fault.victim(before.leader, random);
    let jitter = Duration::from_micros(random.random_range(0..JITTER_US));
    let mut writer = Writer::new(network, patience)?;
    let (ready, is_ready) = oneshot::channel();
    let failed = OnceCell::new();
    let fail = async {
        is_ready.await.map_err(|_| Error::Broken("the client has ended".into()))?;
        tokio::time::sleep(jitter).await;
        fail(network, fault, victim, &failed).await
    };
    let (stopped, recovery) = tokio::try_join!(fail, writer.recover(LEAD_WRITES, ready, &failed))?;
    match stopped {
        Some(stopped) => network.node_mut(victim).resume(stopped).await?,
        None => network.node_mut(victim).start().await?,
    }
    network.check()?;
    served(network, KEYSPACE).await?;
    caught_up(network, victim, KEYSPACE, writer.revision).await?;
    let after = led(network, KEYSPACE, OUTSIDER).await?;
    let elections = after.term.saturating_sub(before.term);
    Ok(Trial { recovery, elections, sent_again: writer.sent_again })
}

/// The moment counts before the signal is sent: what the fault itself takes belongs to it.
async fn fail(
    network: &mut Network,
    fault: Fault,
    victim: usize,
    failed: &OnceCell<Instant>,
) -> Result<Option<Stopped>> {
    // Set once: nobody else does.
    let _ = failed.set(Instant::now());
    match fault {
        Fault::StoppedLeader => network.node_mut(victim).stop().await.map(Some),
        Fault::KilledLeader | Fault::KilledFollower => {
            network.node_mut(victim).kill().await?;
            Ok(None)
        }
    }
}
