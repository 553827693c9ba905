//! What clients of a strong keyspace did and were told, and whether a correct keyspace can have answered so.
//!
//! Nothing here knows how the keyspace was reached: the groups in virtual time (`kv/strong/tests/groups`) and
//! networks of real processes (`testnet strong`) record the same histories and are judged by the same code.
//! Times are numbers of one monotonic clock that all clients share, in any unit.

mod answers;
mod calls;
mod fate;
mod linear;
mod locks;
mod log;
mod queue;
mod search;
mod shrink;
mod told;
mod work;

pub use answers::{check_answers, check_stale};
pub use calls::{Call, Op, Outcome, Register};
pub use fate::Fate;
pub use linear::{Verdict, check_linearizable};
pub use locks::{GUARDED, LOCK, LOCK_KEYS, LockAnswer, LockAsk, LockStep, Locker, check_locks};
pub use log::{Change, Log};
pub use queue::{QUEUE, QueueAnswer, QueueAsk, Queuer, check_queue};
pub use told::Told;
pub use work::{EFFECTS, WORK, Worker, check_work};

/// The keyspace broke a promise, in words for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

/// What a check comes to.
pub type Checked = Result<(), Violation>;

/// A violation unless it holds.
fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Violation(otherwise())) }
}

/// A key or value, for people.
fn shown(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
