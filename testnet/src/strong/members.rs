//! The nodes of a run: those that vote, and those outside of the group, through which clients come too.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use starling_api::strong::StrongInfo;
use starling_client::Client;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, sleep_until, timeout};

use super::KEYSPACE;
use crate::error::{Error, Result};
use crate::lock;
use crate::network::{Network, Node};

/// A node that is asked how the keyspace stands has to answer within this time.
const ASK_DEADLINE: Duration = Duration::from_millis(500);

/// What a voter is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Up,
    /// On its way from one state to another.
    Moving,
    /// Its process stands still.
    Stopped,
    Killed,
}

#[derive(Debug)]
struct Seat {
    name: String,
    state: State,
    /// None while there is no process.
    client: Option<Client>,
}

/// How often and how long fewer than a majority of the voters ran.
#[derive(Clone, Copy, Debug, Default)]
pub struct Minority {
    pub times: u64,
    pub lasted: Duration,
    since: Option<Instant>,
}

/// All nodes; voters come first. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Members {
    nodes: Arc<Vec<AsyncMutex<Node>>>,
    seats: Arc<Mutex<Vec<Seat>>>,
    minority: Arc<Mutex<Minority>>,
    voters: usize,
    /// Runs as long as the others; nobody asks it anything.
    _bootstrap: Arc<Node>,
}

impl Members {
    /// Takes over a network whose nodes run; the first `voters` of them vote.
    pub fn of(network: Network, voters: usize) -> Result<Self> {
        let (bootstrap, nodes, _) = network.into_parts();
        let seat = |node: &Node| {
            let client = Some(node.client()?.clone());
            Ok(Seat { name: node.name().to_string(), state: State::Up, client })
        };
        let seats = nodes.iter().map(seat).collect::<Result<_>>()?;
        Ok(Self {
            nodes: Arc::new(nodes.into_iter().map(AsyncMutex::new).collect()),
            seats: Arc::new(Mutex::new(seats)),
            minority: Arc::default(),
            voters,
            _bootstrap: Arc::new(bootstrap),
        })
    }

    /// How many there are, voters and others.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// How many vote.
    pub fn voters(&self) -> usize {
        self.voters
    }

    /// A node's name.
    pub fn name(&self, node: usize) -> String {
        lock(&self.seats)[node].name.clone()
    }

    /// A client of a node; none while it has no process. One that stands still is asked like any other.
    pub fn client(&self, node: usize) -> Option<Client> {
        lock(&self.seats)[node].client.clone()
    }

    /// Voters that run.
    pub fn up(&self) -> Vec<usize> {
        let seats = lock(&self.seats);
        (0..self.voters).filter(|voter| seats[*voter].state == State::Up).collect()
    }

    /// How often and how long there was no majority.
    pub fn minority(&self) -> Minority {
        *lock(&self.minority)
    }

    /// How the voters that run see the keyspace.
    pub async fn infos(&self) -> Vec<StrongInfo> {
        let asked = self
            .up()
            .into_iter()
            .filter_map(|voter| self.client(voter))
            .map(async |client| timeout(ASK_DEADLINE, client.strong_info(KEYSPACE)).await.ok()?.ok()?);
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// The voter that leads in the newest term that any of them knows.
    pub async fn leader(&self) -> Option<usize> {
        let infos = self.infos().await;
        let newest = infos.iter().filter(|info| info.leader.is_some()).max_by_key(|info| info.term)?;
        self.called(newest.leader.as_ref()?)
    }

    /// The node of this name. One that has just started may not know its leader's yet, and says its id.
    pub fn called(&self, name: &str) -> Option<usize> {
        lock(&self.seats).iter().position(|seat| seat.name == *name)
    }

    /// kill -9, and a start with what it had when the time has come. Nothing, if it does not run.
    pub async fn kill(&self, voter: usize, until: Instant) -> Result<()> {
        if !self.begin_move(voter) {
            return Ok(());
        }
        let mut node = self.nodes[voter].lock().await;
        node.kill().await?;
        self.set(voter, State::Killed, None);
        sleep_until(until).await;
        node.start().await?;
        self.set(voter, State::Up, Some(node.client()?.clone()));
        Ok(())
    }

    /// SIGSTOP, and SIGCONT when the time has come. Nothing, if it does not run.
    pub async fn stop(&self, voter: usize, until: Instant) -> Result<()> {
        if !self.begin_move(voter) {
            return Ok(());
        }
        let mut node = self.nodes[voter].lock().await;
        let client = node.client()?.clone();
        let stopped = node.stop().await?;
        self.set(voter, State::Stopped, Some(client.clone()));
        sleep_until(until).await;
        node.resume(stopped).await?;
        self.set(voter, State::Up, Some(client));
        Ok(())
    }

    /// An error if a process has ended that nobody ended.
    pub fn check(&self) -> Result<()> {
        // A node that is being ended or started looks after itself.
        self.nodes.iter().filter_map(|node| node.try_lock().ok()).try_for_each(|mut node| node.check())
    }

    /// For `map_err` on requests to a node.
    pub fn failed(&self, node: usize) -> impl Fn(starling_api::Error) -> Error + use<> {
        let name = self.name(node);
        move |source| Error::Api { name: name.clone(), source }
    }

    /// Nothing else is done to a voter until it has another state.
    fn begin_move(&self, voter: usize) -> bool {
        let is_up = lock(&self.seats)[voter].state == State::Up;
        if is_up {
            self.change(voter, |seat| seat.state = State::Moving);
        }
        is_up
    }

    fn set(&self, voter: usize, state: State, client: Option<Client>) {
        self.change(voter, |seat| (seat.state, seat.client) = (state, client));
    }

    fn change(&self, voter: usize, change: impl FnOnce(&mut Seat)) {
        change(&mut lock(&self.seats)[voter]);
        let is_majority = 2 * self.up().len() > self.voters;
        let mut minority = lock(&self.minority);
        match (is_majority, minority.since) {
            (false, None) => {
                minority.times += 1;
                minority.since = Some(Instant::now());
            }
            (true, Some(since)) => {
                minority.lasted += since.elapsed();
                minority.since = None;
            }
            _ => {}
        }
    }
}
