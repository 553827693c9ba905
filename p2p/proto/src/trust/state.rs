//! The statements that a node has, and its judgement of peers by them.

use std::collections::BTreeMap;

use thiserror::Error;

use super::statement::Subject;
use super::{Certificate, Claim, Invitation, Signed, Statement};
use crate::{NodeId, Role};

/// Statements that a node keeps, at most: 1 to 10 MiB. A guess, far above the nodes that a network loses.
pub const STATEMENTS_MAX: usize = 8_192;

/// Why a node does not count as a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, bincode::Encode, bincode::Decode)]
pub enum Rejection {
    /// The authority has revoked it.
    #[error("it was revoked by the network's authority")]
    Revoked,
    /// It has another authority.
    #[error("it follows another authority: one of the two nodes was set up with a wrong ticket")]
    OtherAuthority,
    /// It has shown no certificate, and the network requires one.
    #[error("it has no certificate, and this network requires one: join with a new ticket of an issuer")]
    NoCertificate,
    /// The certificate has expired.
    #[error(
        "its certificate has expired: start an issuer, which renews it, and compare the clocks of the machines"
    )]
    Expired,
    /// The invitation has expired.
    #[error("its ticket has expired: make a new one with `starling ticket` on an issuer")]
    TicketExpired,
    /// For another role than the node's.
    #[error("its ticket or certificate is for another role: `starling ticket --seed` is for bootstrap seeds")]
    OtherRole,
    /// Signed by a node that is no issuer, or for another node.
    #[error("its certificate or invitation is not valid here: join with a new ticket of an issuer")]
    Invalid,
    /// All uses of the invitation have been made.
    #[error("its ticket has been used as often as it may be: make a new one")]
    Used,
    /// The listener cannot give the certificate that was asked for.
    #[error("it asked a node that is no issuer for a certificate: join through an issuer")]
    NoIssuer,
}

/// The authority and its statements, as far as a node has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    authority: Option<NodeId>,
    statements: BTreeMap<Subject, Statement>,
    /// Exclusive or of the hashes of all statements.
    digest: [u8; 16],
}

impl Trust {
    /// The key whose statements count; `None` in a network without certificates.
    pub fn authority(&self) -> Option<NodeId> {
        self.authority
    }

    /// Follows this authority, if the node has none yet. Returns whether the node follows it now.
    pub fn adopt(&mut self, authority: NodeId) -> bool {
        *self.authority.get_or_insert(authority) == authority
    }

    /// Adds a statement whose signature is verified. Returns whether it was new.
    pub fn learn(&mut self, statement: &Statement) -> bool {
        if !self.is_new(statement) {
            return false;
        }
        let replaced = self.statements.insert(statement.subject(), statement.clone());
        for hash in replaced.iter().chain([statement]).map(hash) {
            self.digest.iter_mut().zip(hash).for_each(|(sum, byte)| *sum ^= byte);
        }
        true
    }

    /// Whether [`Trust::learn`] would add the statement.
    pub fn is_new(&self, statement: &Statement) -> bool {
        let known = self.statements.get(&statement.subject());
        let is_later = known.is_none_or(|known| statement.supersedes(known));
        self.authority == Some(statement.authority) && is_later && self.has_room(statement)
    }

    /// Whether there is room for the statement: there always is for one about a known subject.
    pub fn has_room(&self, statement: &Statement) -> bool {
        self.statements.len() < STATEMENTS_MAX || self.statements.contains_key(&statement.subject())
    }

    /// Every statement, in a fixed order.
    pub fn statements(&self) -> impl ExactSizeIterator<Item = &Statement> {
        self.statements.values()
    }

    /// Equal on two nodes with the same statements, and all zeros without any.
    pub fn digest(&self) -> [u8; 16] {
        self.digest
    }

    /// Whether nodes accept only peers with a valid certificate.
    pub fn is_required(&self) -> bool {
        self.statements.contains_key(&Subject::Required)
    }

    /// Whether the authority has revoked the node.
    pub fn is_revoked(&self, node: &NodeId) -> bool {
        self.statements.contains_key(&Subject::Revoked(*node))
    }

    /// Every revoked node.
    pub fn revoked(&self) -> impl Iterator<Item = NodeId> {
        self.statements.values().filter_map(Statement::revoked)
    }

    /// Every issuer that is not revoked, with where it listens.
    pub fn issuers(&self) -> impl Iterator<Item = (NodeId, &[String])> {
        self.statements.values().filter_map(|statement| match &statement.claim {
            Claim::Issuer { node, addresses, is_granted: true } if !self.is_revoked(node) => {
                Some((*node, &addresses[..]))
            }
            _ => None,
        })
    }

    /// Whether the node is an issuer, and not revoked.
    pub fn is_issuer(&self, node: &NodeId) -> bool {
        let statement = self.statements.get(&Subject::Issuer(*node)).map(|statement| &statement.claim);
        matches!(statement, Some(Claim::Issuer { is_granted: true, .. })) && !self.is_revoked(node)
    }

    /// Whether the authority has ever made the node an issuer, and has not revoked it.
    pub fn was_issuer(&self, node: &NodeId) -> bool {
        self.statements.contains_key(&Subject::Issuer(*node)) && !self.is_revoked(node)
    }

    /// The highest serial number of all statements.
    pub fn serial(&self) -> u64 {
        self.statements.values().map(|statement| statement.serial).max().unwrap_or(0)
    }

    /// Whether this node may be a peer now. An issuer needs no certificate: the authority's statement is one.
    pub fn check(
        &self,
        node: &NodeId,
        role: Role,
        certificate: Option<&Certificate>,
        wall_ms: u64,
    ) -> Result<(), Rejection> {
        if self.is_revoked(node) {
            return Err(Rejection::Revoked);
        }
        if !self.is_required() || self.is_issuer(node) {
            return Ok(());
        }
        let certificate = certificate.ok_or(Rejection::NoCertificate)?;
        self.check_signed(node, role, certificate)?;
        if certificate.not_after_ms < wall_ms { Err(Rejection::Expired) } else { Ok(()) }
    }

    /// Whether a certificate is the node's own and of a node that is an issuer, or was one and is not revoked; whenever it
    /// expires.
    pub fn check_signed(
        &self,
        node: &NodeId,
        role: Role,
        certificate: &Certificate,
    ) -> Result<(), Rejection> {
        if certificate.role != role {
            return Err(Rejection::OtherRole);
        }
        let is_own = certificate.node == *node;
        if is_own && self.was_issuer(&certificate.issuer) { Ok(()) } else { Err(Rejection::Invalid) }
    }

    /// Whether a node need not ask for another certificate than this one yet.
    pub fn is_current(&self, node: &NodeId, role: Role, certificate: &Certificate, wall_ms: u64) -> bool {
        self.check_signed(node, role, certificate).is_ok()
            && self.is_issuer(&certificate.issuer)
            && wall_ms < certificate.renewal_ms()
    }

    /// Whether an invitation permits a certificate for this role now.
    pub fn check_invitation(
        &self,
        invitation: &Invitation,
        role: Role,
        wall_ms: u64,
    ) -> Result<(), Rejection> {
        if !self.is_issuer(&invitation.issuer) {
            return Err(Rejection::Invalid);
        }
        if invitation.role != role {
            return Err(Rejection::OtherRole);
        }
        if invitation.not_after_ms < wall_ms { Err(Rejection::TicketExpired) } else { Ok(()) }
    }
}

fn hash(statement: &Statement) -> [u8; 16] {
    let hash = blake3::hash(&statement.signing_bytes());
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}
