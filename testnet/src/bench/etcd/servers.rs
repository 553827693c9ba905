//! Three servers of the etcd API, whoever made them.

use std::net::SocketAddr;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::network::wait_until;
use crate::usage::memory;

/// Somebody leads within this time.
const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// Where they are.
#[derive(Clone, Debug)]
pub struct Servers {
    /// Where each serves clients.
    pub endpoints: Vec<SocketAddr>,
    /// Their processes, in the same order.
    pub pids: Vec<u32>,
}

impl Servers {
    /// All endpoints, that of the leader first. Waits until somebody leads.
    pub async fn leader_first(&self) -> Result<Vec<SocketAddr>> {
        let mut leader = None;
        wait_until("one of three servers leads", DEADLINE, POLL, async || {
            match starling_load::leader(&self.endpoints).await {
                Ok(found) => {
                    leader = found;
                    Ok(found.is_none().then(|| "each says that it does not".into()))
                }
                Err(error) => Ok(Some(error.to_string())),
            }
        })
        .await?;
        let leader = leader.ok_or_else(|| Error::Broken("nobody leads".into()))?;
        Ok(first(leader, &self.endpoints))
    }

    /// Resident memory, mean of the servers.
    pub fn rss_bytes(&self) -> Result<u64> {
        let all = self.pids.iter().map(|pid| Ok(memory(*pid)?.rss_bytes)).sum::<Result<u64>>()?;
        Ok(all / self.pids.len().max(1) as u64)
    }
}

fn first(leader: SocketAddr, all: &[SocketAddr]) -> Vec<SocketAddr> {
    let others = all.iter().copied().filter(|endpoint| *endpoint != leader);
    std::iter::once(leader).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_comes_first_and_nobody_is_lost() {
        let [a, b, c] = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!(first(b, &[a, b, c]), [b, a, c]);
    }
}
