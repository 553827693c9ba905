//! The handshake inside the encrypted channel, before any other message: two nodes exchange the versions of the
//! protocol that they speak, check that they belong to the same network, prove that they have its secret, and exchange
//! their records.
//!
//! ```text
//! dialer                                              listener
//! Hello (versions, features, network, nonce,   ->
//!        digest of statements)                <-     Hello
//! Papers (certificate, request),
//! Proof (a MAC per secret, record),
//! Statements                                   ->
//!                                              <-     Proof, Papers, Statements | Refused
//! ```
//!
//! Papers and statements are sent since version 5 of the protocol, statements only if the digests differ. A listener that is
//! an issuer puts a new certificate for the dialer into its papers (`papers`).
//!
//! Both sides speak the highest common version, and the features that both have. A MAC is keyed by a
//! secret and covers both hellos and the speaker's papers byte for byte, both nodes' keys and the side that speaks: a proof can
//! be neither replayed, nor reflected, nor relayed to a third node, and a hello that was changed on
//! its way (to lower the version, say) makes it invalid. The keys are those that the encrypted channel has
//! authenticated. The listener proves itself only to a dialer that has. Nothing in it helps to guess a secret of 256
//! random bits.

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use starling_proto::trust::{Certificate, Rejection};
use starling_proto::wire::handshake::{Answer, Greeting, Hello, PART_BYTES_MAX, Papers, PartError, Proof};
use starling_proto::wire::{Negotiated, Protocol};
use starling_proto::{NodeId, NodeRecord};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{
    Network, SECRETS_MAX, TrustConfig,
    papers::{self, Shown},
    verify_record, verify_signed,
};

/// The domain that separates these MACs from every other use of the secret.
const DOMAIN: &str = "starling handshake v2";

/// A side of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The side that opened the connection.
    Dialer = 0,
    /// The side that accepted it.
    Listener = 1,
}

/// The credentials of this node.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pub(crate) me: NodeId,
    pub(crate) protocol: Protocol,
    pub(crate) network: Network,
    /// This node's signed record.
    pub(crate) record: NodeRecord,
    pub(crate) trust: TrustConfig,
}

/// A peer whose handshake succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The peer's record, whose signature is verified.
    pub(crate) record: NodeRecord,
    /// The protocol to speak with it.
    pub(crate) negotiated: Negotiated,
    /// Its certificate and what else it has shown.
    pub(crate) shown: Shown,
}

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// The two nodes have no version of the protocol in common.
    #[error("peer speaks {theirs} of the protocol, this node {ours}: upgrade {}", older(*ours, *theirs))]
    NoCommonVersion {
        /// This node's.
        ours: Protocol,
        /// The peer's.
        theirs: Protocol,
    },
    /// The peer belongs to another network.
    #[error("peer belongs to another network: check the join ticket")]
    WrongNetwork,
    /// The peer has none of this node's secrets.
    #[error("network secret differs: check the join ticket")]
    WrongSecret,
    /// The peer's record is not its own.
    #[error("peer's record is not signed by it")]
    BadRecord,
    /// The peer is not admitted as a member.
    #[error("peer is not admitted: {0}")]
    NotAdmitted(Rejection),
    /// The peer does not admit this node.
    #[error("peer does not admit this node: {0}")]
    Rejected(Rejection),
    /// The peer sent something invalid.
    #[error("peer does not follow the handshake: {0}")]
    Malformed(&'static str),
    /// The connection broke.
    #[error("connection broke during the handshake: {0}")]
    Broken(String),
    /// The peer took too long.
    #[error("peer did not complete the handshake in time")]
    TimedOut,
}

fn older(ours: Protocol, theirs: Protocol) -> &'static str {
    if ours.max < theirs.min { "this node" } else { "the peer" }
}

