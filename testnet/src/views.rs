//! The overlay at about one instant, from what nodes answered about their views.

use std::collections::{BTreeMap, BTreeSet};

use starling_api::admin::Peers;
use starling_report::{Overlay, Topology, TopologyLink, TopologyNode, Views};

/// One replica and its views, by the ids of peers.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Its public key.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its region, if it is in one.
    pub region: Option<String>,
    /// Whether it answered.
    pub is_live: bool,
    /// Its active view.
    pub active: Vec<String>,
    /// Its passive view.
    pub passive: Vec<String>,
    /// Those of the active view to which it pushes rumors in full.
    pub eager: Vec<String>,
}

impl Place {
    /// The same replica with the views that it answered.
    #[must_use]
    pub fn with(self, peers: &Peers) -> Self {
        let of = |view: &str, is_eager: bool| {
            let peers = peers.peers.iter().filter(|peer| peer.view == view);
            peers
                .filter(|peer| !is_eager || peer.eager == Some(true))
                .map(|peer| peer.id.clone())
                .collect::<Vec<_>>()
        };
        Self {
            is_live: true,
            active: of("active", false),
            passive: of("passive", false),
            eager: of("active", true),
            ..self
        }
    }
}

/// The views of all replicas at about one instant, by index. What did not answer has none.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    nodes: Vec<TopologyNode>,
    live: Vec<bool>,
    active: Vec<Vec<usize>>,
    passive: Vec<Vec<usize>>,
    eager: BTreeSet<(usize, usize)>,
}

impl Snapshot {
    /// The views of these replicas. Peers that are none of them, such as bootstrap seeds, are left out.
    pub fn of(places: Vec<Place>) -> Self {
        let index: BTreeMap<&str, usize> =
            places.iter().enumerate().map(|(at, place)| (place.id.as_str(), at)).collect();
        let known = |ids: &[String]| -> Vec<usize> {
            ids.iter().filter_map(|id| index.get(id.as_str()).copied()).collect()
        };
        let eager = places.iter().enumerate();
        let eager =
            eager.flat_map(|(node, place)| known(&place.eager).into_iter().map(move |peer| (node, peer)));
        let mut found = Self { eager: eager.collect(), ..Self::default() };
        for place in &places {
            found.live.push(place.is_live);
            found.active.push(known(&place.active));
            found.passive.push(known(&place.passive));
        }
        let node = |Place { name, region, is_live, .. }: Place| TopologyNode { name, region, up: is_live };
        found.nodes = places.into_iter().map(node).collect();
        found
    }

    /// The report's figures of it.
    pub fn views(&self) -> Views {
        Overlay { live: &self.live, active: &self.active, passive: &self.passive }.views()
    }

    /// The report's drawing of it.
    pub fn topology(&self) -> Topology {
        let pairs = self.active.iter().enumerate();
        let pairs = pairs.flat_map(|(a, view)| view.iter().map(move |b| (a.min(*b), a.max(*b))));
        let links: BTreeSet<(usize, usize)> = pairs.filter(|(a, b)| a != b).collect();
        let is_eager = |a, b| self.eager.contains(&(a, b)) || self.eager.contains(&(b, a));
        let links = links.iter().map(|(a, b)| TopologyLink { a: *a, b: *b, eager: is_eager(*a, *b) });
        Topology::of(self.nodes.clone(), &links.collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use starling_api::admin::Peer;

    use super::*;

    fn place(name: &str, peers: &[(&str, &str, bool)]) -> Place {
        let peer = |(id, view, eager): &(&str, &str, bool)| Peer {
            id: (*id).into(),
            view: (*view).into(),
            eager: Some(*eager),
            ..Peer::default()
        };
        let peers = Peers { peers: peers.iter().map(peer).collect(), ..Peers::default() };
        Place { id: name.into(), name: name.into(), ..Place::default() }.with(&peers)
    }

    #[test]
    fn views_of_unknown_peers_are_left_out_and_a_link_is_eager_if_one_end_pushes() {
        let a = place("a", &[("b", "active", true), ("seed", "active", true), ("c", "passive", false)]);
        let b = place("b", &[("a", "active", false)]);
        let silent = Place { id: "c".into(), name: "c".into(), ..Place::default() };
        let found = Snapshot::of(vec![a, b, silent]);
        let views = found.views();
        assert_eq!((views.components, views.isolated, views.asymmetric), (1, 0, 0));
        let drawn = found.topology();
        assert_eq!(drawn.links, [TopologyLink { a: 0, b: 1, eager: true }]);
        assert_eq!(drawn.nodes.iter().map(|node| node.up).collect::<Vec<_>>(), [true, true, false]);
    }
}
