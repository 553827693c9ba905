//! Checks of a whole store: `starling doctor`.

mod doctor;

pub use doctor::{Problem, Report, doctor};
