//! Which release of the software a node runs.

use serde::{Deserialize, Serialize};
use starling_core::Software;

/// A release of the software. The code is the same; what a node of the previous release speaks and
/// writes is what that release spoke and wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Release {
    /// The one before this one.
    Previous,
    /// This one.
    #[default]
    Current,
}

impl Release {
    /// What its nodes are and can do.
    pub(crate) fn software(self) -> Software {
        match self {
            Self::Previous => Software::previous(),
            Self::Current => Software::default(),
        }
    }
}
