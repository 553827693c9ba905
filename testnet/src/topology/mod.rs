//! `testnet topology`: a scenario from a running network, with its nodes, their regions and the delays between them, which
//! `sim` and `churn` replay.

mod matrix;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use starling_api::admin::{Node, Nodes, Peers};
use tokio::time::sleep;

use crate::attach::{Fleet, REPLICA, Reached, Targets, place};
use crate::error::{Error, Result};
use crate::progress::Phase;
use crate::samples::PERIOD;
use matrix::{Apart, Matrix, Pair, complete};

/// Nodes of a scenario, at most: the matrix of delays has the square of it.
const NODES_MAX: usize = 1_000;
/// The region of nodes without a label, where others have one.
const ELSEWHERE: &str = "elsewhere";

/// What to write.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The scenario to write, NAME.toml; the delays go beside it, into NAME.csv
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    targets: Targets,
    /// How long to collect the nodes' round trips
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

impl Options {
    /// Asks the network, and writes both files.
    pub async fn run(&self) -> Result<()> {
        if self.file.extension().is_none_or(|extension| extension != "toml") {
            return Err(Error::Unsupported(format!("{}: name it NAME.toml", self.file.display())));
        }
        let phase = Phase::begin("reaching the nodes", 0);
        let Reached { nodes, silent } = self.targets.connect().await?;
        phase.done(format!("{} answer, {} do not", nodes.len(), silent.len()));
        let fleet = Fleet::new(nodes);
        let crawl = fleet.crawl().await.map_err(Error::Broken)?;
        let network = Network::of(&crawl);
        let phase = Phase::begin("collecting round trips of links", self.seconds);
        let mut links = BTreeMap::new();
        for _ in 0..self.seconds {
            network.measure(&fleet.peers_by_id().await, &mut links);
            phase.advance(1);
            sleep(PERIOD).await;
        }
        phase.done(format!("of {} links", links.len()));
        let matrix = complete(&network.places, &links).map_err(|apart| network.unknown(apart, &links))?;
        let csv = self.file.with_extension("csv");
        write(&csv, &matrix.csv(&network.rows()))?;
        write(&self.file, &network.scenario(&matrix, &csv, &fleet.nodes[0].status.network))?;
        eprintln!(
            "{} nodes, {} pairs measured, {} as others between the same places, {} as the shortest path\n\n  ./testnet/run sim \
             {file}\n  ./testnet/run churn {file}",
            network.names.len(),
            matrix.measured,
            matrix.by_place,
            matrix.by_path,
            file = self.file.display()
        );
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(Error::io(path))
}

/// The replicas of a network.
struct Network {
    /// By index, in the order of their names.
    names: Vec<String>,
    places: Vec<Option<String>>,
    index: BTreeMap<String, usize>,
    /// Nodes that were left out, being too many.
    left_out: usize,
}

impl Network {
    fn of(crawl: &Nodes) -> Self {
        let mut nodes: Vec<&Node> = crawl.nodes.iter().filter(|node| node.role == REPLICA).collect();
        nodes.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        let left_out = nodes.len().saturating_sub(NODES_MAX);
        nodes.truncate(NODES_MAX);
        Self {
            names: nodes.iter().map(|node| node.name.clone()).collect(),
            places: nodes.iter().map(|node| place(&node.labels)).collect(),
            index: nodes.iter().enumerate().map(|(at, node)| (node.id.clone(), at)).collect(),
            left_out,
        }
    }

    /// Adds the round trips that nodes have measured to their neighbours.
    fn measure(&self, peers: &[(String, Peers)], links: &mut BTreeMap<Pair, Vec<f64>>) {
        for (id, peers) in peers {
            let Some(a) = self.index.get(id) else { continue };
            for peer in &peers.peers {
                let rtt_ms = peer.rtt_ms.filter(|rtt_ms| rtt_ms.is_finite() && *rtt_ms >= 0.0);
                let (Some(b), Some(rtt_ms)) = (self.index.get(&peer.id), rtt_ms) else { continue };
                if a != b {
                    links.entry((*a.min(b), *a.max(b))).or_default().push(rtt_ms);
                }
            }
        }
    }

    fn unknown(&self, Apart(a, b): Apart, links: &BTreeMap<Pair, Vec<f64>>) -> Error {
        let [a, b] = [a, b].map(|node| self.names.get(node).map_or("", String::as_str));
        Error::Unsupported(format!(
            "nothing is known of the delay between {a} and {b}: round trips were read of {} links. Name the APIs of more nodes, \
             or give nodes labels (region=, zone=), so that one link stands for others between the same places",
            links.len()
        ))
    }

    /// Names of the rows: unique, and without what separates cells.
    fn rows(&self) -> Vec<String> {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let name =
            |(at, name): (usize, &String)| format!("{at}-{}", name.chars().map(plain).collect::<String>());
        self.names.iter().enumerate().map(name).collect()
    }

