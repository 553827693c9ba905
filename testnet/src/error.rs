//! What can go wrong, in words for the person who ran the command.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a run ended early. Every node is ended with it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The node binary could not be run.
    #[error(
        "cannot start {binary}: {source}\n  build it with  cargo build --release -p starling  or name it with --binary"
    )]
    Spawn {
        /// What was tried.
        binary: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A node ended by itself.
    #[error("node {name} ended by itself ({status}); the end of its log:\n{log}")]
    NodeEnded {
        /// Which one.
        name: String,
        /// How.
        status: String,
        /// The last lines it wrote.
        log: String,
    },
    /// A state was not reached in time.
    #[error("not reached within {} s: {what}; missing: {missing}", .waited.as_secs())]
    Deadline {
        /// The state that was waited for.
        what: String,
        /// What was still missing.
        missing: String,
        /// How long was waited.
        waited: Duration,
    },
    /// A node answered a request with an error, or not at all.
    #[error("node {name}: {source}")]
    Api {
        /// Which one.
        name: String,
        /// What it said.
        source: starling_api::Error,
    },
    /// The data set is not what was expected.
    #[error("{path}, record {record}: {problem}")]
    Data {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        record: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A file with results could not be read.
    #[error(transparent)]
    Results(starling_report::ReadError),
    /// A scenario cannot be run.
    #[error(transparent)]
    Scenario(starling_sim::scenario::Error),
    /// A load could not be run.
    #[error("the load: {0}")]
    Load(starling_load::Error),
    /// The network did what it must not do.
    #[error("{0}")]
    Broken(String),
    /// This machine does not offer what the measurement needs.
    #[error("{0}")]
    Unsupported(String),
}

impl Error {
    /// For `map_err` on file operations.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

/// Shorthand of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
