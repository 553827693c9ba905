//! The node's servers: sockets bound before the node starts, and a thread for each server.

use std::collections::BTreeSet;
use std::sync::Arc;

use starling_etcd::Admission;
use starling_http::App;
use starling_listener::{BindError, Listener, LocalSocket, Reach, ServerThread, Socket, Tls, TlsFiles};
use starling_service::{Access, Capability, Handle, Role, StartError};
use tokio::task::JoinSet;

use super::error::{RunError, system};
use crate::config::Config;

/// The setting of the etcd server.
const ETCD_LISTEN: &str = "etcd.listen";
/// Characters of a token for other machines, at least: base64 of 128 bits, which nobody guesses.
const TOKEN_CHARS_MIN: usize = 22;
/// Different characters in it, at least. Of 32 random hexadecimal digits fewer are the same in one of 10^11.
const TOKEN_KINDS_MIN: usize = 7;

/// The setting of the URLs for its clients.
const ETCD_ADVERTISE: &str = "etcd.advertise";

/// The value of `api.listen` with which the API is on the unix socket alone.
const API_OFF: &str = "off";

/// The sockets that are bound before the node starts.
pub struct Sockets {
    api: Option<Socket>,
    etcd: Vec<(Socket, String)>,
}

impl Sockets {
    /// Binds what the configuration names.
    pub fn bind(config: &Config, role: Role) -> Result<Self, RunError> {
        if config.api_token.as_deref().is_some_and(Capability::is_text) {
            return Err(RunError::ClientToken);
        }
        let tls = tls_files(config)?;
        let load = |protocol| tls.clone().map(|files| Tls::load(files, protocol)).transpose();
        let api = match config.api_listen.as_str() {
            API_OFF => None,
            _ => Some(bind_api(config)?.with_tls(load(b"http/1.1")?)),
        };
        let etcd_tls = load(b"h2")?;
        let bind = |entry: &String| {
            let (socket, keyspace) = bind_etcd(entry, role, asks_clients(config))?;
            check_exposure(&socket, config, entry)?;
            Ok((socket.with_tls(etcd_tls.clone()), keyspace))
        };
        let etcd = config.etcd_listen.iter().map(bind).collect::<Result<_, RunError>>()?;
        Ok(Self { api, etcd })
    }

    /// TLS of the API or, without one, of an etcd server: both show the same certificate.
    pub fn tls(&self) -> Option<Tls> {
        let mut sockets = self.api.iter().chain(self.etcd.iter().map(|(socket, _)| socket));
        sockets.find_map(Socket::tls).cloned()
    }

    /// How many sockets there are.
    pub fn count(&self) -> usize {
        usize::from(self.api.is_some()) + self.etcd.len()
    }

    /// Bounds the connections of each socket.
    pub fn limit(&mut self, connections_max: usize) {
        self.api.iter_mut().for_each(|socket| socket.limit(connections_max));
        self.etcd.iter_mut().for_each(|(socket, _)| socket.limit(connections_max));
    }

    /// The API's URL, if it is not on the unix socket alone.
    pub fn api(&self) -> Option<String> {
        self.api.as_ref().map(url)
    }

    /// The URLs of the etcd server, with the keyspace of each.
    pub fn etcd(&self) -> Vec<(String, String)> {
        self.etcd.iter().map(|(socket, keyspace)| (url(socket), keyspace.clone())).collect()
    }

    /// The keyspaces of the etcd server, each with a URL for clients: those of `advertise`, or where it listens.
    pub fn client_urls(&self, advertise: &[String]) -> Result<Vec<(String, String)>, RunError> {
        let advertised: Vec<(String, String)> =
            advertise.iter().map(|entry| self.advertised(entry)).collect::<Result<_, _>>()?;
        let mut urls: Vec<(String, String)> =
            self.etcd().into_iter().map(|(url, keyspace)| (keyspace, url)).collect();
        urls.retain(|(keyspace, _)| !advertised.iter().any(|(name, _)| name == keyspace));
        urls.extend(advertised);
        Ok(urls)
    }

