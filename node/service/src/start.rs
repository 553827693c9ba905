//! The life of a node, from its files to its last sync.

use std::net::{Ipv6Addr, UdpSocket};
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;

use starling_api::trust::TicketSpec;
use starling_bootstrap::{Finder, FinderConfig, Mdns};
use starling_core::{Core, Input};
use starling_kv::{Limits, Options, Store};
use starling_p2p::{Driver, DriverConfig, Identity, Issuer, TrustConfig};
use starling_proto::{NodeRecord, Role};
use starling_rocks::{LostWrites, RocksEngine, RocksOptions};
use starling_strong::registry::mark_lost;
use tokio::sync::{broadcast, watch};
use tracing::error;

use super::access::Audit;
use super::authority::AuthorityKey;
use super::clock::{Clock, wall_ms};
use super::command::channel;
use super::config::{Config, Durability, LISTEN_DEFAULT};
use super::contacts::{Contacts, Search};
use super::credentials::Credentials;
use super::data_dir::DataDir;
use super::disk::Disk;
use super::gossip::{Asked, Facts, GossipLoop, is_local, public_addresses};
use super::handle::{Handle, Parts};
use super::membership::Membership;
use super::start_error::StartError;
use super::strong::{Names, Requests};
use super::{report, setup};

/// Change sets that a watch may lag behind before it ends with `Lagged`.
const CHANGE_SETS_MAX: usize = 1024;

/// Information about a started node.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// The node's public key in hexadecimal.
    pub id: String,
    /// The first digits of it.
    pub short_id: String,
    /// Chosen by the operator.
    pub name: String,
    /// Whether the node keeps data.
    pub role: Role,
    /// Multiaddresses where peers reach it.
    pub listen: Vec<String>,
    /// A join ticket. Any node that has it can join the network: treat it as a password. `None` on a node that cannot
    /// invite others.
    pub ticket: Option<String>,
    /// Whether the data directory is new.
    pub is_first_run: bool,
    /// The key of the network's authority, if this run has made it with the network. No node needs the file.
    pub authority_key: Option<PathBuf>,
    /// Whether the node looks for peers that it was configured with or remembers.
    pub seeks_peers: bool,
    /// Whether other machines cannot join with the ticket: it holds only addresses that mean this machine.
    pub is_local: bool,
    /// The data directory.
    pub data_dir: DataDir,
}

/// A running node. Dropping it makes the node stop, without waiting for it.
pub struct Node {
    handle: Handle,
    info: NodeInfo,
    stop: watch::Sender<bool>,
    /// Closed when the gossip thread has written everything to the disk.
    stopped: watch::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// The gossip thread's message after the node has started.
struct Started {
    handle: Handle,
    info: NodeInfo,
}

impl Node {
    /// Starts a node on threads of its own. Blocks until its store is open and it listens for peers, which
    /// takes milliseconds, or seconds after a crash. Needs no runtime, and works inside any.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let (stop, told_to_stop) = watch::channel(false);
        let (ended, stopped) = watch::channel(());
        let (ready, started) = sync_channel(1);
        let run = move || {
            run(&config, told_to_stop, &ready);
            drop(ended);
        };
        let thread = std::thread::Builder::new().name("gossip".into()).spawn(run);
        let thread = thread.map_err(StartError::System)?;
        let Ok(started) = started.recv() else {
            // It ended without an answer, so it has panicked, and the panic continues in the caller.
            std::panic::resume_unwind(thread.join().expect_err("the thread answers before it returns"));
        };
        let Started { handle, info } = match started {
            Ok(started) => started,
            Err(error) => {
                // The data directory is free again once the thread has ended.
                drop(thread.join());
                return Err(error);
            }
        };
        Ok(Self { handle, info, stop, stopped, thread: Some(thread) })
    }

    /// The node's interface; clone it freely.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Information about the node.
    pub fn info(&self) -> &NodeInfo {
        &self.info
    }

    /// Completes when the node has stopped, for any reason.
    pub async fn stopped(&self) {
        // Nothing is ever sent: the channel closes with the thread.
        let _ = self.stopped.clone().changed().await;
    }

