//! Reads: on snapshots, from any thread, never waiting for the writer.

mod contents;
mod list;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use starling_types::eventual::Data;

pub use contents::{Contents, Fields};
pub use list::{Page, Range};

use crate::actor::ActorTable;
use crate::cell::{self, Latest, Rows, Stored};
use crate::engine::{Family, View, prefix_end};
use crate::place::{PlaceRef, bounds, key_prefix, keyspace_prefix, kind_prefix, place};
use crate::store::{FIELDS_READ_MAX, Totals};
use crate::types::{self, Found, Register};
use crate::{Engine, Error, Kind};
use contents::Collector;

/// Reads one store. All reads take the wall clock in milliseconds since the Unix epoch: entries that
/// have expired by then are not returned.
#[derive(Clone, Debug)]
pub struct Reader<E> {
    engine: E,
    table: Arc<RwLock<ActorTable>>,
    totals: Arc<Mutex<Totals>>,
}

impl<E: Engine> Reader<E> {
    pub(crate) fn new(engine: E, table: Arc<RwLock<ActorTable>>, totals: Arc<Mutex<Totals>>) -> Self {
        Self { engine, table, totals }
    }

    /// The storage engine.
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// The register of `key`. The fastest read: one row.
    pub fn register(&self, wall_ms: u64, keyspace: &str, key: &[u8]) -> Result<Option<Register>, Error> {
        self.versions(wall_ms, &place(keyspace, key, Kind::Register, &[]))
    }

    /// One field of a map, a register of its own.
    pub fn map_get(
        &self,
        wall_ms: u64,
        keyspace: &str,
        key: &[u8],
        name: &[u8],
    ) -> Result<Option<Register>, Error> {
        self.versions(wall_ms, &place(keyspace, key, Kind::Map, name))
    }

    /// Whether a set has an element.
    pub fn set_contains(
        &self,
        wall_ms: u64,
        keyspace: &str,
        key: &[u8],
        element: &[u8],
    ) -> Result<bool, Error> {
        self.is_visible(wall_ms, &place(keyspace, key, Kind::Set, element))
    }

    /// Whether a flag is enabled.
    pub fn flag(&self, wall_ms: u64, keyspace: &str, key: &[u8]) -> Result<bool, Error> {
        self.is_visible(wall_ms, &place(keyspace, key, Kind::Flag, &[]))
    }

    /// A counter's value as far as this replica knows; `None` if there is no such counter.
    pub fn counter(&self, wall_ms: u64, keyspace: &str, key: &[u8]) -> Result<Option<i128>, Error> {
        Ok(match self.read_kind(wall_ms, keyspace, key, Kind::Counter, None, 0)? {
            Some(Data::Counter(counter)) => Some(counter.value.0),
            _ => None,
        })
    }

