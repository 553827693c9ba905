//! Records the store's calls of its engine, and replays them on another database without the store:
//! the same reads and writes, row for row.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use starling_kv::engine::{Family, RowOp, View, Visitor};
use starling_kv::{Engine, Error};
use starling_rocks::RocksEngine;

/// One call of an engine.
#[derive(Clone, Debug)]
pub enum Call {
    /// A lookup.
    Get(Family, Vec<u8>),
    /// A snapshot was taken, and lasts until the next write.
    View,
    /// A scan of that many rows.
    Scan(Family, Vec<u8>, Option<Vec<u8>>, usize),
    /// A write.
    Write(Vec<RowOp>),
}

/// An engine that records.
#[derive(Clone)]
pub struct Recorder {
    engine: RocksEngine,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Recorder {
    /// Records what is asked of `engine`.
    pub fn new(engine: RocksEngine) -> Self {
        Self { engine, calls: Arc::default() }
    }

    /// What was asked since the last call.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn record(&self, call: Call) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }
}

impl Engine for Recorder {
    type View<'a> = RecorderView<'a>;

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.record(Call::Get(family, key.to_vec()));
        self.engine.get(family, key)
    }

    fn view(&self) -> RecorderView<'_> {
        self.record(Call::View);
        RecorderView { recorder: self, view: self.engine.view() }
    }

    fn write(&self, ops: Vec<RowOp>) -> Result<(), Error> {
        self.record(Call::Write(ops.clone()));
        self.engine.write(ops)
    }
}

/// A view that records.
pub struct RecorderView<'a> {
    recorder: &'a Recorder,
    view: <RocksEngine as Engine>::View<'a>,
}

impl View for RecorderView<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.recorder.record(Call::Get(family, key.to_vec()));
        self.view.get(family, key)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        let mut rows = 0;
        let result = self.view.scan(family, from, to, &mut |key, row| {
            rows += 1;
            visit(key, row)
        });
        self.recorder.record(Call::Scan(family, from.to_vec(), to.map(<[u8]>::to_vec), rows));
        result
    }
}

/// Does to `engine` what was recorded.
pub fn replay(engine: &RocksEngine, calls: Vec<Call>) -> Result<(), Error> {
    let mut view = None;
    for call in calls {
        match call {
            Call::Get(family, key) => drop(engine.get(family, &key)?),
            Call::View => view = Some(engine.view()),
            Call::Scan(family, from, to, rows) => {
                let mut left = rows;
                let view = view.get_or_insert_with(|| engine.view());
                view.scan(family, &from, to.as_deref(), &mut |_, _| {
                    left = left.saturating_sub(1);
                    Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
                })?;
            }
            Call::Write(ops) => {
                view = None;
                engine.write(ops)?;
            }
        }
    }
    Ok(())
}
