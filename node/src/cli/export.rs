//! `starling export`: keys of every type as NDJSON, one [`Entry`] a line; a large set or map takes
//! several lines.

use std::ffi::OsStr;

use starling_api::{Blob, Data, Entry, PAGE_KEYS_DEFAULT, Range};

use super::Session;
use super::print::{self, Result};
use super::value::bytes;

impl Session {
    /// Reads page by page: what changes meanwhile may or may not be in it.
    pub(super) async fn export(&self, prefix: &OsStr) -> Result {
        let mut range = Range {
            prefix: Blob(bytes(prefix)),
            limit: Some(PAGE_KEYS_DEFAULT),
            values: true,
            ..Range::default()
        };
        loop {
            let page = self.client.list(&self.keyspace, &range).await?;
            if page.keys.is_empty() && range.after.is_none() {
                return self.keyspace_exists().await;
            }
            for info in page.keys {
                for data in info.data {
                    self.export_data(&info.key, data).await?;
                }
            }
            range.after = page.next;
            if range.after.is_none() {
                return Ok(());
            }
        }
    }

    async fn export_data(&self, key: &Blob, mut data: Data) -> Result {
        loop {
            let next = match &mut data {
                Data::Set(page) => page.next.take(),
                Data::Map(page) => page.next.take(),
                _ => None,
            };
            let record = Entry { keyspace: self.keyspace.clone(), key: key.clone(), data, also: Vec::new() };
            print::json(&record)?;
            let Some(after) = next else { return Ok(()) };
            let more = match record.data {
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
}
