//! The composed node in small networks in virtual time.

mod eventual;
mod expiry;
mod full_disk;
mod growth;
mod hostile;
mod names;
mod places;
mod probes;
mod recovery;
mod strong;
mod trust;
mod world;
