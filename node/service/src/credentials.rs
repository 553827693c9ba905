//! The file of the network's authority and of this node's certificate, and the tickets of such a network.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use starling_access::Capability;
use starling_api::trust::{self as api, EXPIRES_MS, TicketSpec, USES_MAX};
use starling_api::{Error, ErrorCode};
use starling_bootstrap::TicketAuthority;
use starling_core::Input;
use starling_p2p::{Issuer, TrustConfig, verify_signed};
use starling_proto::trust::{Certificate, Invitation, STATEMENTS_MAX, Signed, Statement, Trust};
use starling_proto::{NodeId, Role};

use super::data_dir::{DataDir, TRUST};
use super::gossip::GossipLoop;
use super::report;
use super::start_error::StartError;

/// First line of the file.
const HEADER: &str = "starling trust v1";
/// How long the invitation of a ticket is valid by default, milliseconds.
const INVITED_MS: u64 = 24 * 60 * 60 * 1000;

/// What is kept for the next start.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    pub trust: Arc<Trust>,
    pub certificate: Option<Certificate>,
    /// Of the last ticket: for a node without a certificate, or with one that has become invalid.
    pub invitation: Option<Invitation>,
}

impl Credentials {
    /// Reads the file; nothing if there is none. What is not signed by its key is damage.
    pub fn load(dir: &DataDir) -> Result<Self, StartError> {
        let path = dir.path().join(TRUST);
        let damaged = |line: usize| StartError::Trust { path: path.clone(), line };
        let text = match dir.read(TRUST) {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(Self::default()),
            Err(reason) => return Err(StartError::DataDir { path, reason }),
        };
        let (mut read, mut statements) = (Self::default(), Vec::new());
        for (at, line) in text.lines().enumerate() {
            let known =
                if at == 0 { (line == HEADER).then_some(()) } else { read.read_line(line, &mut statements) };
            known.ok_or_else(|| damaged(at + 1))?;
        }
        // A key of the authority may come after what it has signed.
        let count = text.lines().count();
        let Ok(learned) = Arc::make_mut(&mut read.trust).learn_all(&statements, |_| Ok::<_, Infallible>(()));
        if count == 0 || learned.len() != statements.len() {
            return Err(damaged(count.max(1)));
        }
        Ok(read)
    }

    fn read_line(&mut self, line: &str, statements: &mut Vec<Statement>) -> Option<()> {
        let (kind, hex) = line.split_once(' ')?;
        let bytes = HEXLOWER.decode(hex.as_bytes()).ok()?;
        match kind {
            "authority" => Arc::make_mut(&mut self.trust).adopt(NodeId(bytes.try_into().ok()?)).then_some(()),
            "certificate" => signed(&bytes).map(|it| self.certificate = Some(it)),
            "invitation" => signed(&bytes).map(|it| self.invitation = Some(it)),
            "statement" => signed(&bytes).map(|it| statements.push(it)),
            _ => None,
        }
    }

    /// Replaces the file.
    pub fn save(&self, dir: &DataDir) -> io::Result<()> {
        let Self { trust, certificate, invitation } = self;
        let line = |kind: &str, bytes: &[u8]| format!("{kind} {}\n", HEXLOWER.encode(bytes));
        let mut text = format!("{HEADER}\n");
        text.extend(trust.authority().map(|key| line("authority", &key.0)));
        text.extend(certificate.iter().map(|it| line("certificate", &it.encoded())));
        text.extend(invitation.iter().map(|it| line("invitation", &it.encoded())));
        text.extend(trust.statements().map(|it| line("statement", &it.encoded())));
        dir.replace(TRUST, text.as_bytes())
    }

    /// Takes over what a ticket says, and keeps it if it is new: of several tickets the last invitation counts.
    ///
    /// # Errors
    /// The ticket names another authority than the one that this node follows, or a key of it that this node does not know.
    pub fn adopt(&mut self, ticket: &TicketAuthority, dir: &DataDir) -> Result<(), StartError> {
        let (ours, theirs) = (self.trust.authority(), NodeId(ticket.key));
        if let Some(ours) = ours.filter(|_| !self.trust.is_known(&theirs)) {
            return Err(StartError::OtherAuthority { ours: ours.short(), theirs: theirs.short() });
        }
        let invitation = signed(&ticket.invitation);
        let is_known = ours.is_some() && (invitation.is_none() || invitation == self.invitation);
        if is_known {
            return Ok(());
        }
        let _ = Arc::make_mut(&mut self.trust).adopt(theirs);
        self.invitation = invitation.or(self.invitation.take());
        self.save(dir).map_err(|reason| StartError::DataDir { path: dir.path().join(TRUST), reason })
    }

    /// The driver's part.
    pub fn for_driver(&self, issuer: Arc<Issuer>) -> TrustConfig {
        let Self { trust, certificate, invitation } = self.clone();
        TrustConfig { trust, certificate, invitation, issuer: Some(issuer) }
    }
}

impl GossipLoop {
    /// What this node knows of the network's authority.
    pub(super) fn trust(&self) -> api::Trust {
        report::trust(self.core.trust(), self.core.certificate(), self.record.id)
    }

    /// A join ticket that names this node.
    pub(super) fn ticket(&self, spec: TicketSpec) -> Result<String, Error> {
        let wall_ms = self.clock.now().wall_ms;
        let authority = invite(self.core.trust(), self.record.id, &self.facts.issuer, spec, wall_ms)?;
        Ok((self.facts.ticket)(&self.record, authority))
    }

