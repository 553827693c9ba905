//! Work queues in strong keyspaces.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Blob;
use crate::strong::{Body, Fence, RequestId, TxnOp};

pub use starling_types::strong::queue::*;

/// What a queue is asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum QueueRequest {
    /// Push items, at most 32, in one transaction.
    Push {
        /// The items.
        items: Vec<NewItem>,
    },
    /// Reserve the next items.
    Reserve {
        /// Items, at most: 1 to 32.
        #[serde(default = "one")]
        max: usize,
        /// How long the reservation lasts unless it is touched, milliseconds, at least 1000.
        #[serde(default = "visible_ms_default")]
        visible_ms: u64,
        /// How long to wait if none is free, milliseconds; at most 60000.
        #[serde(default)]
        wait_ms: u64,
    },
    /// Acknowledge reserved items, at most 32, which deletes them, together with writes: all of it, or nothing if a
    /// reservation has ended.
    Ack {
        /// Their receipts.
        receipts: Vec<Receipt>,
        /// Writes that are applied once.
        #[serde(default)]
        then: Vec<TxnOp>,
    },
    /// Return reserved items, one by one.
    Nack {
        /// Their receipts.
        receipts: Vec<Receipt>,
        /// They are not reserved before this time has passed, milliseconds; 0: at once. Otherwise at least 1000.
        #[serde(default)]
        delay_ms: u64,
    },
    /// Begin the time of a reservation again.
    Touch {
        /// Its receipt.
        receipt: Receipt,
    },
    /// Show the items that would be reserved next.
    Peek {
        /// Items, at most: 1 to 32.
        #[serde(default = "one")]
        max: usize,
    },
    /// Count the items, and show the rules.
    Stats,
    /// Set the rules.
    SetRules {
        /// The rules.
        rules: Rules,
    },
    /// Make dead letters items again that were never reserved.
    Retry {
        /// Their keys, at most 32.
        keys: Vec<Blob>,
    },
}

fn one() -> usize {
    1
}

fn visible_ms_default() -> u64 {
    VISIBLE_MS_DEFAULT
}

/// One request to a queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueCall {
    /// The name of the queue.
    pub queue: Blob,
    /// What it is asked to do.
    #[serde(flatten)]
    pub request: QueueRequest,
    /// Under this name an acknowledgement, or the push of one item with nothing but a value and a priority, is applied once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// Writes are refused unless this lock is held with this token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
}

/// The answer of a queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum QueueAnswer {
    /// Items were pushed.
    Pushed {
        /// One for each item.
        items: Vec<Pushed>,
    },
    /// Items were reserved.
    Reserved {
        /// None: none was free.
        items: Vec<Reserved>,
    },
    /// Items were acknowledged.
    Acknowledged {
        /// The outcomes of the writes.
        results: Vec<Body>,
    },
    /// Items were returned.
    Returned {
        /// Where each stands now.
        items: Vec<Standing>,
    },
    /// The time of a reservation has begun again.
    Touched {
        /// How long it lasts from now on, milliseconds.
        ms: u64,
    },
    /// Items that would be reserved next.
    Peeked {
        /// The next one first.
        items: Vec<Listed>,
    },
    /// The items of the queue, counted.
    Stats(QueueStats),
    /// The rules are set.
    RulesSet,
    /// Dead letters are items again.
    Revived {
        /// How many.
        count: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_flat_and_short() {
        let json = r#"{"queue":"mail","op":"reserve"}"#;
        let call: QueueCall = serde_json::from_str(json).expect("parses");
        let request = QueueRequest::Reserve { max: 1, visible_ms: 30_000, wait_ms: 0 };
        assert_eq!(call, QueueCall { queue: "mail".into(), request, request_id: None, fence: None });
        let json = r#"{"queue":"mail","op":"push","items":[{"value":"letter"}]}"#;
        let call: QueueCall = serde_json::from_str(json).expect("parses");
        assert_eq!(call.request, QueueRequest::Push { items: vec![NewItem::new("letter")] });
        let wrong = r#"{"queue":"mail","op":"push","items":[{"value":"letter","prio":1}]}"#;
        assert!(serde_json::from_str::<QueueCall>(wrong).is_err(), "a misspelt field is noticed");
    }
}
