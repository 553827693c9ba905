//! What is where in a data directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use starling_api::admin::{RUN_FILE, RunFile};

use starling_proto::NodeRecord;

use super::error::DaemonError;

/// The store's database.
pub const STORE_DIR: &str = "store";

/// A node's data directory.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// Makes the directory if it does not exist, and sees that it can be written.
    pub fn open(path: &Path) -> Result<Self, DaemonError> {
        let failed = |reason| DaemonError::DataDir { path: path.to_owned(), reason };
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

    /// The remembered peers.
    pub fn peers(&self) -> PathBuf {
        self.0.join("peers.json")
    }

    /// The store's database.
    pub fn store(&self) -> PathBuf {
        self.0.join(STORE_DIR)
    }

    /// The peers of the last run.
    pub fn load_peers(&self) -> Vec<NodeRecord> {
        Vec::new()
    }

    /// Keeps peers for the next run.
    pub fn save_peers(&self, _peers: &[NodeRecord]) {}

    /// Tells other programs where the node listens; in one step, so that nobody reads half of it.
    pub fn write_run_file(&self, run: &RunFile) -> Result<(), DaemonError> {
        let path = self.0.join(RUN_FILE);
        let text = serde_json::to_string_pretty(run).expect("strings and numbers serialize");
        let beside = path.with_extension("new");
        fs::write(&beside, text + "\n")
            .and_then(|()| fs::rename(&beside, &path))
            .map_err(|reason| DaemonError::DataDir { path, reason })
    }

    /// The node has stopped.
    pub fn remove_run_file(&self) {
        match fs::remove_file(self.0.join(RUN_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "{RUN_FILE} could not be removed");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_file_is_whole_and_goes_with_the_node() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::open(&temporary.path().join("new/one")).expect("makes it");
        let run = RunFile { api: "127.0.0.1:1".into(), listen: Vec::new(), pid: 7, id: "ab".into() };
        dir.write_run_file(&run).expect("writes");
        let text = fs::read_to_string(dir.path().join(RUN_FILE)).expect("reads");
        assert_eq!(serde_json::from_str::<RunFile>(&text).expect("parses"), run);
        dir.remove_run_file();
        dir.remove_run_file();
        assert!(!dir.path().join(RUN_FILE).exists());
    }

    #[test]
    fn a_directory_that_cannot_be_is_an_error_that_names_it() {
        let error = DataDir::open(Path::new("/proc/no/such")).expect_err("nothing can be made there");
        assert!(error.to_string().contains("/proc/no/such"), "{error}");
    }
}
