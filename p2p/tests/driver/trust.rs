//! Certificates over real connections: who is admitted, who gets a certificate, and what a forged one is worth.

use std::{path::Path, sync::Arc};

use starling_p2p::{Event, Identity, Issuer, TrustConfig};
use starling_proto::{
    NodeId, Role,
    trust::{Certificate, Claim, Invitation, Rejection, Signed, Statement, Trust, endorsement_bytes},
};

use crate::support::{Node, TCP, config, network, until};

/// Longer than any test.
const LIFETIME_MS: u64 = 3_600_000;
const FAR_MS: u64 = u64::MAX;

struct Authority(Identity);

impl Authority {
    fn state(&self, serial: u64, claim: Claim) -> Statement {
        let mut statement = Statement { authority: self.0.node_id(), serial, claim, signature: Vec::new() };
        statement.signature = self.0.sign_bytes(&statement.signing_bytes());
        statement
    }

    fn trust(&self, claims: impl IntoIterator<Item = Claim>) -> Trust {
        let mut trust = Trust::default();
        trust.adopt(self.0.node_id());
        for claim in claims {
            assert!(trust.learn(&self.state(1, claim)));
        }
        trust
    }
}

fn granted(node: NodeId) -> Claim {
    Claim::Issuer { node, addresses: Vec::new(), is_granted: true }
}

fn issuer_of(identity: &Identity, dir: &Path) -> Arc<Issuer> {
    let issuer = Issuer::open(identity.clone(), &dir.join("invitations"), LIFETIME_MS, 0);
    Arc::new(issuer.expect("opens"))
}

async fn start(identity: Identity, trust: TrustConfig) -> Node {
    Node::start_with(starling_p2p::DriverConfig { trust, ..config(identity, &[TCP], network(&[1])) }).await
}

fn certificate(node: &Node) -> Option<&Certificate> {
    node.seen.iter().find_map(|event| match event {
        Event::Certified(certificate) => Some(certificate),
        _ => None,
    })
}

/// A network in which certificates are required, with one issuer.
struct Closed {
    authority: Authority,
    issuer: Identity,
    dir: tempfile::TempDir,
}

impl Closed {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self { authority: Authority(Identity::generate()), issuer: Identity::generate(), dir }
    }

    fn trust(&self) -> Trust {
        self.authority.trust([granted(self.issuer.node_id()), Claim::Required])
    }

    async fn issuer(&self) -> Node {
        let issuer = Some(issuer_of(&self.issuer, self.dir.path()));
        let trust = TrustConfig { trust: Arc::new(self.trust()), issuer, ..TrustConfig::default() };
        start(self.issuer.clone(), trust).await
    }

    fn invitation(&self, uses: u32, not_after_ms: u64) -> Invitation {
        issuer_of(&self.issuer, self.dir.path()).invite(Role::Replica, uses, not_after_ms)
    }

    /// A node that has joined by a ticket, and knows no statements.
    async fn invited(&self, identity: Identity, invitation: Option<Invitation>) -> Node {
        let trust = self.authority.trust([]);
        start(identity, TrustConfig { trust: Arc::new(trust), invitation, ..TrustConfig::default() }).await
    }

    fn sign(&self, by: &Identity, node: NodeId, not_after_ms: u64) -> Certificate {
        let (role, issued_ms, issuer) = (Role::Replica, 0, self.issuer.node_id());
        let mut it = Certificate { node, role, issued_ms, not_after_ms, issuer, signature: Vec::new() };
        it.signature = by.sign_bytes(&it.signing_bytes());
        it
    }
}

/// Dials from the second node to the first, until both have an event of it.
async fn meet(nodes: &mut [Node; 2]) {
    let (first, second) = (nodes[0].record.clone(), nodes[1].id());
    nodes[1].driver.dial(&first);
    until(nodes, "a link, or a refusal", |nodes| {
        let is_up = nodes[1].is_connected(first.id) && nodes[0].is_connected(second);
        is_up || nodes[1].unreachable().is_some()
    })
    .await;
}

