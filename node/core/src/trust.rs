//! Certificates and the authority's statements: who may have a link, how statements spread, and when this node asks for
//! its next certificate. Signatures are verified before they arrive here.

use std::convert::Infallible;
use std::sync::Arc;

use starling_kv::Engine;
use starling_proto::message::{Standing, TrustMessage};
use starling_proto::trust::{Certificate, Rejection, Statement, Trust};
use starling_proto::view::ViewInput;
use starling_proto::wire::bounds::STATEMENTS_AT_ONCE_MAX;
use starling_proto::{Class, Message, Millis, NodeId, NodeRecord, Role};

use crate::core::Timer;
use crate::{Core, Notice, Now, Output};

/// Time between two requests for a certificate, milliseconds. A guess: far below the third of a life that remains.
const ASK_EVERY_MS: u64 = 5_000;
/// Time between two looks at the certificates of linked peers and at this node's own, milliseconds: an expired one counts
/// for so long, at most.
const CHECK_EVERY_MS: u64 = 1_000;

/// A control message that is dropped this long after statements were passed on may be one of them, milliseconds. A guess: a
/// queue that takes longer to drain belongs to a link that is about to be closed.
const SHED_WITHIN_MS: u64 = 10_000;

/// The credentials of this node.
#[derive(Default)]
pub(crate) struct Credentials {
    pub trust: Arc<Trust>,
    pub certificate: Option<Certificate>,
    /// Requests since the last certificate: the issuers are asked in turn.
    asked: usize,
    ask_at: Millis,
    /// When statements were passed on last.
    flooded: Option<Millis>,
}

impl<E: Engine> Core<E> {
    /// Sets what an earlier run has stored, before the first input.
    pub fn restore_credentials(&mut self, now: Now, trust: Arc<Trust>, certificate: Option<Certificate>) {
        self.credentials.trust = trust;
        self.credentials.certificate = certificate;
        self.watch_credentials(now);
    }

    /// The authority and its statements.
    pub fn trust(&self) -> &Arc<Trust> {
        &self.credentials.trust
    }

