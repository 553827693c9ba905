//! The life of a node, from its files to its goodbye.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Arc;

use starling_api::admin::RunFile;
use starling_bootstrap::{Finder, FinderConfig, Mdns};
use starling_core::Core;
use starling_kv::{Limits, Options, RocksEngine, RocksOptions, Store};
use starling_p2p::{Driver, DriverConfig, Identity};
use starling_proto::{NodeRecord, Role};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast;
use tracing_subscriber::EnvFilter;

use super::api::ApiSocket;
use super::banner::Banner;
use super::clock::{Clock, wall_ms};
use super::command::{Gossip, channel};
use super::contacts::Contacts;
use super::data_dir::DataDir;
use super::disk::Disk;
use super::error::DaemonError;
use super::etcd::EtcdSockets;
use super::gossip::{Asked, Facts, GossipLoop, public_addresses};
use super::membership::Membership;
use super::strong::{Names, Strong};
use super::{report, setup};
use crate::config::{Config, Loaded, LogFormat};
use crate::http::App;

/// Change sets that a watch may be behind before it is told that it lags.
const CHANGE_SETS_MAX: usize = 1024;

/// Runs a node until a signal, its API or (`exit_with_parent`) the end of standard input stops it.
pub fn run(role: Role, loaded: Loaded, exit_with_parent: bool) -> Result<(), DaemonError> {
    start_logging(&loaded.config)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DaemonError::System)?;
    runtime.block_on(live(role, loaded, exit_with_parent))
}

