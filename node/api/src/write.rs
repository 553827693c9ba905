//! Bodies of writes, and their answers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Blob, Field, Outcome};

/// The outcome of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchResponse {
    /// One for each write, in order.
    pub results: Vec<Outcome>,
}

/// Body of an increment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Increment {
    /// The summand; may be negative.
    pub by: i64,
}

/// Members to add to a set or to remove from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Members {
    /// To add.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Blob>,
    /// To remove.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<Blob>,
}

/// Fields of a map to set or to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MapUpdate {
    /// To set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub put: Vec<Field>,
    /// To delete, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delete: Vec<Blob>,
}