impl From<std::io::Error> for HandshakeError {
    fn from(error: std::io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<PartError> for HandshakeError {
    fn from(error: PartError) -> Self {
        match error {
            PartError::Hello => Self::Malformed("it did not say hello"),
            PartError::Proof => Self::Malformed("its proof cannot be read"),
            PartError::Record => Self::BadRecord,
            PartError::Papers => Self::Malformed("its papers cannot be read"),
        }
    }
}

/// The bytes that every MAC of one connection covers, each in the order of [`Side`].
struct Transcript {
    nodes: [NodeId; 2],
    /// The hellos as sent, including fields of later versions.
    hellos: [Vec<u8>; 2],
}

impl Transcript {
    fn new(mine: &Credentials, side: Side, peer: NodeId, hello: Vec<u8>, their_hello: Vec<u8>) -> Self {
        let (mut nodes, mut hellos) = ([mine.me, peer], [hello, their_hello]);
        if side == Side::Listener {
            nodes.reverse();
            hellos.reverse();
        }
        Self { nodes, hellos }
    }

    /// `papers` are the speaker's, as sent; empty before version 5.
    fn mac(&self, secret: &[u8; 32], speaker: Side, papers: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&Zeroizing::new(blake3::derive_key(DOMAIN, secret)));
        hasher.update(&[speaker as u8]);
        for (node, hello) in self.nodes.iter().zip(&self.hellos) {
            hasher.update(&node.0).update(&(hello.len() as u64).to_le_bytes()).update(hello);
        }
        hasher.update(papers).finalize()
    }

    fn prove(&self, mine: &Credentials, speaker: Side, papers: &[u8]) -> Proof {
        let macs = mine.secrets().map(|secret| *self.mac(secret, speaker, papers).as_bytes()).collect();
        Proof { macs, record: mine.record.clone() }
    }

    /// Whether one of the peer's MACs is keyed by one of this node's secrets.
    fn accepts(&self, mine: &Credentials, proof: &Proof, speaker: Side, papers: &[u8]) -> bool {
        // `blake3::Hash` compares in constant time.
        mine.secrets().any(|secret| proof.macs.iter().any(|mac| self.mac(secret, speaker, papers) == *mac))
    }
}

impl Credentials {
    fn secrets(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.network.secrets.iter().take(SECRETS_MAX).map(|secret| &**secret)
    }

    fn hello(&self, nonce: [u8; 32]) -> Vec<u8> {
        let (protocol, network) = (self.protocol, self.network.id);
        Hello { protocol, network, nonce, trust: self.trust.trust.digest() }.encode()
    }

