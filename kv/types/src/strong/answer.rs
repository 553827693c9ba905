//! Answers of a strong keyspace.

use bincode::{Decode, Encode};
#[cfg(feature = "json")]
use serde::{Deserialize, Serialize};
#[cfg(feature = "json")]
use utoipa::ToSchema;

use super::Revision;
use super::codec::Nesting;
#[cfg(feature = "json")]
use crate::{Blob, json};

/// A key as it is, or was at some revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct KeyValue {
    /// The key.
    #[cfg_attr(feature = "json", serde(with = "json::bytes"), schema(value_type = Blob))]
    pub key: Vec<u8>,
    /// What it holds; empty after a deletion.
    #[cfg_attr(feature = "json", serde(default, with = "json::bytes"), schema(value_type = Blob))]
    pub value: Vec<u8>,
    /// The revision at which the key came into being, counted from its last deletion.
    pub create_revision: u64,
    /// The revision at which it was last written.
    pub mod_revision: u64,
    /// Writes since it came into being, from 1.
    pub version: u64,
    /// The lease that it is attached to; 0: none.
    #[cfg_attr(feature = "json", serde(default))]
    pub lease: i64,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Nesting")]
pub struct Answer {
    /// The keyspace's revision when it was answered: that of the write, if it changed anything.
    pub revision: Revision,
    /// The outcome of the request.
    pub body: Body,
}

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
#[cfg_attr(feature = "json", serde(tag = "result", rename_all = "snake_case"), schema(as = StrongResult))]
pub enum Body {
    /// Keys were read.
    #[cfg_attr(feature = "json", serde(rename = "found"))]
    Range(Found),
    /// A key was set.
    Put {
        /// What was there before, if the request wanted it.
        #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Option::is_none"))]
        prev: Option<KeyValue>,
    },
    /// The key that a sequential write made.
    Sequential {
        /// Its name.
        #[cfg_attr(feature = "json", serde(with = "json::bytes"), schema(value_type = Blob))]
        key: Vec<u8>,
    },
    /// Keys were deleted.
    #[cfg_attr(feature = "json", serde(rename = "deleted"))]
    Delete {
        /// How many.
        deleted: u64,
        /// What was there before, if the request wanted it.
        #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Vec::is_empty"))]
        prev: Vec<KeyValue>,
    },
    /// The first key, which is deleted.
    Popped {
        /// None: there was none.
        #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Option::is_none"))]
        first: Option<KeyValue>,
    },
    /// A transaction was carried out.
    Txn {
        /// Whether the conditions held.
        succeeded: bool,
        /// One for each operation of the branch taken.
        #[cfg_attr(feature = "json", serde(rename = "results"), schema(no_recursion))]
        bodies: Vec<Body>,
    },
    /// The past was discarded.
    Compacted,
    /// A lease was created.
    LeaseGranted {
        /// Its id.
        id: i64,
        /// How long it lasts, milliseconds.
        ttl_ms: u64,
    },
    /// A lease was ended.
    LeaseRevoked,
    /// A lease's time began again.
    KeptAlive {
        /// Its id.
        id: i64,
        /// How long it lasts from now on, milliseconds.
        ttl_ms: u64,
    },
    /// A lease's time and keys.
    TimeToLive {
        /// Its id.
        id: i64,
        /// How long it lasts, milliseconds.
        granted_ms: u64,
        /// How long it has left, milliseconds.
        left_ms: u64,
        /// The keys that are attached to it.
        #[cfg_attr(feature = "json", serde(with = "json::list"), schema(value_type = Vec<Blob>))]
        keys: Vec<Vec<u8>>,
    },
    /// All leases.
    Leases {
        /// Their ids.
        leases: Vec<i64>,
    },
    /// The hash of a replica.
    Hash {
        /// In JSON in hexadecimal.
        #[cfg_attr(feature = "json", serde(with = "json::hex_bytes"), schema(value_type = String))]
        hash: [u8; 32],
        /// The revision up to which the past was discarded; not in JSON.
        #[cfg_attr(feature = "json", serde(skip))]
        compacted: u64,
    },
}

/// Keys that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct Found {
    /// In order.
    pub kvs: Vec<KeyValue>,
    /// There were more than the limit, or than fits into an answer.
    pub more: bool,
    /// Keys in the range, whatever the limit.
    pub count: u64,
}