async fn refusal(first: Node, second: Node) -> String {
    let mut nodes = [first, second];
    meet(&mut nodes).await;
    let reason = nodes[1].unreachable().expect("no link").to_owned();
    assert_eq!(nodes[0].ups_and_downs(), (0, 0));
    assert_eq!(nodes[0].driver.metrics().not_admitted.get(), 1);
    reason
}

#[tokio::test]
async fn an_invited_node_gets_a_certificate_in_the_handshake_and_is_admitted_by_others_with_it() {
    let closed = Closed::new();
    let invited = closed.invited(Identity::generate(), Some(closed.invitation(1, FAR_MS))).await;
    let mut nodes = [closed.issuer().await, invited];
    meet(&mut nodes).await;
    let given = certificate(&nodes[1]).expect("a certificate").clone();
    assert_eq!((given.node, given.issuer), (nodes[1].id(), nodes[0].id()));
    let shown = nodes[1].seen.iter().find_map(|event| match event {
        Event::Connected { shown, .. } => Some(shown),
        _ => None,
    });
    assert_eq!(shown.expect("a link").statements.len(), 2, "it has the statements of the network now");

    let [_, mut invited] = nodes;
    invited.driver.set_certificate(given);
    invited.driver.set_trust(Arc::new(closed.trust()));
    let other = Identity::generate();
    let certificate = Some(closed.sign(&closed.issuer, other.node_id(), FAR_MS));
    let trust = TrustConfig { trust: Arc::new(closed.trust()), certificate, ..TrustConfig::default() };
    let mut nodes = [start(other, trust).await, invited];
    meet(&mut nodes).await;
    assert!(nodes[0].is_connected(nodes[1].id()), "{:?}", nodes[1].unreachable());
}

