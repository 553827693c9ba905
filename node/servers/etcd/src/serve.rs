//! HTTP/2 without TLS, one task per connection.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::TryFutureExt;
use http::HeaderValue;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use starling_etcd_proto::etcdserverpb::auth_server::AuthServer;
use starling_etcd_proto::etcdserverpb::cluster_server::ClusterServer;
use starling_etcd_proto::etcdserverpb::kv_server::KvServer;
use starling_etcd_proto::etcdserverpb::lease_server::LeaseServer;
use starling_etcd_proto::etcdserverpb::maintenance_server::MaintenanceServer;
use starling_etcd_proto::etcdserverpb::watch_server::WatchServer;
use starling_etcd_proto::v3electionpb::election_server::ElectionServer;
use starling_etcd_proto::v3lockpb::lock_server::LockServer;
use starling_listener::{Activity, Connections, Listener, Socket, Stop, Stream};
use starling_service::StrongKeyspace;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Code, Status};

use crate::arriving::{Arrival, Arriving};
use crate::auth::AuthService;
use crate::authority::AnyAuthority;
use crate::cluster::ClusterService;
use crate::election::ElectionService;
use crate::entry::{Admission, Entry};
use crate::keyspace::{Keyspace, pass_on};
use crate::kv::KvService;
use crate::lease::LeaseService;
use crate::lock::LockService;
use crate::maintenance::MaintenanceService;
use crate::watch::WatchService;

/// Connections at a time, at most; a further one takes the place of one that has no call in progress. A guess: a few times
/// the clients in etcd's guides.
const CONNECTIONS_MAX: usize = 8192;
/// Calls at a time on a connection, at most. A guess: watches, locks and observers are long calls, and one connection
/// may carry those of a whole process.
const STREAMS_MAX: u32 = 8192;
/// Largest request, bytes: etcd's (`--max-request-bytes`) and its overhead of half a megabyte.
const MESSAGE_BYTES_MAX: usize = 2 << 20;
/// A part of tonic's text for larger ones, as it is encoded in a header.
const LARGE: &[u8] = b"message%20length%20too%20large";
/// The calls whose clients go on sending.
const STREAMS: [&str; 2] = ["Watch", "LeaseKeepAlive"];
/// Bytes that a client may send before they are read, per call and per connection: a request or two.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes of answers that wait for one call's client, at most.
const SEND_BUFFER_BYTES: usize = 1 << 20;
/// Time after which a silent connection gets a ping. Without a reply it is closed, which ends its watches and its
/// claims to locks. A guess.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_WAIT: Duration = Duration::from_secs(10);
/// How long calls may take to finish when the server stops. A guess: longer than a write takes.
const CLOSING: Duration = Duration::from_secs(1);

/// Serves a strong keyspace to etcd clients until `stop`. Without `admission` there are no tokens, and every caller may do what the
/// handle may.
pub async fn serve(
    socket: Socket,
    keyspace: StrongKeyspace,
    admission: Option<Admission>,
    stop: Stop,
) -> io::Result<()> {
    let (keyspace, mut answering) = Keyspace::new(keyspace);
    let entry = Entry::new(keyspace.clone(), admission);
    // The task that accepts connections also passes on answers: several at one instant wake it once.
    let beside = async {
        tokio::join!(pass_on(&mut answering), keyspace.keep_identity());
    };
    let listener = Listener::Tcp(socket);
    let connections = Connections { listener, max: CONNECTIONS_MAX, spare: 0, closing: CLOSING };
    let serve = move |stream, activity: Activity, stop| {
        let services = Services { entry: entry.for_connection(activity.origin()) };
        connection(stream, activity, services, stop)
    };
    connections.serve(stop, beside, serve).await
}

