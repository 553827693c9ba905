//! A client of Starling nodes over their HTTP API, and the recipes of strong keyspaces: leases, locks,
//! elections and queues.
//!
//! The recipes take any [`Strong`](starling_api::Strong), so the same code runs over a [`Client`] and inside
//! an embedded node (`starling_service::Handle`).
//!
//! ```no_run
//! use starling_api::Precondition;
//! use starling_client::Client;
//!
//! # async fn example() -> Result<(), starling_api::Error> {
//! let client = Client::new("127.0.0.1:7401", None)?;
//! client.put("default", b"color", b"blue".to_vec(), None, &Precondition::Any).await?;
//! assert_eq!(client.get_raw("default", b"color").await?.expect("written").bytes, b"blue");
//! # Ok(())
//! # }
//! ```
//!
//! A client of several nodes goes on with the next one where a node fails, and sends again what is safe to
//! send again:
//!
//! ```
//! use std::time::Duration;
//! use starling_client::{Client, Retries};
//!
//! # fn main() -> Result<(), starling_api::Error> {
//! let client = Client::of_nodes(["10.0.0.1:7401", "10.0.0.2:7401"], None)?
//!     .with_retries(Retries { deadline: Duration::from_secs(10), ..Retries::default() });
//! assert_eq!(client.url(), "http://10.0.0.1:7401");
//! # Ok(())
//! # }
//! ```

mod client;
mod election;
mod expiry;
mod keyspace;
mod lease;
mod line;
mod queue;
mod retry;
mod socket_path;
mod stream;
mod tls;

pub use client::{Client, MANAGE_TIMEOUT, RawValue, WORK};
pub use election::{Candidates, Leadership};
pub use expiry::{Expiry, now};
pub use keyspace::{Keyspace, Named, WriteFailed, new_request_id};
pub use lease::{Lease, Lost};
pub use line::{Place, Turn, WaitFailed, in_order, line_name};
pub use queue::{Queue, Taker, Turns, Under};
pub use retry::Retries;
pub use socket_path::SocketPath;
pub use stream::Watch;
pub use tls::ClientTls;
