//! The libp2p driver: carries [`starling_proto`]'s messages between nodes. It authenticates peers,
//! validates what they send, and queues what is sent to them; it makes no decision about the
//! overlay, rumors or repair.

mod admission;
mod behaviour;
#[cfg(test)]
mod by_hand;
mod config;
mod driver;
mod event;
mod handler;
mod handshake;
mod identity;
mod issuer;
mod links;
mod metrics;
mod offenders;
mod outbox;
mod papers;
mod records;
mod slices;
mod substream;
mod transport;

pub use config::{DriverConfig, Limits, Network, SECRETS_MAX, TrustConfig};
pub use driver::{Driver, DriverError};
pub use event::Event;
pub use handshake::HandshakeError;
pub use identity::{Identity, IdentityError, node_id, peer_id, verify_record, verify_signed};
pub use issuer::Issuer;
pub use metrics::{Counter, Flow, Metrics, Traffic};
pub use offenders::BanReport;
pub use papers::Shown;
