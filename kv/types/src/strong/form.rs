//! The JSON forms of requests: flat, with the operation named by `op`, and with keys given by prefix.

#![allow(unused_qualifications, reason = "the derived schemas repeat the types of fields")]
#![allow(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes the fields of a type by reference"
)]

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::{Delete, Keys, LeaseId, Operand, Put, Range, Read, Request, SortBy, SortOrder, Txn, Write};
use crate::Blob;
use crate::json::{is_true, yes};

/// Has the schema of a type be that of the form that it is written in.
macro_rules! schema_of_form {
    ($($of:ty: $form:ty),*) => {$(
        impl PartialSchema for $of {
            fn schema() -> RefOr<Schema> {
                <$form>::schema()
            }
        }

        impl ToSchema for $of {
            fn name() -> Cow<'static, str> {
                <$form>::name()
            }

            fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                <$form>::schemas(schemas);
            }
        }
    )*};
}

schema_of_form!(Keys: KeysForm, Request: RequestForm);

/// One key, those with a prefix, or a range.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Keys)]
pub enum KeysForm {
    /// Exactly this one.
    Key(Blob),
    /// All that begin with this.
    Prefix(Blob),
    /// From one key up to and without another.
    Range {
        /// The first.
        from: Blob,
        /// Without this one; absent: to the last key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Blob>,
    },
}

impl From<KeysForm> for Keys {
    fn from(form: KeysForm) -> Self {
        match form {
            KeysForm::Key(key) => Self::One(key.0),
            KeysForm::Prefix(prefix) => Self::prefix(prefix.0),
            KeysForm::Range { from, to } => Self::Range { from: from.0, to: to.map(|to| to.0) },
        }
    }
}

impl From<Keys> for KeysForm {
    fn from(keys: Keys) -> Self {
        match keys {
            Keys::One(key) => Self::Key(Blob(key)),
            Keys::Range { from, to } => Self::Range { from: Blob(from), to: to.map(Blob) },
        }
    }
}

/// What a strong keyspace is asked to do.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "op", rename_all = "snake_case")]
#[schema(as = StrongRequest)]
pub enum RequestForm {
    /// Keys and values.
    Get(Range),
    /// Set a key.
    Put(Put),
    /// Set a key `prefix` + 20 digits that no other write gets, in the order of the writes.
    PutSequential {
        /// What the key begins with.
        prefix: Blob,
        /// The value.
        value: Blob,
        /// The lease that the key is attached to; 0: none.
        #[serde(default)]
        lease: i64,
    },
    /// Delete keys.
    Delete(Delete),
    /// Delete the first key, and return it.
    PopFirst {
        /// The keys among which the first is deleted.
        keys: Keys,
    },
    /// Compare, then write.
    Txn(Txn),
    /// Discard what was superseded up to this revision. Only the administrator may.
    Compact {
        /// The revision.
        revision: u64,
    },
    /// Create a lease.
    LeaseGrant {
        /// Its id; 0: the keyspace chooses one.
        #[serde(default)]
        id: i64,
        /// How long it lasts without a keep-alive, milliseconds.
        ttl_ms: u64,
    },
    /// End a lease, and delete its keys.
    LeaseRevoke {
        /// Its id.
        id: i64,
    },
    /// Restart a lease's time.
    KeepAlive {
        /// Its id.
        id: i64,
    },
    /// A lease's time and keys.
    TimeToLive {
        /// Its id.
        id: i64,
        /// Whether to list its keys.
        #[serde(default = "yes", skip_serializing_if = "is_true")]
        keys: bool,
    },
    /// All leases.
    Leases,
    /// A hash of what a replica has made of its log: replicas that have applied the same entries answer the
    /// same. Sent with `stale`, this node's replica answers, otherwise the leader's.
    Hash,
}

