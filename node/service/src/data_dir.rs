//! The layout of a data directory.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use starling_bootstrap::{Peer, replace_file};
use starling_kv::Error;
use starling_p2p::verify_record;
use starling_proto::{NodeId, NodeRecord, Role};
use tracing::warn;

use super::start_error::StartError;

/// The directory is the node's user's alone.
const MODE: u32 = 0o700;
/// The time of the last start, milliseconds since 1970, as text.
const STARTED: &str = "started";
/// The authority's statements and the node's certificate.
pub const TRUST: &str = "trust";
/// The audit log.
pub const AUDIT: &str = "audit.log";
/// The audit log of what callers of data cause.
pub const AUDIT_DATA: &str = "audit-data.log";
/// The store's database.
pub const STORE_DIR: &str = "store";

/// A node's data directory. No other process can use it until the last clone is dropped.
#[derive(Clone, Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: Arc<File>,
}

impl DataDir {
    /// Creates the directory if it does not exist, closes it to other users, locks it, and checks that it is writable.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process uses it, or another node of this one.
    pub fn open(path: &Path) -> Result<Self, StartError> {
        let failed = |reason| StartError::DataDir { path: path.to_owned(), reason };
        fs::DirBuilder::new().recursive(true).mode(MODE).create(path).map_err(failed)?;
        close_to_others(path);
        let lock = lock(path, FlockOperation::NonBlockingLockExclusive)?;
        let directory = Self { path: path.to_owned(), _lock: Arc::new(lock) };
        let probe = ".probe";
        directory.replace(probe, b"").and_then(|()| fs::remove_file(path.join(probe))).map_err(failed)?;
        Ok(directory)
    }