    /// The region of each node; none if no node has a label.
    fn regions(&self) -> Vec<String> {
        if self.places.iter().all(Option::is_none) {
            return Vec::new();
        }
        self.places.iter().map(|place| place.clone().unwrap_or_else(|| ELSEWHERE.into())).collect()
    }

    fn scenario(&self, matrix: &Matrix, csv: &Path, network: &str) -> String {
        let file = csv.file_name().unwrap_or_default().to_string_lossy();
        let regions: Vec<String> = self.regions().iter().map(|region| format!("{region:?}")).collect();
        let left_out = match self.left_out {
            0 => String::new(),
            count => format!("# {count} more nodes were left out.\n"),
        };
        format!(
            "about = \"The nodes of network {}, with their regions and the delays between them.\"\n\
             # Of {} pairs of nodes {} have the round trip that their link measured, {} the median between their regions, and {}\n\
             # the shortest path over others.\n{left_out}\
             nodes = {}\n\
             # Of each node in turn.\n\
             regions = [{}]\n\n\
             [links]\n\
             latency = {{ matrix = {{ file = {file:?} }} }}\n\
             jitter_ms = 0.5\n\n\
             # What happens to it: add steps, as in testnet/scenarios.\n\
             [workload]\n\
             writes_s = 10\n",
            crate::states::short(network),
            matrix.measured + matrix.by_place + matrix.by_path,
            matrix.measured,
            matrix.by_place,
            matrix.by_path,
            self.names.len(),
            regions.join(", "),
        )
    }
}

#[cfg(test)]
mod tests {
    use starling_api::admin::Peer;
    use starling_sim::scenario::{Latency, Selection, load};
    use starling_sim::{Delays, Simulation};

    use super::*;

    fn node(name: &str, region: &str) -> Node {
        let labels =
            if region.is_empty() { BTreeMap::new() } else { [("region".into(), region.into())].into() };
        Node { id: format!("id-{name}"), name: name.into(), role: REPLICA.into(), labels, ..Node::default() }
    }

    fn peers(of: &[(&str, Option<f64>)]) -> Peers {
        let peer = |(name, rtt_ms): &(&str, Option<f64>)| Peer {
            id: format!("id-{name}"),
            rtt_ms: *rtt_ms,
            ..Peer::default()
        };
        Peers { peers: of.iter().map(peer).collect(), ..Peers::default() }
    }

    #[test]
    fn a_network_becomes_a_scenario_that_is_read_again_and_runs() {
        let mut nodes = vec![node("c", "us"), node("a", "eu"), node("b,\"x", "eu")];
        nodes.push(Node { role: "seed".into(), ..node("seed", "eu") });
        let network = Network::of(&Nodes { nodes, ..Nodes::default() });
        let mut links = BTreeMap::new();
        let asked = [
            ("id-a".to_owned(), peers(&[("b,\"x", Some(2.0)), ("c", Some(80.0)), ("seed", Some(1.0))])),
            ("id-b,\"x".to_owned(), peers(&[("a", Some(4.0)), ("c", None)])),
        ];
        network.measure(&asked, &mut links);
        let matrix = complete(&network.places, &links).expect("connected");
        assert_eq!((matrix.measured, matrix.by_place, matrix.by_path), (2, 1, 0));

        let folder = tempfile::tempdir().expect("a temporary folder");
        let (toml, csv) = (folder.path().join("own.toml"), folder.path().join("own.csv"));
        write(&csv, &matrix.csv(&network.rows())).expect("writable");
        write(&toml, &network.scenario(&matrix, &csv, "0123456789ab")).expect("writable");
        let set = [("warmup_s", "5"), ("measure_s", "5")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let scenario = load(&toml, &set).expect("a scenario");
        assert_eq!(
            (scenario.nodes, scenario.regions.as_slice()),
            (3, &["eu", "eu", "us"].map(String::from)[..])
        );
        assert!(matches!(&scenario.links.latency, Latency::Matrix { file } if *file == csv));
        let delays = Delays::new(&scenario.links.latency, 3, 1).expect("a matrix");
        assert_eq!([delays.one_way_us(0, 1), delays.one_way_us(0, 2)], [1_500, 40_000]);
        assert_eq!(Selection::try_from("region:us".to_owned()), Ok(Selection::Region("us".into())));
        let run = Simulation::new(scenario).expect("it runs").run(|_| {});
        assert_eq!((run.nodes, run.writes.lost), (3, 0));
    }

    #[test]
    fn nodes_that_no_link_connects_are_named_with_what_to_do() {
        let network = Network::of(&Nodes { nodes: vec![node("a", ""), node("b", "")], ..Nodes::default() });
        let apart = complete(&network.places, &BTreeMap::new()).expect_err("nothing was measured");
        let error = network.unknown(apart, &BTreeMap::new()).to_string();
        assert!(error.contains("a and b") && error.contains("labels"), "{error}");
    }
}