    /// The protocol to speak with the peer, if it belongs to the network, and the digest of its statements.
    fn check_hello(&self, part: &[u8]) -> Result<(Negotiated, [u8; 16]), HandshakeError> {
        let no_common = |theirs| HandshakeError::NoCommonVersion { ours: self.protocol, theirs };
        match Hello::decode(part, self.protocol)? {
            Greeting::Elsewhere(theirs) => Err(no_common(theirs)),
            Greeting::Hello(hello) if hello.network != self.network.id => Err(HandshakeError::WrongNetwork),
            Greeting::Hello(hello) => {
                let negotiated = self.protocol.negotiate(hello.protocol).ok_or(no_common(hello.protocol))?;
                Ok((negotiated, hello.trust))
            }
        }
    }
}

fn is_own_record(record: &NodeRecord, peer: NodeId) -> bool {
    record.id == peer && verify_record(record)
}

/// Performs the dialer's side. Returns the listener.
pub(crate) async fn dial<S>(
    stream: &mut S,
    mine: &Credentials,
    peer: NodeId,
) -> Result<Accepted, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hello = mine.hello(rand::random());
    write_part(stream, &hello).await?;
    let their_hello = read_part(stream).await?;
    let (negotiated, digest) = mine.check_hello(&their_hello)?;
    let shows_papers = negotiated.version >= Protocol::SHOWS_PAPERS;
    let transcript = Transcript::new(mine, Side::Dialer, peer, hello, their_hello);
    let (mut papers, mut statements) = (Vec::new(), Vec::new());
    if shows_papers {
        let (shown, parts) = mine.trust.papers(digest, mine.trust.request(mine.me), None);
        (papers, statements) = (shown.encode(), parts);
        stream.write_all(&frame(&papers)).await?;
    }
    write_part(stream, &transcript.prove(mine, Side::Dialer, &papers).encode()).await?;
    for part in &statements {
        write_part(stream, part).await?;
    }
    let proof = match Answer::decode(&read_part(stream).await?)? {
        Answer::Proof(proof) => proof,
        Answer::SecretDiffers => return Err(HandshakeError::WrongSecret),
        Answer::BadRecord => return Err(HandshakeError::BadRecord),
        Answer::Rejected(reason) => return Err(HandshakeError::Rejected(reason)),
    };
    let theirs = if shows_papers { read_part(stream).await? } else { Vec::new() };
    if !transcript.accepts(mine, &proof, Side::Listener, &theirs) {
        return Err(HandshakeError::WrongSecret);
    }
    if !is_own_record(&proof.record, peer) {
        return Err(HandshakeError::BadRecord);
    }
    let papers = if shows_papers { Papers::decode(&theirs)? } else { Papers::default() };
    let (trust, statements) = papers::read_statements(stream, &mine.trust, &papers).await?;
    let certificate = papers::verified(&papers);
    papers::check_authority(&trust, &papers)
        .and_then(|()| papers::judge(&trust, &proof.record, certificate.as_ref()))
        .map_err(HandshakeError::NotAdmitted)?;
    let is_own = |it: &Certificate| it.node == mine.me && verify_signed(it);
    let (authority, issued) = (papers.authority, papers.issued.filter(is_own));
    let shown = Shown { authority, statements, certificate, issued };
    Ok(Accepted { record: proof.record, negotiated, shown })
}

/// Performs the listener's side. Returns the dialer, and the last parts, which the caller sends when it is ready for
/// messages.
pub(crate) async fn listen<S>(
    stream: &mut S,
    mine: &Credentials,
    peer: NodeId,
) -> Result<(Accepted, Vec<u8>), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let their_hello = read_part(stream).await?;
    let hello = mine.hello(rand::random());
    // Answered even if the dialer is of another version or network, so that it learns which one this node has.
    write_part(stream, &hello).await?;
    let (negotiated, digest) = match mine.check_hello(&their_hello) {
        Ok(checked) => checked,
        Err(error) => return refuse(stream, None, error).await,
    };
    let shows_papers = negotiated.version >= Protocol::SHOWS_PAPERS;
    let transcript = Transcript::new(mine, Side::Listener, peer, hello, their_hello);
    let theirs = if shows_papers { read_part(stream).await? } else { Vec::new() };
    let papers = if shows_papers { Papers::decode(&theirs)? } else { Papers::default() };
    let proof = match Proof::decode(&read_part(stream).await?) {
        Ok(proof) => proof,
        Err(PartError::Record) => {
            return refuse(stream, Some(&Answer::BadRecord), HandshakeError::BadRecord).await;
        }
        Err(error) => return Err(error.into()),
    };
    if !transcript.accepts(mine, &proof, Side::Dialer, &theirs) {
        return refuse(stream, Some(&Answer::SecretDiffers), HandshakeError::WrongSecret).await;
    }
    if !is_own_record(&proof.record, peer) {
        return refuse(stream, Some(&Answer::BadRecord), HandshakeError::BadRecord).await;
    }
    let (trust, statements) = papers::read_statements(stream, &mine.trust, &papers).await?;
    if let Err(reason) = papers::check_authority(&trust, &papers) {
        return reject(stream, reason).await;
    }
    let shown = papers::verified(&papers);
    let admitted = papers::admit(&mine.trust, trust, &proof.record, shown.as_ref(), papers.request).await;
    let issued = match admitted {
        Ok(issued) => issued,
        Err(reason) => return reject(stream, reason).await,
    };
    let certificate = issued.clone().or(shown);
    let (mut last, mut mine_shown) = (Vec::new(), Vec::new());
    if shows_papers {
        let (shown, parts) = mine.trust.papers(digest, None, issued);
        mine_shown = shown.encode();
        last = [&mine_shown].into_iter().chain(&parts).flat_map(|part| frame(part)).collect();
    }
    let answer = Answer::Proof(transcript.prove(mine, Side::Listener, &mine_shown));
    let last = [frame(&answer.encode()), last].concat();
    let shown = Shown { authority: papers.authority, statements, certificate, issued: None };
    Ok((Accepted { record: proof.record, negotiated, shown }, last))
}

