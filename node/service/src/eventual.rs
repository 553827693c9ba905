//! Reads, writes and watches of one eventual keyspace.

use bytes::Bytes;
use starling_access::Operation;
use starling_api::{Data, Error, MapPage, SetPage};
use starling_kv::{Batch, Check, Contents, Kind, Op, Outcome, Page, Range, Reader, Register, Version, Write};
use starling_rocks::RocksEngine;
use starling_strong::api::Keys;

use crate::error::{other_type, store_error};
use crate::handle::Handle;
use crate::wall_ms;
use crate::watch::EventualWatch;

/// An eventual keyspace of a running node: [`Handle::eventual`].
///
/// Reads run on the caller's thread, on a snapshot of the store, and wait for neither writers nor gossip.
#[derive(Clone)]
pub struct EventualKeyspace {
    pub(crate) node: Handle,
    pub(crate) keyspace: String,
}

/// A value that has a form as plain bytes: a register, a counter's digits, `true` of a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    /// The bytes.
    pub value: Bytes,
    /// The version of a register.
    pub version: Option<Version>,
    /// Concurrent values of a register, this one included; 1 for other types.
    pub siblings: u64,
}

/// When and for how long a write takes effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Milliseconds after which what was written is hidden; `None`: never.
    pub ttl_ms: Option<u64>,
    /// What must hold here for the write to be accepted. Only for puts and deletes of whole keys.
    pub check: Option<Check>,
}

/// The keys that a listing may show, the cursor of the page before included.
fn keys_of(range: &Range) -> Keys {
    let (mut from, mut to) = match Keys::prefix(range.prefix.clone()) {
        Keys::Range { from, to } => (from, to),
        Keys::One(key) => (key, None),
    };
    for start in range.start.iter().chain(&range.after) {
        from = from.max(start.clone());
    }
    if let Some(end) = &range.end {
        to = Some(to.map_or_else(|| end.clone(), |to| to.min(end.clone())));
    }
    Keys::Range { from, to }
}

#[expect(clippy::unused_async, reason = "a read that has to ask another node is to fit the same signature")]
impl EventualKeyspace {
    /// Its name.
    pub fn keyspace(&self) -> &str {
        &self.keyspace
    }

    /// The store, for a read of these keys.
    fn read_of(&self, keys: &Keys) -> Result<Reader<RocksEngine>, Error> {
        let operation = Operation::Read { keyspace: &self.keyspace, keys };
        self.node.caller().check(&operation)?;
        self.node.reader()
    }

    /// The store, for a read of a key.
    fn read_key(&self, key: &[u8]) -> Result<Reader<RocksEngine>, Error> {
        self.read_of(&Keys::One(key.to_vec()))
    }

    /// What a key holds, for a caller that may know it.
    pub(crate) fn held(&self, key: &[u8], fields_max: usize) -> Result<Option<Contents>, Error> {
        self.node.reader()?.read(wall_ms(), &self.keyspace, key, fields_max).map_err(store_error)
    }

    // ---- reads

