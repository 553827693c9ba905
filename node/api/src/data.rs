//! Answers about keys and keyspaces.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Blob, Data, Kind};

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
    /// If more keys follow, the `after` of the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Blob>,
}

/// One key of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyInfo {
    /// The key.
    pub key: Blob,
    /// Its types: more than one only after concurrent writes as different types.
    pub types: Vec<Kind>,
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
    /// "eventual", "strong", or "both": it was created on two sides of a partition, and only the
    /// strong one can be used by this name.
    pub kind: String,
    /// What an operator has to know about it, such as why its replica on this node does not work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Count, Counter, SetPage};

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