async fn connection(stream: Stream, activity: Activity, services: Services, mut stop: Stop) {
    let (read, write) = tokio::io::split(stream);
    let stream = tokio::io::join(AnyAuthority::new(read), write);
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WAIT)
        .serve_connection(TokioIo::new(stream), service_fn(move |request| services.call(request, &activity)));
    let mut connection = std::pin::pin!(connection);
    // An error of a connection concerns its client only: it has disconnected, or sent invalid data.
    tokio::select! {
        ended = connection.as_mut() => drop(ended),
        () = stop.wait() => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
}

/// The services for a connection, which are found by the first part of a call's path.
#[derive(Clone)]
struct Services {
    entry: Entry,
}

macro_rules! bounded {
    ($server:ident, $service:expr) => {
        $server::new($service)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(usize::MAX)
    };
}

impl Services {
    /// Answers a call. The connection has it in progress from the end of the request until the last part of the answer is
    /// sent.
    fn call(&self, request: http::Request<Incoming>, connection: &Activity) -> Answering {
        let mut path = request.uri().path().split('/').skip(1);
        let (service, method) = (path.next().unwrap_or_default(), path.next().unwrap_or_default());
        let arrival = Arrival::new(connection, STREAMS.contains(&method));
        let held = arrival.clone();
        let service = service.to_owned();
        let entry = self.entry.clone();
        let answering = async move {
            let keyspace = match entry.admit(request.headers(), request.uri().path()).await {
                Ok(keyspace) => keyspace,
                Err(status) => return Ok(status.into_http()),
            };
            let (sender, receiver) = (keyspace.caller().clone(), keyspace.caller().clone());
            let request = request.map(|body| Arriving { body, arrival, sender });
            let answer = carry_out(&service, keyspace, entry, request).await?;
            let held = move |frame: &Frame<Bytes>| {
                _ = &held;
                receiver.charge(frame.data_ref().map_or(0, Bytes::len));
            };
            Ok(answer.map(|body| Body::new(body.inspect_frame(held))))
        };
        Box::pin(answering.map_ok(with_code_of_large_messages))
    }
}

/// Has a service with the rights of the caller answer a call.
fn carry_out(
    service: &str,
    keyspace: Keyspace,
    entry: Entry,
    request: http::Request<Arriving<Incoming>>,
) -> Answering {
    match service {
        "etcdserverpb.KV" => bounded!(KvServer, KvService(keyspace)).call(request),
        "etcdserverpb.Watch" => bounded!(WatchServer, WatchService(keyspace)).call(request),
        "etcdserverpb.Lease" => bounded!(LeaseServer, LeaseService(keyspace)).call(request),
        "v3lockpb.Lock" => bounded!(LockServer, LockService(keyspace)).call(request),
        "v3electionpb.Election" => bounded!(ElectionServer, ElectionService(keyspace)).call(request),
        "etcdserverpb.Cluster" => bounded!(ClusterServer, ClusterService(keyspace)).call(request),
        "etcdserverpb.Maintenance" => bounded!(MaintenanceServer, MaintenanceService(keyspace)).call(request),
        "etcdserverpb.Auth" => bounded!(AuthServer, AuthService { keyspace, entry }).call(request),
        _ => Box::pin(std::future::ready(Ok(unknown(service)))),
    }
}

type Answer = http::Response<Body>;
type Answering = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

/// Answers a message beyond [`MESSAGE_BYTES_MAX`] with the code of grpc-go, etcd's library; tonic has another one.
fn with_code_of_large_messages(mut answer: Answer) -> Answer {
    let code = |code: Code| HeaderValue::from(code as i32);
    let headers = answer.headers_mut();
    let is_large = |text: &HeaderValue| text.as_bytes().windows(LARGE.len()).any(|part| part == LARGE);
    if headers.get(Status::GRPC_STATUS) == Some(&code(Code::OutOfRange))
        && headers.get(Status::GRPC_MESSAGE).is_some_and(is_large)
    {
        headers.insert(Status::GRPC_STATUS, code(Code::ResourceExhausted));
    }
    answer
}

/// The answer to a call of an unknown service.
fn unknown(service: &str) -> Answer {
    Status::unimplemented(format!("unknown service {service}")).into_http()
}
