//! What two nodes say inside the encrypted channel before anything else: that they speak the same
//! version, belong to the same network, and hold its secret. Then they exchange their records.
//!
//! ```text
//! dialer                                  listener
//! Hello (version, network, nonce)   ->
//!                                   <-    Hello (version, network, nonce)
//! Proof (a MAC per secret, record)  ->
//!                                   <-    Proof (a MAC per secret, record) | Refused
//! ```
//!
//! A MAC is keyed by a secret and covers the version, the network, both nodes' keys, both nonces
//! and the side that speaks: it can be neither replayed, nor reflected, nor relayed to a third
//! node. The keys are those that the encrypted channel has authenticated. The listener proves
//! itself only to a dialer that has. Nothing in it helps to guess a secret of 256 random bits.

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use starling_proto::wire::handshake::{Answer, Hello, PART_BYTES_MAX, PartError, Proof};
use starling_proto::{NodeId, NodeRecord, wire};
use thiserror::Error;

use crate::{Network, SECRETS_MAX, verify_record};

/// Version of everything two nodes say to each other.
pub const PROTOCOL_VERSION: u8 = wire::VERSION;
/// Keeps these MACs apart from every other use of the secret.
const DOMAIN: &str = "starling handshake v1";

/// Which side of the connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Opened the connection.
    Dialer = 0,
    /// Accepted it.
    Listener = 1,
}

/// What this node proves itself with.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pub(crate) me: NodeId,
    pub(crate) network: Network,
    /// Signed.
    pub(crate) record: NodeRecord,
}

/// Why two nodes do not talk.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// They would not understand each other.
    #[error(
        "peer speaks version {theirs} of the protocol, this node version {PROTOCOL_VERSION}: upgrade the older one"
    )]
    WrongVersion {
        /// The peer's.
        theirs: u8,
    },
    /// The peer belongs elsewhere.
    #[error("peer belongs to another network: check the join ticket")]
    WrongNetwork,
    /// The peer holds none of our secrets.
    #[error("network secret differs: check the join ticket")]
    WrongSecret,
    /// The peer's record is not its own.
    #[error("peer's record is not signed by it")]
    BadRecord,
    /// The peer said something else.
    #[error("peer does not follow the handshake: {0}")]
    Malformed(&'static str),
    /// The connection broke.
    #[error("connection broke during the handshake: {0}")]
    Broken(String),
    /// The peer took too long.
    #[error("peer did not complete the handshake in time")]
    TimedOut,
}

impl From<std::io::Error> for HandshakeError {
    fn from(error: std::io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<PartError> for HandshakeError {
    fn from(error: PartError) -> Self {
        match error {
            PartError::Version { theirs } => Self::WrongVersion { theirs },
            PartError::Hello => Self::Malformed("it did not say hello"),
            PartError::Proof => Self::Malformed("its proof cannot be read"),
            PartError::Record => Self::BadRecord,
        }
    }
}

/// What every MAC of one connection covers.
struct Transcript {
    network: [u8; 16],
    /// In the order of [`Side`].
    nodes: [NodeId; 2],
    nonces: [[u8; 32]; 2],
}

impl Transcript {
    fn new(mine: &Credentials, side: Side, peer: NodeId, nonce: [u8; 32], their_nonce: [u8; 32]) -> Self {
        let (mut nodes, mut nonces) = ([mine.me, peer], [nonce, their_nonce]);
        if side == Side::Listener {
            nodes.reverse();
            nonces.reverse();
        }
        Self { network: mine.network.id, nodes, nonces }
    }

    fn mac(&self, secret: &[u8; 32], speaker: Side) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&blake3::derive_key(DOMAIN, secret));
        hasher.update(&[PROTOCOL_VERSION, speaker as u8]).update(&self.network);
        for (node, nonce) in self.nodes.iter().zip(&self.nonces) {
            hasher.update(&node.0).update(nonce);
        }
        hasher.finalize()
    }

