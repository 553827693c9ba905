//! `starling export`: everything that a keyspace holds as NDJSON, to be imported again. A line of an eventual keyspace
//! is one [`Entry`], a large set or map takes several; a line of a strong keyspace is one [`Exported`].

use std::collections::BTreeSet;
use std::ffi::OsStr;

use serde::{Deserialize, Serialize};
use starling_api::strong::{Body, KeyValue, Request};
use starling_api::{Blob, Data, Entry, ErrorCode, PAGE_KEYS_DEFAULT, Range};
use starling_strong::line;

use super::Session;
use super::failure::Failure;
use super::print::{self, Result};
use super::strong::{Listed, unexpected};
use super::value::bytes;

/// Digits at the end of a key that `put --sequential` or `queue push` has made.
const SEQUENTIAL_DIGITS: usize = 20;

/// The types of lines of strong keyspaces.
pub const STRONG_TYPES: [&str; 2] = ["key", "lease"];

/// A line of a strong keyspace.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Exported {
    /// A key.
    Key {
        /// The keyspace.
        keyspace: String,
        /// The key; of a sequential one what it begins with.
        key: Blob,
        /// What it holds.
        value: Blob,
        /// The lease that it is attached to, in hexadecimal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease: Option<String>,
        /// Whether the keyspace has chosen the last 20 digits of the key. Its revisions begin anew where it is imported,
        /// so a key that kept its number would stand behind later ones.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        sequential: bool,
    },
    /// A lease that keys are attached to. Its time begins again when it is imported.
    Lease {
        /// The keyspace.
        keyspace: String,
        /// Its id in hexadecimal.
        id: String,
        /// How long it lasts, milliseconds.
        ttl_ms: u64,
    },
}

/// A line of an eventual keyspace.
#[derive(Serialize)]
struct EventualLine {
    #[serde(flatten)]
    entry: Entry,
    /// Whether the key holds another type as well, which a line before this one shows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    concurrent: bool,
}

impl Session {
    /// Reads page by page. Of an eventual keyspace, what changes meanwhile may or may not be in it; a strong one is
    /// read at one revision.
    pub(super) async fn export(&self, prefix: &OsStr) -> Result {
        let prefix = Blob(bytes(prefix));
        let strong = async |strong: &Self| strong.export_strong(&prefix).await;
        if self.if_strong(strong).await?.is_some() {
            return Ok(());
        }
        let mut range = Range { prefix, limit: Some(PAGE_KEYS_DEFAULT), values: true, ..Range::default() };
        loop {
            let page = self.client.list(&self.keyspace, &range).await?;
            if page.keys.is_empty() && range.after.is_none() {
                return self.keyspace_exists().await;
            }
            for info in page.keys {
                for (at, data) in info.data.into_iter().enumerate() {
                    self.export_data(&info.key, data, at > 0).await?;
                }
            }
            range.after = page.next;
            if range.after.is_none() {
                return Ok(());
            }
        }
    }

    async fn export_data(&self, key: &Blob, mut data: Data, concurrent: bool) -> Result {
        loop {
            let next = match &mut data {
                Data::Set(page) => page.next.take(),
                Data::Map(page) => page.next.take(),
                _ => None,
            };
            let entry = Entry { keyspace: self.keyspace.clone(), key: key.clone(), data, also: Vec::new() };
            let record = EventualLine { entry, concurrent };
            print::json(&record)?;
            let Some(after) = next else { return Ok(()) };
            let more = match record.entry.data {
                Data::Set(_) => {
                    self.client.members(&self.keyspace, &key.0, Some(&after)).await?.map(Data::Set)
                }
                _ => self.client.fields(&self.keyspace, &key.0, Some(&after)).await?.map(Data::Map),
            };
            // Deleted since.
            let Some(more) = more else { return Ok(()) };
            data = more;
        }
    }

    async fn export_strong(&self, prefix: &Blob) -> Result {
        // Leases first: an import attaches keys to them.
        let mut listed = Listed { prefix: prefix.clone(), ..Listed::default() };
        let mut leases = BTreeSet::new();
        let (revision, _) = self
            .each_page(&listed, |kvs| {
                leases.extend(kvs.iter().map(|kv| kv.lease));
                Ok(())
            })
            .await?;
        leases.remove(&0);
        // Those that have ended since, and their keys with them.
        let mut ended = BTreeSet::new();
        for id in leases {
            if !self.export_lease(id).await? {
                ended.insert(id);
            }
        }
        (listed.revision, listed.values) = (revision, true);
        let live = |kvs: Vec<KeyValue>| kvs.into_iter().filter(|kv| !ended.contains(&kv.lease));
        self.each_page(&listed, |kvs| live(kvs).try_for_each(|kv| print::json(&self.exported(kv)))).await?;
        Ok(())
    }

    /// Returns whether there is such a lease.
    async fn export_lease(&self, id: i64) -> std::result::Result<bool, Failure> {
        let request = Request::TimeToLive { id, keys: false };
        let body = match self.client.ask(&self.keyspace, &request.into()).await {
            Ok(answer) => answer.body,
            Err(error) if error.code == ErrorCode::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let Body::TimeToLive { granted_ms, .. } = body else { return Err(unexpected(&body)) };
        let (keyspace, id) = (self.keyspace.clone(), line::hex(id));
        print::json(&Exported::Lease { keyspace, id, ttl_ms: granted_ms })?;
        Ok(true)
    }

    fn exported(&self, kv: KeyValue) -> Exported {
        let (prefix, digits) = kv.key.split_at(kv.key.len().saturating_sub(SEQUENTIAL_DIGITS));
        let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok());
        let sequential = digits.len() == SEQUENTIAL_DIGITS && number == Some(kv.create_revision);
        Exported::Key {
            keyspace: self.keyspace.clone(),
            key: if sequential { prefix.into() } else { Blob(kv.key) },
            value: Blob(kv.value),
            lease: (kv.lease != 0).then(|| line::hex(kv.lease)),
            sequential,
        }
    }
}
