//! Networks whose processes run on several machines: `testnet churn --hosts FILE`.
//!
//! On each of them an agent, `testnet agent`, starts, signals and wipes the nodes, in a folder of its own. A command that
//! the file names starts it, such as `ssh node1 testnet agent`. Requests and answers are lines of JSON on its standard input
//! and output, so there is no port, no secret of the agent's own, and no process that outlives a run: the agent ends its nodes
//! when its standard input closes, however this program ends.
//!
//! ```text
//!     this machine                       a host
//!     testnet churn --- ssh, stdin ----> testnet agent --- kill, SIGSTOP, wipe ---> starling up ...
//!          |                                                                            |
//!          +------------------------- the API, in TLS, with a token ------------------->+
//! ```
//!
//! What must never happen here: a process or a file that the agent has not made is touched.

mod access;
mod agent;
mod file;
mod host;
mod wire;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use futures::future;

pub use access::Access;
pub use agent::Options as AgentOptions;
pub use host::Host;
pub use wire::Act;

use crate::error::Result;
use crate::relay::Member;
use access::Authority;
use file::HostsFile;

/// The machines of one network. Their agents end, with all nodes, when this is dropped.
#[derive(Debug)]
pub struct Hosts {
    all: Vec<Arc<Host>>,
    /// Where the hosts reach this machine.
    relay: Option<Ipv4Addr>,
    access: Access,
    /// Has the file of the authority, which clients read.
    _authority: Authority,
}

impl Hosts {
    /// Starts the agents that a file names.
    pub async fn connect(path: &Path) -> Result<Self> {
        let HostsFile { relay, host } = HostsFile::read(path)?;
        let authority = Authority::new(host.iter().map(|host| host.address))?;
        let hosts = host.iter().map(|host| Host::connect(host.address, &host.agent, &authority));
        let hosts = future::try_join_all(hosts).await?;
        let access = authority.access();
        Ok(Self { all: hosts.into_iter().map(Arc::new).collect(), relay, access, _authority: authority })
    }

    /// All hosts, in the order of the file.
    pub fn all(&self) -> &[Arc<Host>] {
        &self.all
    }

    /// The index of the host that a member runs on: they are dealt to hosts in turn.
    pub fn index_of(&self, member: Member) -> usize {
        member % self.all.len()
    }

    /// The host at an address.
    pub fn at(&self, address: IpAddr) -> Option<&Arc<Host>> {
        self.all.iter().find(|host| IpAddr::V4(host.address) == address)
    }

    /// Where the hosts reach a relay on this machine.
    pub fn relay(&self) -> Option<Ipv4Addr> {
        self.relay
    }

    /// How clients reach the nodes.
    pub fn access(&self) -> &Access {
        &self.access
    }
}
