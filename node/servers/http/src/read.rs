//! Reads: the store's snapshots as the API shows them.

use std::collections::BTreeSet;

use bytes::Bytes;
use starling_api::{
    Blob, Count, Counter, Data, DataType, Entry, Field, FlagState, KeyInfo, KeyspaceInfo, Keyspaces, Listing,
    MapPage, PAGE_KEYS_DEFAULT, Register, SetPage, Sibling,
};
use starling_kv::{Error, Fields, Held, Kind, Range, Reader};
use starling_rocks::RocksEngine;

use super::problem::Problem;
use super::request::KeyPath;
use starling_service::{Names, wall_ms};

type Store = Reader<RocksEngine>;

/// Members and fields shown of one key in a listing; the rest is read page by page.
const LISTED_FIELDS_MAX: usize = 100;

/// Which keys to list, and how.
pub struct Listed {
    /// Keys that begin with this.
    pub prefix: Vec<u8>,
    /// Keys from this one on.
    pub start: Option<Vec<u8>>,
    /// Keys before this one.
    pub end: Option<Vec<u8>>,
    /// Keys after this one.
    pub after: Option<Vec<u8>>,
    /// Most keys on the page.
    pub limit: usize,
    /// Also what they hold.
    pub values: bool,
}

/// A value as bytes.
pub struct Raw {
    /// The bytes.
    pub value: Bytes,
    /// Of a register.
    pub version: Option<String>,
    /// Concurrent values, this one included.
    pub siblings: u64,
}

/// What a key holds as bytes.
pub fn raw(store: &Store, path: &KeyPath) -> Result<Raw, Problem> {
    if let Some(register) = store.register(wall_ms(), &path.keyspace, &path.key)? {
        let siblings = register.siblings.len() as u64 + 1;
        return Ok(Raw { value: register.value, version: Some(register.version.to_string()), siblings });
    }
    let text = match store.read(wall_ms(), &path.keyspace, &path.key, 0)? {
        Some(Held { counter: Some(sum), .. }) => sum.to_string(),
        Some(Held { flag: true, .. }) => "true".into(),
        Some(held) => return Err(other_type(&held, "value")),
        None => return Err(Problem::no_key()),
    };
    Ok(Raw { value: text.into(), version: None, siblings: 1 })
}

/// What a key holds, as all its types.
pub fn entry(store: &Store, keyspace: &str, key: &[u8]) -> Result<Option<Entry>, Error> {
    let held = store.read(wall_ms(), keyspace, key, PAGE_KEYS_DEFAULT)?;
    let mut all = held.as_ref().map(data).unwrap_or_default().into_iter();
    Ok(all.next().map(|data| Entry { keyspace: keyspace.into(), key: key.into(), data, also: all.collect() }))
}

/// The sum of a counter.
pub fn counter(store: &Store, path: &KeyPath) -> Result<Counter, Problem> {
    match store.counter(wall_ms(), &path.keyspace, &path.key)? {
        Some(sum) => Ok(Counter { value: Count(sum) }),
        None => Err(missing(store, path, "counter")),
    }
}