    /// A key's register; `None` if the key holds nothing.
    ///
    /// # Errors
    /// `type_mismatch`: the key holds another type only.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Register>, Error> {
        match self.read_key(key)?.register(wall_ms(), &self.keyspace, key).map_err(store_error)? {
            Some(register) => Ok(Some(register)),
            None => self.absent(key, Kind::Register),
        }
    }

    /// A key's value as plain bytes; `None` if the key holds nothing.
    ///
    /// # Errors
    /// `type_mismatch`: the key holds a set or a map, which have no such form.
    pub async fn plain(&self, key: &[u8]) -> Result<Option<Plain>, Error> {
        if let Some(register) =
            self.read_key(key)?.register(wall_ms(), &self.keyspace, key).map_err(store_error)?
        {
            let siblings = register.siblings.len() as u64 + 1;
            return Ok(Some(Plain { value: register.value, version: Some(register.version), siblings }));
        }
        let Some(contents) = self.held(key, 0)? else { return Ok(None) };
        // A number goes before a flag that was written concurrently.
        let text = contents.data.iter().rev().find_map(Data::raw);
        let text = text.ok_or_else(|| other_type(&contents, "value"))?;
        Ok(Some(Plain { value: text.0.into(), version: None, siblings: 1 }))
    }

    /// What a key holds, of every type, with at most `fields_max` members and fields of each.
    pub async fn read(&self, key: &[u8], fields_max: usize) -> Result<Option<Contents>, Error> {
        self.read_key(key)?;
        self.held(key, fields_max)
    }

    /// The sum of a counter as far as this node knows; `None` if the key holds nothing.
    pub async fn counter(&self, key: &[u8]) -> Result<Option<i128>, Error> {
        match self.of_kind(key, Kind::Counter, None, 0)? {
            Some(Data::Counter(counter)) => Ok(Some(counter.value.0)),
            _ => self.absent(key, Kind::Counter),
        }
    }

    /// Members of a set in order, those after `after`, at most `limit`; `None` if the key holds nothing.
    pub async fn members(
        &self,
        key: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Option<SetPage>, Error> {
        match self.of_kind(key, Kind::Set, after, limit)? {
            Some(Data::Set(page)) => Ok(Some(page)),
            _ if after.is_some() => Ok(Some(SetPage::default())),
            _ => self.absent(key, Kind::Set),
        }
    }

    /// Fields of a map in order, those after `after`, at most `limit`; `None` if the key holds nothing.
    pub async fn fields(
        &self,
        key: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Option<MapPage>, Error> {
        match self.of_kind(key, Kind::Map, after, limit)? {
            Some(Data::Map(page)) => Ok(Some(page)),
            _ if after.is_some() => Ok(Some(MapPage::default())),
            _ => self.absent(key, Kind::Map),
        }
    }

    fn of_kind(
        &self,
        key: &[u8],
        kind: Kind,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Option<Data>, Error> {
        self.read_key(key)?.read_kind(wall_ms(), &self.keyspace, key, kind, after, limit).map_err(store_error)
    }

    /// One field of a map; `None` if there is no such key or field.
    pub async fn field(&self, key: &[u8], name: &[u8]) -> Result<Option<starling_api::Register>, Error> {
        match self.read_key(key)?.map_get(wall_ms(), &self.keyspace, key, name).map_err(store_error)? {
            Some(found) => Ok(Some(found.into())),
            None => self.absent(key, Kind::Map),
        }
    }

    /// Whether a flag is on. One that was never set, or was disabled, is off.
    pub async fn flag(&self, key: &[u8]) -> Result<bool, Error> {
        let enabled = self.read_key(key)?.flag(wall_ms(), &self.keyspace, key).map_err(store_error)?;
        match self.held(key, 0)? {
            Some(held) if !enabled => Err(other_type(&held, "flag")),
            _ => Ok(enabled),
        }
    }

    /// A page of keys in order, with at most `fields_max` members and fields of each.
    pub async fn list(&self, range: &Range, limit: usize, fields_max: usize) -> Result<Page, Error> {
        let store = self.read_of(&keys_of(range))?;
        store.list(wall_ms(), &self.keyspace, range, limit, fields_max).map_err(store_error)
    }

    /// Changes of keys that begin with `prefix`, from now on.
    pub fn watch(&self, prefix: impl Into<Vec<u8>>) -> Result<EventualWatch, Error> {
        let prefix = prefix.into();
        let keys = Keys::prefix(prefix.clone());
        let operation = Operation::Watch { keyspace: &self.keyspace, keys: &keys };
        self.node.caller().check(&operation)?;
        self.node.reader()?;
        let place = self.node.caller().watch_place()?;
        Ok(EventualWatch::new(self.clone(), self.node.changes()?, prefix, place))
    }

    /// Nothing of the wanted type was found: an error if the key holds other types only.
    fn absent<T>(&self, key: &[u8], wanted: Kind) -> Result<Option<T>, Error> {
        match self.held(key, 0)? {
            Some(held) if !held.kinds().contains(&wanted) => Err(other_type(&held, wanted.name())),
            _ => Ok(None),
        }
    }

    // ---- writes

    /// Applies one operation to a key.
    pub async fn apply(
        &self,
        key: impl Into<Vec<u8>>,
        op: Op,
        options: WriteOptions,
    ) -> Result<Outcome, Error> {
        let WriteOptions { ttl_ms, check } = options;
        let write = Write { keyspace: self.keyspace.clone(), key: key.into(), op, ttl_ms, check };
        let outcomes = self.node.write(Batch { writes: vec![write] }).await?;
        Ok(outcomes.into_iter().next().expect("one outcome per write"))
    }

    /// Sets a register. Returns its version.
    pub async fn put(&self, key: impl Into<Vec<u8>>, value: impl Into<Bytes>) -> Result<Version, Error> {
        self.put_with(key, value, WriteOptions::default()).await
    }

    /// Sets a register under a condition, or for a time. Returns its version.
    pub async fn put_with(
        &self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Bytes>,
        options: WriteOptions,
    ) -> Result<Version, Error> {
        match self.apply(key, Op::Put { value: value.into() }, options).await? {
            Outcome::Put { version } => Ok(version),
            other => unreachable!("a put has another outcome: {other:?}"),
        }
    }

    /// Deletes a key, whatever it holds. Returns how many values, members and fields it held.
    pub async fn delete(&self, key: &[u8]) -> Result<u64, Error> {
        self.delete_all(key, Op::Delete).await
    }

    /// Deletes every key that begins with `prefix`. Returns how many values, members and fields they held.
    pub async fn delete_prefix(&self, prefix: &[u8]) -> Result<u64, Error> {
        self.delete_all(prefix, Op::DeletePrefix).await
    }

    /// One delete removes a bounded number of places: repeats it until none is left.
    async fn delete_all(&self, key: &[u8], op: Op) -> Result<u64, Error> {
        let mut deleted = 0;
        loop {
            match self.apply(key, op.clone(), WriteOptions::default()).await? {
                Outcome::Deleted { places, more } => {
                    deleted += places;
                    if !more {
                        return Ok(deleted);
                    }
                }
                other => unreachable!("a delete has another outcome: {other:?}"),
            }
        }
    }

    /// Adds to a counter. Returns its sum as far as this node knows.
    pub async fn increment(&self, key: impl Into<Vec<u8>>, by: i64) -> Result<i128, Error> {
        match self.apply(key, Op::Incr { by }, WriteOptions::default()).await? {
            Outcome::Counter { value } => Ok(value),
            other => unreachable!("an increment has another outcome: {other:?}"),
        }
    }
}
