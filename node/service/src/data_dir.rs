//! The layout of a data directory.

use std::fs;
use std::path::{Path, PathBuf};

use starling_bootstrap::Peer;
use starling_p2p::verify_record;
use starling_proto::{NodeId, NodeRecord, Role};

use super::start_error::StartError;

/// The store's database.
pub const STORE_DIR: &str = "store";

/// A node's data directory.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// Creates the directory if it does not exist, and checks that it is writable.
    pub fn open(path: &Path) -> Result<Self, StartError> {
        let failed = |reason| StartError::DataDir { path: path.to_owned(), reason };
        fs::create_dir_all(path).map_err(failed)?;
        let probe = path.join(".probe");
        fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)).map_err(failed)?;
        Ok(Self(path.to_owned()))
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The node's key.
    pub fn identity(&self) -> PathBuf {
        self.0.join("identity")
    }

    /// The network's id and secrets.
    pub fn network(&self) -> PathBuf {
        self.0.join("network")
    }

    fn peers(&self) -> PathBuf {
        self.0.join("peers.json")
    }

    /// The store's database.
    pub fn store(&self) -> PathBuf {
        self.0.join(STORE_DIR)
    }

    /// The peers of the last run, without those whose record was tampered with.
    pub fn load_peers(&self) -> Vec<NodeRecord> {
        starling_bootstrap::load_peers(&self.peers()).into_iter().filter_map(record).collect()
    }

    /// Keeps peers for the next run.
    pub fn save_peers(&self, peers: &[NodeRecord]) {
        let peers: Vec<Peer> = peers.iter().map(peer).collect();
        if let Err(error) = starling_bootstrap::save_peers(&self.peers(), &peers) {
            tracing::warn!(%error, "the remembered peers could not be kept");
        }
    }
}

fn peer(record: &NodeRecord) -> Peer {
    Peer {
        id: record.id.0.to_vec(),
        incarnation: record.incarnation,
        revision: record.revision,
        seed: record.role == Role::Seed,
        name: record.name.clone(),
        addresses: record.addresses.clone(),
        labels: record.labels.to_string(),
        more: record.more.clone(),
        signature: record.signature.clone(),
    }
}

fn record(peer: Peer) -> Option<NodeRecord> {
    let role = if peer.seed { Role::Seed } else { Role::Replica };
    let record = NodeRecord {
        revision: peer.revision,
        name: peer.name,
        addresses: peer.addresses,
        labels: peer.labels.parse().ok()?,
        more: peer.more,
        signature: peer.signature,
        ..NodeRecord::new(NodeId(peer.id.try_into().ok()?), peer.incarnation, role)
    };
    (record.is_bounded() && verify_record(&record)).then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_kept_and_forged_ones_dropped() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::open(temporary.path()).expect("opens");
        let identity = starling_p2p::Identity::generate();
        let mut signed = NodeRecord {
            revision: 1,
            name: "n".into(),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
            labels: "zone=a,rack=7".parse().expect("labels"),
            more: vec![1, 2, 3],
            ..NodeRecord::new(identity.node_id(), 7, Role::Seed)
        };
        identity.sign(&mut signed);
        let forged = NodeRecord { name: "other".into(), ..signed.clone() };
        dir.save_peers(&[forged, signed.clone()]);
        assert_eq!(dir.load_peers(), [signed]);
    }

    #[test]
    fn a_directory_that_cannot_be_is_an_error_that_names_it() {
        let error = DataDir::open(Path::new("/proc/no/such")).expect_err("nothing can be made there");
        assert!(error.to_string().contains("/proc/no/such"), "{error}");
    }
}