impl From<RequestForm> for Request {
    fn from(form: RequestForm) -> Self {
        let write = match form {
            RequestForm::Get(range) => return Self::Read(Read::Range(range)),
            RequestForm::Leases => return Self::Read(Read::Leases),
            RequestForm::Hash => return Self::Read(Read::Hash),
            RequestForm::KeepAlive { id } => return Self::KeepAlive { id },
            RequestForm::TimeToLive { id, keys } => return Self::TimeToLive { id, keys },
            RequestForm::Txn(txn) => return Self::txn(txn),
            RequestForm::Put(put) => Write::Put(put),
            RequestForm::PutSequential { prefix, value, lease } => {
                Write::PutSequential { prefix: prefix.0, value: value.0, lease }
            }
            RequestForm::Delete(delete) => Write::Delete(delete),
            RequestForm::PopFirst { keys } => Write::PopFirst { keys },
            RequestForm::Compact { revision } => Write::Compact { revision },
            RequestForm::LeaseGrant { id, ttl_ms } => Write::LeaseGrant { id, ttl_ms },
            RequestForm::LeaseRevoke { id } => Write::LeaseRevoke { id },
        };
        Self::Write(write)
    }
}

impl From<Request> for RequestForm {
    fn from(request: Request) -> Self {
        match request {
            Request::Read(Read::Range(range)) => Self::Get(range),
            Request::Read(Read::Leases) => Self::Leases,
            Request::Read(Read::Hash) => Self::Hash,
            Request::Read(Read::Txn(txn)) | Request::Write(Write::Txn(txn)) => Self::Txn(txn),
            Request::KeepAlive { id } => Self::KeepAlive { id },
            Request::TimeToLive { id, keys } => Self::TimeToLive { id, keys },
            Request::Write(Write::Put(put)) => Self::Put(put),
            Request::Write(Write::PutSequential { prefix, value, lease }) => {
                Self::PutSequential { prefix: Blob(prefix), value: Blob(value), lease }
            }
            Request::Write(Write::Delete(delete)) => Self::Delete(delete),
            Request::Write(Write::PopFirst { keys }) => Self::PopFirst { keys },
            Request::Write(Write::Compact { revision }) => Self::Compact { revision },
            Request::Write(Write::LeaseGrant { id, ttl_ms }) => Self::LeaseGrant { id, ttl_ms },
            Request::Write(Write::LeaseRevoke { id }) => Self::LeaseRevoke { id },
        }
    }
}

/// An order of keys.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Sort)]
pub struct SortForm {
    /// The property that keys are ordered by.
    pub by: SortBy,
    /// The greatest first.
    #[serde(default)]
    pub descending: bool,
}

/// An order of keys as `{"by": ..., "descending": ...}`.
pub mod sort {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{SortBy, SortForm, SortOrder};

    pub fn serialize<S: Serializer>(
        sort: &Option<(SortBy, SortOrder)>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let form = |(by, order)| SortForm { by, descending: order == SortOrder::Descending };
        sort.map(form).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<(SortBy, SortOrder)>, D::Error> {
        let form = Option::<SortForm>::deserialize(deserializer)?;
        let order =
            |form: &SortForm| if form.descending { SortOrder::Descending } else { SortOrder::Ascending };
        Ok(form.map(|form| (form.by, order(&form))))
    }
}

/// The number that a client has drawn, as up to 32 hexadecimal digits.
pub mod client {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(client: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{client:x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let digits = String::deserialize(deserializer)?;
        u128::from_str_radix(&digits, 16).map_err(|_| {
            de::Error::custom("request_id.client is not a number: write 1 to 32 hexadecimal digits")
        })
    }
}

impl PartialSchema for Operand {
    fn schema() -> RefOr<Schema> {
        let one = |name: &str, of: RefOr<Schema>, about: &str| {
            ObjectBuilder::new().property(name, of).required(name).description(Some(about)).build()
        };
        let operands = [
            one("version", u64::schema(), "Writes since the key came into being."),
            one("create_revision", u64::schema(), "When it came into being."),
            one("mod_revision", u64::schema(), "When it was last written."),
            one("value", Ref::from_schema_name(Blob::name()).into(), "What it holds."),
            one("lease", i64::schema(), "The lease that it is attached to."),
        ];
        RefOr::T(Schema::OneOf(operands.into_iter().fold(OneOfBuilder::new(), OneOfBuilder::item).build()))
    }
}

impl ToSchema for Operand {}

/// The lease of a put that names none: the key is attached to no lease.
#[allow(clippy::unnecessary_wraps, reason = "the default of an optional field")]
pub fn no_lease() -> Option<LeaseId> {
    Some(0)
}