    /// Elements of a set in order, after `after` (exclusive), at most `limit`.
    pub fn set_members(
        &self,
        wall_ms: u64,
        keyspace: &str,
        key: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Fields<Bytes>, Error> {
        self.fields(wall_ms, (keyspace, key, Kind::Set), after, limit, |found| {
            Ok(Some(Bytes::copy_from_slice(found.field)))
        })
    }

    /// Fields of a map in order of their names, after `after` (exclusive), at most `limit`.
    pub fn map_entries(
        &self,
        wall_ms: u64,
        keyspace: &str,
        key: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Fields<(Bytes, Register)>, Error> {
        self.fields(wall_ms, (keyspace, key, Kind::Map), after, limit, |found| {
            let register = types::versions(found)?;
            Ok(register.map(|register| (Bytes::copy_from_slice(found.field), register)))
        })
    }

    /// Everything under `key`, with at most `fields_max` elements of a set and as many of a map;
    /// `None` if the key holds nothing.
    pub fn read(
        &self,
        wall_ms: u64,
        keyspace: &str,
        key: &[u8],
        fields_max: usize,
    ) -> Result<Option<Contents>, Error> {
        let (from, to) = bounds(key_prefix(keyspace, key));
        let mut contents = Collector::new(fields_max);
        self.scan(wall_ms, &self.engine.view(), (&from, to.as_deref()), &mut contents)?;
        Ok(contents.finish())
    }

    /// What `key` holds as one type: of sets and maps the fields after `after` (exclusive), at most
    /// `fields_max`. `None` if it holds nothing of the type, or no field after that one.
    pub fn read_kind(
        &self,
        wall_ms: u64,
        keyspace: &str,
        key: &[u8],
        kind: Kind,
        after: Option<&[u8]>,
        fields_max: usize,
    ) -> Result<Option<Data>, Error> {
        let (from, to) = fields_after(keyspace, key, kind, after);
        let mut contents = Collector::new(fields_max);
        self.scan(wall_ms, &self.engine.view(), (&from, to.as_deref()), &mut contents)?;
        Ok(contents.finish().and_then(|contents| contents.data.into_iter().next()))
    }

    /// Whether a keyspace holds anything.
    pub fn keyspace_exists(&self, keyspace: &str) -> Result<bool, Error> {
        let (from, to) = bounds(keyspace_prefix(keyspace));
        let mut exists = false;
        self.engine.view().scan(Family::Cells, &from, to.as_deref(), &mut |_, _| {
            exists = true;
            Ok(ControlFlow::Break(()))
        })?;
        Ok(exists)
    }

    /// Every keyspace that exists, shorter names first. One seek each.
    pub fn keyspaces(&self) -> Result<Vec<String>, Error> {
        let view = self.engine.view();
        let mut names: Vec<String> = Vec::new();
        let mut next = Some(Vec::new());
        while let Some(from) = next.take() {
            view.scan(Family::Cells, &from, None, &mut |key, _| {
                let place = parse(key)?;
                names.push(place.keyspace.to_owned());
                next = prefix_end(&keyspace_prefix(place.keyspace));
                Ok(ControlFlow::Break(()))
            })?;
        }
        Ok(names)
    }

    /// Checks the whole store on a snapshot, without blocking the writer; see [`crate::check`].
    pub fn doctor(&self) -> Result<crate::Report, Error> {
        crate::check::doctor(&self.engine, None)
    }

    fn versions(&self, wall_ms: u64, place: &[u8]) -> Result<Option<Register>, Error> {
        let cell = cell::read(&Latest(&self.engine), place)?;
        if cell.iter().any(Stored::is_split) {
            // The cell and the rows of its bodies have to be read at one instant.
            let view = self.engine.view();
            let cell = cell::read(&view, place)?;
            return self.versions_of(wall_ms, &cell, &view);
        }
        self.versions_of(wall_ms, &cell, &Latest(&self.engine))
    }

    fn versions_of(
        &self,
        wall_ms: u64,
        cell: &[Stored],
        rows: &impl Rows,
    ) -> Result<Option<Register>, Error> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        types::versions(&Found { cell, field: &[], wall_ms, table: &table, rows })
    }

    fn is_visible(&self, wall_ms: u64, place: &[u8]) -> Result<bool, Error> {
        let cell = cell::read(&Latest(&self.engine), place)?;
        Ok(cell.iter().filter_map(Stored::head).any(|head| head.is_visible(wall_ms)))
    }

    /// The visible fields of a key after one, as `show` has them.
    fn fields<T>(
        &self,
        wall_ms: u64,
        (keyspace, key, kind): (&str, &[u8], Kind),
        after: Option<&[u8]>,
        limit: usize,
        mut show: impl FnMut(&Found<'_, E::View<'_>>) -> Result<Option<T>, Error>,
    ) -> Result<Fields<T>, Error> {
        let (from, to) = fields_after(keyspace, key, kind, after);
        let mut fields = Fields::default();
        let view = self.engine.view();
        view.scan(Family::Cells, &from, to.as_deref(), &mut |key, row| {
            let place = parse(key)?;
            let cell = cell::decode(row.to_vec())?;
            if !cell.iter().filter_map(Stored::head).any(|head| head.is_visible(wall_ms)) {
                return Ok(ControlFlow::Continue(()));
            }
            if fields.items.len() == limit {
                fields.more = true;
                return Ok(ControlFlow::Break(()));
            }
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            let found = Found { cell: &cell, field: place.field, wall_ms, table: &table, rows: &view };
            fields.items.extend(show(&found)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(fields)
    }

    fn totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes the cells of one key to a collector, except the fields that it does not want, and those of a counter whose
    /// total is known. The total is that of now, which may be later than the view.
    fn scan(
        &self,
        wall_ms: u64,
        view: &E::View<'_>,
        (from, to): (&[u8], Option<&[u8]>),
        contents: &mut Collector,
    ) -> Result<(), Error> {
        let mut from = from.to_vec();
        let mut counter_fields = 0;
        loop {
            let mut skip_to = None;
            view.scan(Family::Cells, &from, to, &mut |key, row| {
                let place = parse(key)?;
                if place.kind == Some(Kind::Counter) {
                    let prefix = &key[..=place.key_prefix_bytes()];
                    if counter_fields == 0
                        && let Some((sum, fields)) = self.totals().get(prefix, wall_ms)
                    {
                        contents.add_counter(sum.saturated(), fields);
                        skip_to = prefix_end(prefix);
                        return Ok(ControlFlow::Break(()));
                    }
                    counter_fields += 1;
                    if counter_fields == FIELDS_READ_MAX + 1 {
                        self.totals().want(prefix);
                    }
                }
                let cell = cell::decode(row.to_vec())?;
                // Not for longer than a row: the join of an actor's first write waits for it.
                let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
                let found = Found { cell: &cell, field: place.field, wall_ms, table: &table, rows: view };
                if contents.add(place.kind, &found)?.is_continue() {
                    return Ok(ControlFlow::Continue(()));
                }
                // Enough fields: continue after the last one of this type.
                skip_to = prefix_end(&key[..=place.key_prefix_bytes()]);
                Ok(ControlFlow::Break(()))
            })?;
            match skip_to {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }
}

/// The bounds of the places of a key's fields of one type behind one of them.
fn fields_after(keyspace: &str, key: &[u8], kind: Kind, after: Option<&[u8]>) -> (Vec<u8>, Option<Vec<u8>>) {
    let (mut from, to) = bounds(kind_prefix(keyspace, key, kind));
    if let Some(after) = after {
        from.extend_from_slice(after);
        from.push(0);
    }
    (from, to)
}

fn parse(key: &[u8]) -> Result<PlaceRef<'_>, Error> {
    PlaceRef::parse(key).ok_or_else(|| Error::corrupt("a cell's key is not a place"))
}
