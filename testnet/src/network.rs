//! A network of node processes on this machine, to be written to, broken and repaired.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, future, stream};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use starling_api::{Client, Error as ApiError};
use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::process::{Launch, Process};

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
}

/// A replica of the network, running or not.
#[derive(Debug)]
pub struct Node {
    launch: Launch,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    process: Process,
    client: Client,
}

/// The process of a node that was stopped. Killed when dropped.
#[derive(Debug)]
pub struct Stopped(Running);

/// The network. Dropping it kills every process and removes a temporary folder.
#[derive(Debug)]
pub struct Network {
    bootstrap: Node,
    nodes: Vec<Node>,
    root: PathBuf,
    /// Removed when dropped, after the processes have ended.
    _temporary: Option<TempDir>,
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
        let (root, temporary) = folder(plan)?;
        let launch = |command, name: String, join| Launch {
            binary: plan.binary.clone(),
            command,
            data_dir: root.join(&name),
            name,
            join,
            environment: plan.environment.clone(),
        };
        let mut bootstrap = Node { launch: launch("bootstrap", "bootstrap".into(), None), running: None };
        bootstrap.start().await?;
        let ticket = bootstrap.client()?.ticket().await.map_err(bootstrap.failed())?.ticket;
        let nodes = (1..=plan.nodes)
            .map(|n| Node { launch: launch("up", format!("n{n:02}"), Some(ticket.clone())), running: None })
            .collect();
        Ok(Self { bootstrap, nodes, root, _temporary: temporary })
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

    /// The folder of all data directories.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Gives a replica that has never run a copy of another's store; both must be down. The copy is
    /// of the data alone: it keeps its own identity, and every start takes a fresh actor.
    pub fn copy_store(&self, from: usize, to: usize) -> Result<()> {
        let [from, to] = [from, to].map(|index| self.nodes[index].data_dir().join("store"));
        std::fs::create_dir_all(&to).map_err(Error::io(&to))?;
        for entry in std::fs::read_dir(&from).map_err(Error::io(&from))?.flatten() {
            if entry.file_name() != "LOCK" {
                std::fs::copy(entry.path(), to.join(entry.file_name())).map_err(Error::io(&entry.path()))?;
            }
        }
        Ok(())
    }

    /// An error if a process has ended that nobody ended.
    pub fn check(&mut self) -> Result<()> {
        let nodes = std::iter::once(&mut self.bootstrap).chain(&mut self.nodes);
        nodes.filter_map(|node| node.running.as_mut()).try_for_each(|running| running.process.check())
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

impl Drop for Network {
    fn drop(&mut self) {
        for node in self.nodes.iter_mut().chain(std::iter::once(&mut self.bootstrap)) {
            if let Some(running) = node.running.take() {
                running.process.kill_now();
            }
        }
    }
}

impl Node {
    /// Starts it with what its data directory holds, if anything, and waits until it listens.
    pub async fn start(&mut self) -> Result<()> {
        let process = Process::start(&self.launch).await?;
        let client = Client::new(&process.api, None).map_err(self.failed())?;
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

    /// kill -9.
    pub async fn kill(&mut self) -> Result<()> {
        let running = self.running.take().ok_or_else(|| self.down())?;
        running.process.kill().await
    }

    /// Asks it to leave and waits until it has.
    pub async fn leave(&mut self) -> Result<()> {
        let running = self.running.take().ok_or_else(|| self.down())?;
        running.process.leave().await
    }

    /// SIGSTOP. Until it is resumed it counts as not running: it answers nothing.
    pub fn stop(&mut self) -> Result<Stopped> {
        let running = self.running.take().ok_or_else(|| self.down())?;
        running.process.stop()?;
        Ok(Stopped(running))
    }

    /// SIGCONT.
    pub fn resume(&mut self, Stopped(running): Stopped) -> Result<()> {
        running.process.resume()?;
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

/// Where the data directories go, and what removes it at the end.
fn folder(plan: &Plan) -> Result<(PathBuf, Option<TempDir>)> {
    if let Some(dir) = &plan.dir {
        if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Error::Unsupported(format!("{} is not empty: name another folder", dir.display())));
        }
        return Ok((dir.clone(), None));
    }
    let created = TempDir::with_prefix("starling-testnet-").map_err(Error::io(&std::env::temp_dir()))?;
    if plan.keep {
        return Ok((created.keep(), None));
    }
    Ok((created.path().to_path_buf(), Some(created)))
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