#[tokio::test]
async fn without_a_valid_certificate_no_node_is_admitted() {
    let closed = Closed::new();
    let me = Identity::generate();
    let none = refusal(closed.issuer().await, closed.invited(me.clone(), None).await).await;
    assert!(none.contains(&Rejection::NoCertificate.to_string()), "{none}");
    let forger = Identity::generate();
    let other = NodeId([7; 32]);
    let cases = [
        (closed.sign(&forger, me.node_id(), FAR_MS), Rejection::NoCertificate, "signed by another key"),
        (closed.sign(&closed.issuer, other, FAR_MS), Rejection::Invalid, "of another node"),
        (closed.sign(&closed.issuer, me.node_id(), 1), Rejection::Expired, "expired"),
    ];
    for (certificate, reason, what) in cases {
        // It is shown to a node that is no issuer, and therefore renews none.
        let member = Identity::generate();
        let own = Some(closed.sign(&closed.issuer, member.node_id(), FAR_MS));
        let trust = Arc::new(closed.trust());
        let judge = TrustConfig { trust: Arc::clone(&trust), certificate: own, ..TrustConfig::default() };
        let shows = TrustConfig { trust, certificate: Some(certificate), ..TrustConfig::default() };
        let refused = refusal(start(member, judge).await, start(me.clone(), shows).await).await;
        assert!(refused.contains(&reason.to_string()), "{what}: {refused}");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_renewed_by_an_issuer() {
    let closed = Closed::new();
    let me = Identity::generate();
    let certificate = Some(closed.sign(&closed.issuer, me.node_id(), 1));
    let trust = TrustConfig { trust: Arc::new(closed.trust()), certificate, ..TrustConfig::default() };
    let mut nodes = [closed.issuer().await, start(me, trust).await];
    meet(&mut nodes).await;
    let renewed = self::certificate(&nodes[1]).expect("a certificate");
    assert!(renewed.not_after_ms - renewed.issued_ms == LIFETIME_MS && renewed.issued_ms > 1);
}

/// A retired issuer without a certificate, which still has an invitation of a revoked one.
#[tokio::test]
async fn a_retired_issuer_is_given_a_certificate() {
    let closed = Closed::new();
    let (retired, lost) = (Identity::generate(), Identity::generate());
    let former = Claim::Issuer { node: retired.node_id(), addresses: Vec::new(), is_granted: false };
    let claims = [
        granted(closed.issuer.node_id()),
        former,
        granted(lost.node_id()),
        Claim::Revoked { node: lost.node_id() },
        Claim::Required,
    ];
    let trust = Arc::new(closed.authority.trust(claims));
    let issuer = Some(issuer_of(&closed.issuer, closed.dir.path()));
    let gives = TrustConfig { trust: Arc::clone(&trust), issuer, ..TrustConfig::default() };
    let invitation = Some(issuer_of(&lost, closed.dir.path()).invite(Role::Replica, 0, FAR_MS));
    let asks = TrustConfig { trust, invitation, ..TrustConfig::default() };
    let mut nodes = [start(closed.issuer.clone(), gives).await, start(retired, asks).await];
    meet(&mut nodes).await;
    assert!(certificate(&nodes[1]).is_some(), "{:?}", nodes[1].unreachable());
}

#[tokio::test]
async fn an_invitation_is_used_as_often_as_it_says_also_after_a_restart_of_the_issuer() {
    let closed = Closed::new();
    let invitation = closed.invitation(2, FAR_MS);
    let first = Identity::generate();
    for identity in [first.clone(), Identity::generate(), first] {
        let invited = closed.invited(identity, Some(invitation.clone())).await;
        let mut nodes = [closed.issuer().await, invited];
        meet(&mut nodes).await;
        assert!(certificate(&nodes[1]).is_some(), "a node that asks again counts once");
    }
    let third = closed.invited(Identity::generate(), Some(invitation)).await;
    let used = refusal(closed.issuer().await, third).await;
    assert!(used.contains(&Rejection::Used.to_string()), "{used}");

    let late = closed.invited(Identity::generate(), Some(closed.invitation(0, 1))).await;
    let expired = refusal(closed.issuer().await, late).await;
    assert!(expired.contains(&Rejection::TicketExpired.to_string()), "{expired}");
    let extended = Invitation { not_after_ms: FAR_MS, ..closed.invitation(0, 1) };
    let forger = closed.invited(Identity::generate(), Some(extended)).await;
    let invalid = refusal(closed.issuer().await, forger).await;
    assert!(invalid.contains(&Rejection::Invalid.to_string()), "{invalid}");
}

#[tokio::test]
async fn a_revocation_that_only_the_peer_knows_counts_in_the_same_handshake() {
    let authority = Authority(Identity::generate());
    let lost = Identity::generate();
    let claims = || [Claim::Revoked { node: lost.node_id() }];
    let trusting = |trust| TrustConfig { trust: Arc::new(trust), ..TrustConfig::default() };
    // The node that dials is revoked, and has the statement itself.
    let knows = start(lost.clone(), trusting(authority.trust(claims()))).await;
    let refused = refusal(start(Identity::generate(), trusting(authority.trust([]))).await, knows).await;
    assert!(refused.contains(&Rejection::Revoked.to_string()), "{refused}");
    // The listener is.
    let listener = start(lost.clone(), trusting(authority.trust([]))).await;
    let dialer = start(Identity::generate(), trusting(authority.trust(claims()))).await;
    let mut nodes = [listener, dialer];
    let record = nodes[0].record.clone();
    nodes[1].driver.dial(&record);
    until(&mut nodes, "a refusal", |nodes| nodes[1].unreachable().is_some()).await;
    assert!(!nodes[1].is_connected(lost.node_id()));
}

#[tokio::test]
async fn a_forged_statement_ends_the_handshake_and_another_authority_is_refused() {
    let authority = Authority(Identity::generate());
    let trusting = |trust| TrustConfig { trust: Arc::new(trust), ..TrustConfig::default() };
    let victim = NodeId([7; 32]);
    let mut forged = authority.state(1, Claim::Revoked { node: NodeId([8; 32]) });
    forged.claim = Claim::Revoked { node: victim };
    let mut lies = authority.trust([]);
    assert!(lies.learn(&forged), "nothing verifies it here");
    let mut nodes = [
        start(Identity::generate(), trusting(authority.trust([]))).await,
        start(Identity::generate(), trusting(lies)).await,
    ];
    meet(&mut nodes).await;
    assert!(nodes[1].unreachable().is_some());
    assert_eq!(nodes[0].ups_and_downs(), (0, 0));

    let other = Authority(Identity::generate());
    let stranger = start(Identity::generate(), trusting(other.trust([]))).await;
    let refused = refusal(start(Identity::generate(), trusting(authority.trust([]))).await, stranger).await;
    assert!(refused.contains(&Rejection::OtherAuthority.to_string()), "{refused}");
    // A node that follows none yet follows its peer's.
    let new = start(Identity::generate(), TrustConfig::default()).await;
    let mut nodes = [start(Identity::generate(), trusting(authority.trust([]))).await, new];
    meet(&mut nodes).await;
    assert!(nodes[0].is_connected(nodes[1].id()));
}

fn successor(old: &Authority, new: &Authority, endorsed_by: &Authority) -> Statement {
    let key = new.0.node_id();
    let endorsement = endorsed_by.0.sign_bytes(&endorsement_bytes(&old.0.node_id(), &key));
    old.state(1, Claim::Successor { key, endorsement })
}

/// The keys of one authority follow each other in the handshake itself, whichever of the two sides knows the later one.
#[tokio::test]
async fn nodes_with_different_keys_of_one_authority_meet() {
    let [old, new] = [(), ()].map(|()| Authority(Identity::generate()));
    let trusting = |trust: &Trust| TrustConfig { trust: Arc::new(trust.clone()), ..TrustConfig::default() };
    let mut retired = old.trust([]);
    assert!(retired.learn(&successor(&old, &new, &new)));
    assert!(retired.learn(&new.state(2, Claim::Retired { key: old.0.node_id() })));
    assert_eq!(retired.authority(), Some(new.0.node_id()));
    let away = old.trust([Claim::Revoked { node: NodeId([7; 32]) }]);
    // The last node has a ticket of the later key, and has met none.
    for other in [&away, &new.trust([])] {
        for [listens, dials] in [[&retired, other], [other, &retired]] {
            let mut nodes = [
                start(Identity::generate(), trusting(listens)).await,
                start(Identity::generate(), trusting(dials)).await,
            ];
            meet(&mut nodes).await;
            assert!(nodes[0].is_connected(nodes[1].id()), "{:?}", nodes[1].unreachable());
        }
    }
    // Nothing connects the two keys here.
    let listens = start(Identity::generate(), trusting(&away)).await;
    let dials = start(Identity::generate(), trusting(&new.trust([]))).await;
    let refused = refusal(listens, dials).await;
    assert!(refused.contains(&Rejection::OtherAuthority.to_string()), "{refused}");
}

#[tokio::test]
async fn a_key_follows_another_one_only_if_both_have_signed() {
    let [old, new] = [(), ()].map(|()| Authority(Identity::generate()));
    let trusting = |trust| TrustConfig { trust: Arc::new(trust), ..TrustConfig::default() };
    let mut lies = old.trust([]);
    assert!(lies.learn(&successor(&old, &new, &old)), "nothing verifies it here");
    let mut nodes = [
        start(Identity::generate(), trusting(old.trust([]))).await,
        start(Identity::generate(), trusting(lies)).await,
    ];
    meet(&mut nodes).await;
    assert!(nodes[1].unreachable().is_some());
    assert_eq!(nodes[0].ups_and_downs(), (0, 0));
}

/// The largest number of statements goes through a handshake.
#[tokio::test]
async fn thousands_of_statements_are_exchanged_in_one_handshake() {
    let authority = Authority(Identity::generate());
    let node = |n: u16| {
        let mut id = [9; 32];
        id[..2].copy_from_slice(&n.to_be_bytes());
        NodeId(id)
    };
    let trusting = |trust| TrustConfig { trust: Arc::new(trust), ..TrustConfig::default() };
    let many = authority.trust((0..3000).map(|n| Claim::Revoked { node: node(n) }));
    let others = authority.trust((1000..3100).map(|n| Claim::Revoked { node: node(n) }));
    let mut nodes = [
        start(Identity::generate(), trusting(many)).await,
        start(Identity::generate(), trusting(others)).await,
    ];
    meet(&mut nodes).await;
    let learned = nodes.each_ref().map(|node| {
        node.seen.iter().find_map(|event| match event {
            Event::Connected { shown, .. } => Some(shown.statements.len()),
            _ => None,
        })
    });
    assert_eq!(learned, [Some(100), Some(1000)]);
}
