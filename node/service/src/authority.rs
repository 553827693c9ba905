//! The key of a network's authority. It signs statements wherever its file is: no running node needs it.

use std::path::Path;

use data_encoding::HEXLOWER;
use starling_p2p::{Identity, IdentityError};
use starling_proto::NodeId;
use starling_proto::trust::{Claim, Signed, Statement};

/// A key of an authority.
pub struct AuthorityKey(Identity);

impl AuthorityKey {
    /// Makes a key and writes it to a file that must not exist (mode 0600, synced).
    pub fn create(path: &Path) -> Result<Self, IdentityError> {
        let key = Identity::generate();
        key.save_new(path)?;
        Ok(Self(key))
    }

    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        Identity::load(path).map(Self)
    }

    /// The public key in hexadecimal.
    pub fn id(&self) -> String {
        HEXLOWER.encode(&self.0.node_id().0)
    }

    /// The statement that certificates are required, as the API takes it. Of two statements about one subject the one with
    /// the higher serial number counts.
    pub fn require(&self, serial: u64) -> String {
        self.sign(Claim::Required, serial)
    }

    /// The statement whether a node is an issuer; `None` if `node` is no id.
    pub fn issuer(&self, node: &str, addresses: &[String], is_granted: bool, serial: u64) -> Option<String> {
        let addresses = addresses.to_vec();
        Some(self.sign(Claim::Issuer { node: parse(node)?, addresses, is_granted }, serial))
    }

    /// The statement that a node is revoked; `None` if `node` is no id.
    pub fn revoke(&self, node: &str, serial: u64) -> Option<String> {
        Some(self.sign(Claim::Revoked { node: parse(node)? }, serial))
    }

    fn sign(&self, claim: Claim, serial: u64) -> String {
        let authority = self.0.node_id();
        let mut statement = Statement { authority, serial, claim, signature: Vec::new() };
        statement.signature = self.0.sign_bytes(&statement.signing_bytes());
        HEXLOWER.encode(&statement.encoded())
    }
}

fn parse(node: &str) -> Option<NodeId> {
    HEXLOWER.decode(node.as_bytes()).ok()?.try_into().ok().map(NodeId)
}