    /// Leaves the network and waits until everything is on the disk. If the future is dropped, the node
    /// stops all the same. A panic of the node's thread continues in the caller.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        self.stopped().await;
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// The gossip thread.
fn run(config: &Config, stop: watch::Receiver<bool>, ready: &SyncSender<Result<Started, StartError>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(StartError::System(error)))),
    };
    runtime.block_on(async {
        match prepare(config).await {
            Ok((started, gossip_loop, search)) => {
                let parts = Arc::clone(&started.handle.parts);
                // The caller waits.
                let _ = ready.send(Ok(started));
                Box::pin(live(gossip_loop, search, stop)).await;
                parts.close();
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
}

async fn live(
    mut gossip_loop: GossipLoop,
    search: impl Future<Output = ()>,
    mut stop: watch::Receiver<bool>,
) {
    let stop = async move { drop(stop.wait_for(|stop| *stop).await) };
    tokio::select! {
        () = gossip_loop.run(stop) => {}
        () = search => {}
    }
    gossip_loop.finish();
}

/// Opens the files, listens, and puts the parts together.
async fn prepare(
    config: &Config,
) -> Result<(Started, GossipLoop, impl Future<Output = ()> + use<>), StartError> {
    let role = config.role;
    let dir = DataDir::open(&config.data_dir)?;
    dir.require_identity()?;
    let identity = Identity::load_or_create(&dir.identity())?;
    let mut membership = Membership::load_or_adopt(&dir, &config.join)?;
    let limits = setup::limits(config)?;
    let core_config = setup::core(config)?;
    let store =
        if role == Role::Replica { Some(open_store(&dir, config, limits, &membership)?) } else { None };
    // The store has compared its network with this one.
    membership.save(&dir)?;
    let (engine, store) = store.unzip();
    let mut credentials = Credentials::load(&dir)?;
    for authority in &membership.authorities {
        credentials.adopt(authority, &dir)?;
    }
    let issuer = Arc::new(issuer(&identity, &dir, setup::certificate_ms(config)?)?);
    let started_ms = dir.next_start(wall_ms())?;
    let trust = credentials.for_driver(Arc::clone(&issuer));
    let (driver, record) = listen(started_ms, config, identity, &membership, trust).await?;

    let names = store.as_ref().map(|store| Names::load(&store.reader())).transpose()?.unwrap_or_default();
    let (gossip, commands, calls) = channel();
    let (changes, _) = broadcast::channel(CHANGE_SETS_MAX);
    let contacts = Contacts::default();
    let search = contacts.clone().search(finder(config, &membership, &record), gossip.clone());
    let clock = Clock::start();
    let remembered = dir.load_peers();
    let facts = Facts {
        network: report::hex(&membership.network_id()),
        durability: config.durability.name(),
        external: config.external.clone(),
        ticket: Box::new(membership.ticket_maker()),
        issuer,
        has_contacts: membership.has_contacts() || !remembered.is_empty() || config.mdns,
    };
    let reader = store.as_ref().map(Store::reader);
    let mut core = Core::new(core_config, record.clone(), store, remembered, rand::random(), clock.now());
    let Credentials { trust, certificate, invitation } = credentials;
    core.restore_credentials(clock.now(), trust, certificate);
    if membership.is_new_network {
        core.start_network(clock.now());
    }
    if let Some(engine) = engine.clone() {
        core.open_strong(engine, setup::strong_config(config)?, rand::random(), clock.now())?;
    }
    let disk = Disk::start(config.durability, engine, dir.clone()).map_err(StartError::System)?;
    let (trust, trusted) = watch::channel(Arc::clone(core.trust()));
    let audit = Audit::new(dir.path());
    let mut gossip_loop = GossipLoop {
        clock,
        core,
        driver,
        record,
        commands,
        calls,
        synced: disk.synced(),
        disk,
        names: names.clone(),
        reader: reader.clone(),
        strong: Requests::default(),
        changes: changes.clone(),
        contacts,
        search: Search::default(),
        invitation,
        trust,
        facts,
        asked: Asked::default(),
    };
    let makes_authority = membership.is_new_network && role == Role::Replica;
    let authority_key = makes_authority.then(|| make_authority(&mut gossip_loop, &dir)).transpose()?;
    let record = &gossip_loop.record;
    let node = record.id;
    let info = NodeInfo {
        id: report::hex(&node.0),
        short_id: node.short(),
        name: record.name.clone(),
        role,
        listen: gossip_loop.driver.listen_addresses(),
        ticket: gossip_loop.ticket(TicketSpec::default()).ok(),
        authority_key,
        is_local: record.addresses.iter().all(|address| is_local(address)),
        is_first_run: membership.is_first_run,
        seeks_peers: role == Role::Replica && gossip_loop.facts.has_contacts,
        data_dir: dir,
    };
    let (store, changes) = (RwLock::new(reader.into()), changes.downgrade());
    let parts = Parts { node, gossip, store, names, changes, limits, trust: trusted, audit: Arc::new(audit) };
    let handle = Handle::new(Arc::new(parts));
    Ok((Started { handle, info }, gossip_loop, search))
}

fn open_store(
    dir: &DataDir,
    config: &Config,
    limits: Limits,
    membership: &Membership,
) -> Result<(RocksEngine, Store<RocksEngine>), StartError> {
    let (cache_bytes, recycle_logs) = (config.cache_bytes as usize, config.durability == Durability::Always);
    let engine = RocksEngine::open(&dir.store(), &RocksOptions { cache_bytes, recycle_logs })?;
    if let Some(LostWrites { synced, found }) = engine.lost_writes() {
        error!(
            "the store is damaged: of {synced} writes that were durable, the last {} are missing. Peers refill eventual \
             keyspaces; this node's replicas of strong ones stay closed until they are replaced: check the disk",
            synced - found,
        );
        mark_lost(&engine)?;
    }
    if engine.lost_records().is_some() {
        error!(
            "the journal of the store is damaged: records that were durable are missing. This node's replicas of strong \
             keyspaces stay closed until they are replaced: check the disk"
        );
        mark_lost(&engine)?;
        // Before the journal is written again, and is whole again.
        engine.sync()?;
    }
    let options = Options { limits, network: Some(membership.network_id()), ..Options::default() };
    let store = Store::open(engine.clone(), options, rand::random())?;
    Ok((engine, store))
}

/// Makes the authority of a new network, and this node its first issuer. Returns where the authority's key is.
fn make_authority(gossip_loop: &mut GossipLoop, dir: &DataDir) -> Result<PathBuf, StartError> {
    let path = dir.authority_key();
    let statement = AuthorityKey::load_or_create(&path)?.first_issuer(&gossip_loop.record);
    let (authority, statements) = (statement.authority, vec![statement]);
    gossip_loop.feed(Input::Statements { from: None, authority, statements });
    Ok(path)
}

fn issuer(identity: &Identity, dir: &DataDir, certificate_ms: u64) -> Result<Issuer, StartError> {
    let path = dir.invitations();
    let opened = Issuer::open(identity.clone(), &path, certificate_ms, wall_ms());
    opened.map_err(|reason| StartError::DataDir { path, reason })
}

/// Starts the driver, and signs the node's record once it knows where it listens.
async fn listen(
    started_ms: u64,
    config: &Config,
    identity: Identity,
    membership: &Membership,
    trust: TrustConfig,
) -> Result<(Driver, NodeRecord), StartError> {
    let mut record = NodeRecord {
        name: setup::name(config)?,
        addresses: config.external.clone(),
        labels: setup::labels(config)?,
        more: setup::client_urls(config),
        ..NodeRecord::new(identity.node_id(), started_ms, config.role)
    };
    let mut driver = Driver::start(DriverConfig {
        identity,
        listen: listen_addresses(&config.listen, has_ipv6()),
        protocol: config.software.protocol,
        network: membership.network(),
        record: record.clone(),
        trust,
        limits: setup::driver_limits(config)?,
    })
    .await?;
    record.addresses = public_addresses(&config.external, driver.listen_addresses());
    driver.sign(&mut record);
    driver.set_record(record.clone());
    Ok((driver, record))
}

/// Where to listen: as configured, or by default on the protocols of this machine.
fn listen_addresses(configured: &[String], has_ipv6: bool) -> Vec<String> {
    let is_default = configured == LISTEN_DEFAULT;
    configured.iter().filter(|it| has_ipv6 || !is_default || !it.starts_with("/ip6/")).cloned().collect()
}

/// Whether this machine has IPv6: it may be off in the kernel, or in this container, which then has no such address.
fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// The finder; without mDNS if the system does not support it, because the other sources may still lead to the network.
fn finder(config: &Config, membership: &Membership, record: &NodeRecord) -> Finder {
    let start = || Mdns::start(membership.network_id(), &record.id.short(), &record.addresses);
    let mdns = config.mdns.then(start).and_then(|started| {
        started.inspect_err(|error| tracing::warn!(%error, "the local network is not searched")).ok()
    });
    let (addresses, names) = (membership.addresses.clone(), membership.names.clone());
    Finder::new(FinderConfig { addresses, names, seed: rand::random() }, mdns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_defaults_depend_on_the_machine() {
        let default = LISTEN_DEFAULT.map(String::from);
        assert_eq!(listen_addresses(&default, true), default);
        assert_eq!(listen_addresses(&default, false), default[..2]);
        let chosen = ["/ip6/::1/tcp/0".to_owned()];
        assert_eq!(listen_addresses(&chosen, false), chosen, "the start fails and says why");
    }
}