    /// Signs a token of a client.
    pub(super) fn sign_token(&self, mut token: Capability) -> Result<Capability, Error> {
        let trust = self.core.trust();
        if trust.authority().is_none() {
            let message = "this network has no authority, whose issuers sign tokens";
            return Err(Error::new(ErrorCode::Conflict, message, "make one: starling authority init"));
        }
        check_issuer(trust, self.record.id, "sign tokens")?;
        token.signature = self.facts.issuer.sign(&token);
        Ok(token)
    }

    /// Every statement of the authority that this node has.
    pub(super) fn statements(&self) -> api::Statements {
        let hex = |it: &Statement| HEXLOWER.encode(&it.encoded());
        api::Statements { statements: self.core.trust().statements().map(hex).collect() }
    }

    /// Learns statements of the operator.
    ///
    /// # Errors
    /// One is of another authority, or there is no room for it.
    pub(super) fn add_statements(&mut self, statements: Vec<Statement>) -> Result<api::Trust, Error> {
        let mut trust = Trust::clone(self.core.trust());
        let authority = trust.authority().or(statements.first().map(|statement| statement.authority));
        if let Some(authority) = authority {
            let _ = trust.adopt(authority);
            let Ok(_) = trust.learn_all(&statements, |_| Ok::<_, Infallible>(()));
            if statements.iter().any(|statement| !trust.is_known(&statement.authority)) {
                let authority = authority.short();
                let message = format!(
                    "the network follows the authority {authority}, and a statement is of another one"
                );
                return Err(Error::new(
                    ErrorCode::Invalid,
                    message,
                    "`starling authority show` names its keys",
                ));
            }
            if !statements.iter().all(|statement| trust.has_room(statement)) {
                let message =
                    format!("the network has {STATEMENTS_MAX} statements, and no room for another one");
                let hint = "a new network has none: nothing was changed here";
                return Err(Error::new(ErrorCode::TooLarge, message, hint));
            }
            self.feed(Input::Statements { from: None, authority, statements });
        }
        Ok(self.trust())
    }

    /// Keeps the statements and the certificate for the next start.
    pub(super) fn keep_credentials(&self) {
        let (trust, certificate) = (Arc::clone(self.core.trust()), self.core.certificate().cloned());
        self.disk.keep_credentials(Credentials { trust, certificate, invitation: self.invitation.clone() });
    }
}

fn signed<T: Signed>(bytes: &[u8]) -> Option<T> {
    T::decoded(bytes).filter(verify_signed)
}

/// Fails unless this node is an issuer, as it has to be to do this.
fn check_issuer(trust: &Trust, me: NodeId, what: &str) -> Result<(), Error> {
    if trust.is_issuer(&me) {
        return Ok(());
    }
    let issuers: Vec<String> = trust.issuers().map(|(id, _)| id.short()).collect();
    let issuers = if issuers.is_empty() { "none is known here".to_owned() } else { issuers.join(", ") };
    let message = format!("this node is no issuer, so that it cannot {what}");
    let hint = format!("ask an issuer ({issuers}), or make this node one: starling issuer add");
    Err(Error::new(ErrorCode::Conflict, message, hint))
}

/// The part of a ticket about certificates: `None` in a network without an authority, and no invitation if this node is no
/// issuer and none is necessary.
///
/// # Errors
/// A limit is out of its bounds, this node is no issuer, or something was asked for that needs an authority.
pub fn invite(
    trust: &Trust,
    me: NodeId,
    issuer: &Issuer,
    spec: TicketSpec,
    wall_ms: u64,
) -> Result<Option<TicketAuthority>, Error> {
    let uses =
        spec.uses.map_or(Some(0), |uses| u32::try_from(uses).ok().filter(|_| (1..=USES_MAX).contains(&uses)));
    let uses =
        uses.ok_or_else(|| out_of_bounds("uses", &format!("1 to {USES_MAX}"), "any number of nodes"))?;
    if spec.expires_ms.is_some_and(|ms| !EXPIRES_MS.contains(&ms)) {
        let bounds = format!("{} to {} milliseconds (ten years)", EXPIRES_MS.start(), EXPIRES_MS.end());
        return Err(out_of_bounds("expiry", &bounds, "a day"));
    }
    let Some(authority) = trust.authority() else {
        if spec == TicketSpec::default() {
            return Ok(None);
        }
        let message = "this network has no authority: its tickets have no limits";
        return Err(Error::new(ErrorCode::Conflict, message, "make one: starling authority init"));
    };
    let mut ticket = TicketAuthority { key: authority.0, invitation: Vec::new().into() };
    if !trust.is_required() && spec == TicketSpec::default() && !trust.is_issuer(&me) {
        // Issuers give every node with the secret a certificate.
        return Ok(Some(ticket));
    }
    check_issuer(trust, me, "invite other nodes")?;
    let role = if spec.seed { Role::Seed } else { Role::Replica };
    let not_after_ms = wall_ms.saturating_add(spec.expires_ms.unwrap_or(INVITED_MS));
    ticket.invitation = issuer.invite(role, uses, not_after_ms).encoded().into();
    Ok(Some(ticket))
}

fn out_of_bounds(limit: &str, bounds: &str, default: &str) -> Error {
    let message = format!("the ticket's {limit} is out of its bounds: {bounds}");
    Error::new(ErrorCode::Invalid, message, format!("leave it out for {default}"))
}
