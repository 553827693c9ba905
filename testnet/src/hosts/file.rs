//! The file that names the machines of a network.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};

/// Machines, at most: each has a command and its pipes here.
const HOSTS_MAX: usize = 256;

/// The machines of a network.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostsFile {
    /// The address where the hosts reach this machine, for links that are not perfect.
    pub relay: Option<Ipv4Addr>,
    /// The machines. Nodes are dealt to them in turn, the bootstrap node to the first.
    pub host: Vec<HostEntry>,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostEntry {
    /// Where this machine and the other hosts reach its nodes, and from where its nodes dial.
    pub address: Ipv4Addr,
    /// The command that starts the agent there: a program and its arguments.
    pub agent: Vec<String>,
}

impl HostsFile {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        Self::parse(&text).map_err(|problem| Error::Unsupported(format!("{}: {problem}", path.display())))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if !(1..=HOSTS_MAX).contains(&file.host.len()) {
            return Err(format!("it names {} hosts, and has to name 1 to {HOSTS_MAX}", file.host.len()));
        }
        let mut addresses = BTreeSet::new();
        for HostEntry { address, agent } in &file.host {
            if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
                return Err(format!("{address} is not the address of a host"));
            }
            if !addresses.insert(address) {
                return Err(format!("two hosts have the address {address}"));
            }
            if agent.is_empty() {
                return Err(format!(
                    "host {address} has no command: write  agent = [\"ssh\", \"HOST\", \"testnet\", \"agent\"]"
                ));
            }
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_an_address_and_the_command_of_their_agent() {
        let text = "relay = \"10.0.0.9\"\n[[host]]\naddress = \"10.0.0.1\"\nagent = [\"ssh\", \"a\", \"testnet\", \"agent\"]";
        let file = HostsFile::parse(text).expect("it is sound");
        assert_eq!(file.relay, Some(Ipv4Addr::new(10, 0, 0, 9)));
        assert_eq!(file.host[0].agent, ["ssh", "a", "testnet", "agent"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let host = "[[host]]\naddress = \"10.0.0.1\"\nagent = [\"x\"]\n";
        let refusals = [
            ("host = []".to_owned(), "0 hosts"),
            (host.repeat(2), "two hosts have the address 10.0.0.1"),
            (host.replace("[\"x\"]", "[]"), "host 10.0.0.1 has no command"),
            (host.replace("10.0.0.1", "0.0.0.0"), "0.0.0.0 is not the address"),
            (host.replace("agent", "agnet"), "unknown field `agnet`"),
        ];
        for (text, expected) in refusals {
            let problem = HostsFile::parse(&text).expect_err("it is wrong");
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
