//! An engine that counts what a store reads and writes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use starling_kv::engine::{Family, RowOp, View, Visitor};
use starling_kv::{Engine, Error, MemoryEngine};

/// A memory engine that counts the rows that are read, by family, and those that are written.
#[derive(Clone, Default)]
pub struct Counting {
    engine: MemoryEngine,
    read: Arc<Mutex<BTreeMap<Family, usize>>>,
    written: Arc<AtomicUsize>,
}

pub struct CountingView<'a> {
    view: <MemoryEngine as Engine>::View<'a>,
    counting: &'a Counting,
}

impl Counting {
    fn count(&self, family: Family) {
        *self.read.lock().expect("no test panics with it").entry(family).or_default() += 1;
    }

    /// Rows written since the last call.
    pub fn take_written(&self) -> usize {
        self.written.swap(0, Ordering::Relaxed)
    }

    /// Rows read of a family since the last call.
    pub fn take(&self, family: Family) -> usize {
        self.read.lock().expect("no test panics with it").remove(&family).unwrap_or_default()
    }
}

impl View for CountingView<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.counting.count(family);
        self.view.get(family, key)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        self.view.scan(family, from, to, &mut |key, row| {
            self.counting.count(family);
            visit(key, row)
        })
    }
}

impl Engine for Counting {
    type View<'a> = CountingView<'a>;

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.count(family);
        self.engine.get(family, key)
    }

    fn view(&self) -> CountingView<'_> {
        CountingView { view: self.engine.view(), counting: self }
    }

    fn write(&self, ops: Vec<RowOp>) -> Result<(), Error> {
        self.written.fetch_add(ops.len(), Ordering::Relaxed);
        self.engine.write(ops)
    }
}
