//! Measurements, each stated beside the bar it has to stay under. A benchmark measures and never
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
    /// How long a write on an idle network takes to be readable on the last of 64 nodes
    Latency(latency::Options),
    /// How soon a killed and a stopped process are noticed, and whether healthy ones are suspected
    Detect(detect::Options),
    /// What 64 idle nodes cost: bytes at the interface, CPU, memory (needs root, `unshare` and `ip`)
    Idle(idle::Options),
    /// How long a burst of writes takes to be on every one of 16 nodes
    Burst(burst::Options),
    /// How long a node that missed a part of a large store takes to be equal again, and its bytes
    Catchup(catchup::Options),
    /// What two large replicas say to find out that they are equal, or nearly so
    Equal(equal::Options),
    /// Memory, disk and start-up time of one node with a large store
    Million(million::Options),
    /// A strong keyspace of three nodes beside etcd of three servers, under the same loads in turn
    Etcd(etcd::Options),
    /// How soon clients of a strong keyspace write again after its leader was killed or stopped
    Failover(failover::Options),
    /// What a client of a strong keyspace waits for more at a node outside of its group
    Forward(forward::Options),
    /// What 100 strong keyspaces cost that nobody uses (needs root, `unshare` and `ip`)
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

/// How to measure the same again.
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
