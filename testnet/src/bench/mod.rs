//! Measurements, each with its targets. A benchmark measures and never
//! fails for being slow.

mod burst;
mod catchup;
mod detect;
mod equal;
mod etcd;
mod failover;
mod forward;
mod idle;
mod keyspace;
mod latency;
mod million;
mod namespace;
mod strong_idle;
mod window;

use clap::Subcommand;

use crate::Common;
use crate::error::Result;

/// One measurement.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Time until a write on an idle network is readable on the last of 64 nodes
    Latency(latency::Options),
    /// Time until a killed and a stopped process are detected, and whether healthy ones are suspected
    Detect(detect::Options),
    /// Costs of 64 idle nodes: bytes at the interface, CPU, memory (needs root, `unshare` and `ip`)
    Idle(idle::Options),
    /// Time until a burst of writes is on each of 16 nodes
    Burst(burst::Options),
    /// Time and bytes until a node that missed a part of a large store is equal again
    Catchup(catchup::Options),
    /// Bytes that two large, equal or nearly equal replicas exchange to compare themselves
    Equal(equal::Options),
    /// Memory, disk and start-up time of one node with a large store
    Million(million::Options),
    /// A strong keyspace on three nodes beside three servers of etcd, under the same loads in turn
    Etcd(etcd::Options),
    /// Time until a client's next write to a strong keyspace after its leader was killed or stopped
    Failover(failover::Options),
    /// Additional latency for a client of a strong keyspace at a node outside of its group
    Forward(forward::Options),
    /// Costs of 100 unused strong keyspaces (needs root, `unshare` and `ip`)
    StrongIdle(strong_idle::Options),
}

impl Bench {
    /// Runs it and prints its report.
    pub async fn run(self, common: &Common) -> Result<()> {
        let report = match self {
            Self::Latency(options) => latency::run(common, &options).await,
            Self::Detect(options) => detect::run(common, &options).await,
            Self::Idle(options) => idle::run(common, &options).await,
            Self::Burst(options) => burst::run(common, &options).await,
            Self::Catchup(options) => catchup::run(common, &options).await,
            Self::Equal(options) => equal::run(common, &options).await,
            Self::Million(options) => million::run(common, &options).await,
            Self::Etcd(options) => etcd::run(common, &options).await,
            Self::Failover(options) => failover::run(common, &options).await,
            Self::Forward(options) => forward::run(common, &options).await,
            Self::StrongIdle(options) => strong_idle::run(common, &options).await,
        }?;
        common.output.print(&report.line(again(std::env::args().skip(1))));
        Ok(())
    }
}

/// The command that repeats a measurement.
fn again(arguments: impl Iterator<Item = String>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,".contains(c);
    let quoted = arguments.map(|argument| {
        let is_plain = !argument.is_empty() && argument.chars().all(plain);
        if is_plain { argument } else { format!("'{}'", argument.replace('\'', r"'\''")) }
    });
    format!("again with: ./testnet/run {}", quoted.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_repeats_a_measurement_can_be_pasted() {
        let given = ["bench", "etcd", "--dir", "/tmp/a b", "--set", "name=it's"].map(str::to_string);
        let expected = r"again with: ./testnet/run bench etcd --dir '/tmp/a b' --set 'name=it'\''s'";
        assert_eq!(again(given.into_iter()), expected);
    }
}
