//! Which release of the software a node runs.

use serde::{Deserialize, Serialize};
use starling_core::Software;
use starling_core::upgrade::DATA_NEWEST;
use starling_proto::wire::Protocol;

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
    /// What its nodes speak.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Previous => Protocol::PREVIOUS,
            Self::Current => Protocol::CURRENT,
        }
    }

    /// What its nodes are and can do.
    pub(crate) fn software(self) -> Software {
        let (version, data_newest) = match self {
            Self::Previous => ("previous", DATA_NEWEST - 1),
            Self::Current => ("current", DATA_NEWEST),
        };
        Software { version: version.into(), protocol: self.protocol(), data_newest }
    }
}
