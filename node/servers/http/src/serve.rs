//! HTTP/1.1 on TCP, in TLS if its socket has that, and on the unix socket, one task per connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use starling_listener::{Activity, Connections, Listener, Stop, Stream};
use tokio::task::JoinSet;

use super::{App, router};

/// Connections at a time, at most; a further one takes the place of one that has no request in progress. An estimate: far
/// more than tools and watches open, and a small part of the usual limit on open files, which peers and
/// the store need.
const CONNECTIONS_MAX: usize = 512;
/// Connections beside these, for [`super::guard::WHILE_FULL`] only.
const SPARE: usize = 16;
/// How long the header of a request may take, from the connection's last answer on. Clients of the usual libraries keep
/// idle connections for at most as long, or connect again.
const HEADER_MAX: Duration = Duration::from_secs(60);
/// How long requests may take to finish once the node stops; watches never do.
const CLOSING: Duration = Duration::from_millis(500);

/// Serves the API on each of the sockets until `stop`.
pub async fn serve(listeners: Vec<Listener>, app: App, stop: Stop) -> io::Result<()> {
    let router = router(Arc::new(app));
    let mut servers = JoinSet::new();
    for listener in listeners {
        let router = router.clone();
        let connections = Connections { listener, max: CONNECTIONS_MAX, spare: SPARE, closing: CLOSING };
        let nothing = std::future::ready(());
        let serve = move |stream, activity, stop| connection(stream, activity, router.clone(), stop);
        servers.spawn(connections.serve(stop.clone(), nothing, serve));
    }
    while let Some(ended) = servers.join_next().await {
        ended.map_err(io::Error::other)??;
    }
    Ok(())
}

async fn connection(stream: Stream, activity: Activity, router: Router, mut stop: Stop) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(activity.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_MAX)
        .serve_connection(TokioIo::new(stream), service);
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
