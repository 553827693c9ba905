//! Settings of the views.

use std::ops::RangeInclusive;

/// Settings of [`super::Views`]. The defaults of sizes and walks are those of the paper's
/// evaluation (Leitao, Pereira, Rodrigues, "`HyParView`", DSN 2007, section 5.1) unless they say
/// otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewConfig {
    /// Neighbours that a node tries to have, and has at most. The paper: log10(n) + 1 = 5 for 10,000 nodes.
    /// See [`ACTIVE_RANGE`].
    pub active_max: usize,
    /// Neighbours below which a node asks with high priority, which may not be refused. In the paper it does so
    /// without any. Here the asked node hands over one of its neighbours, so that the asking node gains two and no node
    /// loses one, which is worth it as soon as two are missing.
    pub active_low: usize,
    /// Records in the passive view, at most. The paper: 6 * (log10(n) + 1) = 30.
    pub passive_max: usize,
    /// Hops of a join's walk through the active views (ARWL).
    pub join_hops: u8,
    /// Hops left at which the walk also adds the joiner to a passive view (PRWL).
    pub join_hops_passive: u8,
    /// Hops of a shuffle. The paper leaves it open; 3 as PRWL: each hop costs a whole sample.
    pub shuffle_hops: u8,
    /// Neighbours in a shuffle's sample (`ka`).
    pub shuffle_active: usize,
    /// Passive records in a shuffle's sample (`kp`).
    pub shuffle_passive: usize,
    /// First time between shuffles after a join or the loss of a neighbour, milliseconds; doubles
    /// with each shuffle up to `shuffle_ms` (as the Trickle timer, RFC 6206, section 4). A guess.
    pub shuffle_first_ms: u64,
    /// Longest time between shuffles, milliseconds, jittered by a quarter; see `shuffle_first_ms`. A shuffle costs
    /// about 12 kB (three hops of eight records and one dialed connection for the reply), so 480 s
    /// is 25 B/s.
    pub shuffle_ms: u64,
    /// Time after which a question without an answer is dropped, milliseconds. Longer than a dial takes.
    pub ask_timeout_ms: u64,
    /// First pause after a refusal before another peer is asked, milliseconds; doubles with each.
    pub refill_first_ms: u64,
    /// Longest such pause, milliseconds. In a network whose views are full, a node may permanently lack one neighbour:
    /// a question (a dialed connection, 4 kB) every 5 minutes is 13 B/s.
    pub refill_max_ms: u64,
    /// First pause before a node that is alone asks for contacts again, milliseconds; doubles.
    pub contacts_first_ms: u64,
    /// Longest such pause, milliseconds.
    pub contacts_max_ms: u64,
    /// Neighbours of one address block (/24 or /48) from which on further ones are accepted only while no peer of
    /// another block is available. A guess: half a view cannot be one operator's.
    pub block_enough: usize,
}

/// Sizes that the active view may have. Smaller ones fall apart: of 6,000 networks of 46 nodes in which ten nodes
/// had restarted, islands remained in 5,946 with two neighbours per node, in 3 with three, in none with four.
pub const ACTIVE_RANGE: RangeInclusive<usize> = 4..=64;

/// The default size of the active view. 1,000 nodes, many senders, links of 10 to 50 ms, mean time to the last
/// node and links to it (`testnet sim iroh-many-senders --set node.active=N`): 5: 315 ms, 12.5; 6: 279 ms, 11.4;
/// 7: 254 ms, 10.5. Each neighbour costs an idle node some 40 bytes a second.
const ACTIVE_MAX: usize = 6;

impl Default for ViewConfig {
    fn default() -> Self {
        Self::with_active(ACTIVE_MAX)
    }
}

impl ViewConfig {
    /// The defaults around another size of the active view, within [`ACTIVE_RANGE`].
    pub fn with_active(active_max: usize) -> Self {
        let active_max = active_max.clamp(*ACTIVE_RANGE.start(), *ACTIVE_RANGE.end());
        Self {
            active_max,
            active_low: active_max - 1,
            passive_max: 6 * active_max,
            join_hops: 6,
            join_hops_passive: 3,
            shuffle_hops: 3,
            shuffle_active: 3,
            shuffle_passive: 4,
            shuffle_first_ms: 10_000,
            shuffle_ms: 480_000,
            ask_timeout_ms: 5_000,
            refill_first_ms: 1_000,
            refill_max_ms: 300_000,
            contacts_first_ms: 1_000,
            contacts_max_ms: 30_000,
            block_enough: (active_max / 2).max(2),
        }
    }
}
