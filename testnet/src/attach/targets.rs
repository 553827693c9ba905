//! The nodes of a running network whose API is reached, and how they are named.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use futures::future;
use starling_api::admin::Status;
use starling_client::{Client, ClientTls};

use crate::error::{Error, Result};

/// A node that sends nothing for this long counts as not reached.
const SILENCE: Duration = Duration::from_secs(5);
/// What a join ticket begins with, in each version.
const TICKETS: [&str; 2] = ["starling1", "starling2"];
/// Labels that name the place of a node, the widest first.
const PLACE_LABELS: [&str; 2] = ["region", "zone"];

/// Which nodes to ask, and with which credentials.
#[derive(Clone, Debug, clap::Args)]
pub struct Targets {
    /// APIs of nodes of the network, as many as can be reached: HOST:PORT, https://HOST:PORT, or unix:PATH
    #[arg(value_name = "ADDRESS", required_unless_present = "file")]
    addresses: Vec<String>,
    /// More addresses, one on a line; lines that begin with # are comments
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Token that the nodes' APIs ask for
    #[arg(long, value_name = "TOKEN", env = "STARLING_API_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Authorities of the nodes whose address begins with https://, in PEM [default: those of the system]
    #[arg(long, value_name = "FILE", env = "STARLING_CACERT")]
    cacert: Option<PathBuf>,
    /// Certificate to show to nodes that ask for one, in PEM
    #[arg(long, value_name = "FILE", env = "STARLING_CERT", requires = "cert_key")]
    cert: Option<PathBuf>,
    /// Private key of --cert, in PEM
    #[arg(long, value_name = "FILE", env = "STARLING_CERT_KEY", requires = "cert")]
    cert_key: Option<PathBuf>,
}

/// A node whose API answered.
#[derive(Clone, Debug)]
pub struct Node {
    /// The address by which it was named.
    pub address: String,
    /// A client of it.
    pub client: Client,
    /// Its first answer.
    pub status: Status,
}

/// The nodes that were named.
#[derive(Clone, Debug)]
pub struct Reached {
    /// Those that answered, each once, in the order of their names.
    pub nodes: Vec<Node>,
    /// Addresses without an answer, and why.
    pub silent: Vec<(String, String)>,
}

/// Where a node is, by its labels: its region, or its zone if it names no region.
pub fn place(labels: &BTreeMap<String, String>) -> Option<String> {
    PLACE_LABELS.iter().find_map(|key| labels.get(*key)).cloned()
}

impl Targets {
    /// The arguments that name the same nodes again. A token is not repeated.
    pub fn arguments(&self) -> String {
        let file = self.file.iter().map(|file| format!("--file '{}'", file.display()));
        let paths = [("--cacert", &self.cacert), ("--cert", &self.cert), ("--cert-key", &self.cert_key)];
        let paths = paths.into_iter().filter_map(|(name, path)| Some((name, path.as_ref()?)));
        let paths = paths.map(|(name, path)| format!("{name} '{}'", path.display()));
        self.addresses.iter().cloned().chain(file).chain(paths).collect::<Vec<_>>().join(" ")
    }

