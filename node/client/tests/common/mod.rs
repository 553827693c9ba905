//! A strong keyspace in memory, behind the trait that the recipes use.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::{StreamExt, stream};
use starling_api::strong::{Body, Keys, Read, Request, StrongAnswer, StrongCall, StrongEvent, Txn, Write};
use starling_api::{Blob, Error, ErrorCode, Events, Strong};
use starling_kv::MemoryEngine;
use starling_strong::api::{Answer, EventKind, Refusal, Watch, WatchUpdate};
use starling_strong::machine::{Command, Config, Machine};
use tokio::sync::watch;
use tokio::time::sleep;

/// How long a request or an answer is under way, milliseconds, at most.
const LATENCY_MS: f64 = 2.0;
/// Bytes of one update of a watch.
const UPDATE_BYTES: usize = 1 << 20;

struct State {
    machine: Machine<MemoryEngine>,
    now_ms: u64,
    watches: u64,
}

/// A keyspace of one replica. Clones are the same keyspace.
#[derive(Clone)]
pub struct Memory {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<()>,
}

impl Memory {
    pub fn new() -> Self {
        let machine = Machine::open(MemoryEngine::new(), *b"a queue in tests", Config::default());
        let mut machine = machine.expect("opens");
        machine.lead(0);
        let state = State { machine, now_ms: 0, watches: 0 };
        Self { state: Arc::new(Mutex::new(state)), changed: watch::Sender::new(()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no request panics")
    }

    /// Entries in the log.
    pub fn entries(&self) -> u64 {
        self.state().machine.applied()
    }

    /// Lets time pass, and leases end.
    pub fn pass(&self, ms: u64) {
        let mut state = self.state();
        state.now_ms += ms;
        for id in state.machine.expired(state.now_ms, usize::MAX) {
            state.apply(Write::LeaseRevoke { id }, None).expect("is revoked");
        }
        drop(state);
        self.changed.send_replace(());
    }
}

impl State {
    fn apply(&mut self, write: Write, call: Option<&StrongCall>) -> Result<Answer, Refusal> {
        let id = call.and_then(|call| call.request_id);
        let fence = call.and_then(|call| call.fence.clone());
        let command = Command::Write { id, fence, write };
        let index = self.machine.applied() + 1;
        let mut applied = self.machine.apply(self.now_ms, vec![(index, Some(command))]).expect("applies");
        applied.remove(0).expect("is answered")
    }

    fn handle(&mut self, call: &StrongCall) -> Result<Answer, Refusal> {
        match &call.request {
            Request::Read(read) => self.read(read),
            // As the leader does: a transaction whose conditions do not hold needs no entry.
            Request::Write(Write::Txn(txn)) => match self.lost(txn) {
                Some(read) => self.read(&read),
                None => self.apply(Write::Txn(txn.clone()), Some(call)),
            },
            Request::Write(write) => self.apply(write.clone(), Some(call)),
            Request::KeepAlive { id } => self.machine.keep_alive(self.now_ms, *id),
            Request::TimeToLive { id, keys } => self.machine.time_to_live(self.now_ms, *id, *keys),
        }
    }

    fn lost(&self, txn: &Txn) -> Option<Read> {
        self.machine.lost(txn)
    }

    fn read(&self, read: &Read) -> Result<Answer, Refusal> {
        self.machine.read(read).expect("the engine reads")
    }
}

impl Strong for Memory {
    async fn call(&self, _: &str, call: StrongCall) -> Result<StrongAnswer, Error> {
        let latency = || Duration::from_secs_f64(LATENCY_MS / 1000.0 * rand::random::<f64>());
        sleep(latency()).await;
        let answer = self.state().handle(&call);
        self.changed.send_replace(());
        sleep(latency()).await;
        match answer {
            Ok(Answer { revision, body }) => Ok(StrongAnswer { revision, stale: None, body }),
            Err(refusal @ Refusal::LeaseNotFound(_)) => Err(failed(ErrorCode::NotFound, &refusal)),
            Err(refusal) => Err(failed(ErrorCode::Invalid, &refusal)),
        }
    }

    async fn changes(&self, _: &str, prefix: &[u8], from: u64) -> Result<Events<StrongEvent>, Error> {
        let mut state = self.state();
        state.watches += 1;
        let id = state.watches;
        let keys = Keys::prefix(prefix.to_vec());
        let spec = Watch { keys, from_revision: from, prev: false, only: None };
        state.machine.watch(id, spec).expect("begins");
        drop(state);
        let changed = self.changed.subscribe();
        let updates = stream::unfold((self.clone(), changed), move |(memory, mut changed)| async move {
            loop {
                changed.borrow_and_update();
                let update = memory.state().machine.poll_watch(id, UPDATE_BYTES).expect("polls");
                if let Some(update) = update {
                    return Some((stream::iter(events(update)), (memory, changed)));
                }
                changed.changed().await.ok()?;
            }
        });
        Ok(updates.flatten().map(Ok).boxed())
    }
}

fn failed(code: ErrorCode, refusal: &Refusal) -> Error {
    Error::new(code, refusal.to_string(), "")
}

fn events(update: WatchUpdate) -> Vec<StrongEvent> {
    match update {
        WatchUpdate::Created { revision } => vec![StrongEvent::Ready { revision }],
        WatchUpdate::Events { events, .. } => {
            let event = |event: starling_strong::api::Event| match event.kind {
                EventKind::Put => StrongEvent::Put { kv: event.kv },
                EventKind::Delete => {
                    StrongEvent::Delete { key: Blob(event.kv.key), revision: event.kv.mod_revision }
                }
            };
            events.into_iter().map(event).collect()
        }
        WatchUpdate::Progress { .. } => Vec::new(),
        WatchUpdate::Compacted { oldest } => vec![StrongEvent::Compacted { oldest }],
        WatchUpdate::Lost { reason } => vec![StrongEvent::Lost { reason: format!("{reason:?}") }],
    }
}

/// The keys of a range in a keyspace.
pub async fn values(memory: &Memory, key: &str) -> Vec<(Vec<u8>, u64)> {
    let range = starling_api::strong::Range::of(Keys::prefix(key.into()));
    match memory.call("", range.into()).await.expect("reads").body {
        Body::Range(found) => found.kvs.into_iter().map(|kv| (kv.value, kv.version)).collect(),
        other => panic!("{other:?}"),
    }
}
