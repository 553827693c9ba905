//! The wall clocks of the machines that nodes run on. All times of a history are this machine's; what a node shows was shown
//! half of a round trip earlier. The nodes' own timestamps are of their clocks, as far apart as these are.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures::future;
use starling_client::Client;
use starling_report::Clock;

use crate::attach::clock::{Estimate, Wall, estimate};

/// What is known of the clocks, by the addresses of the machines. Nothing, where this machine is the only one.
#[derive(Clone, Debug, Default)]
pub struct Clocks(BTreeMap<Ipv4Addr, Estimate>);

impl Clocks {
    /// Asks one node of each machine, for some seconds.
    pub async fn estimate(nodes: impl IntoIterator<Item = (Ipv4Addr, Client)>) -> Self {
        let wall = Wall::now();
        let estimates = nodes.into_iter().map(async |(address, client)| {
            let known = std::cell::Cell::new(None);
            estimate(&client, wall, |better| known.set(Some(better))).await;
            Some((address, known.get()?))
        });
        Self(future::join_all(estimates).await.into_iter().flatten().collect())
    }

    /// How long an answer of a machine's nodes is under way.
    pub fn one_way(&self, machine: Option<Ipv4Addr>) -> Duration {
        machine.and_then(|machine| self.0.get(&machine)).map_or(Duration::ZERO, Estimate::one_way)
    }

    /// How far any two of the clocks are apart, at most.
    pub fn apart(&self) -> Duration {
        let of = |bound: fn(&Estimate) -> f64| self.0.values().map(bound);
        let ahead_ms = of(|it| it.offset_ms() + it.error_ms()).fold(f64::NEG_INFINITY, f64::max);
        let behind_ms = of(|it| it.offset_ms() - it.error_ms()).fold(f64::INFINITY, f64::min);
        let ms = if self.0.len() > 1 { ahead_ms - behind_ms } else { 0.0 };
        Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default()
    }

    /// For the report.
    pub fn report(&self) -> Vec<Clock> {
        let clock = |(address, estimate): (&Ipv4Addr, &Estimate)| Clock {
            node: format!("host {address}"),
            offset_ms: estimate.offset_ms(),
            error_ms: estimate.error_ms(),
            rtt_ms: estimate.rtt_ms(),
        };
        self.0.iter().map(clock).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::clock::Reading;

    /// A machine whose clock is this far ahead, by an answer after 20 ms that bounds it to a second and 20 ms.
    fn ahead(address: u8, offset_us: i64) -> (Ipv4Addr, Estimate) {
        let second = 10 + offset_us.div_euclid(1_000_000);
        let reading = Reading { sent_us: 10_400_000, received_us: 10_420_000, second };
        (Ipv4Addr::new(10, 0, 0, address), Estimate::of(reading))
    }

    #[test]
    fn clocks_are_as_far_apart_as_their_bounds_and_one_clock_is_nowhere() {
        assert_eq!(Clocks::default().apart(), Duration::ZERO);
        assert_eq!(Clocks(BTreeMap::from([ahead(1, 0)])).apart(), Duration::ZERO);
        // From -420 ms of the first to 600 ms and three seconds of the second.
        let two = Clocks(BTreeMap::from([ahead(1, 0), ahead(2, 3_000_000)]));
        assert_eq!(two.apart(), Duration::from_millis(420 + 3600));
    }

    #[test]
    fn what_a_node_of_this_machine_shows_is_not_under_way() {
        let one = Clocks(BTreeMap::from([ahead(1, 0)]));
        assert_eq!(one.one_way(Some(Ipv4Addr::new(10, 0, 0, 1))), Duration::from_millis(10));
        assert_eq!((one.one_way(None), Clocks::default().one_way(None)), (Duration::ZERO, Duration::ZERO));
    }
}
