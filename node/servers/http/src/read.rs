//! Reads: the store's snapshots as the API shows them.

use std::collections::BTreeSet;

use bytes::Bytes;
use starling_api::{
    Blob, Counter, Data, Entry, FlagState, KeyInfo, KeyspaceInfo, Keyspaces, Kind, Listing, MapPage,
    PAGE_KEYS_DEFAULT, Register, SetPage,
};
use starling_kv::{Contents, Error, Range, Reader};
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
    let Some(contents) = store.read(wall_ms(), &path.keyspace, &path.key, 0)? else {
        return Err(Problem::no_key());
    };
    // A number goes before a flag that was written concurrently.
    let text =
        contents.data.iter().rev().find_map(Data::raw).ok_or_else(|| other_type(&contents, "value"))?;
    Ok(Raw { value: text.0.into(), version: None, siblings: 1 })
}

/// What a key holds, as all its types.
pub fn entry(store: &Store, keyspace: &str, key: &[u8]) -> Result<Option<Entry>, Error> {
    let contents = store.read(wall_ms(), keyspace, key, PAGE_KEYS_DEFAULT)?;
    let mut all = contents.unwrap_or_default().data.into_iter();
    Ok(all.next().map(|data| Entry { keyspace: keyspace.into(), key: key.into(), data, also: all.collect() }))
}

/// The sum of a counter.
pub fn counter(store: &Store, path: &KeyPath) -> Result<Counter, Problem> {
    match of_kind(store, path, Kind::Counter, None, 0)? {
        Some(Data::Counter(counter)) => Ok(counter),
        _ => Err(missing(store, path, Kind::Counter)),
    }
}

/// A page of members.
pub fn members(
    store: &Store,
    path: &KeyPath,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<SetPage, Problem> {
    match of_kind(store, path, Kind::Set, after, limit)? {
        Some(Data::Set(page)) => Ok(page),
        _ if after.is_some() => Ok(SetPage::default()),
        _ => Err(missing(store, path, Kind::Set)),
    }
}

/// A page of fields.
pub fn fields(store: &Store, path: &KeyPath, after: Option<&[u8]>, limit: usize) -> Result<MapPage, Problem> {
    match of_kind(store, path, Kind::Map, after, limit)? {
        Some(Data::Map(page)) => Ok(page),
        _ if after.is_some() => Ok(MapPage::default()),
        _ => Err(missing(store, path, Kind::Map)),
    }
}

fn of_kind(
    store: &Store,
    path: &KeyPath,
    kind: Kind,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Option<Data>, Error> {
    store.read_kind(wall_ms(), &path.keyspace, &path.key, kind, after, limit)
}

/// One field of a map.
pub fn field(store: &Store, path: &KeyPath, name: &[u8]) -> Result<Register, Problem> {
    match store.map_get(wall_ms(), &path.keyspace, &path.key, name)? {
        Some(found) => Ok(found.into()),
        None => Err(missing(store, path, Kind::Map)),
    }
}

/// Whether a flag is on. One that was never set, or was disabled, is off.
pub fn flag(store: &Store, path: &KeyPath) -> Result<FlagState, Problem> {
    let enabled = store.flag(wall_ms(), &path.keyspace, &path.key)?;
    match store.read(wall_ms(), &path.keyspace, &path.key, 0)? {
        Some(contents) if !enabled => Err(other_type(&contents, Kind::Flag.name())),
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
    let info = |(key, contents): (Vec<u8>, Contents)| {
        let types = contents.kinds();
        KeyInfo { key: Blob(key), types, data: if listed.values { contents.data } else { Vec::new() } }
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
fn missing(store: &Store, path: &KeyPath, wanted: Kind) -> Problem {
    match store.read(wall_ms(), &path.keyspace, &path.key, 0) {
        Ok(Some(contents)) if !contents.kinds().contains(&wanted) => other_type(&contents, wanted.name()),
        Ok(_) => Problem::no_key(),
        Err(error) => error.into(),
    }
}

fn other_type(contents: &Contents, wanted: &str) -> Problem {
    let holds: Vec<_> = contents.kinds().into_iter().map(Kind::name).collect();
    if holds.is_empty() {
        let hint = "upgrade this node: `starling version` shows the version of the node that wrote it";
        return Problem::new(
            starling_api::ErrorCode::TypeMismatch,
            "a newer version of Starling wrote this key",
            hint,
        );
    }
    Problem::other_type(&holds.join(" and a "), wanted)
}
