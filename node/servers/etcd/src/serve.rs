//! The listener: HTTP/2 without TLS, one task per connection.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use starling_etcd_proto::etcdserverpb::auth_server::AuthServer;
use starling_etcd_proto::etcdserverpb::cluster_server::ClusterServer;
use starling_etcd_proto::etcdserverpb::kv_server::KvServer;
use starling_etcd_proto::etcdserverpb::lease_server::LeaseServer;
use starling_etcd_proto::etcdserverpb::maintenance_server::MaintenanceServer;
use starling_etcd_proto::etcdserverpb::watch_server::WatchServer;
use starling_etcd_proto::v3electionpb::election_server::ElectionServer;
use starling_etcd_proto::v3lockpb::lock_server::LockServer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;

use crate::auth::AuthService;
use crate::cluster::ClusterService;
use crate::election::ElectionService;
use crate::keyspace::{Keyspace, pass_on};
use crate::kv::KvService;
use crate::lease::LeaseService;
use crate::lock::LockService;
use crate::maintenance::MaintenanceService;
use crate::watch::WatchService;
use starling_service::Calls;

/// Connections at once; more wait in the kernel's queue. A guess: a few times the clients that etcd's
/// guides speak of.
const CONNECTIONS_MAX: usize = 8192;
/// Calls at once on a connection. A guess: watches, locks and observers are long calls, and one
/// connection may carry those of a whole process.
const STREAMS_MAX: u32 = 8192;
/// A request, in bytes: etcd's largest (`--max-request-bytes`) and its overhead of half a megabyte.
const MESSAGE_BYTES_MAX: usize = 2 << 20;
/// What a client may send before it is read, per call and per connection: a request or two.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Answers that wait for one call's client to read, in bytes.
const SEND_BUFFER_BYTES: usize = 1 << 20;
/// A silent connection is asked for a sign of life after so long, and cut off if none comes: what it
/// holds (watches, places in a lock's line) is then given up. Guesses.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_WAIT: Duration = Duration::from_secs(10);
/// Calls under way get so long to finish when the door closes. A guess: longer than a write takes.
const CLOSING: Duration = Duration::from_secs(1);
/// Where the system has no room for another connection, wait a moment.
const NO_ROOM: Duration = Duration::from_millis(100);

/// Serves a strong keyspace to etcd clients until `stop` says true, or its sender is gone.
pub async fn serve(
    listener: TcpListener,
    keyspace: Arc<str>,
    calls: Calls,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let (keyspace, mut answering) = Keyspace::new(keyspace, calls);
    let services = Services::new(&keyspace);
    let mut connections = JoinSet::new();
    connections.spawn(identity(keyspace, stop.clone()));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => accepted,
            Some(_) = connections.join_next() => continue,
            () = pass_on(&mut answering) => continue,
            () = stopped(&mut stop) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, services.clone(), stop.clone()));
            }
            // One connection that failed before it began says nothing of the next; no more files to
            // open does, for a while.
            Err(_) => tokio::time::sleep(NO_ROOM).await,
        }
    }
    drop(listener);
    // A connection that does not finish is cut off when the set is dropped.
    let closed = async {
        tokio::select! {
            () = async { while connections.join_next().await.is_some() {} } => {}
            () = pass_on(&mut answering) => {}
        }
    };
    drop(tokio::time::timeout(CLOSING, closed).await);
    Ok(())
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that has gone says that nobody is left to serve.
    drop(stop.wait_for(|stop| *stop).await);
}

async fn identity(keyspace: Keyspace, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = keyspace.keep_identity() => {}
        () = stopped(&mut stop) => {}
    }
}

async fn connection(stream: TcpStream, services: Services, mut stop: watch::Receiver<bool>) {
    // Answers are small, and somebody waits for each.
    drop(stream.set_nodelay(true));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WAIT)
        .serve_connection(TokioIo::new(stream), services);
    let mut connection = std::pin::pin!(connection);
    // How a connection ends is the client's business: it has gone, or it has sent nonsense.
    tokio::select! {
        ended = connection.as_mut() => drop(ended),
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
}

/// Every service of the door, found by the first part of a call's path.
#[derive(Clone)]
struct Services(Arc<All>);

struct All {
    kv: KvServer<KvService>,
    watch: WatchServer<WatchService>,
    lease: LeaseServer<LeaseService>,
    lock: LockServer<LockService>,
    election: ElectionServer<ElectionService>,
    cluster: ClusterServer<ClusterService>,
    maintenance: MaintenanceServer<MaintenanceService>,
    auth: AuthServer<AuthService>,
}

macro_rules! bounded {
    ($server:ident, $service:expr) => {
        $server::new($service)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(usize::MAX)
    };
}

impl Services {
    fn new(keyspace: &Keyspace) -> Self {
        let keyspace = || keyspace.clone();
        Self(Arc::new(All {
            kv: bounded!(KvServer, KvService(keyspace())),
            watch: bounded!(WatchServer, WatchService(keyspace())),
            lease: bounded!(LeaseServer, LeaseService(keyspace())),
            lock: bounded!(LockServer, LockService(keyspace())),
            election: bounded!(ElectionServer, ElectionService(keyspace())),
            cluster: bounded!(ClusterServer, ClusterService(keyspace())),
            maintenance: bounded!(MaintenanceServer, MaintenanceService(keyspace())),
            auth: bounded!(AuthServer, AuthService(keyspace())),
        }))
    }
}

type Answer = http::Response<Body>;
type Answering = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

impl hyper::service::Service<http::Request<Incoming>> for Services {
    type Response = Answer;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: http::Request<Incoming>) -> Answering {
        let all = &self.0;
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        match service {
            "etcdserverpb.KV" => all.kv.clone().call(request),
            "etcdserverpb.Watch" => all.watch.clone().call(request),
            "etcdserverpb.Lease" => all.lease.clone().call(request),
            "v3lockpb.Lock" => all.lock.clone().call(request),
            "v3electionpb.Election" => all.election.clone().call(request),
            "etcdserverpb.Cluster" => all.cluster.clone().call(request),
            "etcdserverpb.Maintenance" => all.maintenance.clone().call(request),
            "etcdserverpb.Auth" => all.auth.clone().call(request),
            _ => Box::pin(std::future::ready(Ok(unknown(service)))),
        }
    }
}

/// A service that there is none of here.
fn unknown(service: &str) -> Answer {
    Status::unimplemented(format!("unknown service {service}")).into_http()
}
