//! TLS of clients, version 1.3 (RFC 8446) only.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use rustls_platform_verifier::BuilderVerifierExt;
use starling_api::Error;

/// What a client trusts, and shows of itself, where a node serves its API in TLS. The files are PEM (RFC 7468).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Certificates of the authorities of nodes. `None`: those that the system trusts.
    pub authorities: Option<PathBuf>,
    /// The client's certificate and its private key, for nodes that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl ClientTls {
    pub(crate) fn config(&self) -> Result<ClientConfig, Error> {
        let builder = match &self.authorities {
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path)? {
                    roots.add(authority).map_err(|reason| unusable(path, reason))?;
                }
                builder()?.with_root_certificates(roots)
            }
            None => builder()?.with_platform_verifier().map_err(unsendable)?,
        };
        match &self.identity {
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let private = PrivateKeyDer::from_pem_file(key).map_err(|reason| unusable(key, reason))?;
                builder.with_client_auth_cert(chain, private).map_err(|reason| unusable(certificate, reason))
            }
            None => Ok(builder.with_no_client_auth()),
        }
    }
}

/// For connections without TLS: it trusts nobody.
pub(crate) fn nobody() -> Result<ClientConfig, Error> {
    Ok(builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    builder.with_protocol_versions(&[&TLS13]).map_err(unsendable)
}

/// What to do about a cause of a broken connection, if that is TLS.
pub(crate) fn hint(mut cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    // Errors of the system that hold another one, sometimes in each other, do not name it as their source.
    while let Some(inner) = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        cause = inner;
    }
    Some(match cause.downcast_ref()? {
        rustls::Error::InvalidCertificate(_) => {
            "name the authority of the node's certificate: --cacert FILE; the certificate has to be valid now, and for \
             this address"
        }
        rustls::Error::AlertReceived(_) => {
            "the node wants a valid certificate of an authority that it knows: --cert FILE --cert-key FILE"
        }
        rustls::Error::InvalidMessage(_) => {
            "does the node serve its API without TLS? Then its address begins with http://"
        }
        _ => "the node and this command do not agree on TLS 1.3: see the node's log",
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = all.map_err(|reason| unusable(path, reason))?;
    if all.is_empty() { Err(unusable(path, "there is no certificate in it")) } else { Ok(all) }
}

fn unusable(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::unsendable(format!("cannot use {}: {reason}", path.display()))
}

fn unsendable(reason: impl std::fmt::Display) -> Error {
    Error::unsendable(reason.to_string())
}
