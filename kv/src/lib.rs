//! Starling's store: a delta-state CRDT on an ordered key-value engine.
//!
//! Conceptually the store is one map from dots to {unseen < live < dead}, joined point by point by
//! maximum. Stored are the live entries and the causal context (every dot seen, as
//! intervals per actor); a dot in the context without an entry is dead, and takes no space. Any
//! restriction of a state to a set of dots is a valid [delta](mod@delta), so rumors, repair and
//! bootstrap all send the same thing.
//!
//! The store uses no network and no clock: wall time is an argument, randomness is seeded. It has
//! one writer ([`Store`]) and any number of readers ([`Reader`]) that work on snapshots and never
//! wait for it.
//!
//! The engine of a real node is in the crate `starling-rocks`; simulations run on [`MemoryEngine`].

pub mod check;
pub mod codec;
pub mod delta;
pub mod engine;
pub mod journal;
pub mod reader;
pub mod store;

mod actor;
mod body;
mod cell;
mod context;
mod dot;
mod error;
mod fingerprint;
mod hlc;
mod place;
mod stats;
mod types;
mod version;

pub use check::Report;
pub use context::Intervals;
pub use engine::{Engine, MemoryEngine};
pub use error::{Error, MalformedDelta};
pub use fingerprint::Leaf;
pub use reader::{Contents, Fields, Page, Range, Reader};
pub use starling_types::eventual::{
    Batch, Change, Check, Field, Kind, Limits, Op, Outcome, Version, Write, WriteError,
};
pub use starling_types::{ActorId, Dot, DotRange, Hlc, Root, SPAN_FANOUT, SPAN_LEAF};
pub use stats::Stats;
pub use store::{Committed, Joined, Options, Part, Store, deaths};
pub use types::{Register, Sibling};