/// A page of members.
pub fn members(
    store: &Store,
    path: &KeyPath,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<SetPage, Problem> {
    let found = store.set_members(wall_ms(), &path.keyspace, &path.key, after, limit)?;
    if found.items.is_empty() && after.is_none() {
        return Err(missing(store, path, "set"));
    }
    Ok(set_page(&found))
}

/// A page of fields.
pub fn fields(store: &Store, path: &KeyPath, after: Option<&[u8]>, limit: usize) -> Result<MapPage, Problem> {
    let found = store.map_entries(wall_ms(), &path.keyspace, &path.key, after, limit)?;
    if found.items.is_empty() && after.is_none() {
        return Err(missing(store, path, "map"));
    }
    Ok(map_page(&found))
}

/// One field of a map.
pub fn field(store: &Store, path: &KeyPath, name: &[u8]) -> Result<Register, Problem> {
    match store.map_get(wall_ms(), &path.keyspace, &path.key, name)? {
        Some(found) => Ok(register(&found)),
        None => Err(missing(store, path, "map")),
    }
}

/// Whether a flag is on. One that was never set, or was disabled, is off.
pub fn flag(store: &Store, path: &KeyPath) -> Result<FlagState, Problem> {
    let enabled = store.flag(wall_ms(), &path.keyspace, &path.key)?;
    match store.read(wall_ms(), &path.keyspace, &path.key, 0)? {
        Some(held) if !enabled => Err(other_type(&held, "flag")),
        _ => Ok(FlagState { enabled }),
    }
}

/// A page of keys.
pub fn list(store: &Store, keyspace: &str, listed: &Listed) -> Result<Listing, Problem> {
    let range = Range {
        prefix: listed.prefix.clone(),
        start: listed.start.clone(),
        end: listed.end.clone(),
        after: listed.after.clone(),
    };
    let fields_max = if listed.values { LISTED_FIELDS_MAX } else { 0 };
    let page = store.list(wall_ms(), keyspace, &range, listed.limit, fields_max)?;
    let info = |(key, held): (Vec<u8>, Held)| {
        let types = held.kinds().into_iter().map(data_type).collect();
        KeyInfo { key: Blob(key), types, data: if listed.values { data(&held) } else { Vec::new() } }
    };
    Ok(Listing { keys: page.items.into_iter().map(info).collect(), next: page.next.map(Blob) })
}

/// Every strong keyspace that is known, and every eventual one that holds something.
pub fn keyspaces(store: &Store, strong: &Names) -> Result<Keyspaces, Problem> {
    let eventual: BTreeSet<String> =
        store.keyspaces()?.into_iter().filter(|name| !name.starts_with('.')).collect();
    let strong: BTreeSet<String> = strong.all().into_iter().collect();
    let info = |name: &String| {
        let kind = match (eventual.contains(name), strong.contains(name)) {
            (true, true) => "both",
            (false, true) => "strong",
            _ => "eventual",
        };
        KeyspaceInfo { name: name.clone(), kind: kind.into() }
    };
    Ok(Keyspaces { keyspaces: eventual.union(&strong).map(info).collect() })
}

/// Why a key has nothing of the wanted type.
fn missing(store: &Store, path: &KeyPath, wanted: &str) -> Problem {
    match store.read(wall_ms(), &path.keyspace, &path.key, 0) {
        Ok(Some(held)) if held.kinds().iter().all(|kind| data_type(*kind).name() != wanted) => {
            other_type(&held, wanted)
        }
        Ok(_) => Problem::no_key(),
        Err(error) => error.into(),
    }
}

fn other_type(held: &Held, wanted: &str) -> Problem {
    let holds: Vec<_> = held.kinds().into_iter().map(|kind| data_type(kind).name()).collect();
    if holds.is_empty() {
        let hint = "upgrade this node: `starling version` on the node that wrote it tells to what";
        return Problem::new(
            starling_api::ErrorCode::TypeMismatch,
            "a newer version of Starling wrote this key",
            hint,
        );
    }
    Problem::other_type(&holds.join(" and a "), wanted)
}

fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Register => DataType::Register,
        Kind::Flag => DataType::Flag,
        Kind::Counter => DataType::Counter,
        Kind::Set => DataType::Set,
        Kind::Map => DataType::Map,
    }
}

/// One per type, in the order of the types.
fn data(held: &Held) -> Vec<Data> {
    let all = [
        held.register.as_ref().map(|found| Data::Register(register(found))),
        held.flag.then_some(Data::Flag(FlagState { enabled: true })),
        held.counter.map(|sum| Data::Counter(Counter { value: Count(sum) })),
        held.set.as_ref().map(|found| Data::Set(set_page(found))),
        held.map.as_ref().map(|found| Data::Map(map_page(found))),
    ];
    all.into_iter().flatten().collect()
}

fn register(found: &starling_kv::Register) -> Register {
    let shown = Sibling { value: blob(&found.value), written_ms: found.written.wall_ms() };
    let others =
        found.siblings.iter().map(|s| Sibling { value: blob(&s.value), written_ms: s.written.wall_ms() });
    let siblings: Vec<_> = std::iter::once(shown).chain(others).collect();
    Register {
        value: blob(&found.value),
        version: found.version.to_string(),
        expires_at_ms: found.expires_ms,
        siblings: if siblings.len() > 1 { siblings } else { Vec::new() },
    }
}

fn set_page(found: &Fields<Bytes>) -> SetPage {
    let next = found.items.last().filter(|_| found.more).map(blob);
    SetPage { members: found.items.iter().map(blob).collect(), next }
}

fn map_page(found: &Fields<(Bytes, starling_kv::Register)>) -> MapPage {
    let next = found.items.last().filter(|_| found.more).map(|(name, _)| blob(name));
    let field = |(name, found): &(Bytes, starling_kv::Register)| Field {
        name: blob(name),
        value: blob(&found.value),
    };
    MapPage { fields: found.items.iter().map(field).collect(), next }
}

fn blob(bytes: &Bytes) -> Blob {
    Blob(bytes.to_vec())
}
