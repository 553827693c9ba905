//! What the replicas of a network that is left alone cost over a while.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::network::Network;
use crate::states::statuses;
use crate::traffic::Traffic;
use crate::usage::{Memory, cpu_time, loopback, memory};

/// Everything that the replicas did in a span of time, together. Bytes at the interface include those of
/// the bootstrap node, which says next to nothing.
#[derive(Debug)]
pub struct Window {
    /// How long it was.
    pub seconds: f64,
    /// Running replicas.
    pub nodes: usize,
    /// At the interface of the namespace, every header counted, every packet once.
    pub interface_bytes: u64,
    /// The same in packets.
    pub packets: u64,
    /// Frames, before encryption.
    pub received: Traffic,
    /// CPU time.
    pub cpu: Duration,
    /// At the end, of each replica.
    pub memories: Vec<Memory>,
}

impl Window {
    /// Watches for so long, in a namespace of the measurement's own ([`super::namespace`]).
    pub async fn watch(network: &Network, seconds: u64) -> Result<Self> {
        let pids = network.pids();
        let cpu = || pids.iter().map(|pid| cpu_time(*pid)).sum::<Result<Duration>>();
        let received = Traffic::received(&statuses(network).await?);
        // The answers above are read, their last packets are acknowledged.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (began, net_before, cpu_before) = (Instant::now(), loopback()?, cpu()?);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let (took, net_after, cpu_after) = (began.elapsed(), loopback()?, cpu()?);
        Ok(Self {
            seconds: took.as_secs_f64(),
            nodes: pids.len(),
            interface_bytes: net_after.bytes.saturating_sub(net_before.bytes),
            packets: net_after.packets.saturating_sub(net_before.packets),
            received: Traffic::received(&statuses(network).await?).since(received),
            cpu: cpu_after.saturating_sub(cpu_before),
            memories: pids.iter().map(|pid| memory(*pid)).collect::<Result<_>>()?,
        })
    }

    /// An amount of all replicas together, per replica and second.
    pub fn per_node_second(&self, amount: f64) -> f64 {
        amount / self.nodes.max(1) as f64 / self.seconds
    }

    /// CPU of all replicas together, per cent of one core.
    pub fn cpu_percent(&self) -> f64 {
        100.0 * self.cpu.as_secs_f64() / self.seconds
    }

    /// A measure of memory, mean over the replicas.
    pub fn mean(&self, of: impl Fn(&Memory) -> u64) -> u64 {
        self.memories.iter().map(of).sum::<u64>() / self.memories.len().max(1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_spread_over_nodes_and_seconds() {
        let window = Window {
            seconds: 10.0,
            nodes: 5,
            interface_bytes: 1_000,
            packets: 10,
            received: Traffic::default(),
            cpu: Duration::from_millis(500),
            memories: [2, 4].map(|rss_bytes| Memory { rss_bytes, ..Memory::default() }).to_vec(),
        };
        assert!((window.per_node_second(1_000.0) - 20.0).abs() < 1e-9);
        assert!((window.cpu_percent() - 5.0).abs() < 1e-9);
        assert_eq!(window.mean(|memory| memory.rss_bytes), 3);
    }
}
