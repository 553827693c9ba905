//! The contents of a key, collected from its cells.

use std::ops::ControlFlow;

use starling_types::eventual::Data;

use crate::cell::{Rows, Stored};
use crate::types::{self, Found};
use crate::{Error, Kind};

/// Fields in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields<T> {
    /// At most as many as the caller asked for.
    pub items: Vec<T>,
    /// Whether there are more after the last item.
    pub more: bool,
}

impl<T> Default for Fields<T> {
    fn default() -> Self {
        Self { items: Vec::new(), more: false }
    }
}

/// Everything that a key holds. Usually one type; several after concurrent writes of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// One per type, in the order of the types' tags.
    pub data: Vec<Data>,
    /// Places that a newer version of Starling wrote and this one cannot read.
    pub unreadable: u64,
}

impl Contents {
    /// The types it holds, in order.
    pub fn kinds(&self) -> Vec<Kind> {
        self.data.iter().map(Data::kind).collect()
    }
}

/// Collects the contents of one key.
pub(super) struct Collector {
    fields_max: usize,
    contents: Contents,
}

impl Collector {
    pub fn new(fields_max: usize) -> Self {
        Self { fields_max, contents: Contents::default() }
    }

    /// Adds the next cell. Breaks when no further field of the cell's type is wanted.
    pub fn add<R: Rows>(
        &mut self,
        kind: Option<Kind>,
        found: &Found<'_, R>,
    ) -> Result<ControlFlow<()>, Error> {
        let readable = found.cell.iter().filter_map(Stored::head);
        let is_visible = readable.clone().any(|head| head.is_visible(found.wall_ms));
        let Some(kind) = kind.filter(|_| readable.count() > 0) else {
            self.contents.unreadable += 1;
            return Ok(ControlFlow::Continue(()));
        };
        if !is_visible {
            return Ok(ControlFlow::Continue(()));
        }
        types::read(kind, found, &mut self.contents.data, self.fields_max)
    }

    /// Adds a counter with as many visible fields, of which it has had none yet.
    pub fn add_counter(&mut self, sum: i128, fields: u64) {
        if fields > 0 {
            types::add_to_counter(sum, &mut self.contents.data);
        }
    }

    /// The contents collected since the last call; `None` if there are none.
    pub fn finish(&mut self) -> Option<Contents> {
        let contents = std::mem::take(&mut self.contents);
        (contents != Contents::default()).then_some(contents)
    }
}
