//! Starling's protocols as pure state machines: views of the membership, failure detection, rumor
//! mongering and anti-entropy sessions. No I/O, no clock, no global randomness: time is an
//! argument, randomness is seeded by the caller, and everything iterated is ordered.
//!
//! Each machine has four kinds of methods and no others: getters, `handle` (inputs), commands, and
//! `poll_output` / `poll_timeout`. The caller passes inputs, drains outputs until `None`, and calls
//! `handle(now, Timeout)` no earlier than `poll_timeout()`.

pub mod detector;
pub mod healing;
pub mod id;
pub mod labels;
pub mod message;
pub mod record;
pub mod rumor;
pub mod sync;
pub mod time;
pub mod timers;
pub mod trust;
pub mod view;
pub mod wire;

pub use id::NodeId;
pub use labels::Labels;
pub use message::{Class, Message};
pub use record::{NodeRecord, Role};
pub use starling_types::{ActorGroup, ActorId, DotRange, DotRanges};
pub use time::Millis;
