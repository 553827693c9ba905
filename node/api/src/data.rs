//! What a node answers about keys.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Blob, Count};

/// The data types a key can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DataType {
    /// One value; concurrent writes are kept side by side as siblings.
    Register,
    /// A sum.
    Counter,
    /// Distinct members.
    Set,
    /// Values by field name.
    Map,
    /// On or off.
    Flag,
}

impl DataType {
    /// Its name in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Counter => "counter",
            Self::Set => "set",
            Self::Map => "map",
            Self::Flag => "flag",
        }
    }
}

/// What a key holds, as one type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Data {
    /// One value.
    Register(Register),
    /// A sum.
    Counter(Counter),
    /// Distinct members.
    Set(SetPage),
    /// Values by field name.
    Map(MapPage),
    /// On or off.
    Flag(FlagState),
}

impl Data {
    /// Which type it is.
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Register(_) => DataType::Register,
            Self::Counter(_) => DataType::Counter,
            Self::Set(_) => DataType::Set,
            Self::Map(_) => DataType::Map,
            Self::Flag(_) => DataType::Flag,
        }
    }
}

/// One value, with what was written concurrently.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Register {
    /// The value shown: of concurrent ones, that with the highest timestamp.
    pub value: Blob,
    /// Names exactly this set of siblings, for `if_version`.
    pub version: String,
    /// When the value expires, milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// All concurrent values, the shown one first. Empty when there is only that one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub siblings: Vec<Sibling>,
}

/// One of several values written concurrently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sibling {
    /// The value.
    pub value: Blob,
    /// When it was written by its writer's clock, milliseconds since the Unix epoch.
    pub written_ms: u64,
}

/// The sum of a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counter {
    /// The sum.
    pub value: Count,
}

/// Members of a set in order of their bytes, a page at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SetPage {
    /// The members of this page.
    pub members: Vec<Blob>,
    /// More follow: ask again with `after` set to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Blob>,
}

/// Fields of a map in order of their names, a page at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MapPage {
    /// The fields of this page.
    pub fields: Vec<Field>,
    /// More follow: ask again with `after` set to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Blob>,
}

/// One field of a map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Field {
    /// Its name.
    pub name: Blob,
    /// Its value.
    pub value: Blob,
}

/// A flag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlagState {
    /// On or off.
    pub enabled: bool,
}

/// A key with what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Entry {
    /// The keyspace.
    pub keyspace: String,
    /// The key.
    pub key: Blob,
    /// What it holds.
    #[serde(flatten)]
    pub data: Data,
    /// What it holds as other types, when it was written as several types concurrently.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Data>,
}

/// A page of keys in order of their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Listing {
    /// The keys of this page.
    pub keys: Vec<KeyInfo>,
    /// More follow: ask again with `after` set to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Blob>,
}

/// One key of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyInfo {
    /// The key.
    pub key: Blob,
    /// Its types: more than one only after concurrent writes as different types.
    pub types: Vec<DataType>,
    /// What it holds, one per type, if the request asked for values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<Data>,
}

/// Every keyspace that holds a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Keyspaces {
    /// In order of their names.
    pub keyspaces: Vec<KeyspaceInfo>,
}

/// One keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyspaceInfo {
    /// Its name.
    pub name: String,
    /// "eventual", "strong", or "both": it was made on two sides of a partition, and only the strong one
    /// can be reached by this name.
    pub kind: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_flat_and_survives_json() {
        let entry = Entry {
            keyspace: "default".into(),
            key: "hits".into(),
            data: Data::Counter(Counter { value: Count(7) }),
            also: vec![Data::Set(SetPage { members: vec![vec![0xff].into()], next: None })],
        };
        let json = serde_json::to_value(&entry).expect("serializes");
        assert_eq!(json["type"], "counter");
        assert_eq!(json["value"], 7);
        assert_eq!(serde_json::from_value::<Entry>(json).expect("parses"), entry);
    }
}
