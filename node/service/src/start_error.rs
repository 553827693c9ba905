//! Why a node does not start, and what to do about it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a node did not start, or stopped. Nothing was lost.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("cannot use the data directory {path}: {reason}")]
    DataDir {
        /// The directory or a file in it.
        path: PathBuf,
        /// The system's error.
        reason: io::Error,
    },
    /// A store was to be examined where there is none.
    #[error("{path} {}: there is no store to examine", if path.is_dir() { "is not the data directory of a node" } else { "is no directory" })]
    NoStore {
        /// The directory that was named.
        path: PathBuf,
    },
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] starling_p2p::IdentityError),
    /// The file with the network's secret cannot be used.
    #[error(transparent)]
    Network(#[from] starling_bootstrap::NetworkFileError),
    /// The node's key is gone from a directory that a node has used. Nothing was changed.
    #[error("{path} is missing, and {beside} shows that a node has used this directory")]
    IdentityLost {
        /// The missing file.
        path: PathBuf,
        /// What the node has left.
        beside: PathBuf,
    },
    /// The network's secret is gone from a directory that a node has used. Nothing was changed.
    #[error("{path} is missing, and {beside} belongs to a network")]
    NetworkLost {
        /// The missing file.
        path: PathBuf,
        /// What the node has left.
        beside: PathBuf,
    },
    /// A ticket is not one.
    #[error("--join {given}: {reason}")]
    Ticket {
        /// The ticket as given, truncated.
        given: String,
        /// What is wrong with it.
        reason: starling_bootstrap::TicketError,
    },
    /// The ticket is of another network than the data directory.
    #[error("{path} belongs to network {ours}, and the ticket to network {theirs}")]
    OtherNetwork {
        /// The data directory.
        path: PathBuf,
        /// Its network.
        ours: String,
        /// The ticket's.
        theirs: String,
    },
    /// The file with the authority's statements is damaged.
    #[error("line {line} of {path} cannot be read, or is not signed")]
    Trust {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
    },
    /// The ticket names another authority than this node follows.
    #[error("this node follows the authority {ours}, and the ticket is of {theirs}")]
    OtherAuthority {
        /// The authority of the data directory.
        ours: String,
        /// The ticket's.
        theirs: String,
    },
    /// A new node cannot join by an address alone.
    #[error(
        "{address} is an address: a new node also needs the network's secret, which is in the join ticket"
    )]
    NoTicket {
        /// The first address given.
        address: String,
    },
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] starling_kv::Error),
    /// The node cannot listen for peers.
    #[error(transparent)]
    Driver(#[from] starling_p2p::DriverError),
    /// The value of a setting is invalid.
    #[error("{key} cannot be {value:?}: {reason}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The system refused a thread or a runtime.
    #[error("the system refused: {0}")]
    System(io::Error),
}

impl StartError {
    /// What to do next, one line.
    pub fn hint(&self) -> String {
        match self {
            Self::DataDir { .. } => "check owner, mode and space, or name another one with --data-dir".into(),
            Self::NoStore { .. } => {
                "name the directory that the node was started with: `starling config` shows data_dir; without --data-dir the \
                 running node is asked"
                    .into()
            }
            Self::Identity(_) | Self::IdentityLost { .. } => {
                "restore it from a backup; without one, start in an empty --data-dir with --join TICKET: peers refill it"
                    .into()
            }
            Self::Network(_) | Self::NetworkLost { .. } => {
                "restore it from a backup; without one, start without it and with --join TICKET of the same network \
                 (`starling ticket` on another node prints it)"
                    .into()
            }
            Self::Ticket { .. } | Self::NoTicket { .. } => {
                "`starling ticket` on any node of the network prints the ticket; give it with --join".into()
            }
            Self::OtherNetwork { .. } => {
                "name another data directory with --data-dir, or leave the ticket out".into()
            }
            Self::Trust { .. } => {
                "restore it from a backup; without one, remove it and start with --join and a new ticket of an issuer".into()
            }
            Self::OtherAuthority { .. } => {
                "after `starling authority rotate` start the node without the new ticket first: its peers tell it of the other \
                 key. Otherwise ask the network's operator which of the two is right: whoever makes the other one is not to \
                 be trusted"
                    .into()
            }
            Self::Store(error) => error.hint().into(),
            Self::Driver(_) => "name other addresses with --listen, like /ip4/0.0.0.0/tcp/7500".into(),
            Self::Setting { .. } => "`starling config --reference` lists all settings".into(),
            Self::System(_) => "check the limits of this shell (ulimit -a)".into(),
        }
    }
}
