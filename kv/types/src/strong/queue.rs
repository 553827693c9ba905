//! Work queues: what is pushed, what is reserved, and how items are ordered. The recipe is `starling_strong::queue`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Blob;

/// The priority of an item that has none given: 0 is taken first, 65535 last.
pub const PRIORITY_DEFAULT: u16 = 1000;
/// How long an item that was pushed with an id keeps others with this id out, by default, milliseconds: as in SQS.
pub const UNIQUE_MS_DEFAULT: u64 = 300_000;
/// How long a reservation lasts by default, milliseconds: as in SQS.
pub const VISIBLE_MS_DEFAULT: u64 = 30_000;
/// Items in one request, at most: a transaction has 128 operations, and an acknowledgement needs three for each item.
pub const BATCH_MAX: usize = 32;

/// The order in which items of a queue are reserved. In each of them a lower priority number is first, in `tenants` among
/// the items of one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// First come, first served.
    #[default]
    Arrival,
    /// The shortest job first, by its stated cost, with ageing: see [`Rules::ageing`].
    Shortest,
    /// The longest job first, to the fastest worker: a slower one gets the longest that it ends before the fastest ends
    /// the longest of all (max-min).
    Longest,
    /// In turn over the tenants that have items.
    Tenants,
}

/// The rules of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Rules {
    /// The order in which items are reserved.
    pub order: Order,
    /// Milliseconds of cost that a wait of one millisecond outweighs in the order `shortest`. An item of cost c waits for
    /// no item that is pushed c / ageing later. 0: an item may wait for ever.
    pub ageing: f64,
    /// Reservations of an item before it becomes a dead letter; 0: no bound.
    pub attempts: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self { order: Order::Arrival, ageing: 0.1, attempts: 0 }
    }
}

/// An item to push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewItem {
    /// The item.
    pub value: Blob,
    /// 0 is reserved first, 65535 last.
    #[serde(default = "priority_default")]
    pub priority: u16,
    /// How long the work is expected to take, milliseconds.
    #[serde(default)]
    pub cost_ms: u64,
    /// The tenant that it belongs to; empty: none. Without slashes.
    #[serde(default)]
    pub tenant: String,
    /// It is not reserved before this time has passed, milliseconds; 0: at once. Otherwise at least 1000.
    #[serde(default)]
    pub delay_ms: u64,
    /// Its id: while it is remembered, nothing else is pushed with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<Blob>,
    /// How long the id is remembered, milliseconds, at least 1000, whether or not the item is done by then.
    #[serde(default = "unique_ms_default")]
    pub unique_ms: u64,
}

fn priority_default() -> u16 {
    PRIORITY_DEFAULT
}

fn unique_ms_default() -> u64 {
    UNIQUE_MS_DEFAULT
}

impl NewItem {
    /// An item with this value and nothing else given.
    pub fn new(value: impl Into<Blob>) -> Self {
        Self {
            value: value.into(),
            priority: PRIORITY_DEFAULT,
            cost_ms: 0,
            tenant: String::new(),
            delay_ms: 0,
            unique: None,
            unique_ms: UNIQUE_MS_DEFAULT,
        }
    }

    /// Whether only value and priority are given: such an item is one key.
    pub fn is_plain(&self) -> bool {
        self.cost_ms == 0 && self.tenant.is_empty() && self.delay_ms == 0 && self.unique.is_none()
    }
}

/// The outcome of a push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pushed {
    /// The key of the item; of the earlier one, if there was one with the same id.
    pub key: Blob,
    /// Whether nothing was pushed, because an item with the same id was pushed before.
    pub duplicate: bool,
}

/// The right to acknowledge or return an item, until the reservation ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The key of the item.
    pub key: Blob,
    /// The revision of the reservation.
    pub token: u64,
    /// The lease of the reservation. It keeps the item from others until it ends.
    pub lease: i64,
}

/// An item that was reserved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reserved {
    /// The right to acknowledge it or to return it.
    pub receipt: Receipt,
    /// The item.
    pub value: Blob,
    /// How often it was reserved, this time included.
    pub attempts: u32,
    /// Its priority.
    pub priority: u16,
    /// How long the work is expected to take, milliseconds.
    pub cost_ms: u64,
    /// The tenant that it belongs to; empty: none.
    pub tenant: String,
}

/// Where an item of a queue stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It can be reserved.
    Ready,
    /// A worker has it.
    Reserved,
    /// Its delay is not over.
    Delayed,
    /// It was reserved too often.
    Dead,
}

/// An item as it stands in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Listed {
    /// Its key.
    pub key: Blob,
    /// Where it stands.
    pub standing: Standing,
    /// How often it was reserved.
    pub attempts: u32,
    /// Its priority.
    pub priority: u16,
    /// How long the work is expected to take, milliseconds.
    pub cost_ms: u64,
    /// The tenant that it belongs to; empty: none.
    pub tenant: String,
    /// The item.
    pub value: Blob,
}

/// The items of a queue, counted, and its rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueStats {
    /// Items that can be reserved.
    pub ready: u64,
    /// Items that a worker has.
    pub reserved: u64,
    /// Items whose delay is not over.
    pub delayed: u64,
    /// Items that were reserved too often.
    pub dead: u64,
    /// The rules.
    pub rules: Rules,
}

impl QueueStats {
    /// Whether there is nothing left to do: nothing is ready, reserved or delayed.
    pub fn is_done(&self) -> bool {
        self.ready + self.reserved + self.delayed == 0
    }
}
