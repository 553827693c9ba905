//! HTTP/1.1 without TLS, one task per connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use starling_listener::{Connections, Socket, Stop};
use tokio::net::TcpStream;

use super::{App, router};

/// Most connections at a time; a further one waits in the system's queue until one closes. An estimate: far
/// more than tools and watches open, and a small part of the usual limit on open files, which peers and
/// the store need.
const CONNECTIONS_MAX: usize = 512;
/// How long requests may take to finish once the node stops; watches never do.
const CLOSING: Duration = Duration::from_millis(500);

/// Serves the API until `stop`.
pub async fn serve(socket: Socket, app: App, stop: Stop) -> io::Result<()> {
    let router = router(Arc::new(app));
    let connections = Connections { socket, max: CONNECTIONS_MAX, closing: CLOSING };
    let nothing = std::future::ready(());
    connections.serve(stop, nothing, |stream, stop| connection(stream, router.clone(), stop)).await
}

async fn connection(stream: TcpStream, router: Router, mut stop: Stop) {
    let service = TowerToHyperService::new(router);
    let mut connection =
        std::pin::pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    // An error of a connection concerns its client only: it has disconnected, or sent invalid data.
    tokio::select! {
        ended = connection.as_mut() => drop(ended),
        () = stop.wait() => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
}