fn start_logging(config: &Config) -> Result<(), DaemonError> {
    let filter = EnvFilter::try_new(&config.log_filter).map_err(|error| DaemonError::Setting {
        key: "log.filter",
        value: config.log_filter.clone(),
        reason: error.to_string(),
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    Ok(())
}

async fn live(role: Role, loaded: Loaded, exit_with_parent: bool) -> Result<(), DaemonError> {
    let Loaded { config, settings } = loaded;
    // The API's port first: a second node on this data directory or port stops here, unnoticed.
    let socket = ApiSocket::bind(&config.api_listen, config.api_token.as_deref())?;
    let api = socket.address()?.to_string();
    let etcd = EtcdSockets::bind(&config.etcd_listen, role)?;
    let served = etcd.addresses()?;
    let dir = DataDir::open(&config.data_dir)?;
    let identity = Identity::load_or_create(&dir.identity())?;
    let membership = Membership::load_or_adopt(&dir, &config.join)?;
    let limits = setup::limits(&config)?;
    let core_config = setup::core(&config)?;
    let store =
        if role == Role::Replica { Some(open_store(&dir, &config, limits, &membership)?) } else { None };
    let (engine, store) = store.unzip();
    let (driver, record) = listen(role, &config, identity, &membership).await?;

    let names = store.as_ref().map(|store| Names::load(&store.reader())).transpose()?.unwrap_or_default();
    let (gossip, commands, calls) = channel();
    let (changes, _) = broadcast::channel(CHANGE_SETS_MAX);
    let app = App {
        gossip: gossip.clone(),
        reader: store.as_ref().map(Store::reader),
        names: names.clone(),
        changes: changes.clone(),
        settings,
        limits,
        token: config.api_token.clone(),
    };
    let contacts = Contacts::default();
    let search = contacts.clone().search(finder(&config, &membership, &record), gossip.clone());
    let clock = Clock::start();
    let remembered = dir.load_peers();
    let facts = Facts {
        network: report::hex(&membership.network_id()),
        durability: config.durability.name(),
        external: config.external.clone(),
        ticket: Box::new(membership.ticket_maker()),
        joins_somebody: membership.joins_somebody() || !remembered.is_empty() || config.mdns,
    };
    let reader = store.as_ref().map(Store::reader);
    let mut core = Core::new(core_config, record.clone(), store, remembered, rand::random(), clock.now());
    if let Some(engine) = engine.clone() {
        core.open_strong(engine, setup::replace_ms(&config), rand::random(), clock.now())?;
    }
    let disk = Disk::start(config.durability, engine, dir.clone()).map_err(DaemonError::System)?;
    let mut gossip_loop = GossipLoop {
        clock,
        core,
        driver,
        record,
        commands,
        calls,
        synced: disk.synced(),
        disk,
        names,
        reader,
        strong: Strong::default(),
        changes,
        contacts,
        facts,
        asked: Asked::default(),
    };
    let etcd_thread = etcd.serve(gossip.calls())?;
    let api_thread = socket.serve(Arc::new(app))?;
    // Whoever reads that the node is up may stop it at once.
    let stop = stop_signal().map_err(DaemonError::System)?;
    announce(&dir, &gossip_loop, &membership, api, &served)?;
    if exit_with_parent {
        leave_when_stdin_ends(gossip).map_err(DaemonError::System)?;
    }
    tokio::select! {
        () = gossip_loop.run(stop) => {}
        () = search => {}
    }
    gossip_loop.finish();
    etcd_thread.stop();
    api_thread.stop();
    dir.remove_run_file();
    Ok(())
}

fn open_store(
    dir: &DataDir,
    config: &Config,
    limits: Limits,
    membership: &Membership,
) -> Result<(RocksEngine, Store<RocksEngine>), DaemonError> {
    let engine = RocksEngine::open(&dir.store(), &RocksOptions { cache_bytes: config.cache_bytes as usize })?;
    let options = Options { limits, network: Some(membership.network_id()), ..Options::default() };
    let store = Store::open(engine.clone(), options, rand::random())?;
    Ok((engine, store))
}

/// Starts the driver, and signs what this node tells of itself once it knows where it listens.
async fn listen(
    role: Role,
    config: &Config,
    identity: Identity,
    membership: &Membership,
) -> Result<(Driver, NodeRecord), DaemonError> {
    let mut record = NodeRecord {
        id: identity.node_id(),
        incarnation: wall_ms(),
        revision: 0,
        role,
        name: setup::name(config)?,
        addresses: config.external.clone(),
        signature: Vec::new(),
    };
    let mut driver = Driver::start(DriverConfig {
        identity,
        listen: config.listen.clone(),
        network: membership.network(),
        record: record.clone(),
        limits: setup::driver_limits(config)?,
    })
    .await?;
    record.addresses = public_addresses(&config.external, driver.listen_addresses());
    driver.sign(&mut record);
    driver.set_record(record.clone());
    Ok((driver, record))
}

/// Without mDNS where the system does not let it work: the other ways may still lead to the network.
fn finder(config: &Config, membership: &Membership, record: &NodeRecord) -> Finder {
    let start = || Mdns::start(membership.network_id(), &record.id.short(), &record.addresses);
    let mdns = config.mdns.then(start).and_then(|started| {
        started.inspect_err(|error| tracing::warn!(%error, "the local network is not searched")).ok()
    });
    let (addresses, names) = (membership.addresses.clone(), membership.names.clone());
    Finder::new(FinderConfig { addresses, names, seed: rand::random() }, mdns)
}

fn announce(
    dir: &DataDir,
    node: &GossipLoop,
    membership: &Membership,
    api: String,
    etcd: &[(SocketAddr, String)],
) -> Result<(), DaemonError> {
    let listen = node.driver.listen_addresses();
    let id = report::hex(&node.record.id.0);
    Banner {
        is_first_run: membership.is_first_run,
        is_seed: node.record.role == Role::Seed,
        name: &node.record.name,
        id: &node.record.id.short(),
        listen: &listen,
        api: &api,
        etcd,
        data_dir: &dir.path().display().to_string(),
        ticket: &(node.facts.ticket)(&node.record),
    }
    .print();
    let etcd = etcd.iter().map(|(address, keyspace)| format!("{address}={keyspace}")).collect();
    dir.write_run_file(&RunFile { api, listen, etcd, pid: std::process::id(), id })
}

/// SIGINT or SIGTERM.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Whoever started this node holds the other end of its standard input.
fn leave_when_stdin_ends(gossip: Gossip) -> std::io::Result<()> {
    let wait = move || {
        // An error ends it like the end does.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        gossip.leave_blocking();
    };
    std::thread::Builder::new().name("stdin".into()).spawn(wait).map(drop)
}
