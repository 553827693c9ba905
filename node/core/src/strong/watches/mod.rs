//! Both ends of a watch: [`client`] has the watches of clients here, [`served`] those that replicas here
//! serve. They communicate by messages, even if both are on this node:
//!
//! ```text
//!   client                         served
//!     │ ── Watch, from a revision ──► │
//!     │ ◄── Update 0: created ─────── │
//!     │ ◄── Update 1: events ──────── │   at most as many updates as the client asked for
//!     │ ── More ────────────────────► │
//!     │      (nothing for a while)    │
//!     │ ── Check: 2 received ───────► │
//!     │ ◄── Checked: 2 sent ───────── │   more were sent than received: the watch is opened again
//!     │ ── Unwatch ─────────────────► │
//! ```
//!
//! An update to another node has a bounded size, so that it fits into a frame. The events of a larger revision come in
//! several updates: one whose last event is of a later revision than its own number ends within that revision, and the
//! client's end waits for the rest before it delivers them. A member that serves the watch after another one begins such
//! a revision again.
//!
//! A watch whose member goes away is opened at another one, from the revision after the last update: its
//! client notices nothing. What must never happen: an event is delivered twice, out of order, or left out.

pub mod client;
pub mod served;
#[cfg(test)]
mod tests;
