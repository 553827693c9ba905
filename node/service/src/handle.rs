//! The typed interface of a running node. Servers and embedding programs use this and nothing else.

use std::sync::{Arc, PoisonError, RwLock};

use starling_access::Operation;
use starling_api::{EVENTUAL_PREFIX, Error, ErrorCode, escaped};
use starling_kv::{Batch, Limits, Op, Outcome, Reader, Write};
use starling_proto::NodeId;
use starling_proto::trust::Trust;
use starling_rocks::RocksEngine;
use tokio::sync::{broadcast, watch};

use crate::access::{Audit, Caller};
use crate::admin::Admin;
use crate::command::{ChangeSet, Gossip};
use crate::error::{no_store, stopping};
use crate::eventual::EventualKeyspace;
use crate::strong::{Names, StrongKeyspace};

/// A running node, as servers and embedding programs see it. Cheap to clone.
///
/// Every method may be called from any thread and inside any runtime or none. Dropping a future is safe:
/// a read leaves nothing behind, and a write that was queued is carried out or not, as if the answer had
/// been lost. After the node has stopped, every method fails with [`ErrorCode::NotReady`].
///
/// Methods fail with [`ErrorCode::Forbidden`] where the rights of its caller do not suffice. The program that runs the node has
/// all rights; servers make a handle for each of their callers with [`Handle::for_caller`].
#[derive(Clone)]
pub struct Handle {
    pub(crate) parts: Arc<Parts>,
    caller: Caller,
}

/// What a handle works with.
pub(crate) struct Parts {
    /// The node's id.
    pub node: NodeId,
    /// The way to the gossip thread.
    pub gossip: Gossip,
    /// The store's snapshots, while the node runs: an open reader keeps the store's directory in use.
    pub store: RwLock<StoreState>,
    /// Names of strong keyspaces.
    pub names: Names,
    /// Keys that changed, for watches. The gossip thread owns the sender: watches end with it.
    pub changes: broadcast::WeakSender<Arc<ChangeSet>>,
    /// Bounds on writes.
    pub limits: Limits,
    /// The authority's statements.
    pub trust: watch::Receiver<Arc<Trust>>,
    /// The record of administrative actions.
    pub audit: Arc<Audit>,
}

/// Whether there is a store to read.
pub(crate) enum StoreState {
    /// A seed has none.
    None,
    Open(Reader<RocksEngine>),
    /// The node has stopped.
    Closed,
}

impl From<Option<Reader<RocksEngine>>> for StoreState {
    fn from(reader: Option<Reader<RocksEngine>>) -> Self {
        reader.map_or(Self::None, Self::Open)
    }
}

impl Parts {
    /// Commits writes, to Starling's own keyspaces as well.
    pub async fn write_unchecked(&self, batch: Batch) -> Result<Vec<Outcome>, Error> {
        self.gossip.write(batch).await.ok_or_else(stopping)?
    }

    /// Lets go of the store. Reads fail from here on.
    pub fn close(&self) {
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = StoreState::Closed;
    }
}

impl Handle {
    /// The handle of the program that runs the node.
    pub(crate) fn new(parts: Arc<Parts>) -> Self {
        let caller = Caller::program(Some(Arc::clone(&parts.audit)));
        Self { parts, caller }
    }

    /// The same node, with the rights of a caller.
    #[must_use]
    pub fn for_caller(&self, caller: Caller) -> Self {
        Self { parts: Arc::clone(&self.parts), caller }
    }

    /// Whose rights the handle has.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The record of administrative actions.
    pub fn audit(&self) -> &Arc<Audit> {
        &self.parts.audit
    }

    /// The authority's statements, as far as the node has them.
    pub(crate) fn trusted(&self) -> Arc<Trust> {
        Arc::clone(&self.parts.trust.borrow())
    }

    /// An eventual keyspace. It exists while it holds a key; no call creates it. After [`EVENTUAL_PREFIX`] the name may be
    /// that of a strong keyspace, too.
    ///
    /// # Errors
    /// The name belongs to a strong keyspace or to Starling itself.
    pub fn eventual(&self, keyspace: impl Into<String>) -> Result<EventualKeyspace, Error> {
        let mut keyspace = keyspace.into();
        self.caller.check_known(keyspace.strip_prefix(EVENTUAL_PREFIX).unwrap_or(&keyspace))?;
        if let Some(name) = keyspace.strip_prefix(EVENTUAL_PREFIX) {
            check_reserved(name)?;
            keyspace = name.into();
        } else {
            self.check_eventual(&keyspace)?;
        }
        Ok(EventualKeyspace { node: self.clone(), keyspace })
    }

