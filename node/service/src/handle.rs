//! The typed interface of a running node. Servers and embedding programs use this and nothing else.

use std::sync::{Arc, PoisonError, RwLock};

use starling_api::{EVENTUAL_PREFIX, Error, ErrorCode};
use starling_kv::{Batch, Limits, Op, Outcome, Reader};
use starling_proto::NodeId;
use starling_rocks::RocksEngine;
use tokio::sync::broadcast;

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
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Parts>);

/// What a handle works with.
pub(crate) struct Parts {
    /// The node's id.
    pub(crate) node: NodeId,
    /// The way to the gossip thread.
    pub gossip: Gossip,
    /// The store's snapshots, while the node runs: an open reader keeps the store's directory in use.
    store: RwLock<StoreState>,
    /// Names of strong keyspaces.
    pub names: Names,
    /// Keys that changed, for watches. The gossip thread owns the sender: watches end with it.
    changes: broadcast::WeakSender<Arc<ChangeSet>>,
    /// Bounds on writes.
    pub limits: Limits,
}

/// Whether there is a store to read.
enum StoreState {
    /// A seed has none.
    None,
    Open(Reader<RocksEngine>),
    /// The node has stopped.
    Closed,
}

impl Parts {
    /// The parts of a node that runs; a seed has no reader.
    pub fn new(
        node: NodeId,
        gossip: Gossip,
        reader: Option<Reader<RocksEngine>>,
        names: Names,
        changes: broadcast::WeakSender<Arc<ChangeSet>>,
        limits: Limits,
    ) -> Self {
        let store = RwLock::new(reader.map_or(StoreState::None, StoreState::Open));
        Self { node, gossip, store, names, changes, limits }
    }

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
    /// An eventual keyspace. It exists while it holds a key; no call creates it. After [`EVENTUAL_PREFIX`] the name may be
    /// that of a strong keyspace, too.
    ///
    /// # Errors
    /// The name belongs to a strong keyspace or to Starling itself.
    pub fn eventual(&self, keyspace: impl Into<String>) -> Result<EventualKeyspace, Error> {
        let mut keyspace = keyspace.into();
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
        Ok(StrongKeyspace::new(keyspace, self.0.node.0, self.0.gossip.calls().clone()))
    }

    /// Whether this node knows a strong keyspace of this name. One that was created a moment ago may not be known
    /// yet.
    pub fn knows_strong(&self, keyspace: &str) -> bool {
        self.0.names.contains(keyspace)
    }

    /// The node itself, its peers and its network.
    pub fn admin(&self) -> Admin {
        Admin(self.clone())
    }

    /// Commits writes to eventual keyspaces, together or not at all, at the configured durability. Waits
    /// while too many writes are in flight.
    pub async fn write(&self, mut batch: Batch) -> Result<Vec<Outcome>, Error> {
        for write in &mut batch.writes {
            match write.keyspace.strip_prefix(EVENTUAL_PREFIX) {
                Some(name) if matches!(write.op, Op::Delete | Op::DeletePrefix) => {
                    check_reserved(name)?;
                    write.keyspace = name.into();
                }
                Some(name) => {
                    let message =
                        format!("through {EVENTUAL_PREFIX}{name} keys can be read and deleted only");
                    return Err(Error::invalid(message, format!("write to {name}, or to another keyspace")));
                }
                None => self.check_eventual(&write.keyspace)?,
            }
        }
        self.0.write_unchecked(batch).await
    }

    /// Bounds on writes.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Fails where an eventual keyspace may not have this name: a strong one has it, or Starling itself.
    fn check_eventual(&self, keyspace: &str) -> Result<(), Error> {
        check_reserved(keyspace)?;
        if self.0.names.contains(keyspace) {
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
        match &*self.0.store.read().unwrap_or_else(PoisonError::into_inner) {
            StoreState::Open(reader) => Ok(reader.clone()),
            StoreState::None => Err(no_store()),
            StoreState::Closed => Err(stopping()),
        }
    }

    /// Changes of keys from now on.
    pub(crate) fn changes(&self) -> Result<broadcast::Receiver<Arc<ChangeSet>>, Error> {
        self.0.changes.upgrade().map(|changes| changes.subscribe()).ok_or_else(stopping)
    }
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
