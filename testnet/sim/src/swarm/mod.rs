//! Swarm testing: every seed draws a network, its clients and its own mix of faults, runs them under the
//! eyes of a [`crate::invariants::Witness`], and has to heal. (Groce, Zhang, Eide, Chen and Regehr,
//! "Swarm Testing", ISSTA 2012: many mixes that each leave something out find more than one that has it
//! all.)

mod draw;
mod run;
mod shrink;
mod text;

pub use draw::draw;
pub use run::{Finding, run};
pub use shrink::shrink;
pub use text::text;
