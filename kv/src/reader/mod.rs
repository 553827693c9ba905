//! Reads: on snapshots, from any thread, never waiting for the writer.

mod held;
mod list;

use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

pub use held::{Fields, Held, Register, Sibling};
pub use list::{Page, Range};

use crate::actor::ActorTable;
use crate::cell::{self, Latest, Stored};
use crate::engine::{Family, View, prefix_end};
use crate::place::{PlaceRef, bounds, key_prefix, keyspace_prefix, kind_prefix, place};
use crate::{Engine, Error, Kind};

/// Reads one store. All reads take the wall clock in milliseconds since the Unix epoch: what has
/// expired by then is not there.
#[derive(Clone, Debug)]
pub struct Reader<E> {
    engine: E,
    table: Arc<RwLock<ActorTable>>,
}

impl<E: Engine> Reader<E> {
    pub(crate) fn new(engine: E, table: Arc<RwLock<ActorTable>>) -> Self {
        Self { engine, table }
    }

    /// The register under `key`. The fastest read there is: one row.
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
        let (from, to) = bounds(kind_prefix(keyspace, key, Kind::Counter));
        let mut held = held::Collector::new(&self.table, wall_ms, 0);
        collect(&self.engine.view(), &mut held, &from, to.as_deref())?;
        Ok(held.finish().and_then(|held| held.counter))
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
        let held = self.fields(wall_ms, (keyspace, key, Kind::Set), after, limit)?;
        Ok(held.and_then(|held| held.set).unwrap_or_default())
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
        let held = self.fields(wall_ms, (keyspace, key, Kind::Map), after, limit)?;
        Ok(held.and_then(|held| held.map).unwrap_or_default())
    }

    /// Everything under `key`, with at most `fields_max` elements of a set and as many of a map;
    /// `None` if the key holds nothing.
    pub fn read(
        &self,
        wall_ms: u64,
        keyspace: &str,
        key: &[u8],
        fields_max: usize,
    ) -> Result<Option<Held>, Error> {
        let (from, to) = bounds(key_prefix(keyspace, key));
        let mut held = held::Collector::new(&self.table, wall_ms, fields_max);
        collect(&self.engine.view(), &mut held, &from, to.as_deref())?;
        Ok(held.finish())
    }

    /// Whether anything was ever written to a keyspace and is not wholly deleted.
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
                let place =
                    PlaceRef::parse(key).ok_or_else(|| Error::corrupt("a cell's key is not a place"))?;
                names.push(place.keyspace.to_owned());
                next = prefix_end(&keyspace_prefix(place.keyspace));
                Ok(ControlFlow::Break(()))
            })?;
        }
        Ok(names)
    }

    /// Checks the whole store on a snapshot, without holding up anybody; see [`crate::check`].
    pub fn doctor(&self) -> Result<crate::Report, Error> {
        crate::check::doctor(&self.engine, None)
    }

    fn versions(&self, wall_ms: u64, place: &[u8]) -> Result<Option<Register>, Error> {
        let cell = cell::read(&Latest(&self.engine), place)?;
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        if cell.iter().any(Stored::is_split) {
            // The cell and the rows of its bodies have to be of one instant.
            drop(table);
            let view = self.engine.view();
            let cell = cell::read(&view, place)?;
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            return held::register(&table, wall_ms, &cell, &view);
        }
        held::register(&table, wall_ms, &cell, &Latest(&self.engine))
    }

    fn is_visible(&self, wall_ms: u64, place: &[u8]) -> Result<bool, Error> {
        let cell = cell::read(&Latest(&self.engine), place)?;
        Ok(cell.iter().filter_map(Stored::head).any(|head| head.is_visible(wall_ms)))
    }

    fn fields(
        &self,
        wall_ms: u64,
        (keyspace, key, kind): (&str, &[u8], Kind),
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Option<Held>, Error> {
        let (mut from, to) = bounds(kind_prefix(keyspace, key, kind));
        if let Some(after) = after {
            from.extend_from_slice(after);
            from.push(0);
        }
        let mut held = held::Collector::new(&self.table, wall_ms, limit);
        collect(&self.engine.view(), &mut held, &from, to.as_deref())?;
        Ok(held.finish())
    }
}

/// Feeds the cells of one key to a collector, leaving out the fields that it does not want.
fn collect(
    view: &impl View,
    held: &mut held::Collector<'_>,
    from: &[u8],
    to: Option<&[u8]>,
) -> Result<(), Error> {
    let mut from = from.to_vec();
    loop {
        let mut skip_to = None;
        view.scan(Family::Cells, &from, to, &mut |key, row| {
            let place = PlaceRef::parse(key).ok_or_else(|| Error::corrupt("a cell's key is not a place"))?;
            if held.add(place, row, view)?.is_continue() {
                return Ok(ControlFlow::Continue(()));
            }
            // Enough fields: go on behind the last one of this type.
            skip_to = prefix_end(&key[..=place.key_prefix_bytes()]);
            Ok(ControlFlow::Break(()))
        })?;
        match skip_to {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
}
