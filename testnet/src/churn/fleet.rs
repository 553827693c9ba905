//! The processes of a run: which of them run, and how each is ended and brought back.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use starling_api::WatchEvent;
use starling_client::Client;
use starling_report::Availabilities;
use starling_sim::scenario::Scenario;
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinSet;

use super::clients::REGISTERS;
use super::clocks::Clocks;
use crate::error::{Error, Result};
use crate::history::History;
use crate::hosts::{Access, Hosts};
use crate::lock;
use crate::network::{Factory, Network, Node, Stopped};
use crate::notice::noticed;
use crate::progress::Phase;
use crate::relay::Member;
use crate::states::active_ids;
use crate::written::shown;

/// The bootstrap node. Replicas follow from 1 on, as in the relay.
pub const BOOTSTRAP: Member = 0;
/// An answer is noted within this time after it was sent.
const ANSWER_NOTED: Duration = Duration::from_millis(500);
/// A node that is asked by the way must answer within this time.
const ASK_DEADLINE: Duration = Duration::from_secs(1);

/// The processes of one run. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Fleet {
    nodes: Arc<Mutex<Vec<Arc<AsyncMutex<Node>>>>>,
    seats: Arc<Mutex<Vec<Seat>>>,
    scenario: Arc<Scenario>,
    factory: Arc<Mutex<Factory>>,
    history: Arc<Mutex<History>>,
    hosts: Option<Arc<Hosts>>,
    clocks: Arc<Mutex<Clocks>>,
    /// From each failure until its last neighbour noticed.
    notices: Arc<Mutex<Vec<Duration>>>,
    /// How the application's instances failed, and after which time another one served.
    takeovers: Arc<Mutex<Vec<(Failed, Duration)>>>,
    /// What users saw.
    availabilities: Arc<Mutex<Availabilities>>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

/// What is known of a member without asking it.
#[derive(Clone, Debug, Default)]
pub struct Seat {
    /// What it is doing.
    pub state: State,
    /// Of its API, while its process runs.
    pub client: Option<Client>,
    /// Where its API answers, or answered last.
    pub url: String,
    /// Its public key.
    pub id: String,
    /// How often it was started.
    pub starts: u64,
    /// How its process failed last, and when.
    failed: Option<(Failed, Instant)>,
}

/// What a member is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// No process, and none that is starting.
    #[default]
    Down,
    /// On its way from one state to another.
    Moving,
    /// It runs.
    Up,
    /// Its process is stopped.
    Stopped,
}

/// How an instance of the application failed: with the process of its node, or although that ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The process ended.
    Ended,
    /// The process was stopped.
    Stopped,
    /// The process ran, and the instance did not answer or had lost its turn.
    Ran,
}

impl Failed {
    /// All ways, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Ended, Self::Stopped, Self::Ran];

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ended => "its node ended",
            Self::Stopped => "its node stood still",
            Self::Ran => "its node ran",
        }
    }
}

/// How a node goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    /// kill -9.
    Kill,
    /// It says goodbye.
    Leave,
}

/// What a node comes back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// Everything it had.
    Kept,
    /// Nothing: it is a new node.
    Wiped,
}

impl Fleet {
    /// Takes over a network whose nodes run.
    pub async fn of(network: Network, scenario: &Scenario) -> Result<Self> {
        let (bootstrap, nodes, factory) = network.into_parts();
        let hosts = factory.hosts().cloned();
        let fleet = Self {
            nodes: Arc::default(),
            seats: Arc::default(),
            scenario: Arc::new(scenario.clone()),
            factory: Arc::new(Mutex::new(factory)),
            history: Arc::default(),
            hosts,
            clocks: Arc::default(),
            notices: Arc::default(),
            takeovers: Arc::default(),
            availabilities: Arc::default(),
            tasks: Arc::default(),
        };
        for node in std::iter::once(bootstrap).chain(nodes) {
            let member = fleet.take_in(node);
            fleet.seated(member).await?;
        }
        Ok(fleet)
    }

    /// Estimates the clocks of the machines that the nodes run on, if they are others.
    pub async fn estimate_clocks(&self) {
        let Some(hosts) = &self.hosts else { return };
        let phase = Phase::begin("estimating the clocks of the hosts", 0);
        // The first nodes are on different machines.
        let nodes = hosts.all().iter().zip(self.seats());
        let nodes = nodes.filter_map(|(host, seat)| Some((host.address, seat.client?)));
        let estimated = Clocks::estimate(nodes).await;
        phase.done(format!("at most {} ms apart", estimated.apart().as_millis()));
        *lock(&self.clocks) = estimated;
    }

