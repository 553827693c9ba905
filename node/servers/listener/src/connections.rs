//! The connections of one socket.

use std::io;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::local::LocalSocket;
use crate::places::{Activity, Origin, Places};
use crate::seldom::Seldom;
use crate::socket::Socket;
use crate::tls::Tls;

/// Pause where the system cannot accept a connection, out of files for example. An estimate.
const ACCEPT_FAILED: Duration = Duration::from_millis(100);
/// How long a new connection may send nothing. An estimate: clients connect to send a request.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// Connections of the unix socket at a time, at most. An estimate: more than one operator and the machine's tools open.
const LOCAL_MAX: usize = 32;

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

/// A bound socket of either kind.
#[derive(Debug)]
pub enum Listener {
    /// For any process that reaches the address.
    Tcp(Socket),
    /// For processes of the node's own user.
    Local(LocalSocket),
}

impl Listener {
    /// Most connections at a time, of the kinds of sockets that have a bound of their own.
    fn connections_max(&self) -> usize {
        match self {
            Self::Tcp(socket) => socket.connections_max(),
            Self::Local(_) => LOCAL_MAX,
        }
    }

    /// Where it listens, for logs.
    fn place(&self) -> String {
        match self {
            Self::Tcp(socket) => socket.address().to_string(),
            Self::Local(socket) => socket.path().display().to_string(),
        }
    }

    fn into_tokio(self) -> io::Result<(Accepting, Option<Tls>)> {
        Ok(match self {
            Self::Tcp(socket) => {
                let (listener, tls) = socket.into_tokio()?;
                (Either::Left(listener), tls)
            }
            Self::Local(socket) => (Either::Right(socket.into_tokio()?), None),
        })
    }
}

type Accepting = Either<TcpListener, UnixListener>;

type Accepted = Either<TcpStream, UnixStream>;

/// A connection of either kind, or in TLS.
pub type Stream = Either<Accepted, Box<TlsStream<TcpStream>>>;

async fn accept(listener: &Accepting) -> io::Result<(Accepted, Origin)> {
    match listener {
        Either::Left(listener) => {
            let (stream, peer) = listener.accept().await?;
            // Answers are small and awaited; if it fails, they only come later.
            let _ = stream.set_nodelay(true);
            Ok((Either::Left(stream), Origin::Address(peer.ip())))
        }
        Either::Right(listener) => Ok((Either::Right(listener.accept().await?.0), Origin::OwnUser)),
    }
}

/// Accepts the connections of one socket.
#[derive(Debug)]
pub struct Connections {
    /// The socket.
    pub listener: Listener,
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
        F: Fn(Stream, Activity, Stop) -> S + Clone + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let max = self.max.min(self.listener.connections_max());
        let place = self.listener.place();
        let (listener, tls) = self.listener.into_tokio()?;
        let signal = stop.clone();
        let mut connections = JoinSet::new();
        let mut places = Places::new(max, self.spare);
        let idle = places.idle();
        let mut displaced = Seldom::default();
        tokio::pin!(beside);
        let mut beside_ended = false;
        loop {
            let has_room = places.has_room();
            let accepted = tokio::select! {
                accepted = accept(&listener), if has_room => accepted,
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
                Ok((stream, origin)) => {
                    let (activity, has_displaced) = places.enter(origin);
                    if has_displaced && let Some(count) = displaced.note() {
                        tracing::warn!(
                            place,
                            count,
                            "all places for connections were taken; idle ones were closed for new ones"
                        );
                    }
                    let (signal, serve) = (signal.clone(), serve.clone());
                    let serving = serve_when_it_speaks(stream, tls.clone(), activity.clone(), signal, serve);
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

/// Serves a connection once its client has sent something, in TLS once the handshake is done. One that sends nothing is
/// closed.
async fn serve_when_it_speaks<F, S>(
    stream: Accepted,
    tls: Option<Tls>,
    activity: Activity,
    mut stop: Stop,
    serve: F,
) where
    F: Fn(Stream, Activity, Stop) -> S,
    S: Future<Output = ()>,
{
    let ready = async {
        let speaks = tokio::time::timeout(SILENT_MAX, has_spoken(&stream)).await.unwrap_or(false);
        match (stream, tls) {
            _ if !speaks => None,
            (Either::Left(stream), Some(tls)) => {
                tls.accept(stream).await.ok().map(|stream| Either::Right(Box::new(stream)))
            }
            (stream, _) => Some(Either::Left(stream)),
        }
    };
    let ready = tokio::select! {
        ready = ready => ready,
        () = stop.wait() => None,
    };
    if let Some(stream) = ready {
        serve(stream, activity, stop).await;
    }
}

/// Completes once something can be read: whether that is a byte.
async fn has_spoken(stream: &Accepted) -> bool {
    match stream {
        // Not only readiness, which the system may report without a byte.
        Either::Left(stream) => matches!(stream.peek(&mut [0]).await, Ok(1..)),
        Either::Right(stream) => stream.ready(Interest::READABLE).await.is_ok(),
    }
}
