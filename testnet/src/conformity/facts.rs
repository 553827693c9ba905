//! What the rules look at: everything that nodes of a running network state about themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future;
use starling_api::admin::{Nodes, Peers, Status};
use starling_api::strong::StrongInfo;
use starling_api::trust::Trust;
use tokio::time::{Instant, sleep};

use crate::attach::{Estimate, Fleet};
use crate::error::{Error, Result};

/// A clock is estimated until it is known within this, milliseconds, as far as its round trip allows.
const CLOCK_ERROR_MS: f64 = 50.0;
/// Clocks are estimated for this long, at most.
const CLOCK_DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
/// What keyspaces with a group are called in lists.
const STRONG: &str = "strong";

/// What one node states.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// Its status.
    pub status: Status,
    /// The peers that it knows.
    pub peers: Peers,
    /// Its settings in TOML, by name; none: it does not show them to this client.
    pub settings: Option<BTreeMap<String, String>>,
    /// Its clock less this machine's, and how far it may be from that, milliseconds.
    pub clock_ms: Option<(f64, f64)>,
}

/// Everything that was found out.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The nodes whose API was reached.
    pub nodes: Vec<NodeFacts>,
    /// The network, by a crawl.
    pub crawl: Nodes,
    /// Names of all keyspaces, with whether each is strong.
    pub keyspaces: BTreeMap<String, bool>,
    /// The strong ones, as far as a member of each answered.
    pub strong: Vec<StrongInfo>,
    /// The authority, as the first node that answered knows it.
    pub trust: Option<Trust>,
    /// Milliseconds since 1970, by this machine's clock.
    pub now_ms: u64,
}

/// Asks the nodes for everything. Nothing is written.
pub async fn collect(fleet: &Fleet) -> Result<Facts> {
    let crawl = fleet.crawl().await.map_err(Error::Broken)?;
    let clocks = clocks(fleet).await;
    let asked = fleet.nodes.iter().enumerate().map(async |(at, node)| {
        let (status, peers, config) =
            tokio::join!(node.client.status(), node.client.peers(), node.client.config());
        let settings = config
            .ok()
            .map(|config| config.settings.into_iter().map(|setting| (setting.key, setting.value)).collect());
        Some(NodeFacts {
            status: status.ok()?,
            peers: peers.ok()?,
            settings,
            clock_ms: clocks.get(&at).map(|estimate| (estimate.offset_ms(), estimate.error_ms())),
        })
    });
    let nodes: Vec<NodeFacts> = future::join_all(asked).await.into_iter().flatten().collect();
    let Some(first) = fleet.nodes.first() else { return Err(Error::Broken("no node answers".into())) };
    let failed = |source| Error::Api { name: first.status.name.clone(), source };
    let keyspaces: BTreeMap<String, bool> = first
        .client
        .keyspaces()
        .await
        .map_err(failed)?
        .keyspaces
        .into_iter()
        .map(|keyspace| (keyspace.name, keyspace.kind == STRONG))
        .collect();
    let infos = keyspaces
        .iter()
        .filter(|(_, is_strong)| **is_strong)
        .map(async |(name, _)| first.client.strong_info(name).await.ok().flatten());
    let strong = future::join_all(infos).await.into_iter().flatten().collect();
    let trust = first.client.trust().await.ok();
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(Facts { nodes, crawl, keyspaces, strong, trust, now_ms: since_1970.as_millis() as u64 })
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