    /// One "URL=KEYSPACE" of `etcd.advertise`.
    fn advertised(&self, entry: &str) -> Result<(String, String), RunError> {
        let wrong = |reason: &str| StartError::Setting {
            key: ETCD_ADVERTISE,
            value: entry.into(),
            reason: reason.into(),
        };
        let (url, keyspace) = entry
            .rsplit_once('=')
            .filter(|(url, _)| url.bytes().all(|byte| byte.is_ascii_graphic()))
            .filter(|(url, _)| {
                ["http://", "https://"]
                    .iter()
                    .any(|scheme| url.len() > scheme.len() && url.starts_with(scheme))
            })
            .ok_or_else(|| wrong("it is written URL=KEYSPACE, like https://db.example.org:2379=orders"))?;
        if !self.etcd.iter().any(|(_, served)| served == keyspace) {
            return Err(wrong("etcd.listen does not serve this keyspace").into());
        }
        Ok((keyspace.to_owned(), url.to_owned()))
    }

    /// Serves the node, also on its unix socket, until the threads are stopped.
    pub fn serve(
        self,
        local: LocalSocket,
        node: &Handle,
        access: &Arc<Access>,
        app: App,
    ) -> Result<Vec<ServerThread>, RunError> {
        let mut threads = Vec::new();
        if !self.etcd.is_empty() {
            let (node, refusals) = (node.clone(), Arc::clone(&app.refusals));
            let admission = Admission { access: Arc::clone(access), refusals };
            let serve = |stop| async move {
                let mut servers = JoinSet::new();
                for (socket, keyspace) in self.etcd {
                    let keyspace = node.strong(keyspace).map_err(std::io::Error::other)?;
                    let admission = Some(admission.clone());
                    servers.spawn(starling_etcd::serve(socket, keyspace, admission, Clone::clone(&stop)));
                }
                while let Some(ended) = servers.join_next().await {
                    ended.map_err(std::io::Error::other)??;
                }
                Ok(())
            };
            threads.push(ServerThread::start("etcd", serve).map_err(system)?);
        }
        let listeners = self.api.map(Listener::Tcp).into_iter().chain([Listener::Local(local)]).collect();
        let serve = |stop| starling_http::serve(listeners, app, stop);
        threads.push(ServerThread::start("api", serve).map_err(system)?);
        Ok(threads)
    }
}

/// Where clients find a socket.
fn url(socket: &Socket) -> String {
    let scheme = if socket.tls().is_some() { "https" } else { "http" };
    format!("{scheme}://{}", socket.address())
}

/// The files of TLS, if it is configured.
fn tls_files(config: &Config) -> Result<Option<TlsFiles>, RunError> {
    let client_authorities = config.tls_client_ca.clone().map(Into::into);
    match (&config.tls_certificate, &config.tls_key) {
        (Some(certificate), Some(key)) => {
            Ok(Some(TlsFiles { certificate: certificate.into(), key: key.into(), client_authorities }))
        }
        (None, None) if client_authorities.is_none() => Ok(None),
        _ => Err(RunError::HalfOfTls),
    }
}

/// Binds the API: on anything but loopback only if its clients are asked who they are, and nobody guesses that or
/// reads it on the way.
fn bind_api(config: &Config) -> Result<Socket, RunError> {
    let address = config.api_listen.clone();
    let is_asked = config.api_token.is_some() || asks_clients(config);
    let reach = if is_asked { Reach::Anyone } else { Reach::Loopback };
    let api = Socket::bind(&address, reach).map_err(|error| match error {
        BindError::Exposed { address } => RunError::Unprotected { address },
        error @ BindError::System { .. } => RunError::Api(error),
    })?;
    if api.address().ip().is_loopback() && has_weak_token(config) {
        tracing::warn!(
            "api.token has less than 128 bits: another user of this machine who guesses it administers the node; \
             `openssl rand -hex 16` prints a better one"
        );
    }
    check_exposure(&api, config, &address)?;
    Ok(api)
}

/// Whether every caller shows who it is, by a certificate or a token, although there is no `api.token`.
fn asks_clients(config: &Config) -> bool {
    config.tls_client_ca.is_some() || !config.api_anonymous
}

fn has_weak_token(config: &Config) -> bool {
    config.api_token.as_deref().is_some_and(is_weak)
}

/// Fails where other machines reach a socket, and a token can be guessed or read on the way.
fn check_exposure(socket: &Socket, config: &Config, address: &str) -> Result<(), RunError> {
    let address = address.to_owned();
    if socket.address().ip().is_loopback() {
        return Ok(());
    }
    if config.tls_certificate.is_none() && !config.api_plaintext {
        return Err(RunError::Plaintext { address });
    }
    if has_weak_token(config) { Err(RunError::WeakToken { address }) } else { Ok(()) }
}

