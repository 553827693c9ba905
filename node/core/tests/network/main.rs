//! The composed node in small networks in virtual time.

mod eventual;
mod strong;
mod world;
