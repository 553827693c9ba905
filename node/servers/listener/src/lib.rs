//! The listeners of a node's servers: sockets that are bound before the node starts, a thread for each
//! server, places for connections, TLS, and a graceful stop. The protocol on a connection is the server's.

mod connections;
mod local;
mod places;
mod refusals;
mod seldom;
mod socket;
mod thread;
mod tls;

pub use connections::{Connections, Listener, Stop, Stream};
pub use local::LocalSocket;
pub use places::{Activity, InProgress, Origin};
pub use refusals::Refusals;
pub use socket::{BindError, Reach, Socket};
pub use thread::ServerThread;
pub use tls::{Tls, TlsError, TlsFiles};
