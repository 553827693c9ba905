//! The nodes of the network while they are measured: what they count, what they show, and when they go away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures::future;
use starling_api::WatchEvent;
use starling_api::admin::{Nodes, Peers, Status};
use starling_client::Watch;
use starling_report::Availabilities;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::clock::{Estimate, Wall, estimate};
use super::targets::Node;
use crate::history::History;
use crate::lock;
use crate::notice::noticed;
use crate::samples::{ANSWER_DEADLINE, Answer, Counts, PERIOD};
use crate::states::active_ids;
use crate::written::shown;

/// Pause before a watch that has ended is opened again.
const AGAIN: Duration = Duration::from_millis(200);
/// A node that answered so shortly before its watch ended failed when the watch ended: two samples.
const SIGNS_AGE_MAX: Duration = PERIOD.saturating_mul(2);
/// The name of requests for the status among the operations whose availability is reported.
const STATUS: &str = "status";

/// A handle to the nodes whose API is reached, and to what was learned of them.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// In the order of their indices.
    pub nodes: Arc<Vec<Node>>,
    learned: Arc<Mutex<Learned>>,
}

/// What was learned of the nodes so far.
#[derive(Debug, Default)]
pub struct Learned {
    /// The probes, and when which node showed them.
    pub history: History,
    /// Of each node, as far as they are known.
    pub clocks: BTreeMap<usize, Estimate>,
    /// Its process: how many were seen so far, and for how long it had run at the last answer, milliseconds.
    processes: BTreeMap<usize, (u64, u64)>,
    /// The last roots, by node.
    pub roots: BTreeMap<usize, Option<String>>,
    /// From each disappearance of a node until its last neighbour dropped it.
    pub notices: Vec<Duration>,
    /// Nodes whose watch ended unprompted, each time.
    pub gone: Vec<usize>,
    /// Requests to nodes.
    pub availabilities: Availabilities,
    is_watched: BTreeMap<usize, bool>,
    /// The last active views, ids of peers by node.
    views: BTreeMap<usize, BTreeSet<String>>,
    /// When each answered last.
    answered: BTreeMap<usize, Instant>,
}

impl Fleet {
    /// The nodes that answered.
    pub fn new(nodes: Vec<Node>) -> Self {
        Self { nodes: Arc::new(nodes), learned: Arc::default() }
    }

