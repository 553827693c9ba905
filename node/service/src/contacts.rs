//! The search for peers, which runs while the node has no neighbour, and passes the addresses to the gossip thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use starling_api::admin::FailedContact;
use starling_bootstrap::Finder;
use starling_proto::{NodeId, NodeRecord};
use tokio::sync::Notify;

use super::command::Gossip;

/// Rounds without a neighbour after which the log says so first: about seven seconds. A guess: longer than the first peer of
/// a ticket takes to start on the same machine.
const LOG_FIRST: u32 = 4;
/// Rounds between two such lines: about an hour.
const LOG_EVERY: u32 = 60;
/// Addresses in a report, at most. An estimate: enough to see what they have in common.
const REPORTED_MAX: usize = 8;

/// The gossip loop's control of the search.
#[derive(Clone, Default)]
pub struct Contacts {
    wanted: Arc<Notify>,
    succeeded: Arc<AtomicBool>,
}

impl Contacts {
    /// Requests a round, because the node has no neighbour.
    pub fn look(&self) {
        self.wanted.notify_one();
    }

    /// Resets the pauses between rounds, because the node has found a neighbour.
    pub fn succeeded(&self) {
        self.succeeded.store(true, Ordering::Relaxed);
    }

    /// Runs a round whenever one is requested, until the gossip thread has stopped.
    pub async fn search(self, mut finder: Finder, gossip: Gossip) {
        loop {
            self.wanted.notified().await;
            if self.succeeded.swap(false, Ordering::Relaxed) {
                finder.succeeded();
            }
            if gossip.contact(finder.next_round().await).await.is_none() {
                return;
            }
        }
    }
}

/// The rounds of the search since the node last had a neighbour, and the addresses of the last one.
#[derive(Default)]
pub struct Search {
    rounds: u32,
    /// Those of the last round that no node has answered at, each with the reason; `None`: there is none yet.
    addresses: BTreeMap<String, Option<String>>,
    /// Known peers that the node has dialed, at most [`REPORTED_MAX`].
    peers: BTreeMap<NodeId, Dialed>,
}

impl Search {
    /// Begins a round at these addresses. Returns whether the log is to say that those before it were in vain.
    pub fn begin_round(&mut self, addresses: &[String]) -> bool {
        self.addresses.retain(|address, _| addresses.contains(address));
        for address in addresses {
            self.addresses.entry(address.clone()).or_default();
        }
        self.rounds = self.rounds.saturating_add(1);
        self.rounds >= LOG_FIRST && (self.rounds - LOG_FIRST).is_multiple_of(LOG_EVERY)
    }

    /// Records that a known peer is dialed.
    pub fn dialed(&mut self, record: &NodeRecord) {
        if self.peers.len() < REPORTED_MAX {
            let address = record.addresses.first().cloned().unwrap_or_default();
            let dialed = || Dialed { name: record.name.clone(), address, reason: None };
            self.peers.entry(record.id).or_insert_with(dialed);
        }
    }

    /// Records that a dial of a known peer, or of an address, led to no new link.
    pub fn failed(&mut self, peer: Option<&NodeId>, address: Option<&str>, why: String) {
        let of_peer = peer.and_then(|peer| self.peers.get_mut(peer)).map(|dialed| &mut dialed.reason);
        if let Some(reason) = of_peer.or_else(|| self.addresses.get_mut(address?)) {
            *reason = Some(why);
        }
    }

    /// Records that a peer is connected, dialed at this address if at one of the search.
    pub fn answered(&mut self, peer: &NodeId, address: Option<&str>) {
        self.peers.remove(peer);
        if let Some(address) = address {
            self.addresses.remove(address);
        }
    }

    /// Some of the addresses at which no node has answered.
    pub fn report(&self) -> Vec<FailedContact> {
        let why = |reason: &Option<String>| reason.clone().unwrap_or_else(|| "no answer yet".into());
        let contacts = self
            .addresses
            .iter()
            .map(|(address, reason)| FailedContact { address: address.clone(), reason: why(reason) });
        let is_contact = |peer: &&Dialed| {
            let with_id = format!("{}/", peer.address);
            self.addresses.keys().any(|it| *it == peer.address || it.starts_with(&with_id))
        };
        let peers = self.peers.values().filter(|peer| !is_contact(peer)).map(|peer| FailedContact {
            address: peer.address.clone(),
            reason: format!("{}: {}", peer.name, why(&peer.reason)),
        });
        contacts.chain(peers).take(REPORTED_MAX).collect()
    }
}

/// A known peer that was dialed, and has not answered.
struct Dialed {
    name: String,
    address: String,
    /// Why it was not reached; `None`: it may still answer.
    reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use starling_proto::Role;

    use super::*;

    #[test]
    fn what_does_not_answer_is_reported_and_logged_seldom() {
        let mut search = Search::default();
        let (name, addresses) = ("bert".into(), vec!["/ip4/10.0.0.2/tcp/1".into()]);
        let bert = NodeRecord { name, addresses, ..NodeRecord::new(NodeId([1; 32]), 1, Role::Replica) };
        let both = ["/dns4/a/tcp/1".to_owned(), "/dns4/b/tcp/1".to_owned()];
        let rounds = LOG_FIRST + LOG_EVERY;
        let logged: Vec<u32> = (1..=rounds).filter(|_| search.begin_round(&both)).collect();
        assert_eq!(logged, [LOG_FIRST, rounds]);
        search.failed(None, Some(&both[0]), "refused".into());
        search.failed(None, Some("/dns4/of-an-earlier-round/tcp/1"), "refused".into());
        let reasons = |search: &Search| search.report().into_iter().map(|it| it.reason).collect::<Vec<_>>();
        assert_eq!(reasons(&search), ["refused", "no answer yet"]);
        search.answered(&bert.id, Some(&both[1]));
        assert_eq!(reasons(&search), ["refused"]);
        search.begin_round(&both[1..]);
        assert_eq!(reasons(&search), ["no answer yet"], "the other address is gone");
        search.dialed(&bert);
        search.failed(Some(&bert.id), None, "refused".into());
        search.dialed(&bert);
        assert_eq!(reasons(&search), ["no answer yet", "bert: refused"]);
        search.answered(&bert.id, None);
        assert_eq!(reasons(&search), ["no answer yet"]);
    }
}