    /// This node's certificate.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.credentials.certificate.as_ref()
    }

    /// Whether other nodes admit this one, as far as it knows: it follows no authority, has a link, or could have one with its
    /// certificate.
    pub fn is_admitted(&self, now: Now) -> bool {
        let Credentials { trust, certificate, .. } = &self.credentials;
        let (me, certificate) = (&self.record, certificate.as_ref());
        // A node that has only its ticket does not know whether certificates are required.
        let is_certified = trust.is_issuer(&me.id) || certificate.is_some();
        let is_valid = || trust.check(&me.id, me.role, certificate, now.wall_ms).is_ok();
        trust.authority().is_none() || self.links.len() > 0 || is_certified && is_valid()
    }

    /// This node's credentials for a crawl.
    pub(crate) fn standing(&self) -> Option<Standing> {
        let Credentials { trust, certificate, .. } = &self.credentials;
        let certificate = certificate.as_ref().map(|it| (it.issuer, it.not_after_ms));
        trust.authority().map(|authority| Standing { authority, digest: trust.digest(), certificate })
    }

    /// Adds statements of a peer, or of the operator if there is no peer. Passes new ones on, and cuts off those whom they
    /// exclude.
    pub(crate) fn learn_statements(
        &mut self,
        now: Now,
        from: Option<NodeId>,
        authority: NodeId,
        statements: &[Statement],
    ) {
        let had_authority = self.credentials.trust.authority().is_some();
        if had_authority && statements.iter().all(|statement| !self.credentials.trust.is_new(statement)) {
            return;
        }
        let before = Arc::clone(&self.credentials.trust);
        let trust = Arc::make_mut(&mut self.credentials.trust);
        if !had_authority {
            let _ = trust.adopt(authority);
            self.outputs.push_back(Output::Notice(Notice::AuthorityAdopted(authority)));
        }
        let Ok(new) = trust.learn_all(statements, |_| Ok::<_, Infallible>(()));
        for Statement { claim, .. } in new.iter().filter(|it| !before.has_claim(it)) {
            let (claim, me) = (claim.clone(), self.record.id);
            self.outputs.push_back(Output::Notice(Notice::Stated { claim, me }));
        }
        self.outputs.push_back(Output::Trust(Arc::clone(&self.credentials.trust)));
        let peers: Vec<NodeId> =
            self.links.peers().map(|(id, _)| *id).filter(|id| Some(*id) != from).collect();
        #[cfg(planted)]
        let peers = if starling_planted::on(starling_planted::Bug::StatementsNotPassedOn) {
            Vec::new()
        } else {
            peers
        };
        for some in new.chunks(STATEMENTS_AT_ONCE_MAX) {
            let message = Message::Trust(TrustMessage::Statements(some.to_vec()));
            self.send_to_all(now, peers.clone(), message);
        }
        self.credentials.flooded = Some(now.mono);
        self.check_credentials(now);
    }

    pub(crate) fn on_trust_message(&mut self, now: Now, peer: NodeId, message: TrustMessage) {
        match message {
            TrustMessage::Statements(statements) => {
                if let Some(authority) = statements.first().map(|statement| statement.authority) {
                    self.learn_statements(now, Some(peer), authority, &statements);
                }
            }
            TrustMessage::Renewed(certificate) => {
                let role = self.links.record(&peer).map_or(Role::Replica, |record| record.role);
                if self.credentials.trust.check_signed(&peer, role, &certificate).is_ok() {
                    self.links.renewed(&peer, certificate);
                }
            }
        }
    }

    /// Stores this node's new certificate, and shows it to the linked peers.
    pub(crate) fn handle_certified(&mut self, now: Now, certificate: Certificate) {
        let peers = self.links.peers().map(|(id, _)| *id).collect();
        self.send_to_all(now, peers, Message::Trust(TrustMessage::Renewed(certificate.clone())));
        self.credentials.asked = 0;
        self.credentials.certificate = Some(certificate.clone());
        self.outputs.push_back(Output::Certified(certificate));
        // Without one, no peer has accepted this node.
        if self.views.active().len() == 0 {
            self.views.handle(now.mono, ViewInput::Known(self.healing.remembered()));
        }
        self.watch_credentials(now);
    }

    /// Whether a peer may have a link with this certificate.
    pub(crate) fn admits(
        &self,
        now: Now,
        record: &NodeRecord,
        certificate: Option<&Certificate>,
    ) -> Result<(), Rejection> {
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::RevokedAdmitted) {
            return Ok(());
        }
        self.credentials.trust.check(&record.id, record.role, certificate, now.wall_ms)
    }

    /// Closes the link to a peer whose queue has dropped control messages, if statements may be among them: the next handshake
    /// brings them.
    pub(crate) fn handle_shed(&mut self, now: Now, peer: NodeId, class: Class) {
        let is_recent = |at: Millis| now.mono - at < SHED_WITHIN_MS;
        if class == Class::Control && self.credentials.flooded.is_some_and(is_recent) {
            self.close(now, peer, "a statement may be lost");
        }
    }

    /// Closes the links to peers that are not members any more, and asks for a certificate if this node needs one.
    pub(crate) fn check_credentials(&mut self, now: Now) {
        let rejected: Vec<(NodeId, Rejection)> = self
            .links
            .certificates()
            .filter_map(|(record, certificate)| {
                Some((record.id, self.admits(now, record, certificate).err()?))
            })
            .collect();
        for (peer, reason) in rejected {
            match reason {
                Rejection::Revoked => {
                    self.close(now, peer, "revoked");
                    self.handle_unreachable(now, peer);
                }
                // It comes back with its next certificate.
                _ => self.close(now, peer, "without a valid certificate"),
            }
        }
        self.ask_for_certificate(now);
        self.watch_credentials(now);
    }

    fn watch_credentials(&mut self, now: Now) {
        if self.credentials.trust.authority().is_some() {
            self.timers.set_earlier(Timer::Credentials, now.mono + CHECK_EVERY_MS);
        }
    }

    /// Whether this node has to ask for a certificate now.
    fn needs_certificate(&self, now: Now) -> bool {
        let Credentials { trust, certificate, .. } = &self.credentials;
        let me = self.record.id;
        let is_current = |it: &Certificate| trust.is_current(&me, self.record.role, it, now.wall_ms);
        !trust.is_issuer(&me) && !trust.is_revoked(&me) && !certificate.as_ref().is_some_and(is_current)
    }

    fn ask_for_certificate(&mut self, now: Now) {
        if now.mono < self.credentials.ask_at || !self.needs_certificate(now) {
            return;
        }
        let issuers: Vec<(NodeId, Vec<String>)> =
            self.credentials.trust.issuers().map(|(id, addresses)| (id, addresses.to_vec())).collect();
        self.credentials.ask_at = now.mono + ASK_EVERY_MS;
        if issuers.is_empty() {
            // A seed looks for no peer otherwise, and its ticket invites it where an issuer answers.
            if self.links.len() == 0 {
                self.outputs.push_back(Output::NeedContacts);
            }
            return;
        }
        // Nodes begin with different issuers.
        let (id, addresses) =
            &issuers[(self.credentials.asked + usize::from(self.record.id.0[0])) % issuers.len()];
        let known = self.links.record(id).or_else(|| self.views.passive().find(|record| record.id == *id));
        let record = known.cloned().unwrap_or_else(|| NodeRecord {
            addresses: addresses.clone(),
            ..NodeRecord::new(*id, 0, Role::Replica)
        });
        self.credentials.asked += 1;
        self.outputs.push_back(Output::Renew(record));
    }
}