    /// The environment in which `starling` has the same credentials. A token on a command line would be shown to all users.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let token = self.token.iter().map(|token| ("STARLING_API_TOKEN", OsString::from(token)));
        let paths = [
            ("STARLING_CACERT", &self.cacert),
            ("STARLING_CERT", &self.cert),
            ("STARLING_CERT_KEY", &self.cert_key),
        ];
        let paths = paths.into_iter().filter_map(|(name, path)| Some((name, path.as_ref()?.into())));
        token.chain(paths).collect()
    }

    /// Asks every address for the status of its node.
    ///
    /// # Errors
    /// An address is none, no node answers, or two belong to different networks.
    pub async fn connect(&self) -> Result<Reached> {
        let addresses = self.all_addresses()?;
        let tls = ClientTls {
            authorities: self.cacert.clone(),
            identity: self.cert.clone().zip(self.cert_key.clone()),
        };
        let clients = addresses.into_iter().map(|address| {
            let client = Client::new(&address, self.token.clone()).and_then(|client| client.with_tls(&tls));
            let client = client.map_err(|source| Error::Api { name: address.clone(), source })?;
            Ok((address, client.with_timeout(SILENCE)))
        });
        let clients = clients.collect::<Result<Vec<_>>>()?;
        let asked = clients.into_iter().map(|(address, client)| async move {
            let status = client.status().await;
            (address, client, status)
        });
        let mut reached = Reached { nodes: Vec::new(), silent: Vec::new() };
        for (address, client, status) in future::join_all(asked).await {
            match status {
                Ok(status) => reached.nodes.push(Node { address, client, status }),
                Err(error) => reached.silent.push((address, error.to_string())),
            }
        }
        reached.checked()
    }

    fn all_addresses(&self) -> Result<Vec<String>> {
        let mut addresses = self.addresses.clone();
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            addresses.extend(lines.map(str::to_owned));
        }
        let is_ticket = |address: &String| TICKETS.iter().any(|ticket| address.starts_with(ticket));
        if addresses.iter().any(is_ticket) {
            return Err(Error::Unsupported(
                "a join ticket says where peers are, not where a node serves its API. With it alone this program \
                 would have to become a member of the network and copy all of its data, so it does not. Name the API \
                 of a node instead: `starling status` on its machine uses it, and run.json in its data directory \
                 has it"
                    .into(),
            ));
        }
        if addresses.is_empty() {
            return Err(Error::Unsupported("no address is named: name the API of a node".into()));
        }
        Ok(addresses)
    }
}

impl Reached {
    /// Leaves one entry for each node, and checks that all are of one network.
    fn checked(mut self) -> Result<Self> {
        let Some(first) = self.nodes.first() else {
            let reasons: Vec<String> =
                self.silent.iter().map(|(address, reason)| format!("{address}: {reason}")).collect();
            return Err(Error::Broken(format!("no node answers:\n  {}", reasons.join("\n  "))));
        };
        let network = &first.status.network;
        if let Some(other) = self.nodes.iter().find(|node| node.status.network != *network) {
            return Err(Error::Unsupported(format!(
                "{} and {} belong to different networks: measure one at a time",
                first.address, other.address
            )));
        }
        self.nodes.sort_by(|a, b| (&a.status.name, &a.status.id).cmp(&(&b.status.name, &b.status.id)));
        let mut seen = std::collections::BTreeSet::new();
        self.nodes.retain(|node| seen.insert(node.status.id.clone()));
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        targets: Targets,
    }

    fn targets(args: &[&str]) -> Targets {
        Line::try_parse_from(std::iter::once(&"attach").chain(args)).expect("valid").targets
    }

    fn node(name: &str, id: &str, network: &str) -> Node {
        let status =
            Status { name: name.into(), id: id.into(), network: network.into(), ..Status::default() };
        let client = Client::new("127.0.0.1:1", None).expect("an address");
        Node { address: name.into(), client, status }
    }

    #[test]
    fn a_file_adds_addresses_and_may_have_comments() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "# the fleet\n10.0.0.1:7401\n\n https://b.example:7401 \n")
            .expect("ours");
        let path = file.path().to_str().expect("text");
        let all = targets(&["10.0.0.9:7401", "--file", path]).all_addresses().expect("addresses");
        assert_eq!(all, ["10.0.0.9:7401", "10.0.0.1:7401", "https://b.example:7401"]);
    }

    #[test]
    fn a_ticket_is_refused_with_what_to_name_instead() {
        let error = targets(&["starling1abcdef"]).all_addresses().expect_err("a ticket");
        assert!(error.to_string().contains("Name the API"), "{error}");
    }

    #[test]
    fn a_node_counts_once_and_two_networks_are_refused() {
        let nodes = vec![node("b", "2", "x"), node("a", "1", "x"), node("b", "2", "x")];
        let reached = Reached { nodes, silent: Vec::new() }.checked().expect("one network");
        assert_eq!(
            reached.nodes.iter().map(|node| node.status.name.as_str()).collect::<Vec<_>>(),
            ["a", "b"]
        );
        let nodes = vec![node("a", "1", "x"), node("b", "2", "y")];
        assert!(Reached { nodes, silent: Vec::new() }.checked().is_err());
        let silent = vec![("c".to_owned(), "connection refused".to_owned())];
        let error = Reached { nodes: Vec::new(), silent }.checked().expect_err("nobody answers");
        assert!(error.to_string().contains("c: connection refused"), "{error}");
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_is_an_error_that_names_it() {
        let error = targets(&["127.0.0.1:1"]).connect().await.expect_err("nothing listens there");
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    }
}
