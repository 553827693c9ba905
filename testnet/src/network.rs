//! A network of node processes on this machine, to be written to, broken and repaired.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, future, stream};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use starling_api::Error as ApiError;
use starling_api::trust::TicketSpec;
use starling_client::Client;
use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::hosts::{Access, Act, Hosts};
use crate::process::{Exhausted, Launch, Process};
use crate::relay::{Member, Relay};
use crate::variable;

/// Processes started at once: more only compete for the cores. A guess.
const STARTS_AT_ONCE: usize = 8;

/// What network to start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The `starling` binary.
    pub binary: PathBuf,
    /// Replicas, beside the bootstrap node.
    pub nodes: usize,
    /// Of every random choice made from outside the nodes.
    pub seed: u64,
    /// Where the data directories go; a temporary folder if none.
    pub dir: Option<PathBuf>,
    /// Leave a temporary folder behind.
    pub keep: bool,
    /// Configuration of every node by environment variables.
    pub environment: Vec<(String, String)>,
    /// The strong keyspace that every replica serves to etcd clients, on a port that the system chooses.
    pub etcd: Option<String>,
    /// Labels of replicas, as the setting `labels` has them: dealt to them in turn; none: they have no labels.
    pub labels: Vec<String>,
    /// What all connections pass through, if anything: the bootstrap node is its member 0, replicas follow.
    pub relay: Option<Arc<Relay>>,
    /// The machines that the nodes run on, in turn; none: this one alone.
    pub hosts: Option<Arc<Hosts>>,
}

/// A folder of data directories, and whether it goes with the network.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    /// Removed when dropped.
    _temporary: Option<TempDir>,
}

/// A node of the network, running or not. Dropping it kills its process.
#[derive(Debug)]
pub struct Node {
    launch: Launch,
    running: Option<Running>,
    /// What its connections pass through, and who it is there.
    relay: Option<(Arc<Relay>, Member)>,
    access: Access,
    /// Removed after the last process that writes there has ended.
    _root: Arc<Root>,
}

/// Makes the nodes of one network.
#[derive(Debug)]
pub struct Factory {
    plan: Plan,
    root: Arc<Root>,
    /// None until the bootstrap node runs.
    ticket: Option<String>,
    made: usize,
}

#[derive(Debug)]
struct Running {
    process: Process,
    client: Client,
}

/// The process of a node that was stopped. Killed when dropped.
#[derive(Debug)]
pub struct Stopped(Running);

/// The network. Dropping it kills every process and removes a temporary folder, as dropping the nodes
/// handed over does.
#[derive(Debug)]
pub struct Network {
    bootstrap: Node,
    nodes: Vec<Node>,
    factory: Factory,
}

/// A generator for one purpose of a run, told apart from the others of the same seed by `stream`.
pub fn generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(stream);
    generator
}

impl Network {
    /// Starts the bootstrap node and no replica yet.
    pub async fn begin(plan: &Plan) -> Result<Self> {
        let mut factory =
            Factory { plan: plan.clone(), root: Arc::new(Root::new(plan)?), ticket: None, made: 0 };
        let mut bootstrap = factory.make()?;
        bootstrap.start().await?;
        factory.ticket =
            Some(bootstrap.client()?.ticket(TicketSpec::default()).await.map_err(bootstrap.failed())?.ticket);
        let nodes = (0..plan.nodes).map(|_| factory.make()).collect::<Result<_>>()?;
        Ok(Self { bootstrap, nodes, factory })
    }

    /// The bootstrap node, the replicas, and what makes more of them.
    pub fn into_parts(self) -> (Node, Vec<Node>, Factory) {
        (self.bootstrap, self.nodes, self.factory)
    }

    /// Starts every replica that is not running; each joins by itself. `started` is told of each.
    pub async fn start_all(&mut self, started: impl Fn()) -> Result<()> {
        stream::iter(self.nodes.iter_mut().filter(|node| node.running.is_none()))
            .map(|node| async {
                let result = node.start().await;
                started();
                result
            })
            .buffer_unordered(STARTS_AT_ONCE)
            .try_collect()
            .await
    }

    /// All replicas, running or not.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One replica.
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// One replica, to be started or ended.
    pub fn node_mut(&mut self, index: usize) -> &mut Node {
        &mut self.nodes[index]
    }

    /// The bootstrap node.
    pub fn bootstrap(&self) -> &Node {
        &self.bootstrap
    }

