//! The identity of a node: its Ed25519 key, on disk and in signatures.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use libp2p::{
    PeerId,
    identity::{Keypair, ed25519},
};
use starling_proto::{NodeId, NodeRecord, trust::Signed};
use thiserror::Error;
use zeroize::Zeroizing;

/// First line of an identity file; the second is the secret in hexadecimal.
const FILE_HEADER: &str = "starling identity v1";

/// A node's key pair.
#[derive(Clone)]
pub struct Identity(Keypair);

impl std::fmt::Debug for Identity {
    /// Does not print the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({:?})", self.node_id())
    }
}

/// Why an identity file cannot be used. Nothing was changed.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// It cannot be read or written.
    #[error("identity file {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It is something else, or damaged.
    #[error("identity file {path} is not one: {what}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Identity {
    /// Generates an identity from the system's randomness.
    pub fn generate() -> Self {
        Self(Keypair::generate_ed25519())
    }

    /// Reads the file, or creates it (mode 0600, synced) if there is none. If other users may
    /// read the file, its mode is changed, with a warning.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        let io_error = |source| IdentityError::Io { path: path.to_owned(), source };
        match fs::read_to_string(path).map(Zeroizing::new) {
            Ok(text) => {
                close_to_others(path).map_err(io_error)?;
                Self::parse(&text).map_err(|what| IdentityError::Malformed { path: path.to_owned(), what })
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let identity = Self::generate();
                identity.create_file(path).map_err(io_error)?;
                Ok(identity)
            }
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                Err(IdentityError::Malformed { path: path.to_owned(), what: "it is not text" })
            }
            Err(e) => Err(io_error(e)),
        }
    }

    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        if let Err(source) = fs::metadata(path) {
            return Err(IdentityError::Io { path: path.to_owned(), source });
        }
        Self::load_or_create(path)
    }

    /// Writes the key to a file that must not exist (mode 0600, synced).
    pub fn save_new(&self, path: &Path) -> Result<(), IdentityError> {
        let io_error = |source| IdentityError::Io { path: path.to_owned(), source };
        if fs::symlink_metadata(path).is_ok() {
            return Err(io_error(io::ErrorKind::AlreadyExists.into()));
        }
        self.create_file(path).map_err(io_error)
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut lines = text.lines();
        if lines.next() != Some(FILE_HEADER) {
            return Err("its first line is not `starling identity v1`");
        }
        let secret =
            lines.next().and_then(parse_secret).ok_or("its second line is not 64 hexadecimal digits")?;
        Self::from_secret(secret).ok_or("its key is unusable")
    }

    fn from_secret(mut secret: [u8; 32]) -> Option<Self> {
        let secret = ed25519::SecretKey::try_from_bytes(&mut secret).ok()?;
        Some(Self(ed25519::Keypair::from(secret).into()))
    }

    /// Writes a temporary file and renames it, so that a crash leaves a whole file or none.
    fn create_file(&self, path: &Path) -> io::Result<()> {
        let secret = self.ed25519().secret();
        let digits = Zeroizing::new(HEXLOWER.encode(secret.as_ref()));
        let text = Zeroizing::new(format!(
            "{FILE_HEADER}
{}
",
            *digits
        ));
        let beside = path.with_extension("new");
        // What a crash has left, or a link that somebody else has put there.
        if fs::symlink_metadata(&beside).is_ok() {
            fs::remove_file(&beside)?;
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    }

    fn ed25519(&self) -> ed25519::Keypair {
        self.0.clone().try_into_ed25519().expect("every constructor makes an Ed25519 key")
    }

    /// The node's id: its public key.
    pub fn node_id(&self) -> NodeId {
        NodeId(self.ed25519().public().to_bytes())
    }

    /// Makes the record this node's own: sets its id and signs it.
    pub fn sign(&self, record: &mut NodeRecord) {
        record.id = self.node_id();
        record.signature = self.sign_bytes(&record.signing_bytes());
    }

    /// An Ed25519 signature.
    pub fn sign_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        self.ed25519().sign(bytes)
    }

    pub(crate) fn keypair(&self) -> &Keypair {
        &self.0
    }
}

fn parse_secret(hex: &str) -> Option<[u8; 32]> {
    let bytes = Zeroizing::new(HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok()?);
    bytes.as_slice().try_into().ok()
}

fn close_to_others(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    let for_others = mode & 0o077;
    if for_others == 0 {
        return Ok(());
    }
    tracing::warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777), "identity file was open to others: mode is now 600");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

/// Whether the record was signed by the node it names.
pub fn verify_record(record: &NodeRecord) -> bool {
    verify(&record.id, &record.signing_bytes(), &record.signature)
}

/// Whether the value was signed by the key that it names, and by the one that has to agree.
pub fn verify_signed(value: &impl Signed) -> bool {
    verify(value.signer(), &value.signing_bytes(), value.signature())
        && value.endorsement().is_none_or(|(key, bytes, signature)| verify(&key, &bytes, signature))
}

/// Whether the owner of the key has signed the bytes.
fn verify(key: &NodeId, bytes: &[u8], signature: &[u8]) -> bool {
    ed25519::PublicKey::try_from_bytes(&key.0).is_ok_and(|key| key.verify(bytes, signature))
}

/// What precedes an Ed25519 key in libp2p's name of it (libp2p peer-ids spec): the multihash that
/// keeps its input whole, 36 bytes of it, which are a protobuf message with the key's type and its
/// 32 bytes.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 36, 0x08, 0x01, 0x12, 32];

/// libp2p's name of a node. Whether the key is one at all is found out when its owner proves to
/// hold it.
pub fn peer_id(node: &NodeId) -> PeerId {
    let bytes = [&PEER_ID_PREFIX[..], &node.0].concat();
    PeerId::from_bytes(&bytes).expect("the prefix announces what follows")
}

/// The node behind libp2p's name; `None` if its key is not Ed25519. Asked for every message, so it
/// does no arithmetic on the curve.
pub fn node_id(peer: &PeerId) -> Option<NodeId> {
    let key = peer.as_ref().digest().strip_prefix(&PEER_ID_PREFIX[2..])?;
    Some(NodeId(key.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_names_of_a_node_agree_with_libp2ps() {
        for _ in 0..10 {
            let identity = Identity::generate();
            let peer = identity.keypair().public().to_peer_id();
            assert_eq!(peer_id(&identity.node_id()), peer);
            assert_eq!(node_id(&peer), Some(identity.node_id()));
        }
        let digest = [7; 32];
        let hashed = PeerId::from_bytes(&[&[0x12, 32][..], &digest].concat()).expect("a SHA-256 name");
        assert_eq!(node_id(&hashed), None, "the name of a larger key tells its hash only");
    }
}
