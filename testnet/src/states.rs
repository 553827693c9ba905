//! States of the whole network that are waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use starling_api::admin::{Peers, Status};

use crate::error::{Error, Result};
use crate::network::{Network, wait_until};

/// How long a state may take before the run is given up.
const DEADLINE: Duration = Duration::from_secs(120);
/// How often the overlay is looked at: asking for it costs the nodes CPU.
const OVERLAY_POLL: Duration = Duration::from_millis(100);
/// How often roots and numbers of entries are looked at where the time it takes is a result.
const ROOT_POLL: Duration = Duration::from_millis(20);
/// Neighbours of a whole view, where there are as many nodes: below this one more failure or two
/// may cut a node off. `HyParView` aims at five.
const NEIGHBOURS_WHOLE: usize = 3;

/// The active views of running replicas by their ids, peers that are not running left out.
pub type Overlay = BTreeMap<String, BTreeSet<String>>;

/// Asks every running replica for its active view.
pub async fn overlay(network: &Network) -> Result<Overlay> {
    let answers = network.ask(async |client| Ok((client.status().await?.id, client.peers().await?))).await?;
    Ok(answers.into_iter().map(|(id, peers)| (id, active_ids(&peers))).collect())
}

/// Ids of the active view in an answer.
pub fn active_ids(peers: &Peers) -> BTreeSet<String> {
    peers.peers.iter().filter(|peer| peer.view == "active").map(|peer| peer.id.clone()).collect()
}

/// Waits until every running replica has a whole view without dead peers and the overlay is one
/// component.
pub async fn views_whole(network: &Network) -> Result<Duration> {
    wait_until("views whole and the overlay in one piece", DEADLINE, OVERLAY_POLL, async || {
        Ok(overlay_problem(&overlay(network).await?))
    })
    .await
}

/// What keeps an overlay from being whole, if anything.
fn overlay_problem(overlay: &Overlay) -> Option<String> {
    let wanted = NEIGHBOURS_WHOLE.min(overlay.len().saturating_sub(1));
    for (id, view) in overlay {
        if let Some(dead) = view.iter().find(|peer| !overlay.contains_key(*peer)) {
            return Some(format!("{} still has {}, which is down, in its view", short(id), short(dead)));
        }
        if view.len() < wanted {
            return Some(format!("{} has {} neighbours of at least {wanted}", short(id), view.len()));
        }
    }
    let reached = component(overlay);
    (reached < overlay.len())
        .then(|| format!("one piece of the overlay has {reached} of {} nodes", overlay.len()))
}

/// Size of the component of the first node, links followed both ways.
fn component(overlay: &Overlay) -> usize {
    let mut links: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (id, view) in overlay {
        for peer in view {
            links.entry(id).or_default().insert(peer);
            links.entry(peer).or_default().insert(id);
        }
    }
    let mut reached = BTreeSet::new();
    let mut todo: Vec<&str> = overlay.keys().take(1).map(String::as_str).collect();
    while let Some(id) = todo.pop() {
        if reached.insert(id) {
            todo.extend(links.get(id).into_iter().flatten().copied());
        }
    }
    reached.len()
}

/// The first characters of an id.
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// Status of every running replica.
pub async fn statuses(network: &Network) -> Result<Vec<Status>> {
    network.ask(async |client| client.status().await).await
}

/// Waits until every running replica has the same root; says how long it took, and the root.
pub async fn roots_equal(network: &Network) -> Result<(Duration, String)> {
    let mut found = String::new();
    let took = wait_until("one root fingerprint on every node", DEADLINE, ROOT_POLL, async || {
        let statuses = statuses(network).await?;
        let roots: BTreeSet<&Option<String>> = statuses.iter().map(|s| &s.root).collect();
        match (roots.len(), roots.first()) {
            (1, Some(Some(root))) => {
                found.clone_from(root);
                Ok(None)
            }
            (1, _) => Ok(Some("the roots are being rebuilt".into())),
            (n, _) => Ok(Some(format!("there are {n} different roots among {} nodes", statuses.len()))),
        }
    })
    .await?;
    Ok((took, found))
}

/// Waits until every running replica holds this many entries.
pub async fn entries_everywhere(network: &Network, entries: u64) -> Result<Duration> {
    wait_until("every entry on every node", DEADLINE, ROOT_POLL, async || {
        let statuses = statuses(network).await?;
        let lacking = statuses.iter().filter(|s| s.entries < entries);
        Ok(lacking
            .min_by_key(|s| s.entries)
            .map(|s| format!("{} of {entries} entries on {}", s.entries, s.name)))
    })
    .await
}

/// An error if a node does not hold exactly these records in the keyspace.
pub async fn verify_records(network: &Network, keyspace: &str, records: &crate::data::Records) -> Result<()> {
    for index in network.live() {
        let node = network.node(index);
        let found = crate::load::read_all(node, keyspace).await?;
        let wrong = records.iter().find(|(key, value)| found.get(*key) != Some(value));
        if let Some((key, _)) = wrong {
            let state = if found.contains_key(key) { "another value" } else { "nothing" };
            return Err(Error::Broken(format!("{} holds {state} under {key} of {keyspace}", node.name())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(links: &[(&str, &[&str])]) -> Overlay {
        let set = |peers: &[&str]| peers.iter().map(ToString::to_string).collect();
        links.iter().map(|(id, peers)| ((*id).to_string(), set(peers))).collect()
    }

    #[test]
    fn a_split_overlay_a_dead_neighbour_and_a_thin_view_are_problems() {
        assert_eq!(overlay_problem(&overlay(&[("a", &["b"]), ("b", &["a"])])), None);
        let thin = overlay(&[("a", &[]), ("b", &[])]);
        assert!(overlay_problem(&thin).is_some_and(|p| p.contains("neighbours")));
        let dead = overlay(&[("a", &["b", "x"]), ("b", &["a"])]);
        assert!(overlay_problem(&dead).is_some_and(|p| p.contains("down")));
        let ring = |names: [&'static str; 4]| {
            names.map(|n| (n, names.into_iter().filter(|m| *m != n).collect::<Vec<_>>()))
        };
        let halves: Vec<_> =
            ring(["a", "b", "c", "d"]).into_iter().chain(ring(["e", "f", "g", "h"])).collect();
        let halves: Vec<(&str, &[&str])> = halves.iter().map(|(n, v)| (*n, v.as_slice())).collect();
        assert!(overlay_problem(&overlay(&halves)).is_some_and(|p| p.contains("4 of 8")));
    }
}