/// Binds one "ADDRESS=KEYSPACE", on loopback only unless clients show who they are.
fn bind_etcd(entry: &str, role: Role, asks_clients: bool) -> Result<(Socket, String), RunError> {
    let wrong =
        |reason: &str| StartError::Setting { key: ETCD_LISTEN, value: entry.into(), reason: reason.into() };
    let (address, keyspace) = entry
        .split_once('=')
        .ok_or_else(|| wrong("it is written ADDRESS=KEYSPACE, like 127.0.0.1:2379=orders"))?;
    if role == Role::Seed {
        return Err(wrong("a bootstrap seed serves no keyspace").into());
    }
    let reach = if asks_clients { Reach::Anyone } else { Reach::Loopback };
    match Socket::bind(address, reach) {
        Ok(socket) => Ok((socket, keyspace.to_owned())),
        Err(BindError::Exposed { .. }) => Err(wrong(
            "other machines could reach it, and etcd clients are not asked who they are: set tls.client_ca or \
             api.anonymous=false, or listen on 127.0.0.1",
        )
        .into()),
        Err(error) => Err(RunError::Etcd(error)),
    }
}

/// Whether a token has fewer than 128 bits, as far as its text shows.
fn is_weak(token: &str) -> bool {
    let kinds: BTreeSet<char> = token.chars().collect();
    token.chars().count() < TOKEN_CHARS_MIN || kinds.len() < TOKEN_KINDS_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_can_be_guessed_are_weak() {
        for token in ["a", "secret", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "1231231231231231231231231"] {
            assert!(is_weak(token), "{token}");
        }
        for token in ["9f86d081884c7d659a2feaa0c55ad015", "n4bQgYhMfWWaL-qgxVrQFa"] {
            assert!(!is_weak(token), "{token}");
        }
    }

    fn bind(entry: &str, role: Role) -> Result<(std::net::SocketAddr, String), String> {
        let bound = bind_etcd(entry, role, false).map(|(socket, keyspace)| (socket.address(), keyspace));
        bound.map_err(|error| error.to_string())
    }

    #[test]
    fn clients_are_shown_the_configured_urls_or_the_listeners() {
        let listener = |keyspace: &str| {
            bind_etcd(&format!("127.0.0.1:0={keyspace}"), Role::Replica, false).expect("binds")
        };
        let api = Socket::bind("127.0.0.1:0", Reach::Loopback).expect("binds");
        let sockets = Sockets { api: Some(api), etcd: vec![listener("orders"), listener("jobs")] };
        let listening = |at: usize| sockets.etcd()[at].0.clone();
        let urls = |advertise: &[&str]| {
            let advertise: Vec<String> = advertise.iter().map(|&entry| entry.to_owned()).collect();
            sockets.client_urls(&advertise).map_err(|error| error.to_string())
        };
        let both = [("orders".to_owned(), listening(0)), ("jobs".to_owned(), listening(1))];
        assert_eq!(urls(&[]), Ok(both.to_vec()));
        let advertised = ("orders".to_owned(), "https://db.example:2379/?a=b".to_owned());
        assert_eq!(urls(&["https://db.example:2379/?a=b=orders"]), Ok(vec![both[1].clone(), advertised]));
        for (wrong, said) in [
            ("db.example:2379=orders", "URL=KEYSPACE"),
            ("http://=orders", "URL=KEYSPACE"),
            ("http://db example=orders", "URL=KEYSPACE"),
            ("http://db.example:2379", "URL=KEYSPACE"),
            ("http://db.example:2379=other", "etcd.listen"),
        ] {
            let error = urls(&[wrong]).expect_err("refused");
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn listeners_are_on_loopback_and_name_a_keyspace() {
        let (address, keyspace) = bind("127.0.0.1:0=orders", Role::Replica).expect("binds");
        assert!(address.ip().is_loopback() && keyspace == "orders");
        for (wrong, said) in [("127.0.0.1:0", "ADDRESS=KEYSPACE"), ("0.0.0.0:0=orders", "127.0.0.1")] {
            let error = bind(wrong, Role::Replica).expect_err("refused");
            assert!(error.contains(said), "{error}");
        }
        assert!(bind("127.0.0.1:0=orders", Role::Seed).is_err());
    }
}
