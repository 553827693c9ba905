//! The etcd door's thread: one runtime for all its listeners, so that a busy one never holds up gossip
//! or the HTTP door.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::thread::JoinHandle;

use starling_proto::Role;
use starling_service::{Calls, DaemonError};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Under this name the listeners are configured.
const KEY: &str = "etcd.listen";

/// The sockets, bound before anything else starts, like the API's.
pub struct EtcdSockets(Vec<(TcpListener, String)>);

impl EtcdSockets {
    /// Listens on every "ADDRESS=KEYSPACE", on loopback only: there is no authentication for etcd's
    /// clients.
    pub fn bind(listeners: &[String], role: Role) -> Result<Self, DaemonError> {
        let wrong = |value: &str, reason: &str| DaemonError::Setting {
            key: KEY,
            value: value.into(),
            reason: reason.into(),
        };
        let bind = |entry: &String| {
            let (address, keyspace) = entry
                .split_once('=')
                .ok_or_else(|| wrong(entry, "it is written ADDRESS=KEYSPACE, like 127.0.0.1:2379=orders"))?;
            if role == Role::Seed {
                return Err(wrong(entry, "a bootstrap seed serves no keyspace"));
            }
            let failed = |reason| DaemonError::Etcd { address: address.into(), reason };
            let found: Vec<SocketAddr> = address.to_socket_addrs().map_err(failed)?.collect();
            if !found.iter().all(|found| found.ip().is_loopback()) {
                return Err(wrong(
                    entry,
                    "other machines could reach it, and etcd clients are not asked who \
                    they are: listen on 127.0.0.1, and put a proxy that asks in front of it",
                ));
            }
            let listener = TcpListener::bind(&found[..]).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            Ok((listener, keyspace.to_owned()))
        };
        listeners.iter().map(bind).collect::<Result<_, _>>().map(Self)
    }

    /// The addresses they got, with the keyspace of each.
    pub fn addresses(&self) -> Result<Vec<(SocketAddr, String)>, DaemonError> {
        let address = |(listener, keyspace): &(TcpListener, String)| {
            Ok((listener.local_addr().map_err(DaemonError::System)?, keyspace.clone()))
        };
        self.0.iter().map(address).collect()
    }

    /// Serves until told to stop.
    pub fn serve(self, calls: &Calls) -> Result<EtcdThread, DaemonError> {
        let (stop, stopped) = watch::channel(false);
        if self.0.is_empty() {
            return Ok(EtcdThread { stop, thread: None });
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(DaemonError::System)?;
        let calls = calls.clone();
        let serve = move || serve(&runtime, self.0, &calls, &stopped);
        let thread = std::thread::Builder::new().name("etcd".into()).spawn(serve);
        Ok(EtcdThread { stop, thread: Some(thread.map_err(DaemonError::System)?) })
    }
}

fn serve(
    runtime: &Runtime,
    listeners: Vec<(TcpListener, String)>,
    calls: &Calls,
    stopped: &watch::Receiver<bool>,
) -> std::io::Result<()> {
    runtime.block_on(async {
        let mut doors = JoinSet::new();
        for (listener, keyspace) in listeners {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            doors.spawn(crate::serve(listener, keyspace.into(), calls.clone(), stopped.clone()));
        }
        while let Some(ended) = doors.join_next().await {
            ended.map_err(std::io::Error::other)??;
        }
        Ok(())
    })
}

/// The running thread, if there is anything to serve.
pub struct EtcdThread {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl EtcdThread {
    /// Lets calls finish, then ends the thread.
    pub fn stop(self) {
        self.stop.send_replace(true);
        match self.thread.map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => tracing::error!(%error, "the etcd door stopped early"),
            Some(Err(_)) => tracing::error!("the thread of the etcd door has panicked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(entry: &str, role: Role) -> Result<Vec<(SocketAddr, String)>, String> {
        EtcdSockets::bind(&[entry.into()], role)
            .and_then(|sockets| sockets.addresses())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn listeners_are_on_loopback_and_name_a_keyspace() {
        let bound = bind("127.0.0.1:0=orders", Role::Replica).expect("binds");
        assert!(bound[0].0.ip().is_loopback() && bound[0].1 == "orders");
        for (wrong, said) in [("127.0.0.1:0", "ADDRESS=KEYSPACE"), ("0.0.0.0:0=orders", "127.0.0.1")] {
            let error = bind(wrong, Role::Replica).expect_err("refused");
            assert!(error.contains(said), "{error}");
        }
        assert!(bind("127.0.0.1:0=orders", Role::Seed).is_err());
    }
}
