//! TLS of the connections of a socket, version 1.3 (RFC 8446) only. The certificate is read again once its files have
//! changed: it can be renewed without a restart.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::seldom::Seldom;

/// How long a handshake may take, a few round trips. An estimate, for links that lose packets.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Time between two looks whether the files have changed, at least. An estimate.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The files of a server's TLS, in PEM (RFC 7468).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// Certificates of authorities: clients have to have a certificate of one of them. `None`: clients need none.
    pub client_authorities: Option<PathBuf>,
}

/// Why a server has no TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        reason: pem::Error,
    },
    /// The files do not fit each other, or hold something else.
    #[error("cannot use the certificate in {path}: {reason}")]
    Unusable {
        /// The file of the certificate, or of the authorities.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// TLS of one server. Clones share it.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    files: TlsFiles,
    /// The protocol in it (ALPN, RFC 7301).
    protocol: &'static [u8],
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    config: Arc<ServerConfig>,
    /// When the certificate expires, seconds since the Unix epoch; `None` if that cannot be read.
    not_after_s: Option<i64>,
    /// What the files were when they were last read, whether they could be used or not.
    read: Vec<Option<Stamp>>,
    looked: Instant,
    failed: Seldom,
}

/// What changes when a file is written or replaced: inode, time of the last change in nanoseconds, bytes.
type Stamp = (u64, i64, i64, u64);

impl Tls {
    /// Reads the files. `protocol`: the one that the server speaks, as ALPN names it.
    ///
    /// # Errors
    /// A file cannot be read, or they do not fit each other.
    pub fn load(files: TlsFiles, protocol: &'static [u8]) -> Result<Self, TlsError> {
        let read = stamps(&files);
        let (config, not_after_s) = config(&files, protocol)?;
        let config = Arc::new(config);
        let state = State { config, not_after_s, read, looked: Instant::now(), failed: Seldom::default() };
        Ok(Self(Arc::new(Shared { files, protocol, state: Mutex::new(state) })))
    }

    /// When the certificate in use expires, seconds since the Unix epoch; `None` if that cannot be read.
    pub fn not_after_s(&self) -> Option<i64> {
        self.current();
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).not_after_s
    }

    /// The server's side of a handshake.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let accepted = timeout(HANDSHAKE_MAX, TlsAcceptor::from(self.current()).accept(stream)).await;
        accepted.unwrap_or_else(|late| Err(late.into())).inspect_err(|error| self.note_failed(error))
    }

    /// Files that have changed, and cannot be used, do not count: they may be half written.
    fn current(&self) -> Arc<ServerConfig> {
        let Shared { files, protocol, state } = &*self.0;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK_EVERY {
            state.looked = Instant::now();
            let found = stamps(files);
            if found != state.read {
                state.read = found;
                match config(files, protocol) {
                    Ok((config, not_after_s)) => {
                        tracing::info!(certificate = %files.certificate.display(), "read the renewed certificate");
                        (state.config, state.not_after_s) = (Arc::new(config), not_after_s);
                    }
                    Err(error) => tracing::warn!(%error, "go on with the former certificate"),
                }
            }
        }
        Arc::clone(&state.config)
    }

    fn note_failed(&self, error: &io::Error) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = state.failed.note() {
            tracing::warn!(count, last = %error, "connections without a TLS handshake were closed");
        }
    }
}

fn stamps(files: &TlsFiles) -> Vec<Option<Stamp>> {
    let paths = [&files.certificate, &files.key].into_iter().chain(&files.client_authorities);
    let stamp = |path: &PathBuf| {
        let file = path.metadata().ok()?;
        Some((file.ino(), file.mtime(), file.mtime_nsec(), file.size()))
    };
    paths.map(stamp).collect()
}

/// The configuration, and when its certificate expires.
fn config(files: &TlsFiles, protocol: &[u8]) -> Result<(ServerConfig, Option<i64>), TlsError> {
    let TlsFiles { certificate, key, client_authorities } = files;
    let provider = Arc::new(ring::default_provider());
    let chain = certificates(certificate)?;
    let not_after_s = chain.first().and_then(not_after_s);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(|reason| unusable(certificate, reason))?;
    let builder = match client_authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(path)? {
                roots.add(authority).map_err(|reason| unusable(path, reason))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|reason| unusable(path, reason))?)
        }
    };
    let key = PrivateKeyDer::from_pem_file(key).map_err(|reason| unreadable(key, reason))?;
    let mut config = builder.with_single_cert(chain, key).map_err(|reason| unusable(certificate, reason))?;
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok((config, not_after_s))
}

/// Servers show a certificate also after it has expired: clients refuse it.
fn not_after_s(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let all: Vec<_> = all.map_err(|reason| unreadable(path, reason))?;
    if all.is_empty() { Err(unreadable(path, pem::Error::NoItemsFound)) } else { Ok(all) }
}

fn unreadable(path: &Path, reason: pem::Error) -> TlsError {
    TlsError::File { path: path.into(), reason }
}

fn unusable(path: &Path, reason: impl fmt::Display) -> TlsError {
    TlsError::Unusable { path: path.into(), reason: reason.to_string() }
}
