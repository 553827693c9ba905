//! Anti-entropy sessions between naive replicas: what they end in, what they cost, and when they
//! are held.

mod costs;
mod model;
mod network;
mod schedule;
mod two_replicas;
