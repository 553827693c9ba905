//! The listeners of a node's servers: sockets that are bound before the node starts, a thread for each
//! server, a bound on connections, and a graceful stop. The protocol on a connection is the server's.

mod connections;
mod socket;
mod thread;

pub use connections::{Connections, Stop};
pub use socket::{BindError, Reach, Socket};
pub use thread::ServerThread;