    /// What was learned so far.
    pub fn learned(&self) -> MutexGuard<'_, Learned> {
        lock(&self.learned)
    }

    /// Half of the round trip to a node; zero while it is not known.
    pub fn one_way(&self, node: usize) -> Duration {
        self.learned().clocks.get(&node).map_or(Duration::ZERO, Estimate::one_way)
    }

    /// Begins to estimate every node's clock, and to watch a keyspace on every node. Ends when what it returns is dropped.
    pub fn follow(&self, keyspace: &str) -> JoinSet<()> {
        let mut tasks = self.follow_clocks();
        for node in 0..self.nodes.len() {
            let (fleet, keyspace) = (self.clone(), keyspace.to_owned());
            tasks.spawn(async move { fleet.watch(node, &keyspace).await });
        }
        tasks
    }

    /// Begins to estimate every node's clock. Ends when what it returns is dropped.
    pub fn follow_clocks(&self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let wall = Wall::now();
        for node in 0..self.nodes.len() {
            let fleet = self.clone();
            tasks.spawn(async move {
                let note = |estimate| {
                    fleet.learned().clocks.insert(node, estimate);
                };
                estimate(&fleet.nodes[node].client, wall, note).await;
            });
        }
        tasks
    }

    /// Names of the nodes that are not watched.
    pub fn unwatched(&self) -> Vec<&str> {
        let learned = self.learned();
        let stands = |node: &usize| learned.is_watched.get(node) == Some(&true);
        let missing = (0..self.nodes.len()).filter(|node| !stands(node));
        missing.map(|node| self.nodes[node].status.name.as_str()).collect()
    }

    /// Watches a keyspace on a node until this is dropped. The end of a watch is the first sign that a process has ended.
    async fn watch(&self, node: usize, keyspace: &str) {
        let mut watch = self.open(node, keyspace).await;
        loop {
            while let Some(Ok(event)) = watch.next_event().await {
                self.on_event(node, &event);
            }
            let gone = Instant::now();
            self.end_span(node);
            ((), watch) = tokio::join!(self.on_gone(node, gone), self.open(node, keyspace));
        }
    }

    /// Opens a watch, as soon as the node serves it.
    async fn open(&self, node: usize, keyspace: &str) -> Watch {
        loop {
            if let Ok(watch) = self.nodes[node].client.watch(keyspace, b"").await {
                self.learned().is_watched.insert(node, true);
                return watch;
            }
            sleep(AGAIN).await;
        }
    }

    fn on_event(&self, node: usize, event: &WatchEvent) {
        let one_way = self.one_way(node);
        let mut learned = self.learned();
        match event {
            WatchEvent::Ready => learned.history.begin_span(node),
            WatchEvent::Put(entry) => {
                let at = learned.history.now().saturating_sub(one_way);
                for id in shown(entry) {
                    learned.history.show(id, node, at);
                }
            }
            // From here on something would be missed.
            WatchEvent::Lagged { .. } => learned.history.end_span(node),
            WatchEvent::Delete { .. } => {}
        }
    }

    /// The watch of a node has ended.
    fn end_span(&self, node: usize) {
        let mut learned = self.learned();
        learned.history.end_span(node);
        learned.is_watched.insert(node, false);
    }

    /// A node's watch has ended. Unless the node answers, its neighbours are asked until they have dropped it.
    async fn on_gone(&self, node: usize, gone: Instant) {
        let Node { client, status, .. } = &self.nodes[node];
        if matches!(timeout(ANSWER_DEADLINE, client.status()).await, Ok(Ok(_))) {
            return;
        }
        let answered = self.learned().answered.get(&node).copied();
        self.learned().gone.push(node);
        // A node that stood still before its watch ended failed at a time that is not known.
        if answered.is_none_or(|answered| gone.saturating_duration_since(answered) > SIGNS_AGE_MAX) {
            return;
        }
        let views = self.learned().views.clone();
        let neighbours = views.iter().filter(|(other, view)| **other != node && view.contains(&status.id));
        let neighbours = neighbours.map(|(other, _)| self.nodes[*other].client.clone()).collect();
        let is_back = || self.learned().is_watched.get(&node) == Some(&true);
        if let Some(time) = noticed(&status.id, neighbours, gone, is_back).await {
            self.learned().notices.push(time);
        }
    }

    /// The status of every node, by index; none of those that do not answer.
    pub async fn statuses(&self) -> Vec<Option<Status>> {
        let asked = self.nodes.iter().enumerate().map(async |(node, it)| {
            let start = self.now_us();
            let answer = timeout(ANSWER_DEADLINE, it.client.status()).await;
            let answer = answer.ok().and_then(Result::ok);
            let span = [start, self.now_us()];
            self.learned().availabilities.note(node, STATUS, span, answer.is_some());
            answer
        });
        let answers = future::join_all(asked).await;
        let mut learned = self.learned();
        for (node, status) in answers.iter().enumerate().filter_map(|(node, it)| Some((node, it.as_ref()?))) {
            learned.roots.insert(node, status.root.clone());
            learned.answered.insert(node, Instant::now());
        }
        drop(learned);
        answers
    }

    /// Microseconds of the run.
    pub fn now_us(&self) -> u64 {
        self.learned().history.now().as_micros() as u64
    }

    /// The counters in statuses, each with the number of its process; and whether it is a process that was not seen before
    /// and yet began before the run.
    pub fn counted(&self, statuses: &[Option<Status>], measured: Duration) -> Vec<(Answer, bool)> {
        let mut learned = self.learned();
        let answered = statuses.iter().enumerate().filter_map(|(node, it)| Some((node, it.as_ref()?)));
        answered
            .map(|(node, status)| {
                let uptime_ms = status.uptime_ms;
                let known = learned.processes.get(&node).copied();
                let start = match known {
                    Some((start, before_ms)) if uptime_ms >= before_ms => start,
                    Some((start, _)) => start + 1,
                    None => 0,
                };
                learned.processes.insert(node, (start, uptime_ms));
                let is_older = known.is_none() && u128::from(uptime_ms) > measured.as_millis();
                (Answer { node, start, counts: Counts::of(status) }, is_older)
            })
            .collect()
    }

    /// The peers of every node, by index.
    pub async fn peers(&self) -> Vec<Option<Peers>> {
        let asked =
            self.nodes.iter().map(async |it| timeout(ANSWER_DEADLINE, it.client.peers()).await.ok()?.ok());
        let answers: Vec<Option<Peers>> = future::join_all(asked).await;
        let mut learned = self.learned();
        for (node, peers) in answers.iter().enumerate().filter_map(|(node, it)| Some((node, it.as_ref()?))) {
            learned.views.insert(node, active_ids(peers));
        }
        drop(learned);
        answers
    }

    /// The peers of every node that answers, by the node's id.
    pub async fn peers_by_id(&self) -> Vec<(String, Peers)> {
        let peers = self.peers().await.into_iter().zip(self.nodes.iter());
        peers.filter_map(|(peers, node)| Some((node.status.id.clone(), peers?))).collect()
    }

    /// The whole network, from a crawl by the first node that can, or why none could.
    pub async fn crawl(&self) -> Result<Nodes, String> {
        let mut problem = String::new();
        for node in self.nodes.iter() {
            match node.client.nodes().await {
                Ok(nodes) => return Ok(nodes),
                Err(error) => problem = format!("{}: {error}", node.status.name),
            }
        }
        Err(problem)
    }
}
