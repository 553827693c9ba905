//! Coordination: locks, elections, queues, leases and ephemeral keys, over the API of strong keyspaces.
//!
//! The recipes are `starling_client`'s. What is held belongs to a lease that this process renews; when it
//! is lost, the child process under it is stopped ([`child`]).

pub mod args;
pub mod child;
mod elect;
mod ephemeral;
mod held;
mod lease;
mod line;
mod lock;
pub mod queue;
mod signals;
