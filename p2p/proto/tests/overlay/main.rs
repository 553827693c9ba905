//! The overlay as a whole, in virtual time: joins, losses, splits.
#![allow(missing_docs, reason = "tests")]

mod faults;
mod invariants;
mod joins;
mod network;
mod random;
mod zones;
