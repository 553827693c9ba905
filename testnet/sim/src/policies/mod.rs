//! Protocols alone, without a store: policies of dissemination to set beside the default one, elections of a
//! leader, failure detectors, orders of a work queue, and published tables and counts to set beside them.
//!
//! - [`detectors`]: heartbeats, phi accrual, SWIM with and without Lifeguard, and the node's own, under the same faults.
//! - [`elections`]: ring, modified ring, bully, Paxos, and the node's own Raft group, under the same faults.
//! - [`queues`]: orders of a work queue, by the product's own function, beside theory.
//! - [`mongering`]: the epidemics of Demers et al. (PODC 1987), rumor mongering and anti-entropy.
//! - [`swim`]: a baseline with a full view, as in SWIM (DSN 2002) and in Serf.
//! - [`starling`]: the default, `starling_proto`'s machines unchanged, on a random regular overlay.

mod calendar;
pub mod detectors;
pub mod elections;
mod estimate;
mod links;
pub mod mongering;
mod overlay;
pub mod queues;
pub mod starling;
pub mod swim;
pub mod tables;

pub use estimate::Estimate;
pub use links::Links;