/// Refuses a dialer that is not admitted as a member.
async fn reject<S, T>(stream: &mut S, reason: Rejection) -> Result<T, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    refuse(stream, Some(&Answer::Rejected(reason)), HandshakeError::NotAdmitted(reason)).await
}

/// Sends the reason of a rejection, and lets the dialer close: closing first could overtake the reason.
async fn refuse<S, T>(
    stream: &mut S,
    answer: Option<&Answer>,
    error: HandshakeError,
) -> Result<T, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if let Some(answer) = answer {
        write_part(stream, &answer.encode()).await?;
    }
    // What the dialer sends or does afterwards does not matter. The time for the handshake bounds it.
    let mut ignored = [0; 4096];
    while stream.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
    Err(error)
}

/// A part is preceded by its length in two bytes, most significant first.
fn frame(part: &[u8]) -> Vec<u8> {
    let length = u16::try_from(part.len()).expect("a bounded record and two MACs are far below 64 KiB");
    [&length.to_be_bytes()[..], part].concat()
}

async fn write_part<S: AsyncWrite + Unpin>(stream: &mut S, part: &[u8]) -> Result<(), HandshakeError> {
    stream.write_all(&frame(part)).await?;
    Ok(stream.flush().await?)
}

pub(crate) async fn read_part<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, HandshakeError> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let length = usize::from(u16::from_be_bytes(length));
    if length > PART_BYTES_MAX {
        return Err(HandshakeError::Malformed("it says too much"));
    }
    let mut part = vec![0; length];
    stream.read_exact(&mut part).await?;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use futures::future::join;
    use proptest::prelude::*;
    use starling_proto::{Role, wire::Features};
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

    use super::*;
    use crate::Identity;

    type Pipe = Compat<tokio::io::DuplexStream>;

    fn pipe() -> (Pipe, Pipe) {
        let (a, b) = tokio::io::duplex(1 << 16);
        (a.compat(), b.compat())
    }

    fn credentials(identity: &Identity, secret: u8) -> Credentials {
        let mut record =
            NodeRecord { name: "n".into(), ..NodeRecord::new(identity.node_id(), 1, Role::Replica) };
        identity.sign(&mut record);
        let network = Network { id: [1; 16], secrets: vec![[secret; 32].into()] };
        let trust = TrustConfig::default();
        Credentials { me: record.id, protocol: Protocol::CURRENT, network, record, trust }
    }

    type Outcome = Result<Accepted, HandshakeError>;

    /// The results of a whole handshake on both sides, between nodes that speak these versions.
    async fn between(mine: &Credentials, theirs: &Credentials) -> (Outcome, Outcome) {
        let (mut dialer, mut listener) = pipe();
        let listening = async {
            let (accepted, last) = listen(&mut listener, theirs, mine.me).await?;
            listener.write_all(&last).await?;
            Ok(accepted)
        };
        let dialing = async {
            let result = dial(&mut dialer, mine, theirs.me).await;
            dialer.close().await.expect("closes");
            result
        };
        join(dialing, listening).await
    }

    #[tokio::test]
    async fn both_sides_learn_the_other_ones_record_and_the_highest_common_version() {
        let (mut mine, mut theirs) =
            (credentials(&Identity::generate(), 1), credentials(&Identity::generate(), 1));
        mine.protocol = Protocol { min: 2, max: 4, features: Features(0b011) };
        theirs.protocol = Protocol { min: 3, max: 9, features: Features(0b110) };
        let (dialer, listener) = between(&mine, &theirs).await;
        let negotiated = Negotiated { version: 4, features: Features(0b010) };
        let shown = Shown::default();
        let accepted =
            |record: &NodeRecord| Accepted { record: record.clone(), negotiated, shown: shown.clone() };
        assert_eq!(dialer, Ok(accepted(&theirs.record)));
        assert_eq!(listener, Ok(accepted(&mine.record)));
    }

    #[tokio::test]
    async fn nodes_without_a_common_version_name_both_ranges_and_the_older_node() {
        let (mut mine, mut theirs) =
            (credentials(&Identity::generate(), 1), credentials(&Identity::generate(), 1));
        let speaks = |min, max| Protocol { min, max, features: Features(0) };
        (mine.protocol, theirs.protocol) = (speaks(2, 4), speaks(5, 7));
        let (dialer, listener) = between(&mine, &theirs).await;
        assert_eq!(
            dialer.expect_err("no common version").to_string(),
            "peer speaks versions 5 to 7 of the protocol, this node versions 2 to 4: upgrade this node"
        );
        assert_eq!(
            listener.expect_err("no common version").to_string(),
            "peer speaks versions 2 to 4 of the protocol, this node versions 5 to 7: upgrade the peer"
        );
    }

    /// A node in the middle of the encrypted channel does not exist; one that replaces a hello all the
    /// same (a bug in the channel, say) ends the handshake.
    #[tokio::test]
    async fn a_hello_that_was_changed_on_its_way_ends_the_handshake() {
        let (mut mine, mut theirs) =
            (credentials(&Identity::generate(), 1), credentials(&Identity::generate(), 1));
        mine.protocol = Protocol { min: 2, max: 3, features: Features(1) };
        theirs.protocol = mine.protocol;
        let lowered = |part: Vec<u8>| {
            let Ok(Greeting::Hello(hello)) = Hello::decode(&part, mine.protocol) else {
                panic!("a node's own hello is read")
            };
            let protocol = Protocol { max: 2, ..hello.protocol };
            Hello { protocol, ..hello }.encode()
        };
        let padded = |part: Vec<u8>| [&part[..], b"added"].concat();
        let changes: [&dyn Fn(Vec<u8>) -> Vec<u8>; 2] = [&lowered, &padded];
        for change in changes {
            let ((mut dialer, mut near), (mut far, mut listener)) = (pipe(), pipe());
            let middle = async {
                let hello = change(read_part(&mut near).await.expect("a hello"));
                write_part(&mut far, &hello).await.expect("writes");
                for _ in 0..2 {
                    let answer = read_part(&mut far).await.expect("a part");
                    write_part(&mut near, &answer).await.expect("writes");
                    if let Ok(part) = read_part(&mut near).await {
                        write_part(&mut far, &part).await.expect("writes");
                    }
                }
                far.close().await.expect("closes");
            };
            let dialing = async {
                let result = dial(&mut dialer, &mine, theirs.me).await;
                dialer.close().await.expect("closes");
                result
            };
            let listening = listen(&mut listener, &theirs, mine.me);
            let (ours, (theirs, ())) = join(dialing, join(listening, middle)).await;
            assert_eq!(ours, Err(HandshakeError::WrongSecret));
            assert_eq!(theirs.map(|(accepted, _)| accepted), Err(HandshakeError::WrongSecret));
        }
    }

    /// A listener without the secret, whose proof is made by `forge` out of the dialer's.
    async fn against(forge: impl FnOnce(Proof, NodeRecord) -> Proof) -> Outcome {
        let (a, b) = (Identity::generate(), Identity::generate());
        let (mine, theirs) = (credentials(&a, 1), credentials(&b, 2));
        let (mut dialer, mut listener) = pipe();
        let listening = async {
            read_part(&mut listener).await.expect("hello");
            write_part(&mut listener, &theirs.hello([5; 32])).await.expect("hello");
            let papers = read_part(&mut listener).await.expect("papers");
            let proof = Proof::decode(&read_part(&mut listener).await.expect("proof")).expect("proof");
            let answer = Answer::Proof(forge(proof, theirs.record.clone()));
            write_part(&mut listener, &answer.encode()).await.expect("answer");
            write_part(&mut listener, &papers).await.expect("papers");
        };
        join(dial(&mut dialer, &mine, b.node_id()), listening).await.0
    }

    #[tokio::test]
    async fn a_listener_that_guesses_reflects_or_proves_nothing_is_refused() {
        let guess = against(|_, record| Proof { macs: vec![[0; 32]; SECRETS_MAX], record }).await;
        assert_eq!(guess, Err(HandshakeError::WrongSecret));
        let reflect = against(|dialers, record| Proof { macs: dialers.macs, record }).await;
        assert_eq!(reflect, Err(HandshakeError::WrongSecret));
        let nothing = against(|_, record| Proof { macs: Vec::new(), record }).await;
        assert_eq!(nothing, Err(HandshakeError::WrongSecret));
    }

    #[tokio::test]
    async fn a_proof_made_for_another_connection_is_refused() {
        // A node in the middle passes on every byte between two members, but its own key is what
        // each of them sees.
        let (a, b, middle) = (Identity::generate(), Identity::generate(), Identity::generate());
        let (mut dialer, mut listener) = pipe();
        let (mine, theirs) = (credentials(&a, 1), credentials(&b, 1));
        let listening = listen(&mut listener, &theirs, middle.node_id());
        let dialing = async {
            let result = dial(&mut dialer, &mine, middle.node_id()).await;
            dialer.close().await.expect("closes");
            result
        };
        let (result, heard) = join(dialing, listening).await;
        assert_eq!(result, Err(HandshakeError::WrongSecret));
        assert_eq!(heard.map(|(accepted, _)| accepted), Err(HandshakeError::WrongSecret));
    }

    #[test]
    fn a_mac_depends_on_everything_it_covers() {
        let base =
            || Transcript { nodes: [NodeId([2; 32]), NodeId([3; 32])], hellos: [vec![4; 66], vec![5; 66]] };
        let secret = [6; 32];
        let mac = base().mac(&secret, Side::Dialer, b"papers");
        let swapped = Transcript { nodes: [NodeId([3; 32]), NodeId([2; 32])], ..base() };
        let replayed = Transcript { hellos: [vec![5; 66], vec![4; 66]], ..base() };
        let longer = Transcript { hellos: [vec![4; 67], vec![5; 66]], ..base() };
        for other in [swapped, replayed, longer] {
            assert_ne!(mac, other.mac(&secret, Side::Dialer, b"papers"));
        }
        assert_ne!(mac, base().mac(&secret, Side::Listener, b"papers"));
        assert_ne!(mac, base().mac(&[7; 32], Side::Dialer, b"papers"));
        assert_ne!(mac, base().mac(&secret, Side::Dialer, b"paper"));
        assert_eq!(mac, base().mac(&secret, Side::Dialer, b"papers"));
    }

    proptest! {
        #[test]
        fn whatever_a_peer_says_is_refused_without_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            is_framed in any::<bool>(),
            says_hello in any::<bool>(),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let result = runtime.block_on(async {
                let (me, peer) = (Identity::generate(), Identity::generate());
                let mine = credentials(&me, 1);
                let (mut near, mut far) = pipe();
                let mut said = if says_hello { frame(&mine.hello([1; 32])) } else { Vec::new() };
                said.extend(if is_framed { frame(&bytes) } else { bytes });
                far.write_all(&said).await.expect("fits the pipe");
                far.close().await.expect("closes");
                listen(&mut near, &mine, peer.node_id()).await
            });
            prop_assert!(result.is_err());
        }
    }
}