    /// The clocks of the machines that the nodes run on.
    pub fn clocks(&self) -> MutexGuard<'_, Clocks> {
        lock(&self.clocks)
    }

    /// How clients reach the nodes.
    pub fn access(&self) -> Access {
        self.hosts.as_ref().map(|hosts| hosts.access().clone()).unwrap_or_default()
    }

    /// The history so far.
    pub fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    /// What is known of each member.
    pub fn seats(&self) -> Vec<Seat> {
        lock(&self.seats).clone()
    }

    /// What is known of one member.
    pub fn seat(&self, member: Member) -> Seat {
        lock(&self.seats)[member].clone()
    }

    /// How the application's instances failed so far, and after which time another one served.
    pub fn takeovers(&self) -> Vec<(Failed, Duration)> {
        lock(&self.takeovers).clone()
    }

    /// Another instance of the application has taken over from this one, which served at this time for the last time.
    pub fn note_takeover(&self, from: Member, last: Instant) {
        let failed = lock(&self.seats)[from].failed;
        // An answer may be noted after the failure that followed it.
        let is_since = |at: &Instant| *at + ANSWER_NOTED >= last;
        let failed = failed.filter(|(_, at)| is_since(at)).map_or(Failed::Ran, |(failed, _)| failed);
        lock(&self.takeovers).push((failed, last.elapsed()));
    }

    /// What users saw so far.
    pub fn availabilities(&self) -> MutexGuard<'_, Availabilities> {
        lock(&self.availabilities)
    }

    /// The region of a member.
    pub fn region(&self, member: Member) -> Option<String> {
        self.scenario.region(member.checked_sub(BOOTSTRAP + 1)?).map(str::to_owned)
    }

    /// Where each replica of the beginning is: its zone, or its region where there are no zones.
    pub fn places(&self) -> Vec<Option<String>> {
        self.scenario.places()
    }

    /// The zone of a member.
    pub fn zone(&self, member: Member) -> Option<String> {
        self.scenario.zone(member.checked_sub(BOOTSTRAP + 1)?)
    }

    /// From each failure until its last neighbour noticed, so far.
    pub fn notices(&self) -> Vec<Duration> {
        lock(&self.notices).clone()
    }

    /// Replicas in a state.
    pub fn replicas(&self, state: State) -> Vec<Member> {
        let seats = lock(&self.seats);
        let members = seats.iter().enumerate().skip(BOOTSTRAP + 1);
        members.filter(|(_, seat)| seat.state == state).map(|(member, _)| member).collect()
    }

    /// An error if a process has ended that nobody ended.
    pub fn check(&self) -> Result<()> {
        let nodes = lock(&self.nodes).clone();
        // A node that is being started or ended looks after itself.
        nodes.iter().filter_map(|node| node.try_lock().ok()).try_for_each(|mut node| node.check())
    }

    /// Kills a node or has it leave, if it runs.
    pub async fn end(&self, member: Member, how: Away) -> Result<()> {
        let Some(seat) = self.begin_move(member, State::Up) else { return Ok(()) };
        let neighbours = if how == Away::Kill { neighbours(&seat).await } else { Vec::new() };
        let node = self.node(member);
        let mut node = node.lock().await;
        self.history().end_span(member);
        let began = Instant::now();
        match how {
            Away::Kill => node.kill().await?,
            Away::Leave => node.leave().await?,
        }
        self.set(member, |seat| {
            (seat.state, seat.client, seat.failed) = (State::Down, None, Some((Failed::Ended, began)));
        });
        self.watch_notice(member, seat, neighbours, began);
        Ok(())
    }

    /// Starts a node that does not run.
    pub async fn start(&self, member: Member, disk: Disk) -> Result<()> {
        if self.begin_move(member, State::Down).is_none() {
            return Ok(());
        }
        let node = self.node(member);
        let mut node = node.lock().await;
        if disk == Disk::Wiped {
            node.wipe().await?;
            self.history().wipe(member);
        }
        node.start().await?;
        drop(node);
        self.seated(member).await
    }

    /// Stops a node's process until then, if it runs.
    pub async fn stall(&self, member: Member, until: tokio::time::Instant) -> Result<()> {
        let Some(seat) = self.begin_move(member, State::Up) else { return Ok(()) };
        let neighbours = neighbours(&seat).await;
        let node = self.node(member);
        let mut node = node.lock().await;
        self.history().end_span(member);
        let (began, stopped): (_, Stopped) = (Instant::now(), node.stop().await?);
        self.set(member, |seat| (seat.state, seat.failed) = (State::Stopped, Some((Failed::Stopped, began))));
        self.watch_notice(member, seat, neighbours, began);
        tokio::time::sleep_until(until).await;
        node.resume(stopped).await?;
        self.set(member, |seat| seat.state = State::Up);
        self.history().begin_span(member);
        Ok(())
    }

    /// Takes a node's file descriptors until then: those that are open stay.
    pub async fn exhaust(&self, member: Member, until: tokio::time::Instant) -> Result<()> {
        let node = self.node(member);
        let Some(taken) = node.lock().await.exhaust().await? else { return Ok(()) };
        tokio::time::sleep_until(until).await;
        node.lock().await.replenish(taken).await
    }

    /// Adds a node, which does not run yet.
    pub fn add(&self) -> Result<Member> {
        let node = lock(&self.factory).make()?;
        Ok(self.take_in(node))
    }

    fn take_in(&self, node: Node) -> Member {
        let mut nodes = lock(&self.nodes);
        nodes.push(Arc::new(AsyncMutex::new(node)));
        lock(&self.seats).push(Seat::default());
        nodes.len() - 1
    }

    fn node(&self, member: Member) -> Arc<AsyncMutex<Node>> {
        Arc::clone(&lock(&self.nodes)[member])
    }

    fn set(&self, member: Member, change: impl FnOnce(&mut Seat)) {
        change(&mut lock(&self.seats)[member]);
    }

    /// Leaves a state, if the member is in it: until it has another one, nothing else is done to it.
    fn begin_move(&self, member: Member, from: State) -> Option<Seat> {
        let mut seats = lock(&self.seats);
        let seat = seats.get_mut(member).filter(|seat| seat.state == from)?;
        seat.state = State::Moving;
        Some(seat.clone())
    }

    /// A process has started: makes it known, and watches it if it is a replica.
    async fn seated(&self, member: Member) -> Result<()> {
        let node = self.node(member);
        let node = node.lock().await;
        let client = node.client()?.clone();
        let id = client.status().await.map_err(node.failed())?.id;
        if member != BOOTSTRAP {
            let mut watch = client.watch(REGISTERS, b"").await.map_err(node.failed())?;
            match watch.next_event().await {
                Some(Ok(WatchEvent::Ready)) => {}
                other => return Err(Error::Broken(format!("{}: a watch began with {other:?}", node.name()))),
            }
            self.history().begin_span(member);
            let host = self.hosts.as_ref().map(|hosts| hosts.all()[hosts.index_of(member)].address);
            lock(&self.tasks).spawn(forward(
                watch,
                member,
                host,
                Arc::clone(&self.clocks),
                Arc::clone(&self.history),
            ));
        }
        self.set(member, |seat| {
            let starts = seat.starts + 1;
            let url = client.url().to_owned();
            *seat = Seat { state: State::Up, client: Some(client), url, id, starts, failed: seat.failed };
        });
        Ok(())
    }

    /// Notes in the background when the last of a failed node's neighbours has dropped it.
    fn watch_notice(&self, member: Member, failed: Seat, neighbours: Vec<String>, began: Instant) {
        let fleet = self.clone();
        let watched = async move {
            let watchers = fleet.seats().into_iter().filter(|seat| neighbours.contains(&seat.id));
            let watchers = watchers.filter_map(|seat| seat.client).collect();
            let is_back = || fleet.seats()[member].state == State::Up;
            if let Some(last) = noticed(&failed.id, watchers, began, is_back).await {
                lock(&fleet.notices).push(last);
            }
        };
        lock(&self.tasks).spawn(watched);
    }
}

/// Ids of a node's active view.
async fn neighbours(seat: &Seat) -> Vec<String> {
    let Some(client) = &seat.client else { return Vec::new() };
    match tokio::time::timeout(ASK_DEADLINE, client.peers()).await {
        Ok(Ok(peers)) => active_ids(&peers).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Notes what a node shows until the watch ends.
async fn forward(
    mut watch: starling_client::Watch,
    node: Member,
    host: Option<Ipv4Addr>,
    clocks: Arc<Mutex<Clocks>>,
    history: Arc<Mutex<History>>,
) {
    while let Some(Ok(event)) = watch.next_event().await {
        let one_way = lock(&clocks).one_way(host);
        let mut history = lock(&history);
        let at = history.now().saturating_sub(one_way);
        match event {
            WatchEvent::Put(entry) => {
                for id in shown(&entry) {
                    history.show(id, node, at);
                }
            }
            // From here on something would be missed.
            WatchEvent::Lagged { .. } => history.end_span(node),
            WatchEvent::Ready | WatchEvent::Delete { .. } => {}
        }
    }
}
