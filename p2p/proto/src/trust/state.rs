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
    /// It has another authority, or neither node knows which key of the authority took over from which.
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
    /// The oldest key that counts: it names the authority.
    authority: Option<NodeId>,
    /// The statements about each subject, at most one of each key, and none of a key from which the key of another one came.
    statements: BTreeMap<(Subject, NodeId), Statement>,
    /// Exclusive or of the hashes of all statements.
    digest: [u8; 16],
}

impl Trust {
    /// The oldest key whose statements count, which names the authority; `None` in a network without certificates.
    pub fn authority(&self) -> Option<NodeId> {
        self.authority
    }

    /// Follows the authority with this key, if the node follows none yet. Returns whether it is a key of the node's authority.
    pub fn adopt(&mut self, key: NodeId) -> bool {
        if self.authority.is_none() {
            self.authority = Some(key);
        }
        self.is_known(&key)
    }

    /// Adds statements, in whatever order they come, whose signatures `verify` accepts. Returns the new ones.
    ///
    /// # Errors
    /// That of `verify`, which is asked about statements that are new only. The statements before it were added.
    pub fn learn_all<E>(
        &mut self,
        statements: &[Statement],
        mut verify: impl FnMut(&Statement) -> Result<(), E>,
    ) -> Result<Vec<Statement>, E> {
        let mut new = Vec::new();
        loop {
            let mut is_again = false;
            for statement in statements {
                if self.is_new(statement) {
                    verify(statement)?;
                    self.add(statement);
                    // Another one may be of the key that this one is about.
                    is_again |= statement.is_about_keys();
                    new.push(statement.clone());
                }
            }
            if !is_again {
                return Ok(new);
            }
        }
    }

    /// Adds a statement whose signature is verified. Returns whether it was new.
    pub fn learn(&mut self, statement: &Statement) -> bool {
        let is_new = self.is_new(statement);
        if is_new {
            self.add(statement);
        }
        is_new
    }

    /// Adds a new statement, and drops those in whose place it is.
    fn add(&mut self, statement: &Statement) {
        let (subject, key) = (statement.subject(), statement.authority);
        // One retirement is kept, and one statement about a subject of the keys in a row.
        let is_replaced = |by: &NodeId| subject == Subject::Retired || *by == key || self.descends(&key, by);
        let replaced: Vec<NodeId> =
            self.about(subject).map(|other| other.authority).filter(is_replaced).collect();
        for by in replaced {
            self.remove(&(subject, by));
        }
        self.toggle(statement);
        self.statements.insert((subject, key), statement.clone());
        if statement.is_about_keys() {
            self.authority = self.find_root();
            let lost: Vec<(Subject, NodeId)> =
                self.statements.iter().filter(|(_, it)| !self.is_kept(it)).map(|(at, _)| *at).collect();
            for at in &lost {
                self.remove(at);
            }
        }
    }

    fn remove(&mut self, at: &(Subject, NodeId)) {
        if let Some(removed) = self.statements.remove(at) {
            self.toggle(&removed);
        }
    }

    /// Adds a statement to the digest, or removes it.
    fn toggle(&mut self, statement: &Statement) {
        self.digest.iter_mut().zip(hash(statement)).for_each(|(sum, byte)| *sum ^= byte);
    }

    /// Whether [`Trust::learn`] would add the statement.
    pub fn is_new(&self, statement: &Statement) -> bool {
        let by = &statement.authority;
        let known = self.statements.get(&(statement.subject(), *by));
        match &statement.claim {
            Claim::Successor { key, .. } => {
                self.joins_successor(by, key) && known.is_none_or(|known| statement.supersedes(known))
            }
            Claim::Retired { key } => self.root_after(key, by).is_some_and(|root| {
                let mut last = self.about(Subject::Retired);
                Some(root) != self.authority && self.is_live(&root)
                    || Some(root) == self.authority && last.all(|last| statement.supersedes(last))
            }),
            _ => {
                let is_later = known.is_none_or(|known| statement.supersedes(known));
                let mut others = self.about(statement.subject());
                let is_last_word = !others.any(|other| self.descends(&other.authority, by));
                self.is_live(by) && is_later && is_last_word && self.has_room(statement)
            }
        }
    }

    /// Whether there is room for the statement: there always is for one about the authority's keys or about a known subject.
    pub fn has_room(&self, statement: &Statement) -> bool {
        let is_known = || self.about(statement.subject()).next().is_some();
        self.statements.len() < STATEMENTS_MAX || statement.is_about_keys() || is_known()
    }

    /// Every statement, in a fixed order.
    pub fn statements(&self) -> impl ExactSizeIterator<Item = &Statement> {
        self.statements.values()
    }

    /// Whether a statement says what counts already: another key has stated it, or it was stated before.
    pub fn has_claim(&self, statement: &Statement) -> bool {
        self.last_word(statement.subject()).is_some_and(|known| known.claim == statement.claim)
    }

    /// The statements that count: one about each subject.
    pub fn in_force(&self) -> impl Iterator<Item = &Statement> {
        self.statements.values().filter(|it| self.last_word(it.subject()).is_some_and(|last| last == *it))
    }

    /// The statements of different keys about a subject, of which none came from another one.
    pub(super) fn about(&self, subject: Subject) -> impl Iterator<Item = &Statement> {
        const FIRST: NodeId = NodeId([0; 32]);
        const LAST: NodeId = NodeId([0xff; 32]);
        self.statements.range((subject, FIRST)..=(subject, LAST)).map(|(_, statement)| statement)
    }

    /// The statement about a subject that counts.
    fn last_word(&self, subject: Subject) -> Option<&Statement> {
        self.about(subject).reduce(|last, it| if it.supersedes(last) { it } else { last })
    }

    /// Equal on two nodes with the same statements, and all zeros without any.
    pub fn digest(&self) -> [u8; 16] {
        self.digest
    }

    /// Whether nodes accept only peers with a valid certificate.
    pub fn is_required(&self) -> bool {
        self.last_word(Subject::Required).is_some()
    }

    /// Whether the authority has revoked the node.
    pub fn is_revoked(&self, node: &NodeId) -> bool {
        self.last_word(Subject::Revoked(*node)).is_some()
    }

    /// Every revoked node.
    pub fn revoked(&self) -> impl Iterator<Item = NodeId> {
        self.in_force().filter_map(Statement::revoked)
    }

    /// Every issuer that is not revoked, with where it listens.
    pub fn issuers(&self) -> impl Iterator<Item = (NodeId, &[String])> {
        self.in_force().filter_map(|statement| match &statement.claim {
            Claim::Issuer { node, addresses, is_granted: true } if !self.is_revoked(node) => {
                Some((*node, &addresses[..]))
            }
            _ => None,
        })
    }

    /// Whether the node is an issuer, and not revoked.
    pub fn is_issuer(&self, node: &NodeId) -> bool {
        let statement = self.last_word(Subject::Issuer(*node)).map(|statement| &statement.claim);
        matches!(statement, Some(Claim::Issuer { is_granted: true, .. })) && !self.is_revoked(node)
    }

    /// Whether the authority has ever made the node an issuer, and has not revoked it.
    pub fn was_issuer(&self, node: &NodeId) -> bool {
        self.last_word(Subject::Issuer(*node)).is_some() && !self.is_revoked(node)
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
