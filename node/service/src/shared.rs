//! The traits that an embedded node has in common with a client of a remote one.

use futures::{StreamExt, stream};
use starling_api::strong::{Keys, StrongAnswer, StrongCall, StrongEvent};
use starling_api::{
    Batch, BatchResponse, Blob, Entry, Error, Events, Eventual, Listing, PAGE_KEYS_DEFAULT, Range, Strong,
    WatchEvent,
};
use starling_strong::api::{Event, EventKind, Watch};

use crate::handle::Handle;
use crate::strong::StrongWatchEvent;
use crate::view;
use crate::watch::KeyEvent;

/// Members and fields shown of one key in a listing; the rest is read page by page.
const LISTED_FIELDS_MAX: usize = 100;

impl Eventual for Handle {
    async fn entry(&self, keyspace: &str, key: &[u8]) -> Result<Option<Entry>, Error> {
        let held = self.eventual(keyspace)?.read(key, PAGE_KEYS_DEFAULT).await?;
        Ok(held.and_then(|held| view::entry(keyspace, key.to_vec(), held)))
    }

    async fn list(&self, keyspace: &str, range: &Range) -> Result<Listing, Error> {
        let bytes = |bound: &Option<Blob>| bound.as_ref().map(|bound| bound.0.clone());
        let keys = starling_kv::Range {
            prefix: range.prefix.0.clone(),
            start: bytes(&range.start),
            end: bytes(&range.end),
            after: bytes(&range.after),
        };
        let fields_max = if range.values { LISTED_FIELDS_MAX } else { 0 };
        let limit = range.limit.unwrap_or(PAGE_KEYS_DEFAULT);
        let page = self.eventual(keyspace)?.list(&keys, limit, fields_max).await?;
        Ok(view::listing(page, range.values))
    }

    async fn batch(&self, batch: Batch) -> Result<BatchResponse, Error> {
        Ok(BatchResponse { results: Handle::write(self, batch).await? })
    }

    async fn watch(&self, keyspace: &str, prefix: &[u8]) -> Result<Events<WatchEvent>, Error> {
        let watch = self.eventual(keyspace)?.watch(prefix)?;
        let ready = stream::once(std::future::ready(WatchEvent::Ready));
        let changes = stream::unfold(watch, |mut watch| async move {
            let event = watch.next().await?;
            Some((shown(watch.keyspace(), event), watch))
        });
        Ok(ready.chain(changes).map(Ok).boxed())
    }
}

fn shown(keyspace: &str, event: KeyEvent) -> WatchEvent {
    match event {
        KeyEvent::Put { key, held } => match view::entry(keyspace, key.clone(), held) {
            Some(entry) => WatchEvent::Put(entry),
            None => WatchEvent::Delete { keyspace: keyspace.into(), key: Blob(key) },
        },
        KeyEvent::Delete { key } => WatchEvent::Delete { keyspace: keyspace.into(), key: Blob(key) },
        KeyEvent::Lagged { hint } => WatchEvent::Lagged { hint: hint.into() },
    }
}

impl Strong for Handle {
    async fn call(&self, keyspace: &str, call: StrongCall) -> Result<StrongAnswer, Error> {
        let (request, options) = call.into_parts();
        let keyspace = self.strong(keyspace)?;
        let (answer, stale) = if options.stale {
            let (answer, staleness) = keyspace.request_stale(request, options).await?;
            (answer, Some(staleness))
        } else {
            (keyspace.request(request, options).await?, None)
        };
        Ok(StrongAnswer { revision: answer.revision, stale, body: answer.body })
    }

    async fn changes(
        &self,
        keyspace: &str,
        prefix: &[u8],
        from_revision: u64,
    ) -> Result<Events<StrongEvent>, Error> {
        let keyspace = self.strong(keyspace)?;
        let watch = Watch { keys: Keys::prefix(prefix.into()), from_revision, prev: false, only: None };
        keyspace.may_watch(&watch)?;
        // That there is no such keyspace is answered at once, and not by a watch that is lost later.
        keyspace.status(false).await?;
        let watch = keyspace.watch(watch).await?;
        let updates = stream::unfold(watch, |mut watch| async move { Some((watch.next().await?, watch)) });
        Ok(updates.flat_map(|update| stream::iter(told(update))).map(Ok).boxed())
    }
}

fn told(event: StrongWatchEvent) -> Vec<StrongEvent> {
    match event {
        StrongWatchEvent::Ready { revision } => vec![StrongEvent::Ready { revision }],
        StrongWatchEvent::Changes(changes) => changes.into_iter().map(changed).collect(),
        StrongWatchEvent::Compacted { oldest } => vec![StrongEvent::Compacted { oldest }],
        StrongWatchEvent::Lost { reason } => vec![StrongEvent::Lost { reason }],
    }
}

fn changed(change: Event) -> StrongEvent {
    match change.kind {
        EventKind::Put => StrongEvent::Put { kv: change.kv },
        EventKind::Delete => {
            StrongEvent::Delete { key: Blob(change.kv.key), revision: change.kv.mod_revision }
        }
    }
}
