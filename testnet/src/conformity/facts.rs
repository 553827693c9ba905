//! What the rules look at: everything that nodes of a running network state about themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future;
use starling_api::admin::{Doctor, Nodes, Peers, Status, Unreachable};
use starling_api::strong::StrongInfo;
use starling_api::trust::Trust;
use tokio::time::{Instant, sleep, sleep_until};

use super::Options;
use crate::attach::{Estimate, Fleet, REPLICA, Reached};
use crate::error::{Error, Result};

/// A clock is estimated until it is known within this, milliseconds, as far as its round trip allows.
const CLOCK_ERROR_MS: f64 = 50.0;
/// Clocks are estimated for this long, at most.
const CLOCK_DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
/// What keyspaces with a group are called in lists.
const STRONG: &str = "strong";
/// The counter of times at which a process noticed that it had stood still.
const STALLS: &str = "self_stalls";

/// What one node states.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// Its place in the fleet.
    pub at: usize,
    /// Its status at the beginning of the observation.
    pub before: Status,
    /// Its status at the end of it.
    pub status: Status,
    /// Why it is not ready, in its own words; none: it is.
    pub not_ready: Option<String>,
    /// The peers that it knows.
    pub peers: Peers,
    /// Its settings in TOML, by name; none: it does not show them to this client.
    pub settings: Option<BTreeMap<String, String>>,
    /// The authority as it knows it, and its certificate.
    pub trust: Option<Trust>,
    /// What its own check of its store found; none: it was not asked, or does not show it to this client.
    pub doctor: Option<Doctor>,
    /// Its clock less this machine's, and how far it may be from that, milliseconds.
    pub clock_ms: Option<(f64, f64)>,
}

impl NodeFacts {
    /// How often its process stood still during the observation.
    pub fn stalls(&self) -> u64 {
        let count = |status: &Status| status.counters.get(STALLS).copied().unwrap_or_default();
        // A process that was restarted meanwhile counts from its start.
        let is_same = self.status.uptime_ms >= self.before.uptime_ms;
        count(&self.status).saturating_sub(if is_same { count(&self.before) } else { 0 })
    }
}

/// Everything that was found out.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The nodes whose API was reached.
    pub nodes: Vec<NodeFacts>,
    /// What was named and did not answer at the end, and why: addresses, and names of nodes that answered at the beginning.
    pub silent: Vec<(String, String)>,
    /// The network, by a crawl at the end; a node that does not answer is in it if it did not at the beginning either.
    pub crawl: Nodes,
    /// Names of all keyspaces, with whether each is strong.
    pub keyspaces: BTreeMap<String, bool>,
    /// The strong ones, as far as a member of each answered.
    pub strong: Vec<StrongInfo>,
    /// Milliseconds since 1970, by this machine's clock.
    pub now_ms: u64,
}

impl Facts {
    /// The authority, as the first node that shows it knows it.
    pub fn trust(&self) -> Option<&Trust> {
        self.nodes.iter().find_map(|node| node.trust.as_ref())
    }

    /// Whether the network has an authority.
    pub fn has_authority(&self) -> bool {
        self.trust().is_some_and(|trust| trust.authority.is_some())
    }

    /// Members that do not answer, have not left, and are not revoked.
    pub fn silent_members(&self) -> impl Iterator<Item = &Unreachable> {
        let is_revoked = |id: &String| self.trust().is_some_and(|trust| trust.revoked.contains(id));
        self.crawl.unreachable.iter().filter(move |node| !node.left && !is_revoked(&node.id))
    }

    /// Names of the strong keyspaces.
    pub fn strong_names(&self) -> impl Iterator<Item = &String> {
        self.keyspaces.iter().filter(|(_, is_strong)| **is_strong).map(|(name, _)| name)
    }
}

/// Asks the nodes for everything, at the beginning and at the end of the time of observation. Nothing is written.
pub async fn collect(fleet: &Fleet, reached: &Reached, options: &Options) -> Result<Facts> {
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let before = fleet.crawl().await.map_err(Error::Broken)?;
    let clocks = clocks(fleet).await;
    sleep_until(end).await;
    let mut crawl = fleet.crawl().await.map_err(Error::Broken)?;
    let silent_before: BTreeSet<String> = before.unreachable.into_iter().map(|node| node.id).collect();
    crawl.unreachable.retain(|node| silent_before.contains(&node.id));

    let asked = (0..fleet.nodes.len()).map(async |at| {
        let facts = Box::pin(node_facts(fleet, at, options.stores)).await?;
        let clock_ms = clocks.get(&at).map(|estimate| (estimate.offset_ms(), estimate.error_ms()));
        Ok(NodeFacts { clock_ms, ..facts })
    });
    let mut silent = reached.silent.clone();
    let mut nodes = Vec::new();
    for (answer, node) in future::join_all(asked).await.into_iter().zip(fleet.nodes.iter()) {
        match answer {
            Ok(facts) => nodes.push(facts),
            Err(error) => silent.push((node.status.name.clone(), starling_api::Error::to_string(&error))),
        }
    }
    let replica = nodes.iter().find(|node: &&NodeFacts| node.status.role == REPLICA);
    let Some(first) = replica.map(|node| &fleet.nodes[node.at]) else {
        return Err(Error::Broken("no replica answers: name the API of one".into()));
    };
    let failed = |source| Error::Api { name: first.status.name.clone(), source };
    let listed = first.client.keyspaces().await.map_err(failed)?.keyspaces;
    let keyspaces = listed.into_iter().map(|keyspace| (keyspace.name, keyspace.kind == STRONG)).collect();
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now_ms = since_1970.as_millis() as u64;
    let mut facts = Facts { nodes, silent, crawl, keyspaces, strong: Vec::new(), now_ms };
    let infos = facts.strong_names().map(async |name| first.client.strong_info(name).await.ok().flatten());
    facts.strong = future::join_all(infos).await.into_iter().flatten().collect();
    Ok(facts)
}

/// What a node states at the end.
///
/// # Errors
/// It does not answer.
async fn node_facts(
    fleet: &Fleet,
    at: usize,
    stores: bool,
) -> std::result::Result<NodeFacts, starling_api::Error> {
    let node = &fleet.nodes[at];
    let client = &node.client;
    let (status, peers, ready, config, trust) =
        tokio::join!(client.status(), client.peers(), client.ready(), client.config(), client.trust());
    let settings = config
        .ok()
        .map(|config| config.settings.into_iter().map(|setting| (setting.key, setting.value)).collect());
    Ok(NodeFacts {
        at,
        before: node.status.clone(),
        status: status?,
        not_ready: ready.err().map(|error| error.message),
        peers: peers?,
        settings,
        trust: trust.ok(),
        doctor: if stores { client.doctor().await.ok() } else { None },
        clock_ms: None,
    })
}

/// The clocks of all nodes, each known well or as well as was possible in time.
async fn clocks(fleet: &Fleet) -> BTreeMap<usize, Estimate> {
    let began = Instant::now();
    let _estimates = fleet.follow_clocks();
    loop {
        let known = fleet.learned().clocks.clone();
        let is_good = |estimate: &Estimate| estimate.error_ms() <= CLOCK_ERROR_MS.max(estimate.rtt_ms());
        let are_good = known.len() == fleet.nodes.len() && known.values().all(is_good);
        if are_good || began.elapsed() > CLOCK_DEADLINE {
            return known;
        }
        sleep(POLL).await;
    }
}
