//! The state machine of a strong keyspace. Replicas that apply the same log have the same state.
//!
//! It is multi-version, as etcd's: every write that changes something makes a revision, and superseded records
//! can be read until they are compacted. Time and leadership are not part of the state; see [`Machine::lead`].

mod apply;
mod check;
mod command;
mod compact;
mod fences;
mod hashes;
mod hot;
mod inspect;
mod leases;
pub mod limits;
mod measure;
mod pops;
mod range;
mod reading;
mod restore;
mod room;
mod rows;
mod sessions;
mod snapshot;
mod source;
mod stage;
mod state;
mod time;
mod txn;
mod watch;

use std::ops::ControlFlow;
use std::sync::{Arc, Weak};

use starling_kv::codec::{Input, put_varint};
use starling_kv::engine::{Family, RowOp, View, prefix_end};
use starling_kv::{Engine, Error};

pub use apply::Applied;
pub use check::{txn_depth_max, write as check_write};
pub use command::Command;
pub use compact::{Leftovers, destroy};
pub use inspect::{Inspected, inspect};
pub use measure::{Measuring, Revocation};
pub use reading::Reading;
pub use restore::{Next, Restore, RestoreError};
pub use room::Room;
pub use sessions::{ANSWERS_MAX, CLIENTS_MAX, DATED, WINDOW};
pub use snapshot::{Cursor, Snapshot};
pub use watch::{WATCHES_BYTES_MAX, WATCHES_MAX, WatchId};

use crate::api::{Refusal, Revision};
use fences::Fences;
use hashes::Hashes;
use hot::Hot;
use leases::Leases;
use pops::Pops;
use rows::{PREFIX_BYTES, Prefix, corrupt};
use sessions::Sessions;
use state::State;
use watch::Watches;

/// The id of a strong keyspace's group; see [`crate::group::GroupId`].
pub type GroupId = [u8; 16];

/// The newest data version that this program can adopt; see [`Command::Adopt`].
pub const VERSION_NEWEST: u16 = DATED;

/// The configuration of a state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The [`Figures::bytes`] from which on writes that need space are rejected.
    pub quota_bytes: u64,
}

impl Default for Config {
    /// 2 GiB, as etcd's `--quota-backend-bytes`.
    fn default() -> Self {
        Self { quota_bytes: 2 << 30 }
    }
}

/// The sizes of a replica's tables, each of which has a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes of keys and contents of the rows of records and changes. Compacted ones count until they are removed.
    /// Bounded by [`Config::quota_bytes`] and the writes under way when it is reached.
    pub bytes: u64,
    /// Leases, at most [`limits::LEASES_MAX`].
    pub leases: usize,
    /// Clients whose answers are remembered, at most [`ANSWERS_MAX`].
    pub clients: usize,
    /// Remembered answers of all clients, at most [`ANSWERS_MAX`].
    pub answers: usize,
    /// Watches, at most [`WATCHES_MAX`].
    pub watches: usize,
    /// Bytes of events that wait for all watches, at most [`WATCHES_BYTES_MAX`].
    pub watches_bytes: usize,
}

/// One replica of a strong keyspace.
pub struct Machine<E: Engine> {
    engine: E,
    group: GroupId,
    config: Config,
    /// The prefix of the live generation's rows.
    rows: Prefix,
    state: State,
    leases: Leases,
    sessions: Sessions,
    watches: Watches,
    pops: Pops,
    fences: Fences,
    hashes: Hashes,
    hot: Hot,
    /// Cloned by snapshots that are being read.
    pin: Arc<()>,
    /// Alive while the restoration that was last begun is.
    restoring: Option<Weak<()>>,
    /// Where to continue the removal of rows of other generations; `None` if there are none.
    leftovers: Option<Leftovers>,
    /// Whether a write has failed, so that memory and rows may differ.
    has_failed: bool,
    /// Whether rows are written without the engine's own log; see [`Machine::set_unlogged`].
    is_unlogged: bool,
    /// Rows that are written together with the next applied entries.
    beside: Vec<RowOp>,
}

