//! The overlay of the running nodes, asked of each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future;
use starling_api::admin::Peers;
use starling_report::{Overlay, Topology, TopologyLink, TopologyNode, Views};
use starling_sim::scenario::Scenario;
use tokio::time::{Instant, sleep, timeout};

use super::faults::region;
use super::fleet::{Fleet, State};

/// How often the overlay is looked at: asking for it costs the nodes CPU. A guess.
const POLL: Duration = Duration::from_millis(200);
/// A node that does not answer within this time is left out.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// The views of all replicas at about one instant, by index; what does not answer has none.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    live: Vec<bool>,
    active: Vec<Vec<usize>>,
    passive: Vec<Vec<usize>>,
    eager: BTreeSet<(usize, usize)>,
}

/// Asks every running replica.
pub async fn snapshot(fleet: &Fleet) -> Snapshot {
    let seats = fleet.seats();
    let asked = seats.iter().map(async |seat| match (&seat.client, seat.state) {
        (Some(client), State::Up) => timeout(ANSWER_DEADLINE, client.peers()).await.ok()?.ok(),
        _ => None,
    });
    let answers: Vec<Option<Peers>> = future::join_all(asked).await;
    let index: BTreeMap<&str, usize> =
        seats.iter().enumerate().map(|(at, seat)| (seat.id.as_str(), at)).collect();
    let mut found = Snapshot::default();
    for (node, answer) in answers.iter().enumerate() {
        let peers = answer.iter().flat_map(|peers| &peers.peers);
        let of = |view: &'static str| {
            let peers = peers.clone().filter(move |peer| peer.view == view);
            peers.filter_map(|peer| Some((*index.get(peer.id.as_str())?, peer.eager == Some(true))))
        };
        found.eager.extend(of("active").filter(|(_, eager)| *eager).map(|(peer, _)| (node, peer)));
        found.active.push(of("active").map(|(peer, _)| peer).collect());
        found.passive.push(of("passive").map(|(peer, _)| peer).collect());
        // The bootstrap node is in nobody's view.
        found.live.push(node != super::fleet::BOOTSTRAP && answer.is_some());
    }
    found
}

impl Snapshot {
    /// The report's figures of it.
    pub fn views(&self) -> Views {
        Overlay { live: &self.live, active: &self.active, passive: &self.passive }.views()
    }

    /// The report's drawing of it.
    pub fn topology(&self, scenario: &Scenario) -> Topology {
        let nodes = (1..self.live.len()).map(|member| TopologyNode {
            name: format!("n{member:02}"),
            region: region(scenario, member),
            up: self.live[member],
        });
        let pairs = self.active.iter().enumerate().skip(1);
        let pairs = pairs.flat_map(|(a, view)| view.iter().map(move |b| (a.min(*b), a.max(*b))));
        let links: BTreeSet<(usize, usize)> = pairs.filter(|(a, b)| *a > 0 && a != b).collect();
        let is_eager = |a, b| self.eager.contains(&(a, b)) || self.eager.contains(&(b, a));
        let links = links.iter().map(|(a, b)| TopologyLink { a: a - 1, b: b - 1, eager: is_eager(*a, *b) });
        Topology::of(nodes.collect(), &links.collect::<Vec<_>>())
    }
}

/// Waits until the running nodes are one component; says how long that took. None: not before the
/// deadline.
pub async fn one_component(fleet: &Fleet, deadline: Instant) -> Option<Duration> {
    let began = Instant::now();
    loop {
        let found = snapshot(fleet).await.views();
        if found.components <= 1 {
            return Some(began.elapsed());
        }
        if Instant::now() >= deadline {
            return None;
        }
        sleep(POLL).await;
    }
}
