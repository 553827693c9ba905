//! Peers of the last run, on disk, so that a node finds its network again even if all seeds are gone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::file;

/// Peers that are stored and read, at most: several times a passive view and an active one.
pub const PEERS_MAX: usize = 256;
/// Version of the file's format. There is no earlier one to migrate from.
const VERSION: u32 = 1;
/// Largest file that is read, bytes; this node writes none that is larger.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A peer's signed record of its addresses. The caller verifies the signature, because the file may have been changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Public key, 64 hexadecimal digits.
    #[serde(with = "hex")]
    pub id: Vec<u8>,
    /// Wall-clock milliseconds at the start of the peer's run.
    pub incarnation: u64,
    /// Counts changes within the run.
    pub revision: u32,
    /// Whether it is a seed, without a store.
    pub seed: bool,
    /// Name chosen by its operator.
    pub name: String,
    /// Multiaddresses, best first.
    pub addresses: Vec<String>,
    /// Labels chosen by its operator: `key=value`, separated by commas.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub labels: String,
    /// Fields of later versions, in hexadecimal digits.
    #[serde(default, with = "hex", skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<u8>,
    /// Signature over all other fields, in hexadecimal digits.
    #[serde(with = "hex")]
    pub signature: Vec<u8>,
}

mod hex {
    use data_encoding::HEXLOWER;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        HEXLOWER.decode(String::deserialize(deserializer)?.as_bytes()).map_err(D::Error::custom)
    }
}

#[derive(Serialize, Deserialize)]
struct PeersFile {
    version: u32,
    peers: Vec<Peer>,
}

/// Replaces the file, in one step. Keeps the first [`PEERS_MAX`].
pub fn save_peers(path: &Path, peers: &[Peer]) -> io::Result<()> {
    let peers = peers.iter().take(PEERS_MAX).cloned().collect();
    let text = serde_json::to_vec_pretty(&PeersFile { version: VERSION, peers }).map_err(io::Error::other)?;
    file::replace(path, &text)
}

/// Reads the file. Without one, no peer is remembered. One that cannot be parsed does not keep the node from starting
/// either: it is renamed, with a warning.
pub fn load_peers(path: &Path) -> Vec<Peer> {
    match read(path) {
        Ok(mut peers) => {
            peers.truncate(PEERS_MAX);
            peers
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            let aside = aside(path);
            let renamed = fs::rename(path, &aside);
            tracing::warn!(
                file = %path.display(), %error, aside = %aside.display(), renamed = renamed.is_ok(),
                "remembered peers cannot be read: starting without them"
            );
            Vec::new()
        }
    }
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension("damaged")
}

fn read(path: &Path) -> io::Result<Vec<Peer>> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(invalid(format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    let file: PeersFile = serde_json::from_slice(&fs::read(path)?).map_err(|e| invalid(e.to_string()))?;
    if file.version != VERSION {
        return Err(invalid(format!("version {}, this program reads version {VERSION}", file.version)));
    }
    Ok(file.peers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u16) -> Peer {
        Peer {
            id: vec![1; 32],
            incarnation: u64::MAX,
            revision: u32::from(n),
            seed: n.is_multiple_of(2),
            name: "köln \"1\"".into(),
            addresses: vec!["/ip4/192.0.2.1/tcp/7400".into()],
            labels: if n.is_multiple_of(3) { String::new() } else { "zone=a".into() },
            more: vec![7; usize::from(n % 4)],
            signature: vec![2; 64],
        }
    }

    #[test]
    fn what_is_saved_loads_bounded() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("peers.json");
        assert_eq!(load_peers(&path), []);
        let peers: Vec<_> = (0..300).map(peer).collect();
        save_peers(&path, &peers).expect("saves");
        assert_eq!(load_peers(&path), peers[..PEERS_MAX]);
        save_peers(&path, &peers[..2]).expect("saves again");
        assert_eq!(load_peers(&path), peers[..2]);
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_the_node_starts_without() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("peers.json");
        save_peers(&path, &[peer(1)]).expect("saves");
        let good = fs::read_to_string(&path).expect("reads");
        let damaged = [
            String::new(),
            good[..good.len() / 2].to_owned(),
            good.replace("\"version\": 1", "\"version\": 2"),
            good.replace("0202", "zz"),
            "\0".repeat(100),
        ];
        for text in damaged {
            fs::write(&path, &text).expect("writes");
            assert_eq!(load_peers(&path), [], "{text}");
            assert!(!path.exists());
            assert_eq!(fs::read_to_string(aside(&path)).expect("is kept"), text);
        }
        save_peers(&path, &[peer(2)]).expect("saves where the damaged one was");
        assert_eq!(load_peers(&path), [peer(2)]);
    }
}
