//! Connections by TCP and over unix sockets.
//!
//! A node without a token serves administration only on the unix socket in its data directory, and names that socket when it
//! rejects such a request by TCP. Who may open the socket is the node's user, so the client sends the request again there:
//! commands that name a node by its address need no other address for what only its user may do.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use percent_encoding::percent_decode_str;
use reqwest::{Response, StatusCode, Url};
use rustls::ClientConfig;
use starling_api::admin::{RUN_FILE, RunFile};
use starling_api::{Error, SOCKET_HEADER};

use crate::socket_path::SocketPath;
use crate::tls::{self, ClientTls};

/// How long to wait for a connection: a node is on this machine or near; a guess.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an idle connection is kept: less than a node keeps it, so that no request meets one that is being closed.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// What the address of a unix socket begins with.
pub const UNIX: &str = "unix:";
/// What the address of a node that serves its API in TLS begins with.
pub const HTTPS: &str = "https://";

/// The connections of a client. Clones share them.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
    /// What keeps the path of its unix socket valid.
    _path: Option<Arc<SocketPath>>,
    /// Connections over the unix sockets that nodes have named, by the path.
    sockets: Arc<Mutex<HashMap<PathBuf, Self>>>,
}

impl Http {
    pub fn over_tcp() -> Result<Self, Error> {
        Self::new(builder(tls::nobody()?), None)
    }

    pub fn over_tls(tls: &ClientTls) -> Result<Self, Error> {
        Self::new(builder(tls.config()?), None)
    }

    pub fn over_socket(path: &Path) -> Result<Self, Error> {
        let path = SocketPath::of(path)
            .map_err(|error| Error::unreachable(&format!("{UNIX}{}", path.display()), error))?;
        Self::new(builder(tls::nobody()?).unix_socket(path.as_path()), Some(Arc::new(path)))
    }

    fn new(builder: reqwest::ClientBuilder, path: Option<Arc<SocketPath>>) -> Result<Self, Error> {
        let client = builder.build().map_err(|error| Error::unsendable(error.to_string()))?;
        Ok(Self { client, _path: path, sockets: Arc::default() })
    }

    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// The connections over the unix socket that a rejection names, if it belongs to the node that was asked: another
    /// process may listen at that address, and name the socket of a node that was not meant.
    pub fn socket_of(&self, response: &Response) -> Option<Self> {
        let path =
            response.headers().get(SOCKET_HEADER).filter(|_| response.status() == StatusCode::FORBIDDEN)?;
        let path = PathBuf::from(OsString::from_vec(percent_decode_str(path.to_str().ok()?).collect()));
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(http) = sockets.get(&path) {
            return Some(http.clone());
        }
        let run: RunFile = serde_json::from_slice(&fs::read(path.with_file_name(RUN_FILE)).ok()?).ok()?;
        let http = serves(&run, response.url()).then(|| Self::over_socket(&path).ok())??;
        sockets.insert(path, http.clone());
        Some(http)
    }
}

fn builder(tls: ClientConfig) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls);
    builder.pool_idle_timeout(IDLE_MAX).connect_timeout(CONNECT_TIMEOUT).no_proxy()
}

/// Whether the API of this running node is at this URL.
fn serves(run: &RunFile, url: &Url) -> bool {
    let asked = url.socket_addrs(|| None).unwrap_or_default();
    let address = run.api.strip_prefix(HTTPS).unwrap_or(&run.api);
    address.parse::<SocketAddr>().is_ok_and(|api| asked.contains(&api))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_belongs_to_the_node_whose_api_was_asked() {
        let run = RunFile {
            api: "127.0.0.1:7401".into(),
            listen: Vec::new(),
            etcd: Vec::new(),
            pid: 1,
            id: "ab".into(),
        };
        let is_served = |url: &str| serves(&run, &url.parse().expect("a URL"));
        assert!(is_served("http://127.0.0.1:7401/v1/leave") && is_served("http://localhost:7401/v1/leave"));
        assert!(!is_served("http://127.0.0.1:7402/v1/leave"), "another node's");
    }
}