/// The last applied entry, and the bytes of a state that is not open; zeros if there is none.
pub fn stored<E: Engine>(engine: &E, group: &GroupId) -> Result<(u64, u64), Error> {
    let Some(row) = engine.get(Family::StrongState, group)? else { return Ok((0, 0)) };
    let state = State::decode(&row)?;
    Ok((state.applied, state.bytes))
}

impl<E: Engine> Machine<E> {
    /// Opens the state of a group, or begins with an empty one if the engine has none.
    ///
    /// # Errors
    /// Fails with an error of the engine, with [`Error::Corrupt`] on damaged rows, or with [`Error::Format`] on rows
    /// of a later version.
    pub fn open(engine: E, group: GroupId, config: Config) -> Result<Self, Error> {
        let state = match engine.get(Family::StrongState, &group)? {
            Some(row) => State::decode(&row)?,
            None => State::new(1),
        };
        let rows = Prefix::new(&group, state.generation);
        let (leases, sessions) = (load_leases(&engine, rows)?, load_sessions(&engine, rows, &state)?);
        #[cfg(planted)]
        let state = state.planted();
        let mut hashes = Hashes::default();
        hashes.push(state.applied, state.hash);
        Ok(Self {
            engine,
            group,
            config,
            rows,
            state,
            leases,
            sessions,
            watches: Watches::default(),
            pops: Pops::default(),
            fences: Fences::default(),
            hashes,
            hot: Hot::default(),
            pin: Arc::default(),
            restoring: None,
            leftovers: Some(Leftovers::default()),
            has_failed: false,
            is_unlogged: false,
            beside: Vec::new(),
        })
    }

    /// Writes rows without the engine's own log from now on: the caller applies entries again that a crash has undone.
    pub fn set_unlogged(&mut self) {
        self.is_unlogged = true;
    }

    /// Writes these rows, too, together with the next applied entries.
    pub fn write_beside(&mut self, rows: Vec<RowOp>) {
        self.beside = rows;
    }

    fn write_rows(&self, ops: Vec<RowOp>) -> Result<(), Error> {
        write_rows(&self.engine, self.is_unlogged, ops)
    }

    /// Index of the last entry applied; 0 if there is none.
    pub fn applied(&self) -> u64 {
        self.state.applied
    }

    /// Revision of the last change; 1 if there was none.
    pub fn revision(&self) -> Revision {
        self.state.revision
    }

    /// The oldest revision that can be read.
    pub fn compacted(&self) -> Revision {
        self.state.compacted
    }

    /// The data version that the group has adopted; 0 if it has adopted none.
    pub fn version(&self) -> u16 {
        self.state.version
    }

    /// Bytes of rows; see [`Figures::bytes`].
    pub fn bytes(&self) -> u64 {
        self.state.bytes
    }

    /// The sizes of this replica's tables.
    pub fn figures(&self) -> Figures {
        let (clients, answers) = self.sessions.len();
        let (watches, watches_bytes) = self.watches.len();
        let (bytes, leases) = (self.state.bytes, self.leases.len());
        Figures { bytes, leases, clients, answers, watches, watches_bytes }
    }

    /// Rolling hash over all changes that the log has made.
    pub fn hash(&self) -> [u8; 32] {
        self.state.hash
    }

    /// Rolling hash after an earlier entry; `None` unless it is one of the last thousand since the start, or the one
    /// that was last compared.
    pub fn hash_at(&self, index: u64) -> Option<[u8; 32]> {
        self.hashes.at(index)
    }

    /// The entry after which this replica's hash was found to differ from the majority's. Such a replica must not
    /// serve requests.
    pub fn diverged(&self) -> Option<u64> {
        (self.state.diverged != 0).then_some(self.state.diverged)
    }

