//! The connections of one socket.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::places::{Activity, Places};
use crate::socket::Socket;

/// Pause where the system cannot accept a connection, out of files for example. An estimate.
const ACCEPT_FAILED: Duration = Duration::from_millis(100);
/// How long a new connection may send nothing. An estimate: clients connect to send a request.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// Time between two reports that idle connections made room, at least. An estimate.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The signal to stop a server.
#[derive(Clone, Debug)]
pub struct Stop(pub(crate) watch::Receiver<bool>);

impl Stop {
    /// A signal, and what gives it: `true`, or the end of the sender.
    pub fn channel() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Completes when the server has to stop.
    pub async fn wait(&mut self) {
        // The end of the sender is a signal too.
        drop(self.0.wait_for(|stop| *stop).await);
    }
}

/// Accepts the connections of one socket.
#[derive(Debug)]
pub struct Connections {
    /// The socket.
    pub socket: Socket,
    /// Most connections at a time, if the socket has no lower bound. A further one takes the place of an idle one.
    pub max: usize,
    /// Connections that are accepted while all others have requests in progress. When these are taken, too, further ones
    /// wait in the system's queue.
    pub spare: usize,
    /// How long connections may take to finish once the server stops, before they are cut.
    pub closing: Duration,
}

impl Connections {
    /// Accepts until `stop`, with a task for each connection; then lets them finish, for a bounded time.
    /// `serve` is given the connection, its state, and the signal to finish it. `beside` runs on the accepting task: it
    /// costs no wake-up of its own.
    pub async fn serve<F, S>(
        self,
        mut stop: Stop,
        beside: impl Future<Output = ()>,
        serve: F,
    ) -> io::Result<()>
    where
        F: Fn(TcpStream, Activity, Stop) -> S + Clone + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let max = self.max.min(self.socket.connections_max());
        let address = self.socket.address();
        let listener = self.socket.into_tokio()?;
        let signal = stop.clone();
        let mut connections = JoinSet::new();
        let mut places = Places::new(max, self.spare);
        let idle = places.idle();
        let mut displaced = Displaced { count: 0, reported: None };
        tokio::pin!(beside);
        let mut beside_ended = false;
        loop {
            let has_room = places.has_room();
            let accepted = tokio::select! {
                accepted = listener.accept(), if has_room => accepted,
                () = idle.notified(), if !has_room => continue,
                Some(ended) = connections.join_next_with_id() => {
                    places.remove(ended.map_or_else(|error| error.id(), |(id, ())| id));
                    continue;
                }
                () = &mut beside, if !beside_ended => {
                    beside_ended = true;
                    continue;
                }
                () = stop.wait() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    // Answers are small and awaited; if it fails, they only come later.
                    let _ = stream.set_nodelay(true);
                    let (activity, has_displaced) = places.enter(peer.ip());
                    if has_displaced {
                        displaced.note(address);
                    }
                    let serving =
                        serve_when_it_speaks(stream, activity.clone(), signal.clone(), serve.clone());
                    places.add(activity, connections.spawn(serving));
                }
                // After a connection that failed before it began, the next one may succeed at once. Without free file
                // descriptors, none succeeds for a while.
                Err(_) => tokio::time::sleep(ACCEPT_FAILED).await,
            }
        }
        drop(listener);
        // A connection that does not finish is cut when the set is dropped.
        let closed = async {
            let all = async { while connections.join_next().await.is_some() {} };
            tokio::pin!(all);
            tokio::select! {
                () = &mut all => {}
                () = &mut beside, if !beside_ended => all.await,
            }
        };
        drop(tokio::time::timeout(self.closing, closed).await);
        Ok(())
    }
}

/// Serves a connection once its client has sent something. One that sends nothing is closed.
async fn serve_when_it_speaks<F, S>(stream: TcpStream, activity: Activity, mut stop: Stop, serve: F)
where
    F: Fn(TcpStream, Activity, Stop) -> S,
    S: Future<Output = ()>,
{
    let mut first = [0];
    let speaks = tokio::select! {
        // Not only readiness, which the system may report without a byte.
        byte = tokio::time::timeout(SILENT_MAX, stream.peek(&mut first)) => matches!(byte, Ok(Ok(1..))),
        () = stop.wait() => false,
    };
    if speaks {
        serve(stream, activity, stop).await;
    }
}

/// Idle connections that made room for new ones.
struct Displaced {
    /// Since the last report.
    count: u64,
    reported: Option<Instant>,
}

impl Displaced {
    /// Counts one, and reports them once in a while.
    fn note(&mut self, address: SocketAddr) {
        self.count += 1;
        if self.reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
            let count = std::mem::take(&mut self.count);
            tracing::warn!(%address, count, "all places for connections were taken; idle ones were closed for new ones");
            self.reported = Some(Instant::now());
        }
    }
}
