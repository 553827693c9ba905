//! The part of the handshake about certificates and the authority's statements: what this node shows, and its judgement
//! of what a peer shows.

use std::{sync::Arc, time::SystemTime};

use futures::AsyncRead;
use starling_proto::{
    NodeId, NodeRecord,
    trust::{Certificate, Rejection, Request, Statement, Trust},
    wire::handshake::{Papers, decode_statements, encode_statements},
};

use crate::{
    TrustConfig,
    handshake::{HandshakeError, read_part},
    identity::verify_signed,
    issuer::Applicant,
};

/// What a peer has shown, with verified signatures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The authority that it follows.
    pub authority: Option<NodeId>,
    /// Statements that this node did not have.
    pub statements: Vec<Statement>,
    /// The peer's certificate: shown by it, or just given to it.
    pub certificate: Option<Certificate>,
    /// The certificate that the peer, an issuer, has given to this node.
    pub issued: Option<Certificate>,
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl TrustConfig {
    /// What this node asks of issuers.
    pub(crate) fn request(&self, me: NodeId) -> Option<Request> {
        let is_member = self.trust.authority().is_some() || self.invitation.is_some();
        if !is_member || self.trust.is_issuer(&me) {
            return None;
        }
        match (&self.certificate, &self.invitation) {
            (Some(it), _) if self.trust.is_current(&me, it.role, it, wall_ms()) => None,
            (Some(it), _) if self.trust.check_signed(&me, it.role, it).is_ok() => Some(Request::Renewal),
            (_, Some(invitation)) => Some(Request::Invited(invitation.clone())),
            (_, None) => Some(Request::Renewal),
        }
    }

    /// The papers, and the statements that follow them if the peer has others.
    pub(crate) fn papers(
        &self,
        theirs: [u8; 16],
        request: Option<Request>,
        issued: Option<Certificate>,
    ) -> (Papers, Vec<Vec<u8>>) {
        let is_equal = self.trust.digest() == theirs;
        let parts = if is_equal { Vec::new() } else { encode_statements(self.trust.statements()) };
        let papers = Papers {
            authority: self.trust.authority(),
            certificate: self.certificate.clone(),
            request,
            issued,
            parts: u16::try_from(parts.len()).expect("statements are bounded, and a part holds one or more"),
        };
        (papers, parts)
    }
}

/// Reads the statements that follow a peer's papers, and adds them to this node's: by them the peer is judged. Returns all,
/// and the new ones.
pub(crate) async fn read_statements<S: AsyncRead + Unpin>(
    stream: &mut S,
    mine: &TrustConfig,
    papers: &Papers,
) -> Result<(Arc<Trust>, Vec<Statement>), HandshakeError> {
    let (mut trust, mut new) = (Arc::clone(&mine.trust), Vec::new());
    if let (None, Some(theirs)) = (trust.authority(), papers.authority) {
        let _ = Arc::make_mut(&mut trust).adopt(theirs);
    }
    for _ in 0..papers.parts {
        let part = decode_statements(&read_part(stream).await?)?;
        if part.iter().any(|statement| trust.is_new(statement)) {
            new.extend(Arc::make_mut(&mut trust).learn_all(&part, |statement| {
                let unsigned = HandshakeError::Malformed("a statement is not signed by the authority");
                if verify_signed(statement) { Ok(()) } else { Err(unsigned) }
            })?);
        }
        // Each part takes up to a few milliseconds: other links of this thread have their turn.
        tokio::task::yield_now().await;
    }
    Ok((trust, new))
}

/// Whether both nodes follow one authority, as far as either knows its keys.
pub(crate) fn check_authority(trust: &Trust, papers: &Papers) -> Result<(), Rejection> {
    let is_known = papers.authority.is_none_or(|theirs| trust.is_known(&theirs));
    if is_known { Ok(()) } else { Err(Rejection::OtherAuthority) }
}

/// The peer's certificate, if its signature is valid.
pub(crate) fn verified(papers: &Papers) -> Option<Certificate> {
    papers.certificate.clone().filter(verify_signed)
}

/// Whether a peer may have a link.
pub(crate) fn judge(
    trust: &Trust,
    record: &NodeRecord,
    certificate: Option<&Certificate>,
) -> Result<(), Rejection> {
    trust.check(&record.id, record.role, certificate, wall_ms())
}

/// Judges a dialer, and gives it a certificate if it has asked this node for one and may have it. Returns the new
/// certificate.
pub(crate) async fn admit(
    mine: &TrustConfig,
    trust: Arc<Trust>,
    record: &NodeRecord,
    certificate: Option<&Certificate>,
    request: Option<Request>,
) -> Result<Option<Certificate>, Rejection> {
    let judged = judge(&trust, record, certificate);
    if judged == Err(Rejection::Revoked) {
        return Err(Rejection::Revoked);
    }
    let (Some(issuer), Some(request)) = (mine.issuer.clone(), request) else { return judged.map(|()| None) };
    let (node, role, certificate) = (record.id, record.role, certificate.cloned());
    // Counting a use waits for the disk.
    let issuing = tokio::task::spawn_blocking(move || {
        let applicant = Applicant { node, role, certificate: certificate.as_ref(), request: &request };
        issuer.issue(&applicant, &trust, wall_ms())
    });
    match issuing.await.unwrap_or(Err(Rejection::NoIssuer)) {
        Ok(given) => Ok(Some(given)),
        // A node that need not have a certificate, or has one, is admitted without a new one.
        Err(refused) => judged.map(|()| None).map_err(|reason| match reason {
            Rejection::NoCertificate => refused,
            reason => reason,
        }),
    }
}