    /// Reads a file of the directory, whole; `None` if there is none. A link is not followed.
    pub fn read(&self, name: &str) -> io::Result<Option<String>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::open(self.path.join(name), flags, Mode::empty());
        match opened.map(|file| io::read_to_string(File::from(file))) {
            Ok(text) => text.map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP) => Err(io::Error::other("it is a link, which no file of a node is")),
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces a file of the directory in one step. Only the node's user can read it.
    pub fn replace(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        replace_file(&self.path.join(name), contents)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The node's key.
    pub fn identity(&self) -> PathBuf {
        self.path.join("identity")
    }

    /// The key of the network's authority, on the node that made the network. No node reads it.
    pub fn authority_key(&self) -> PathBuf {
        self.path.join("authority.key")
    }

    /// The network's id and secrets.
    pub fn network(&self) -> PathBuf {
        self.path.join("network")
    }

    /// The uses of invitations that this node has counted.
    pub fn invitations(&self) -> PathBuf {
        self.path.join("invitations")
    }

    fn peers(&self) -> PathBuf {
        self.path.join("peers.json")
    }

    /// The store's database.
    pub fn store(&self) -> PathBuf {
        self.path.join(STORE_DIR)
    }

    /// Fails if the node's key is missing from a directory that a node has used: its peers, and the members of strong
    /// keyspaces, know the node by that key.
    pub fn require_identity(&self) -> Result<(), StartError> {
        let remains = self.remains().or_else(|| Some(self.network()).filter(|path| path.exists()));
        match remains {
            Some(beside) if !self.identity().exists() => {
                Err(StartError::IdentityLost { path: self.identity(), beside })
            }
            _ => Ok(()),
        }
    }

    /// What an earlier run has left that belongs to a network: data, or remembered peers.
    pub fn remains(&self) -> Option<PathBuf> {
        let holds_data = |store: &Path| fs::read_dir(store).is_ok_and(|mut files| files.next().is_some());
        let store = Some(self.store()).filter(|store| holds_data(store));
        store.or_else(|| Some(self.peers()).filter(|path| path.exists()))
    }

    /// The time of this start, milliseconds since 1970: later than every start before, even if the clock was set back. A
    /// process that meets the record of a later one with its identity gives way to it.
    pub fn next_start(&self, wall_ms: u64) -> Result<u64, StartError> {
        let failed = |reason| StartError::DataDir { path: self.path.join(STARTED), reason };
        let start = wall_ms.max(self.last_start().map_err(failed)?.saturating_add(1));
        self.replace(STARTED, start.to_string().as_bytes()).map_err(failed)?;
        Ok(start)
    }

    /// Lets the next start be later than that of another process with this node's identity, whose clock may be ahead.
    pub fn note_start(&self, other_ms: u64) {
        let last = self.last_start();
        let noted = last.and_then(|last| self.replace(STARTED, last.max(other_ms).to_string().as_bytes()));
        if let Err(error) = noted {
            warn!(%error, "the start of the other process with this node's identity could not be kept");
        }
    }

    fn last_start(&self) -> io::Result<u64> {
        let Some(text) = self.read(STARTED)? else { return Ok(0) };
        Ok(text.trim().parse().unwrap_or_else(|_| {
            let path = self.path.join(STARTED);
            warn!(path = %path.display(), "the time of the last start cannot be read: the clock's is used");
            0
        }))
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

/// Locks a data directory until the file is dropped. The lock is on the directory and not on a file in it, because a
/// cleaner of old files may remove such a file, and the next process would lock a new one.
pub fn lock(path: &Path, operation: FlockOperation) -> Result<File, StartError> {
    let dir = File::open(path).map_err(|reason| StartError::DataDir { path: path.to_owned(), reason })?;
    match flock(&dir, operation) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(Error::Locked { path: path.to_owned() }.into()),
        Err(error) => tracing::warn!(
            %error,
            "this file system cannot lock the data directory: only the file LOCK of the store keeps a second node away"
        ),
    }
    Ok(dir)
}

/// A directory of an earlier version may be open to other users; it has the node's key, and everything that it stores.
fn close_to_others(path: &Path) {
    let mode = fs::metadata(path).map(|metadata| metadata.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o777 == MODE) {
        return;
    }
    if let Err(error) = fs::set_permissions(path, fs::Permissions::from_mode(MODE)) {
        warn!(%error, path = %path.display(), "other users may read the data directory: chmod 700 as its owner");
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
    fn a_start_is_later_than_the_one_before_even_if_the_clock_was_set_back() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::open(temporary.path()).expect("opens");
        let starts = [50, 50, 20, 90].map(|wall_ms| dir.next_start(wall_ms).expect("it is kept"));
        assert_eq!(starts, [50, 51, 52, 90]);
        dir.note_start(200);
        dir.note_start(150);
        assert_eq!(dir.next_start(95).expect("it is kept"), 201, "later than the other process");
        fs::write(temporary.path().join(STARTED), "nonsense").expect("our file");
        assert_eq!(dir.next_start(95).expect("it is kept"), 95);
    }

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
    fn a_directory_is_closed_to_other_users() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let path = temporary.path().join("new").join("data");
        let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
        drop(DataDir::open(&path).expect("opens"));
        assert_eq!(mode(&path), MODE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("is ours");
        let dir = DataDir::open(&path).expect("opens");
        assert_eq!(mode(&path), MODE);
        dir.replace("run.json", b"{}").expect("writes");
        assert_eq!(mode(&path.join("run.json")), 0o600);
    }

    #[test]
    fn a_link_in_place_of_a_file_is_not_followed() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::open(&temporary.path().join("data")).expect("opens");
        assert_eq!(dir.read(TRUST).expect("there is none"), None);
        let elsewhere = temporary.path().join("elsewhere");
        fs::write(&elsewhere, "of another user").expect("writes");
        std::os::unix::fs::symlink(&elsewhere, dir.path().join(TRUST)).expect("links");
        let error = dir.read(TRUST).expect_err("a link").to_string();
        assert!(error.contains("it is a link"), "{error}");
        dir.replace(TRUST, b"its own").expect("replaces the link");
        assert_eq!(dir.read(TRUST).expect("is there").as_deref(), Some("its own"));
        assert_eq!(fs::read_to_string(&elsewhere).expect("is there"), "of another user");
    }

    #[test]
    fn a_directory_has_one_user_even_if_its_files_are_removed() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let first = DataDir::open(temporary.path()).expect("opens");
        for entry in fs::read_dir(temporary.path()).expect("reads") {
            fs::remove_file(entry.expect("reads").path()).expect("removes");
        }
        let clone = first.clone();
        drop(first);
        let second = DataDir::open(temporary.path()).expect_err("the clone uses it");
        assert!(matches!(second, StartError::Store(Error::Locked { .. })), "{second}");
        drop(clone);
        DataDir::open(temporary.path()).expect("nothing uses it");
    }

    #[test]
    fn a_key_is_not_replaced_where_a_node_has_run() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::open(temporary.path()).expect("opens");
        dir.require_identity().expect("a new directory");
        fs::create_dir(dir.store()).expect("made");
        dir.require_identity().expect("an empty store");
        for beside in [dir.store().join("CURRENT"), dir.network(), dir.peers()] {
            fs::write(&beside, b"").expect("writes");
            let error = dir.require_identity().expect_err("lost").to_string();
            assert!(error.contains("identity is missing"), "{error}");
            fs::write(dir.identity(), b"").expect("writes");
            dir.require_identity().expect("it is there");
            fs::remove_file(dir.identity()).and_then(|()| fs::remove_file(&beside)).expect("removes");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_is_an_error_that_names_it() {
        let error = DataDir::open(Path::new("/proc/no/such")).expect_err("nothing can be made there");
        assert!(error.to_string().contains("/proc/no/such"), "{error}");
    }
}
