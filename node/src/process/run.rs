//! A node with its servers, from the sockets to the end of the process.

use std::sync::Arc;

use rustix::fs::Mode;
use rustix::process::umask;
use starling_api::admin::{RunFile, SOCKET_FILE};
use starling_client::SocketPath;
use starling_http::App;
use starling_listener::{LocalSocket, ServerThread};
use starling_service::{Access, Node, Role};

use super::banner::Banner;
use super::error::{RunError, system};
use super::manager::Manager;
use super::servers::Sockets;
use super::signals::{stdin_end, stop_signal};
use super::{descriptors, joining, logging, run_file};
use crate::config::Loaded;

/// Runs a node until a signal, its API or (`exit_with_parent`) the end of standard input stops it.
pub fn run(role: Role, loaded: Loaded, exit_with_parent: bool) -> Result<(), RunError> {
    // What the node creates is its user's alone: its key, the network's secret, everything that it stores.
    umask(Mode::from_raw_mode(0o077));
    let Loaded { mut config, settings } = loaded;
    let log_limit = logging::start(&config)?;
    config.join = joining::resolve(&config.join)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
    // The sockets first: a second node on this data directory or port stops here, unnoticed.
    let mut sockets = Sockets::bind(&config, role)?;
    sockets.limit(descriptors::divide(config.connections_max, sockets.count()));
    let etcd = sockets.etcd();
    let client_urls = sockets.client_urls(&config.etcd_advertise)?;
    let node = Node::start(config.service(role, client_urls))?;
    let handle = node.handle();
    // Now that the data directory is locked, no other process uses the socket in it.
    let socket = std::path::absolute(node.info().data_dir.path()).map_err(system)?.join(SOCKET_FILE);
    let short = SocketPath::of(&socket).map_err(system)?;
    let local = LocalSocket::bind(&socket, short.as_path()).map_err(RunError::Local)?;
    let local_api = format!("unix:{}", socket.display());
    let api = sockets.api();
    let access = Access::new(handle, config.api_token.clone(), config.api_anonymous);
    let app = App::new(handle.clone(), Arc::clone(&access), settings, sockets.tls(), socket);
    let servers = sockets.serve(local, handle, &access, app)?;
    runtime.block_on(async {
        // A reader of the announcement may stop the node at once.
        let stop = stop_signal().map_err(system)?;
        let api = api.unwrap_or(local_api);
        announce(&node, &api, &etcd);
        write_run_file(&node, &api, &etcd)?;
        let manager = Manager::of_environment();
        manager.send("READY=1");
        let parent = if exit_with_parent { Some(stdin_end().map_err(system)?) } else { None };
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
            () = manager.keep_alive(handle) => {}
            () = log_limit.report() => {}
        }
        manager.send("STOPPING=1");
        Ok::<(), RunError>(())
    })?;
    let data_dir = node.info().data_dir.clone();
    runtime.block_on(node.stop());
    servers.into_iter().for_each(ServerThread::stop);
    run_file::remove(data_dir.path());
    Ok(())
}

fn announce(node: &Node, api: &str, etcd: &[(String, String)]) {
    let info = node.info();
    Banner {
        is_first_run: info.is_first_run,
        what: if info.role == Role::Seed { "bootstrap seed" } else { "node" },
        name: &info.name,
        id: &info.short_id,
        listen: &info.listen,
        api,
        etcd,
        seeks_peers: info.seeks_peers,
        is_local: info.is_local,
        data_dir: &info.data_dir.path().display().to_string(),
        authority_key: info.authority_key.as_ref().map(|path| path.display().to_string()).as_deref(),
        ticket: info.ticket.as_deref(),
    }
    .print();
}

fn write_run_file(node: &Node, api: &str, etcd: &[(String, String)]) -> Result<(), RunError> {
    let info = node.info();
    let address = |url: &str| url.trim_start_matches("http://").to_owned();
    let etcd = etcd.iter().map(|(url, keyspace)| format!("{}={keyspace}", address(url))).collect();
    let api = address(api);
    let run =
        RunFile { api, listen: info.listen.clone(), etcd, pid: std::process::id(), id: info.id.clone() };
    Ok(run_file::write(&info.data_dir, &run)?)
}
