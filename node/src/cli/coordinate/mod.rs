//! Coordination: locks, elections, queues, leases and ephemeral keys, over the API of strong keyspaces.
//!
//! What is held belongs to a lease that this process keeps alive ([`tenure`]). It reckons by itself when the
//! lease may have ended ([`expiry`]), and stops what runs under it ([`child`]) without asking anybody.

pub mod args;
mod child;
mod elect;
mod ephemeral;
mod expiry;
mod lease;
mod line;
mod lock;
mod queue;
mod signals;
mod tenure;
