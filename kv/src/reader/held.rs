//! What a key holds, put together from its cells.

use std::cmp::Reverse;
use std::ops::ControlFlow;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;

use crate::actor::ActorTable;
use crate::body::Head;
use crate::cell::{self, Rows, Stored};
use crate::engine::View;
use crate::place::PlaceRef;
use crate::store::counter_sum;
use crate::version::version_of;
use crate::{Dot, Error, Hlc, Kind, Version};

/// A register as it is read: the version with the highest timestamp, and what it wins over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// The value.
    pub value: Bytes,
    /// Names the whole sibling set; for [`crate::Check::Version`].
    pub version: Version,
    /// The operation that wrote the value.
    pub dot: Dot,
    /// When it was written.
    pub written: Hlc,
    /// When it will be hidden, wall-clock milliseconds.
    pub expires_ms: Option<u64>,
    /// The other concurrent versions, latest first. Usually none.
    pub siblings: Vec<Sibling>,
}

/// A concurrent version of a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// The value.
    pub value: Bytes,
    /// The operation that wrote it.
    pub dot: Dot,
    /// When it was written.
    pub written: Hlc,
    /// When it will be hidden, wall-clock milliseconds.
    pub expires_ms: Option<u64>,
}

/// Fields in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields<T> {
    /// As many as were asked for.
    pub items: Vec<T>,
    /// There are more; read on after the last item.
    pub more: bool,
}

impl<T> Default for Fields<T> {
    fn default() -> Self {
        Self { items: Vec::new(), more: false }
    }
}

/// Everything that a key holds. Usually one type; several after concurrent writes of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// A register.
    pub register: Option<Register>,
    /// An enabled flag.
    pub flag: bool,
    /// A counter's value.
    pub counter: Option<i128>,
    /// A set's elements.
    pub set: Option<Fields<Bytes>>,
    /// A map's fields.
    pub map: Option<Fields<(Bytes, Register)>>,
    /// Places that a newer version of Starling wrote and this one cannot read.
    pub unreadable: u64,
}

impl Held {
    /// The types it holds, in order.
    pub fn kinds(&self) -> Vec<Kind> {
        let held = [
            (Kind::Register, self.register.is_some()),
            (Kind::Flag, self.flag),
            (Kind::Counter, self.counter.is_some()),
            (Kind::Set, self.set.is_some()),
            (Kind::Map, self.map.is_some()),
        ];
        held.into_iter().filter_map(|(kind, is_held)| is_held.then_some(kind)).collect()
    }

    /// Roughly how many bytes of values it carries.
    pub(super) fn bytes(&self) -> usize {
        let register = |register: &Register| {
            register.value.len() + register.siblings.iter().map(|sibling| sibling.value.len()).sum::<usize>()
        };
        self.register.as_ref().map_or(0, register)
            + self.set.iter().flat_map(|set| &set.items).map(Bytes::len).sum::<usize>()
            + self
                .map
                .iter()
                .flat_map(|map| &map.items)
                .map(|(name, v)| name.len() + register(v))
                .sum::<usize>()
    }
}

/// The visible versions of a cell as a register, if there are any.
pub(super) fn register(
    table: &ActorTable,
    wall_ms: u64,
    cell: &[Stored],
    rows: &impl Rows,
) -> Result<Option<Register>, Error> {
    let mut versions = Vec::with_capacity(cell.len());
    for stored in cell {
        let Some(head) = stored.head().filter(|head| head.is_visible(wall_ms)) else { continue };
        let actor = table.id(stored.dot.actor).ok_or_else(|| Error::corrupt("a cell's actor has no row"))?;
        versions.push(read_version(stored, head, Dot { actor, seq: stored.dot.seq }, rows)?);
    }
    versions.sort_unstable_by_key(|sibling| Reverse((sibling.written, sibling.dot)));
    let mut dots: Vec<Dot> = versions.iter().map(|sibling| sibling.dot).collect();
    let mut versions = versions.into_iter();
    Ok(versions.next().map(|Sibling { value, dot, written, expires_ms }| Register {
        value,
        version: version_of(&mut dots),
        dot,
        written,
        expires_ms,
        siblings: versions.collect(),
    }))
}

fn read_version(stored: &Stored, head: Head, dot: Dot, rows: &impl Rows) -> Result<Sibling, Error> {
    let value = stored.whole(rows)?.slice(head.bytes..);
    Ok(Sibling { value, dot, written: head.written, expires_ms: head.expires_ms })
}

/// Puts together what one key holds.
pub(super) struct Collector<'t> {
    table: RwLockReadGuard<'t, ActorTable>,
    wall_ms: u64,
    fields_max: usize,
    held: Held,
}

impl<'t> Collector<'t> {
    pub fn new(table: &'t RwLock<ActorTable>, wall_ms: u64, fields_max: usize) -> Self {
        let table = table.read().unwrap_or_else(PoisonError::into_inner);
        Self { table, wall_ms, fields_max, held: Held::default() }
    }

    /// Takes the next cell. Breaks when no further field of the cell's type is wanted.
    pub fn add(
        &mut self,
        place: PlaceRef<'_>,
        row: &[u8],
        view: &impl View,
    ) -> Result<ControlFlow<()>, Error> {
        let cell = cell::decode(row.to_vec())?;
        let readable = cell.iter().filter_map(Stored::head);
        let is_visible = readable.clone().any(|head| head.is_visible(self.wall_ms));
        let Some(kind) = place.kind.filter(|_| readable.count() > 0) else {
            self.held.unreadable += 1;
            return Ok(ControlFlow::Continue(()));
        };
        if !is_visible {
            return Ok(ControlFlow::Continue(()));
        }
        match kind {
            Kind::Register => self.held.register = register(&self.table, self.wall_ms, &cell, view)?,
            Kind::Flag => self.held.flag = true,
            Kind::Counter => {
                let sum = counter_sum(&cell, self.wall_ms);
                self.held.counter = Some(self.held.counter.unwrap_or(0).saturating_add(sum));
            }
            Kind::Set => {
                let element = Bytes::copy_from_slice(place.field);
                return Ok(push(self.held.set.get_or_insert_default(), element, self.fields_max));
            }
            Kind::Map => {
                let fields = self.held.map.get_or_insert_default();
                if fields.items.len() < self.fields_max {
                    let value = register(&self.table, self.wall_ms, &cell, view)?;
                    fields.items.extend(value.map(|value| (Bytes::copy_from_slice(place.field), value)));
                } else {
                    fields.more = true;
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// What was collected since the last call; `None` if nothing.
    pub fn finish(&mut self) -> Option<Held> {
        let held = std::mem::take(&mut self.held);
        (held != Held::default()).then_some(held)
    }
}

fn push<T>(fields: &mut Fields<T>, item: T, max: usize) -> ControlFlow<()> {
    if fields.items.len() == max {
        fields.more = true;
        return ControlFlow::Break(());
    }
    fields.items.push(item);
    ControlFlow::Continue(())
}
