//! The connections of one socket.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::socket::Socket;

/// Pause where the system cannot accept a connection, out of files for example. An estimate.
const ACCEPT_FAILED: Duration = Duration::from_millis(100);

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
    /// Most connections at a time, if the socket has no lower bound; further ones wait in the system's queue.
    pub max: usize,
    /// How long connections may take to finish once the server stops, before they are cut.
    pub closing: Duration,
}

impl Connections {
    /// Accepts until `stop`, with a task for each connection; then lets them finish, for a bounded time.
    /// `serve` is given the connection and the signal to finish it. `beside` runs on the accepting task: it
    /// costs no wake-up of its own.
    pub async fn serve<F, S>(
        self,
        mut stop: Stop,
        beside: impl Future<Output = ()>,
        serve: F,
    ) -> io::Result<()>
    where
        F: Fn(TcpStream, Stop) -> S,
        S: Future<Output = ()> + Send + 'static,
    {
        let max = self.max.min(self.socket.connections_max());
        let listener = self.socket.into_tokio()?;
        let signal = stop.clone();
        let mut connections = JoinSet::new();
        tokio::pin!(beside);
        let mut beside_ended = false;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept(), if connections.len() < max => accepted,
                Some(_) = connections.join_next() => continue,
                () = &mut beside, if !beside_ended => {
                    beside_ended = true;
                    continue;
                }
                () = stop.wait() => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    // Answers are small and awaited; if it fails, they only come later.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(serve(stream, signal.clone()));
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
