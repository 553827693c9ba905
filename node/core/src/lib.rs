//! The node as one pure state machine: views, healing, failure detection, rumors and anti-entropy
//! composed with the store. It reads no clock, opens no socket and starts no thread. Its driver passes
//! in [`Input`]s with the time, carries out the [`Output`]s, and passes [`Input::Timeout`] at `poll_timeout`.
//! `node/service` runs it over libp2p and `RocksDB`; a simulation runs the same code in virtual time.

pub mod client_urls;
mod clock;
mod core;
mod crawl;
mod departures;
mod describe;
mod doubles;
mod gaps;
mod input;
mod keyspaces;
mod links;
mod replica;
mod route;
mod status;
pub mod strong;
mod trust;
pub mod upgrade;
mod writes;

pub use self::core::{Core, CoreConfig, Software};
pub use doubles::{DoubledPeer, SIGN_MS};
pub use input::{Input, Notice, Now, Output, Token, WriteFailure};
pub use keyspaces::published;
pub use status::{Counters, Held, PeerStatus, Status};
