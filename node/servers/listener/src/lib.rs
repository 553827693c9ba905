//! The listeners of a node's servers: sockets that are bound before the node starts, a thread for each
//! server, places for connections, and a graceful stop. The protocol on a connection is the server's.

mod connections;
mod places;
mod socket;
mod thread;

pub use connections::{Connections, Stop};
pub use places::{Activity, InProgress};
pub use socket::{BindError, Reach, Socket};
pub use thread::ServerThread;
