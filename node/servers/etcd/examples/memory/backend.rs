//! A strong keyspace without a group and without a disk, behind the etcd server: the real state machine, one
//! task that applies every write at once.

use std::collections::BTreeMap;

use starling_kv::MemoryEngine;
use starling_service::{Call, EtcdServer, Reply, WatchId, WatchUpdates};
use starling_strong::api::{Failure, Member, Request, Status, WatchUpdate, Write};
use starling_strong::machine::{Command, Config, Machine};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The one keyspace that there is.
pub const KEYSPACE: &str = "orders";
/// Its node.
pub const NODE: [u8; 32] = [7; 32];
/// The one member of its group.
const MEMBER: u64 = 7;
/// Calls taken at once.
const BATCH: usize = 256;
/// About what one update carries, bytes.
const UPDATE_BYTES: usize = 1 << 20;
/// Leases that are revoked at once.
const EXPIRED: usize = 64;

struct Watching {
    id: WatchId,
    updates: WatchUpdates,
    credit: u32,
}

/// The task.
pub struct Backend {
    machine: Machine<MemoryEngine>,
    started: Instant,
    /// Writes that are applied together, and who waits for them.
    writes: Vec<Command>,
    replies: Vec<Option<Reply>>,
    watches: BTreeMap<u64, Watching>,
}

impl Backend {
    /// Answers calls until all senders are gone.
    pub async fn run(mut calls: mpsc::Receiver<Call>) {
        let machine = Machine::open(MemoryEngine::new(), [5; 16], Config::default()).expect("opens");
        let mut backend = Self {
            machine,
            started: Instant::now(),
            writes: Vec::new(),
            replies: Vec::new(),
            watches: BTreeMap::new(),
        };
        backend.machine.lead(0);
        let mut taken = Vec::new();
        loop {
            let expiry = backend.machine.next_expiry().map(|at| backend.started + ms(at));
            tokio::select! {
                count = calls.recv_many(&mut taken, BATCH) => if count == 0 { return },
                () = tokio::time::sleep_until(expiry.unwrap_or_else(Instant::now)), if expiry.is_some() => {
                    backend.expire();
                }
            }
            for call in taken.drain(..) {
                backend.take(call);
            }
            backend.apply();
            for id in backend.machine.take_ready() {
                backend.tell(id);
            }
        }
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn take(&mut self, call: Call) {
        match call {
            Call::Request { keyspace, reply, .. } if &*keyspace != KEYSPACE => {
                reply.send(Err(Failure::NoSuchKeyspace(keyspace.to_string())));
            }
            Call::Request { request: Request::Write(write), reply, .. } => {
                match self.machine.admit(Command::Write { id: None, fence: None, write }) {
                    Ok(command) => {
                        self.writes.push(command);
                        self.replies.push(Some(reply));
                    }
                    Err(refusal) => reply.send(Err(refusal.into())),
                }
            }
            Call::Request { request, reply, .. } => {
                self.apply();
                let answer = match request {
                    Request::Read(read) => self.machine.read(&read).expect("an engine in memory"),
                    Request::KeepAlive { id } => self.machine.keep_alive(self.now(), id),
                    Request::TimeToLive { id, keys } => self.machine.time_to_live(self.now(), id, keys),
                    Request::Write(_) => unreachable!("taken above"),
                };
                reply.send(answer.map_err(Failure::Refused));
            }
            Call::Watch { id, watch, updates, credit, .. } => {
                self.apply();
                match self.machine.watch(id.get(), watch) {
                    Ok(()) => drop(self.watches.insert(id.get(), Watching { id, updates, credit })),
                    Err(refusal) => {
                        drop(updates.try_send((id, WatchUpdate::Lost { reason: refusal.to_string() })));
                    }
                }
            }
            Call::More { id, credit } => {
                if let Some(watching) = self.watches.get_mut(&id.get()) {
                    watching.credit += credit;
                }
                self.tell(id.get());
            }
            Call::Progress { id } => {
                self.apply();
                self.machine.request_progress(id.get());
            }
            Call::Unwatch { ids } => {
                for id in ids {
                    self.unwatch(id.get());
                }
            }
            Call::Servers { reply, .. } => {
                let urls = vec!["http://127.0.0.1:2379".to_owned()];
                drop(reply.send(vec![EtcdServer { node: NODE, name: "alone".into(), urls }]));
            }
            Call::Status { reply, .. } => {
                self.apply();
                drop(reply.send(Ok(self.status())));
            }
        }
    }

    fn unwatch(&mut self, id: u64) {
        self.machine.unwatch(id);
        self.watches.remove(&id);
    }

    fn apply(&mut self) {
        if self.writes.is_empty() {
            return;
        }
        let entries = (self.machine.applied() + 1..).zip(self.writes.drain(..).map(Some)).collect();
        let answers = self.machine.apply(self.now(), entries).expect("an engine in memory");
        for (answer, reply) in answers.into_iter().zip(self.replies.drain(..)) {
            if let (Some(answer), Some(reply)) = (answer, reply) {
                reply.send(answer.map_err(Failure::Refused));
            }
        }
    }

    fn expire(&mut self) {
        for id in self.machine.expired(self.now(), EXPIRED) {
            let write = Write::LeaseRevoke { id };
            self.writes.push(Command::Write { id: None, fence: None, write });
            self.replies.push(None);
        }
    }

    fn tell(&mut self, id: u64) {
        let Some(watching) = self.watches.get_mut(&id) else { return };
        while watching.credit > 0 {
            let update = self.machine.poll_watch(id, UPDATE_BYTES).expect("an engine in memory");
            let Some(update) = update else { return };
            let is_asked = matches!(update, WatchUpdate::Events { .. } | WatchUpdate::Progress { .. });
            watching.credit -= u32::from(is_asked);
            if let Err(error) = watching.updates.try_send((watching.id, update)) {
                assert!(
                    matches!(error, mpsc::error::TrySendError::Closed(_)),
                    "there is room for the credit"
                );
                return self.unwatch(id);
            }
        }
    }

    fn status(&self) -> Status {
        let member = Member {
            id: MEMBER,
            node: NODE,
            name: "alone".into(),
            learner: false,
            behind: Some(0),
            restoring: false,
            silent_ms: Some(0),
            peer_urls: Vec::new(),
            client_urls: Vec::new(),
        };
        Status {
            group: [5; 16],
            member: MEMBER,
            leader: Some(MEMBER),
            term: 3,
            members: vec![member],
            revision: self.machine.revision(),
            log_index: self.machine.applied(),
            applied_index: self.machine.applied(),
            commit_index: self.machine.applied(),
            log_entries: 0,
            log_bytes: 0,
            bytes: self.machine.bytes(),
            heard_ms: Some(0),
            manual: false,
        }
    }
}

fn ms(ms: u64) -> std::time::Duration {
    std::time::Duration::from_millis(ms)
}
