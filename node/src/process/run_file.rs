//! The file in the data directory with the addresses of the running node.

use std::fs;
use std::io;
use std::path::Path;

use starling_api::admin::{RUN_FILE, RunFile, SOCKET_FILE};
use starling_service::{DataDir, StartError};

/// Writes the file in one step, so that no reader sees half of it.
pub fn write(data_dir: &DataDir, run: &RunFile) -> Result<(), StartError> {
    let text = serde_json::to_string_pretty(run).expect("strings and numbers serialize") + "\n";
    let failed = |reason| StartError::DataDir { path: data_dir.path().join(RUN_FILE), reason };
    data_dir.replace(RUN_FILE, text.as_bytes()).map_err(failed)
}

/// Removes the file, and the unix socket, after the node has stopped.
pub fn remove(data_dir: &Path) {
    for name in [RUN_FILE, SOCKET_FILE] {
        match fs::remove_file(data_dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "{name} could not be removed");
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
        let run = RunFile {
            api: "127.0.0.1:1".into(),
            listen: Vec::new(),
            pid: 7,
            id: "ab".into(),
            etcd: Vec::new(),
        };
        let data_dir = DataDir::open(temporary.path()).expect("opens");
        write(&data_dir, &run).expect("writes");
        let text = fs::read_to_string(temporary.path().join(RUN_FILE)).expect("reads");
        assert_eq!(serde_json::from_str::<RunFile>(&text).expect("parses"), run);
        remove(temporary.path());
        remove(temporary.path());
        assert!(!temporary.path().join(RUN_FILE).exists());
    }
}
