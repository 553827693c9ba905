//! How this program reaches the APIs of nodes on other machines: in TLS, by an authority made for the run, and with a token
//! drawn for it. A node serves nothing but that on an address that other machines reach.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use starling_api::Error as ApiError;
use starling_client::{Client, ClientTls, Retries};
use tempfile::TempDir;

use crate::error::{Error, Result};

/// What clients of a network's nodes trust and show. The default is for nodes of this machine, on the loopback interface.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The token of the administrator.
    pub token: Option<String>,
    tls: ClientTls,
}

impl Access {
    /// A client of these nodes, by the addresses of their APIs.
    pub fn client<'a>(&self, nodes: impl IntoIterator<Item = &'a str>) -> Result<Client, ApiError> {
        Client::of_nodes(nodes, self.token.clone())?.with_tls(&self.tls)
    }

    /// A client of one node that sends each request once, so that the node's failures are seen.
    pub fn client_of_one(&self, node: &str) -> Result<Client, ApiError> {
        Ok(self.client([node])?.with_retries(Retries::NONE))
    }
}

/// An authority for one run, the certificate that all its nodes show, and their token.
#[derive(Debug)]
pub struct Authority {
    /// Of all nodes, PEM.
    pub certificate: String,
    /// Its private key, PEM.
    pub key: String,
    token: String,
    path: PathBuf,
    _folder: TempDir,
}

impl Authority {
    /// Certifies nodes at these addresses.
    pub fn new(addresses: impl Iterator<Item = Ipv4Addr>) -> Result<Self> {
        let failed = |error: rcgen::Error| Error::Broken(format!("cannot make a certificate: {error}"));
        let authority_key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).map_err(failed)?;
        let key = KeyPair::generate().map_err(failed)?;
        let names: Vec<String> = addresses.map(|address| address.to_string()).collect();
        let certificate = CertificateParams::new(names)
            .and_then(|params| params.signed_by(&key, &authority, &authority_key))
            .map_err(failed)?;
        let folder =
            TempDir::with_prefix("starling-testnet-hosts-").map_err(Error::io(&std::env::temp_dir()))?;
        let path = folder.path().join("authority.pem");
        std::fs::write(&path, authority.pem()).map_err(Error::io(&path))?;
        Ok(Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            token: format!("{:032x}", rand::random::<u128>()),
            path,
            _folder: folder,
        })
    }

    /// What clients need.
    pub fn access(&self) -> Access {
        let tls = ClientTls { authorities: Some(self.path.clone()), identity: None };
        Access { token: Some(self.token.clone()), tls }
    }
}
