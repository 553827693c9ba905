//! The key of a network's authority. It signs statements wherever its file is: no running node needs it.

use std::convert::Infallible;
use std::path::Path;

use data_encoding::HEXLOWER;
use starling_p2p::{Identity, IdentityError, verify_signed};
use starling_proto::trust::{Claim, Signed, Statement, Trust, endorsement_bytes};
use starling_proto::{NodeId, NodeRecord};

use crate::wall_ms;

/// A key of an authority.
pub struct AuthorityKey(Identity);

impl AuthorityKey {
    /// Makes a key and writes it to a file that must not exist (mode 0600, synced).
    pub fn create(path: &Path) -> Result<Self, IdentityError> {
        let key = Identity::generate();
        key.save_new(path)?;
        Ok(Self(key))
    }

    /// Reads the file, or makes it with a new key if there is none.
    pub(crate) fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        Identity::load_or_create(path).map(Self)
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

    /// The first statement of a network's authority: that the node of this record is an issuer.
    pub(crate) fn first_issuer(&self, record: &NodeRecord) -> Statement {
        let (node, addresses) = (record.id, record.addresses.clone());
        self.statement(Claim::Issuer { node, addresses, is_granted: true }, wall_ms())
    }

    /// The statement that a node is revoked; `None` if `node` is no id.
    pub fn revoke(&self, node: &str, serial: u64) -> Option<String> {
        Some(self.sign(Claim::Revoked { node: parse(node)? }, serial))
    }

    /// The statement that another key signs for the authority, too.
    pub fn succeed(&self, other: &Self, serial: u64) -> String {
        let key = other.0.node_id();
        let endorsement = other.0.sign_bytes(&endorsement_bytes(&self.0.node_id(), &key));
        self.sign(Claim::Successor { key, endorsement }, serial)
    }

    /// The statement that a key before this one counts no longer; `None` if `key` is none.
    pub fn retire(&self, key: &str, serial: u64) -> Option<String> {
        Some(self.sign(Claim::Retired { key: parse(key)? }, serial))
    }

    /// What counts among statements of the authority, signed by this key: all that other keys have stated. Statements that no key
    /// of this one's authority has signed are left out.
    pub fn restate(&self, statements: &[String], serial: u64) -> Vec<String> {
        let read = |hex: &String| Statement::decoded(&HEXLOWER.decode(hex.as_bytes()).ok()?);
        let statements: Vec<Statement> = statements.iter().filter_map(read).filter(verify_signed).collect();
        let mut trust = Trust::default();
        let _ = trust.adopt(self.0.node_id());
        let Ok(_) = trust.learn_all(&statements, |_| Ok::<_, Infallible>(()));
        let of_others = |it: &&Statement| !it.is_about_keys() && it.authority != self.0.node_id();
        trust.in_force().filter(of_others).map(|it| self.sign(it.claim.clone(), serial)).collect()
    }

    fn sign(&self, claim: Claim, serial: u64) -> String {
        HEXLOWER.encode(&self.statement(claim, serial).encoded())
    }

    fn statement(&self, claim: Claim, serial: u64) -> Statement {
        let authority = self.0.node_id();
        let mut statement = Statement { authority, serial, claim, signature: Vec::new() };
        statement.signature = self.0.sign_bytes(&statement.signing_bytes());
        statement
    }
}

fn parse(node: &str) -> Option<NodeId> {
    HEXLOWER.decode(node.as_bytes()).ok()?.try_into().ok().map(NodeId)
}
