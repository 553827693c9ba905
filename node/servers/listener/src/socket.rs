//! Sockets, bound early: a second process on the same address fails before it has touched anything else.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use thiserror::Error;

use crate::tls::Tls;

/// Who may reach a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Processes on this machine: the server does not authenticate its clients.
    Loopback,
    /// Other machines as well.
    Anyone,
}

/// Why a socket was not bound.
#[derive(Debug, Error)]
pub enum BindError {
    /// The system refused.
    #[error("cannot listen on {address}: {reason}")]
    System {
        /// The configured address.
        address: String,
        /// The system's error.
        reason: io::Error,
    },
    /// Other machines could connect to a server that does not authenticate its clients.
    #[error("would listen on {address}, which other machines can reach")]
    Exposed {
        /// As configured.
        address: String,
    },
}

/// A bound socket that accepts nothing yet; the system queues connections.
#[derive(Debug)]
pub struct Socket {
    listener: TcpListener,
    address: SocketAddr,
    connections_max: usize,
    tls: Option<Tls>,
}

impl Socket {
    /// Binds `host:port`. Port 0 lets the system choose.
    pub fn bind(address: &str, reach: Reach) -> Result<Self, BindError> {
        let failed = |reason| BindError::System { address: address.into(), reason };
        let resolved: Vec<SocketAddr> = address.to_socket_addrs().map_err(failed)?.collect();
        if reach == Reach::Loopback && !resolved.iter().all(|found| found.ip().is_loopback()) {
            return Err(BindError::Exposed { address: address.into() });
        }
        let listener = TcpListener::bind(&resolved[..]).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, connections_max: usize::MAX, tls: None })
    }

    /// The address that the system gave.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bounds its connections, beside the bound of its server.
    pub fn limit(&mut self, connections_max: usize) {
        self.connections_max = connections_max;
    }

    /// Serves it in TLS.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// Its TLS.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Most connections at a time.
    pub fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// The listener for the runtime of the calling task, and its TLS.
    pub fn into_tokio(self) -> io::Result<(tokio::net::TcpListener, Option<Tls>)> {
        Ok((tokio::net::TcpListener::from_std(self.listener)?, self.tls))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_authentication_stays_on_loopback() {
        assert!(Socket::bind("127.0.0.1:0", Reach::Loopback).is_ok());
        assert!(matches!(Socket::bind("0.0.0.0:0", Reach::Loopback), Err(BindError::Exposed { .. })));
        assert!(Socket::bind("0.0.0.0:0", Reach::Anyone).is_ok());
    }

    #[test]
    fn a_taken_port_is_an_error_that_names_it() {
        let first = Socket::bind("127.0.0.1:0", Reach::Loopback).expect("a free port");
        let address = first.address().to_string();
        let error = Socket::bind(&address, Reach::Loopback).expect_err("taken");
        assert!(error.to_string().contains(&address), "{error}");
    }
}
