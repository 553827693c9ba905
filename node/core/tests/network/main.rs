//! The composed node in small networks in virtual time.

mod eventual;
mod expiry;
mod probes;
mod strong;
mod world;