    fn prove(&self, mine: &Credentials, speaker: Side) -> Proof {
        let macs = mine.secrets().map(|secret| *self.mac(secret, speaker).as_bytes()).collect();
        Proof { macs, record: mine.record.clone() }
    }

    /// Whether one of the peer's MACs is keyed by one of our secrets.
    fn accepts(&self, mine: &Credentials, proof: &Proof, speaker: Side) -> bool {
        // `blake3::Hash` compares in constant time.
        mine.secrets().any(|secret| proof.macs.iter().any(|mac| self.mac(secret, speaker) == *mac))
    }
}

impl Credentials {
    fn secrets(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.network.secrets.iter().take(SECRETS_MAX)
    }

    fn hello(&self, nonce: [u8; 32]) -> Hello {
        Hello { network: self.network.id, nonce }
    }

    /// The peer's nonce, if it belongs here.
    fn check_hello(&self, part: &[u8]) -> Result<[u8; 32], HandshakeError> {
        let hello = Hello::decode(part)?;
        if hello.network == self.network.id { Ok(hello.nonce) } else { Err(HandshakeError::WrongNetwork) }
    }
}

fn is_own_record(record: &NodeRecord, peer: NodeId) -> bool {
    record.id == peer && verify_record(record)
}

/// The dialer's part. Returns the listener's record.
pub(crate) async fn dial<S>(
    stream: &mut S,
    mine: &Credentials,
    peer: NodeId,
) -> Result<NodeRecord, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let nonce = rand::random();
    write_part(stream, &mine.hello(nonce).encode()).await?;
    let their_nonce = mine.check_hello(&read_part(stream).await?)?;
    let transcript = Transcript::new(mine, Side::Dialer, peer, nonce, their_nonce);
    write_part(stream, &transcript.prove(mine, Side::Dialer).encode()).await?;
    let proof = match Answer::decode(&read_part(stream).await?)? {
        Answer::Proof(proof) => proof,
        Answer::SecretDiffers => return Err(HandshakeError::WrongSecret),
        Answer::BadRecord => return Err(HandshakeError::BadRecord),
    };
    if !transcript.accepts(mine, &proof, Side::Listener) {
        return Err(HandshakeError::WrongSecret);
    }
    if !is_own_record(&proof.record, peer) {
        return Err(HandshakeError::BadRecord);
    }
    Ok(proof.record)
}

/// The listener's part. Returns the dialer's record, and the last part, which the caller sends:
/// whoever receives it may count on this side being ready.
pub(crate) async fn listen<S>(
    stream: &mut S,
    mine: &Credentials,
    peer: NodeId,
) -> Result<(NodeRecord, Vec<u8>), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let their_hello = read_part(stream).await?;
    let nonce = rand::random();
    // Answered even if it is of another version or network, so that the dialer learns which.
    write_part(stream, &mine.hello(nonce).encode()).await?;
    let their_nonce = match mine.check_hello(&their_hello) {
        Ok(nonce) => nonce,
        Err(error) => return refuse(stream, None, error).await,
    };
    let transcript = Transcript::new(mine, Side::Listener, peer, nonce, their_nonce);
    let proof = match Proof::decode(&read_part(stream).await?) {
        Ok(proof) => proof,
        Err(PartError::Record) => {
            return refuse(stream, Some(&Answer::BadRecord), HandshakeError::BadRecord).await;
        }
        Err(error) => return Err(error.into()),
    };
    if !transcript.accepts(mine, &proof, Side::Dialer) {
        return refuse(stream, Some(&Answer::SecretDiffers), HandshakeError::WrongSecret).await;
    }
    if !is_own_record(&proof.record, peer) {
        return refuse(stream, Some(&Answer::BadRecord), HandshakeError::BadRecord).await;
    }
    let answer = Answer::Proof(transcript.prove(mine, Side::Listener));
    Ok((proof.record, frame(&answer.encode())))
}