    /// Validates a command before it is proposed, and returns the command to propose.
    ///
    /// Rejects writes that are invalid in every state, and writes that need space when the quota is used up. Only the
    /// leader checks the quota, because replicas differ in what they have removed after a compaction. A write with a
    /// request id beyond the quota becomes [`Command::Refuse`], because an earlier sending of it may be in the log:
    /// then the answer to that one is returned.
    pub fn admit(&self, command: Command) -> Result<Command, Refusal> {
        let Command::Write { id, write, .. } = &command else { return Ok(command) };
        check::write(self.state.version, write)?;
        let (bytes, max) = (self.state.bytes, self.config.quota_bytes);
        if bytes < max || !check::grows(write) {
            return Ok(command);
        }
        let refusal = Refusal::NoSpace { bytes, max };
        match *id {
            Some(id) => Ok(Command::Refuse { id, refusal }),
            None => Err(refusal),
        }
    }

    fn state_op(&self) -> RowOp {
        RowOp::Put(Family::StrongState, self.group.to_vec(), self.state.encode())
    }

    /// Fails if an earlier write failed: then memory is ahead of the rows, and the machine has to be opened again.
    fn check_sound(&self) -> Result<(), Error> {
        if self.has_failed {
            let reason = "an earlier write of this strong keyspace failed".into();
            return Err(Error::Storage { reason });
        }
        Ok(())
    }
}

fn write_rows<E: Engine>(engine: &E, is_unlogged: bool, ops: Vec<RowOp>) -> Result<(), Error> {
    if is_unlogged { engine.write_unlogged(ops) } else { engine.write(ops) }
}

/// The row of a lease: its whole time, milliseconds.
fn lease_row(ttl_ms: u64) -> Vec<u8> {
    let mut row = Vec::new();
    put_varint(&mut row, ttl_ms);
    row
}

fn load_leases<E: Engine>(engine: &E, rows: Prefix) -> Result<Leases, Error> {
    let damaged = || corrupt("a lease");
    let mut leases = Leases::default();
    let id = |row_key: &[u8]| {
        let id = row_key.get(PREFIX_BYTES + 1..).and_then(<[u8]>::first_chunk::<8>);
        id.map(|id| i64::from_be_bytes(*id)).ok_or_else(damaged)
    };
    let view = engine.view();
    let from = rows.leases();
    view.scan(Family::StrongState, &from, prefix_end(&from).as_deref(), &mut |row_key, row| {
        leases.grant(0, id(row_key)?, Input::new(row).varint().ok_or_else(damaged)?);
        Ok(ControlFlow::Continue(()))
    })?;
    let from = rows.lease_keys();
    view.scan(Family::StrongState, &from, prefix_end(&from).as_deref(), &mut |row_key, _| {
        leases.attach(id(row_key)?, &row_key[PREFIX_BYTES + 9..]);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(leases)
}

fn load_sessions<E: Engine>(engine: &E, rows: Prefix, state: &State) -> Result<Sessions, Error> {
    let mut sessions = Sessions::new(state.version, state.forgotten_ms);
    let start = rows.answers().len();
    load_answers(engine, rows, &mut |row_key, row| {
        let mut input = Input::new(row_key.get(start..).unwrap_or_default());
        let (Some(client), Some(slot)) = (input.array(), input.array()) else {
            return Err(corrupt("a remembered answer"));
        };
        sessions.load(u128::from_be_bytes(client), u16::from_be_bytes(slot), row)
    })?;
    Ok(sessions)
}

/// A function of a row's key and the row.
type RowReader<'r> = dyn FnMut(&[u8], &[u8]) -> Result<(), Error> + 'r;

/// Calls `each` with every row of a remembered answer.
fn load_answers<E: Engine>(engine: &E, rows: Prefix, each: &mut RowReader<'_>) -> Result<(), Error> {
    let from = rows.answers();
    engine.view().scan(Family::StrongState, &from, prefix_end(&from).as_deref(), &mut |row_key, row| {
        each(row_key, row)?;
        Ok(ControlFlow::Continue(()))
    })
}
