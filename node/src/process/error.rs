//! Why the process of a node did not start, and what to do about it.

use starling_listener::{BindError, TlsError};
use starling_service::StartError;
use thiserror::Error;

/// Why a node and its servers did not start, or stopped. Nothing was lost.
#[derive(Debug, Error)]
pub enum RunError {
    /// The node did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The API cannot listen.
    #[error("the API {0}")]
    Api(BindError),
    /// The unix socket in the data directory cannot be made.
    #[error("the API {0}")]
    Local(BindError),
    /// What names join tickets cannot be read.
    #[error("cannot read the join ticket from {item}: {reason}")]
    Join {
        /// The item of `join`.
        item: String,
        /// The system's error.
        reason: std::io::Error,
    },
    /// The etcd server cannot listen.
    #[error("the etcd server {0}")]
    Etcd(BindError),
    /// The files of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Of the files of TLS one is missing.
    #[error("tls.certificate and tls.key belong together, and tls.client_ca to them")]
    HalfOfTls,
    /// The API would be open to the network without TLS.
    #[error("the API would listen on {address}, which other machines can reach, without TLS")]
    Plaintext {
        /// As configured.
        address: String,
    },
    /// The API would be open to the network without authentication.
    #[error(
        "the API would listen on {address}, which other machines can reach, and callers would not have to show who they are"
    )]
    Unprotected {
        /// As configured.
        address: String,
    },
    /// The API would be open to the network with a token that can be guessed.
    #[error(
        "the API would listen on {address}, which other machines can reach, with a token of less than 128 bits"
    )]
    WeakToken {
        /// As configured.
        address: String,
    },
    /// A client's token would make whoever has it an administrator.
    #[error("api.token is a token of `starling token add`: whoever has that would administer the node")]
    ClientToken,
}

impl RunError {
    /// What to do next, one line.
    pub fn hint(&self) -> String {
        match self {
            Self::Start(error) => error.hint(),
            Self::Api(BindError::System { address, .. }) if address.contains("unix:") || address.contains("://") => {
                "write HOST:PORT; the unix socket is there anyway, and --set tls.certificate=FILE serves in TLS".into()
            }
            Self::Api(_) => {
                "is the node running already? Otherwise name another one: --api 127.0.0.1:7501".into()
            }
            Self::Local(_) => {
                "free space on the disk of the data directory, and check that its user owns it".into()
            }
            Self::Join { .. } => {
                "write what  starling ticket  prints into a file, and join with @FILE".into()
            }
            Self::Etcd(_) => "name another port: --etcd 127.0.0.1:2479=KEYSPACE".into(),
            Self::Tls(_) => "check the files of tls.certificate, tls.key and tls.client_ca; they are PEM".into(),
            Self::HalfOfTls => "set tls.certificate and tls.key, or none of them".into(),
            Self::Plaintext { .. } => {
                "set tls.certificate and tls.key, or  --set api.plaintext=true  if the network between is yours".into()
            }
            Self::WeakToken { .. } => "set api.token to what  openssl rand -hex 16  prints".into(),
            Self::ClientToken => {
                "start the node without STARLING_API_TOKEN, which is for commands; api.token is any other text, as  \
                 openssl rand -hex 16  prints"
                    .into()
            }
            Self::Unprotected { .. } => {
                "set api.token, api.anonymous=false or tls.client_ca, or listen on loopback: --api 127.0.0.1:7401".into()
            }
        }
    }
}

/// The system refused a thread or a runtime.
pub fn system(error: std::io::Error) -> RunError {
    RunError::Start(StartError::System(error))
}