/// Says why not, and leaves it to the dialer to close: closing first could overtake the answer.
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
    // Whether it closes, breaks or goes on talking, there is nothing more to say to it.
    let _ = stream.read(&mut [0]).await;
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

async fn read_part<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, HandshakeError> {
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
    use starling_proto::Role;
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

    use super::*;
    use crate::Identity;

    type Pipe = Compat<tokio::io::DuplexStream>;

    fn pipe() -> (Pipe, Pipe) {
        let (a, b) = tokio::io::duplex(1 << 16);
        (a.compat(), b.compat())
    }

    fn credentials(identity: &Identity, secret: u8) -> Credentials {
        let mut record = NodeRecord {
            id: identity.node_id(),
            incarnation: 1,
            revision: 0,
            role: Role::Replica,
            name: "n".into(),
            addresses: Vec::new(),
            signature: Vec::new(),
        };
        identity.sign(&mut record);
        Credentials { me: record.id, network: Network { id: [1; 16], secrets: vec![[secret; 32]] }, record }
    }

    #[tokio::test]
    async fn both_sides_learn_the_other_ones_record() {
        let (a, b) = (Identity::generate(), Identity::generate());
        let (mine, theirs) = (credentials(&a, 1), credentials(&b, 1));
        let (mut dialer, mut listener) = pipe();
        let listening = async {
            let (record, last) = listen(&mut listener, &theirs, a.node_id()).await.expect("agrees");
            listener.write_all(&last).await.expect("writes");
            record
        };
        let (result, heard) = join(dial(&mut dialer, &mine, b.node_id()), listening).await;
        assert_eq!(result, Ok(theirs.record.clone()));
        assert_eq!(heard, mine.record);
    }

    /// A listener without the secret, whose proof is made by `forge` out of the dialer's.
    async fn against(forge: impl FnOnce(Proof, NodeRecord) -> Proof) -> Result<NodeRecord, HandshakeError> {
        let (a, b) = (Identity::generate(), Identity::generate());
        let (mine, theirs) = (credentials(&a, 1), credentials(&b, 2));
        let (mut dialer, mut listener) = pipe();
        let listening = async {
            read_part(&mut listener).await.expect("hello");
            write_part(&mut listener, &theirs.hello([5; 32]).encode()).await.expect("hello");
            let proof = Proof::decode(&read_part(&mut listener).await.expect("proof")).expect("proof");
            let answer = Answer::Proof(forge(proof, theirs.record.clone()));
            write_part(&mut listener, &answer.encode()).await.expect("answer");
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
        assert_eq!(heard.map(|(record, _)| record), Err(HandshakeError::WrongSecret));
    }

    #[test]
    fn a_mac_depends_on_everything_it_covers() {
        let base = || Transcript {
            network: [1; 16],
            nodes: [NodeId([2; 32]), NodeId([3; 32])],
            nonces: [[4; 32], [5; 32]],
        };
        let secret = [6; 32];
        let mac = base().mac(&secret, Side::Dialer);
        let swapped = Transcript { nodes: [NodeId([3; 32]), NodeId([2; 32])], ..base() };
        let replayed = Transcript { nonces: [[5; 32], [4; 32]], ..base() };
        let elsewhere = Transcript { network: [9; 16], ..base() };
        for other in [swapped, replayed, elsewhere] {
            assert_ne!(mac, other.mac(&secret, Side::Dialer));
        }
        assert_ne!(mac, base().mac(&secret, Side::Listener));
        assert_ne!(mac, base().mac(&[7; 32], Side::Dialer));
        assert_eq!(mac, base().mac(&secret, Side::Dialer));
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
                let mut said = if says_hello { frame(&mine.hello([1; 32]).encode()) } else { Vec::new() };
                said.extend(if is_framed { frame(&bytes) } else { bytes });
                far.write_all(&said).await.expect("fits the pipe");
                far.close().await.expect("closes");
                listen(&mut near, &mine, peer.node_id()).await
            });
            prop_assert!(result.is_err());
        }
    }
}
