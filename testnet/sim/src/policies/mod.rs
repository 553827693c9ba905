//! Dissemination alone, without a store: policies to set beside the default one, and published
//! tables to set beside both.
//!
//! - [`mongering`]: the epidemics of Demers et al. (PODC 1987), rumor mongering and anti-entropy.
//! - [`swim`]: a baseline with a full view, as in SWIM (DSN 2002) and in Serf.
//! - [`starling`]: the default, `starling_proto`'s machines unchanged, on a random regular overlay.

mod calendar;
mod estimate;
pub mod mongering;
mod overlay;
pub mod starling;
pub mod swim;
pub mod tables;

pub use estimate::Estimate;
