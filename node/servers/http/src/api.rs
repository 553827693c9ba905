//! The API's thread: one small runtime, so that a slow client never holds up gossip.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::socket::BoundedListener;
use super::{App, router};
use starling_service::DaemonError;

/// How long requests may take to finish once the node stops; watches never do.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// The API's socket, bound before anything else starts, so that a second node on the same port
/// disturbs nobody.
pub struct ApiSocket(TcpListener);

impl ApiSocket {
    /// Listens on `host:port`; on anything but loopback only if there is a token.
    pub fn bind(address: &str, token: Option<&str>) -> Result<Self, DaemonError> {
        let failed = |reason| DaemonError::Api { address: address.into(), reason };
        let resolved: Vec<SocketAddr> = address.to_socket_addrs().map_err(failed)?.collect();
        if token.is_none() && !resolved.iter().all(|found| found.ip().is_loopback()) {
            return Err(DaemonError::Unprotected { address: address.into() });
        }
        let listener = TcpListener::bind(&resolved[..]).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self(listener))
    }

    /// The address it got.
    pub fn address(&self) -> Result<SocketAddr, DaemonError> {
        self.0.local_addr().map_err(DaemonError::System)
    }

    /// Serves until told to stop.
    pub fn serve(self, app: Arc<App>) -> Result<ApiThread, DaemonError> {
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(DaemonError::System)?;
        let serve = async move {
            let listener = BoundedListener::new(self.0)?;
            let (drain, drained) = oneshot::channel::<()>();
            let server = axum::serve(listener, router(app)).with_graceful_shutdown(async {
                // An error means that the other end is gone: stop as well.
                let _ = stopped.await;
                let _ = drain.send(());
            });
            tokio::select! {
                result = server => result,
                () = async { let _ = drained.await; tokio::time::sleep(DRAIN_TIMEOUT).await } => Ok(()),
            }
        };
        let thread = std::thread::Builder::new().name("api".into()).spawn(move || runtime.block_on(serve));
        Ok(ApiThread { stop, thread: thread.map_err(DaemonError::System)? })
    }
}

/// The running thread.
pub struct ApiThread {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl ApiThread {
    /// Lets requests finish, then ends the thread.
    pub fn stop(self) {
        let _ = self.stop.send(());
        match self.thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the API stopped early"),
            Err(_) => tracing::error!("the API thread has panicked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_goes_without_a_token() {
        assert!(ApiSocket::bind("127.0.0.1:0", None).is_ok());
        assert!(matches!(ApiSocket::bind("0.0.0.0:0", None), Err(DaemonError::Unprotected { .. })));
        assert!(ApiSocket::bind("0.0.0.0:0", Some("token")).is_ok());
    }

    #[test]
    fn a_taken_port_is_an_error_that_names_it() {
        let first = ApiSocket::bind("127.0.0.1:0", None).expect("a free port");
        let address = first.address().expect("bound").to_string();
        let error = ApiSocket::bind(&address, None).err().expect("taken");
        assert!(error.to_string().contains(&address), "{error}");
    }
}
