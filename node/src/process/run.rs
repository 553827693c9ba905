//! A node with its servers, from the sockets to the end of the process.

use std::net::SocketAddr;
use std::sync::Arc;

use starling_api::admin::RunFile;
use starling_etcd::EtcdSockets;
use starling_http::{ApiSocket, App};
use starling_service::{DaemonError, Node, Role};

use super::banner::Banner;
use super::signals::{stdin_end, stop_signal};
use super::{logging, run_file};
use crate::config::Loaded;

/// Runs a node until a signal, its API or (`exit_with_parent`) the end of standard input stops it.
pub fn run(role: Role, loaded: Loaded, exit_with_parent: bool) -> Result<(), DaemonError> {
    let Loaded { config, settings } = loaded;
    logging::start(&config)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DaemonError::System)?;
    // The sockets first: a second node on this data directory or port stops here, unnoticed.
    let socket = ApiSocket::bind(&config.api_listen, config.api_token.as_deref())?;
    let api = socket.address()?.to_string();
    let etcd = EtcdSockets::bind(&config.etcd_listen, role)?;
    let served = etcd.addresses()?;

    let node = Node::start(config.service(role))?;
    let app = App {
        gossip: node.gossip.clone(),
        reader: node.reader.clone(),
        names: node.names.clone(),
        changes: node.changes.clone(),
        settings,
        limits: node.limits,
        token: config.api_token.clone(),
    };
    let etcd_thread = etcd.serve(node.gossip.calls())?;
    let api_thread = socket.serve(Arc::new(app))?;
    runtime.block_on(async {
        // A reader of the announcement may stop the node at once.
        let stop = stop_signal().map_err(DaemonError::System)?;
        announce(&node, api, &served)?;
        let parent = if exit_with_parent { Some(stdin_end().map_err(DaemonError::System)?) } else { None };
        let parent_gone = async {
            match parent {
                Some(end) => end.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop => {}
            () = parent_gone => {}
            () = node.stopped() => {}
        }
        Ok::<(), DaemonError>(())
    })?;
    let data_dir = node.info().data_dir.clone();
    runtime.block_on(node.stop());
    etcd_thread.stop();
    api_thread.stop();
    run_file::remove(data_dir.path());
    Ok(())
}

fn announce(node: &Node, api: String, etcd: &[(SocketAddr, String)]) -> Result<(), DaemonError> {
    let info = node.info();
    Banner {
        is_first_run: info.is_first_run,
        is_seed: info.role == Role::Seed,
        name: &info.name,
        id: &info.short_id,
        listen: &info.listen,
        api: &api,
        etcd,
        data_dir: &info.data_dir.path().display().to_string(),
        ticket: &info.ticket,
    }
    .print();
    let etcd = etcd.iter().map(|(address, keyspace)| format!("{address}={keyspace}")).collect();
    let run =
        RunFile { api, listen: info.listen.clone(), etcd, pid: std::process::id(), id: info.id.clone() };
    run_file::write(info.data_dir.path(), &run)
}
