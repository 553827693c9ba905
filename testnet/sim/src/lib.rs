//! Starling's nodes by the thousand in virtual time: `starling_core::Core` unchanged, over links that
//! delay, lose and are cut, with clients, churn and faults from a scenario, measured.
//!
//! Deterministic: one seed draws everything, and equal seeds give equal runs, event by event.

// Times, rates and shares of a scenario are checked where it is read.
#![allow(clippy::cast_sign_loss, reason = "nothing here is negative")]

pub mod churn;
pub mod invariants;
pub mod measure;
pub mod policies;
pub mod scenario;
pub mod swarm;
mod threads;
pub mod world;

mod clients;
mod doubles;
mod faults;
mod finish;
mod simulation;
pub mod strong;
mod users;
mod varied;

pub use finish::{bar, cost, settings};
pub use simulation::{Progress, Simulation};
pub use threads::{Effort, Threads};
pub use world::Delays;