    /// A strong keyspace, whether or not it exists: requests to one that does not exist fail.
    ///
    /// # Errors
    /// This node is a seed.
    pub fn strong(&self, keyspace: impl Into<Arc<str>>) -> Result<StrongKeyspace, Error> {
        self.reader()?;
        let (node, calls) = (self.parts.node.0, self.parts.gossip.calls().clone());
        Ok(StrongKeyspace::new(keyspace, node, calls).for_caller(self.caller.clone()))
    }

    /// Whether this node knows a strong keyspace of this name. One that was created a moment ago may not be known
    /// yet.
    pub fn knows_strong(&self, keyspace: &str) -> bool {
        self.parts.names.contains(keyspace)
    }

    /// The node itself, its peers and its network.
    pub fn admin(&self) -> Admin {
        Admin(self.clone())
    }

    /// Commits writes to eventual keyspaces, together or not at all, at the configured durability. Waits
    /// while too many writes are in flight.
    pub async fn write(&self, mut batch: Batch) -> Result<Vec<Outcome>, Error> {
        for write in &mut batch.writes {
            let beside = write.keyspace.strip_prefix(EVENTUAL_PREFIX).map(ToOwned::to_owned);
            let is_beside = beside.is_some();
            write.keyspace = beside.unwrap_or(std::mem::take(&mut write.keyspace));
            self.caller.check(&Operation::Write(write))?;
            if !is_beside {
                self.check_eventual(&write.keyspace)?;
            } else if matches!(write.op, Op::Delete | Op::DeletePrefix) {
                check_reserved(&write.keyspace)?;
            } else {
                let name = &write.keyspace;
                let message = format!("through {EVENTUAL_PREFIX}{name} keys can be read and deleted only");
                return Err(Error::invalid(message, format!("write to {name}, or to another keyspace")));
            }
        }
        let swept: Vec<String> = batch.writes.iter().filter_map(swept).collect();
        let outcome = self.parts.write_unchecked(batch).await;
        for target in swept {
            self.caller.record_swept("del --prefix", &target, outcome.as_ref().map(drop));
        }
        outcome
    }

    /// Bounds on writes.
    pub fn limits(&self) -> &Limits {
        &self.parts.limits
    }

    /// Fails where an eventual keyspace may not have this name: a strong one has it, or Starling itself.
    fn check_eventual(&self, keyspace: &str) -> Result<(), Error> {
        check_reserved(keyspace)?;
        if self.parts.names.contains(keyspace) {
            let hint = format!(
                "it holds keys and values only: `starling put`, `get`, `del`; over HTTP POST /v1/strong/{keyspace}/call"
            );
            let message = format!("{keyspace} is a strong keyspace");
            return Err(Error::new(ErrorCode::OtherKeyspace, message, hint));
        }
        Ok(())
    }

    /// The store's snapshots; a seed has none.
    pub(crate) fn reader(&self) -> Result<Reader<RocksEngine>, Error> {
        match &*self.parts.store.read().unwrap_or_else(PoisonError::into_inner) {
            StoreState::Open(reader) => Ok(reader.clone()),
            StoreState::None => Err(no_store()),
            StoreState::Closed => Err(stopping()),
        }
    }

    /// Changes of keys from now on.
    pub(crate) fn changes(&self) -> Result<broadcast::Receiver<Arc<ChangeSet>>, Error> {
        self.parts.changes.upgrade().map(|changes| changes.subscribe()).ok_or_else(stopping)
    }
}

/// What a write deletes without naming each key, for the audit log.
fn swept(write: &Write) -> Option<String> {
    (write.op == Op::DeletePrefix).then(|| format!("{}: {}", write.keyspace, escaped(&write.key)))
}

/// Fails for Starling's own keyspaces.
fn check_reserved(keyspace: &str) -> Result<(), Error> {
    if keyspace.starts_with('.') { Err(reserved()) } else { Ok(()) }
}

/// Names of Starling's own keyspaces begin with a dot.
pub(crate) fn reserved() -> Error {
    let hint = "choose a name that begins with a letter or a digit";
    Error::invalid("names that begin with a dot are Starling's own", hint)
}