    /// Indices of the running replicas.
    pub fn live(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|index| self.nodes[*index].is_running()).collect()
    }

    /// Process ids of the running replicas, in the order of [`Self::live`].
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(|node| node.running.as_ref()).map(|it| it.process.pid()).collect()
    }

    /// The folder of all data directories.
    pub fn root(&self) -> &Path {
        &self.factory.root.path
    }

    /// Gives a replica a copy of another's store in the place of its own; both must be down. The copy is
    /// of the data alone: it keeps its own identity, and every start takes a fresh actor.
    pub fn copy_store(&self, from: usize, to: usize) -> Result<()> {
        let [from, to] = [from, to].map(|index| self.nodes[index].data_dir().join("store"));
        std::fs::remove_dir_all(&to).map_err(Error::io(&to))?;
        std::fs::create_dir(&to).map_err(Error::io(&to))?;
        for entry in std::fs::read_dir(&from).map_err(Error::io(&from))?.flatten() {
            if entry.file_name() != "LOCK" {
                std::fs::copy(entry.path(), to.join(entry.file_name())).map_err(Error::io(&entry.path()))?;
            }
        }
        Ok(())
    }

    /// An error if a process has ended that nobody ended.
    pub fn check(&mut self) -> Result<()> {
        std::iter::once(&mut self.bootstrap).chain(&mut self.nodes).try_for_each(Node::check)
    }

    /// Asks every running replica the same and returns the answers in the order of [`Self::live`].
    pub async fn ask<T>(&self, question: impl AsyncFn(&Client) -> Result<T, ApiError>) -> Result<Vec<T>> {
        let question = &question;
        future::try_join_all(
            self.nodes
                .iter()
                .filter(|node| node.is_running())
                .map(|node| async move { question(node.client()?).await.map_err(node.failed()) }),
        )
        .await
    }

    /// Asks every process to leave and waits until they have. For data that is kept: dropping the
    /// network ends it faster.
    pub async fn leave(&mut self) -> Result<()> {
        let nodes = self.nodes.iter_mut().chain(std::iter::once(&mut self.bootstrap));
        let ends = nodes.filter_map(|node| node.running.take()).map(|running| running.process.leave());
        future::join_all(ends).await.into_iter().collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.process.kill_now();
        }
    }
}

impl Factory {
    /// The machines that the nodes run on, if they are others.
    pub fn hosts(&self) -> Option<&Arc<Hosts>> {
        self.plan.hosts.as_ref()
    }

    /// Makes the next node: the bootstrap node, then replicas. It does not run yet.
    pub fn make(&mut self) -> Result<Node> {
        let (command, name) = match self.made {
            0 => ("bootstrap", "bootstrap".to_string()),
            number => ("up", format!("n{number:02}")),
        };
        self.made += 1;
        let mut environment = self.plan.environment.clone();
        if let Some(keyspace) = self.plan.etcd.as_ref().filter(|_| command == "up") {
            environment.push((variable("etcd.listen"), format!("127.0.0.1:0={keyspace}")));
        }
        if let Some(at) = (self.made - 1).checked_sub(1)
            && let Some(labels) = self.plan.labels.get(at % self.plan.labels.len().max(1))
        {
            environment.push((variable("labels"), labels.clone()));
        }
        let hosts = self.plan.hosts.as_ref();
        let host = hosts.map(|hosts| Arc::clone(&hosts.all()[hosts.index_of(self.made - 1)]));
        let access = hosts.map(|hosts| hosts.access().clone()).unwrap_or_default();
        environment.extend(access.token.clone().map(|token| (variable("api.token"), token)));
        let mut relay = None;
        if let Some(through) = &self.plan.relay {
            let (member, at) = through.add()?;
            environment.push((variable("external"), format!("/ip4/{}/tcp/{}", at.ip(), at.port())));
            relay = Some((Arc::clone(through), member));
        }
        let (binary, data_dir, join) =
            (self.plan.binary.clone(), self.root.path.join(&name), self.ticket.clone());
        let address = host.as_ref().map_or(Ipv4Addr::LOCALHOST, |host| host.address);
        let launch = Launch { binary, command, name, data_dir, address, host, join, environment };
        Ok(Node { launch, running: None, relay, access, _root: Arc::clone(&self.root) })
    }
}

impl Node {
    /// Starts it with what its data directory holds, if anything, and waits until it listens.
    pub async fn start(&mut self) -> Result<()> {
        let process = Process::start(&self.launch).await?;
        let client = self.access.client_of_one(&process.api).map_err(self.failed())?;
        if let Some((relay, member)) = &self.relay {
            relay.runs(*member, process.pid(), process.listens);
        }
        self.running = Some(Running { process, client });
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.launch.name
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.launch.data_dir
    }

