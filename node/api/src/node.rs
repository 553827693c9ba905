//! The traits that an embedded node and a client of a remote one have in common.

use futures::stream::BoxStream;
use serde::Serialize;

use crate::strong::{StrongAnswer, StrongCall, StrongEvent};
use crate::{Batch, BatchResponse, Blob, Entry, Error, ErrorCode, Listing, Op, Outcome, WatchEvent, Write};

/// The events of a watch, until the caller drops it or the node ends it.
pub type Events<E> = BoxStream<'static, Result<E, Error>>;

/// The condition of a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    /// No condition.
    #[default]
    Any,
    /// Only if the key holds nothing.
    Absent,
    /// Only if the key has exactly this version.
    Version(String),
}

/// The keys to list, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Range {
    /// Keys that begin with this.
    #[serde(skip)]
    pub prefix: Blob,
    /// Keys from this one on.
    #[serde(skip)]
    pub start: Option<Blob>,
    /// Keys before this one.
    #[serde(skip)]
    pub end: Option<Blob>,
    /// Keys after this one: the cursor of the page before.
    #[serde(skip)]
    pub after: Option<Blob>,
    /// Keys in the answer, at most.
    pub limit: Option<usize>,
    /// Whether the answer contains what the keys hold.
    pub values: bool,
}

/// Eventual keyspaces, embedded or remote. Code that takes an `impl Eventual` runs with both.
pub trait Eventual {
    /// The contents of a key of any type; `None` if it holds nothing.
    fn entry(&self, keyspace: &str, key: &[u8]) -> impl Future<Output = Result<Option<Entry>, Error>> + Send;

    /// One page of keys. For the next one set `after` to the listing's `next`.
    fn list(&self, keyspace: &str, range: &Range) -> impl Future<Output = Result<Listing, Error>> + Send;

    /// Applies several writes, together or not at all.
    fn batch(&self, batch: Batch) -> impl Future<Output = Result<BatchResponse, Error>> + Send;

    /// Changes of keys that begin with `prefix`, from now on. The first event is [`WatchEvent::Ready`].
    fn watch(
        &self,
        keyspace: &str,
        prefix: &[u8],
    ) -> impl Future<Output = Result<Events<WatchEvent>, Error>> + Send;

    /// Applies one write.
    fn write(&self, write: Write) -> impl Future<Output = Result<Outcome, Error>> + Send
    where
        Self: Sync,
    {
        async {
            let answer = self.batch(Batch { writes: vec![write] }).await?;
            let missing = || Error::new(ErrorCode::Internal, "a write has no result", "see the node's log");
            answer.results.into_iter().next().ok_or_else(missing)
        }
    }

    /// Sets a register.
    fn put(
        &self,
        keyspace: &str,
        key: impl Into<Blob>,
        value: impl Into<Blob>,
    ) -> impl Future<Output = Result<Outcome, Error>> + Send
    where
        Self: Sync,
    {
        self.write(Write::new(keyspace, key.into().0, Op::Put { value: value.into().0.into() }))
    }
}

/// Strong keyspaces, embedded or remote. Code that takes an `impl Strong` runs with both, including
/// locks, elections and queues.
pub trait Strong {
    /// Sends a request and returns its answer.
    fn call(
        &self,
        keyspace: &str,
        call: StrongCall,
    ) -> impl Future<Output = Result<StrongAnswer, Error>> + Send;

    /// Changes of keys that begin with `prefix` from a revision on, or (0) from now on. The first event is
    /// [`StrongEvent::Ready`].
    fn changes(
        &self,
        keyspace: &str,
        prefix: &[u8],
        from_revision: u64,
    ) -> impl Future<Output = Result<Events<StrongEvent>, Error>> + Send;
}