    /// Whether its process was started and not ended by us.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// A client of its API.
    pub fn client(&self) -> Result<&Client> {
        self.running.as_ref().map(|running| &running.client).ok_or_else(|| self.down())
    }

    /// Its process.
    pub fn process(&self) -> Result<&Process> {
        self.running.as_ref().map(|running| &running.process).ok_or_else(|| self.down())
    }

    /// Where it serves [`Plan::etcd`].
    pub fn etcd(&self) -> Result<SocketAddr> {
        let served = self.process()?.etcd;
        served.ok_or_else(|| Error::Broken(format!("node {} serves no etcd clients", self.launch.name)))
    }

    /// kill -9.
    pub async fn kill(&mut self) -> Result<()> {
        self.take()?.process.kill().await
    }

    /// Asks it to leave and waits until it has.
    pub async fn leave(&mut self) -> Result<()> {
        self.take()?.process.leave().await
    }

    /// Its process, to be ended.
    fn take(&mut self) -> Result<Running> {
        let running = self.running.take().ok_or_else(|| self.down())?;
        if let Some((relay, member)) = &self.relay {
            relay.ended(*member);
        }
        Ok(running)
    }

    /// Lets it open no further file; `None`: it does not run. What is returned ends that, in the same process.
    pub async fn exhaust(&self) -> Result<Option<Exhausted>> {
        match &self.running {
            Some(running) => running.process.exhaust().await.map(Some),
            None => Ok(None),
        }
    }

    /// Lets it open files again, if the same process still runs.
    pub async fn replenish(&self, exhausted: Exhausted) -> Result<()> {
        match &self.running {
            Some(running) => running.process.replenish(exhausted).await,
            None => Ok(()),
        }
    }

    /// SIGSTOP. Until it is resumed it counts as not running: it answers nothing.
    pub async fn stop(&mut self) -> Result<Stopped> {
        let running = self.running.take().ok_or_else(|| self.down())?;
        running.process.stop().await?;
        Ok(Stopped(running))
    }

    /// Removes everything it has stored, its identity too: started again it is a new node.
    pub async fn wipe(&mut self) -> Result<()> {
        match &self.launch.host {
            Some(host) => host.act(&self.launch.name, Act::Wipe).await,
            None => std::fs::remove_dir_all(self.data_dir()).map_err(Error::io(self.data_dir())),
        }
    }

    /// An error if its process has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        self.running.as_mut().map_or(Ok(()), |running| running.process.check())
    }

    /// SIGCONT.
    pub async fn resume(&mut self, Stopped(running): Stopped) -> Result<()> {
        running.process.resume().await?;
        self.running = Some(running);
        Ok(())
    }

    /// For `map_err` on requests to it.
    pub fn failed(&self) -> impl Fn(ApiError) -> Error + use<> {
        let name = self.launch.name.clone();
        move |source| Error::Api { name: name.clone(), source }
    }

    fn down(&self) -> Error {
        Error::Broken(format!("node {} is not running", self.launch.name))
    }
}

impl Root {
    /// The folder that a plan asks for, which must be empty.
    pub fn new(plan: &Plan) -> Result<Self> {
        if let Some(dir) = &plan.dir {
            if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
                return Err(Error::Unsupported(format!(
                    "{} is not empty: name another folder",
                    dir.display()
                )));
            }
            return Ok(Self { path: dir.clone(), _temporary: None });
        }
        let created = TempDir::with_prefix("starling-testnet-").map_err(Error::io(&std::env::temp_dir()))?;
        if plan.keep {
            return Ok(Self { path: created.keep(), _temporary: None });
        }
        Ok(Self { path: created.path().to_path_buf(), _temporary: Some(created) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Polls until nothing is missing, and says how long that took. `missing` returns what is still
/// missing, in words.
pub async fn wait_until(
    what: &str,
    limit: Duration,
    poll: Duration,
    mut missing: impl AsyncFnMut() -> Result<Option<String>>,
) -> Result<Duration> {
    let began = Instant::now();
    loop {
        let Some(missing) = missing().await? else { return Ok(began.elapsed()) };
        let waited = began.elapsed();
        if waited > limit {
            return Err(Error::Deadline { what: what.into(), missing, waited });
        }
        tokio::time::sleep(poll).await;
    }
}
