//! Listings: keys in order, page by page.

use std::ops::ControlFlow;

use starling_types::eventual::Data;

use super::contents::{Collector, Contents};
use super::{Reader, parse};
use crate::engine::{Family, View, prefix_end};
use crate::place::{bounds, key_prefix, keys_prefix};
use crate::{Engine, Error};

/// Bytes of values after which a page ends, even below its limit.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// A page ends after this many keys that hold nothing visible (all of it has expired): some 20 ms of work.
const HIDDEN_KEYS_MAX: usize = 1_000;

/// A range of keys of a keyspace. All bounds that are set apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// Keys that begin with this.
    pub prefix: Vec<u8>,
    /// Keys not below this.
    pub start: Option<Vec<u8>>,
    /// Keys below this.
    pub end: Option<Vec<u8>>,
    /// Keys above this: the last page's [`Page::next`].
    pub after: Option<Vec<u8>>,
}

/// Some keys, in order, with what they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys and what they hold.
    pub items: Vec<(Vec<u8>, Contents)>,
    /// The [`Range::after`] of the next page, if there may be one. A page without any key may have it too, where
    /// many keys have expired.
    pub next: Option<Vec<u8>>,
}

impl<E: Engine> Reader<E> {
    /// The keys of a range, at most `limit` of them and about 4 MiB, with at most `fields_max`
    /// elements or fields of each. One snapshot per page, and bounded work.
    pub fn list(
        &self,
        wall_ms: u64,
        keyspace: &str,
        range: &Range,
        limit: usize,
        fields_max: usize,
    ) -> Result<Page, Error> {
        let (mut from, to) = range.bounds(keyspace);
        let view = self.engine.view();
        let mut page = Page::default();
        let (mut bytes, mut hidden) = (0, 0);
        let mut collector = Collector::new(fields_max);
        while let Some(key) = first_key(&view, &from, to.as_deref())? {
            if page.items.len() >= limit || bytes >= PAGE_BYTES_MAX {
                page.next = page.items.last().map(|(key, _)| key.clone());
                break;
            }
            let (low, high) = bounds(key_prefix(keyspace, &key));
            self.scan(wall_ms, &view, (&low, high.as_deref()), &mut collector)?;
            if let Some(contents) = collector.finish() {
                bytes += key.len() + contents.data.iter().map(Data::bytes).sum::<usize>();
                page.items.push((key, contents));
            } else if hidden == HIDDEN_KEYS_MAX {
                page.next = Some(key);
                break;
            } else {
                hidden += 1;
            }
            match high {
                Some(high) => from = high,
                None => break,
            }
        }
        Ok(page)
    }
}

fn first_key(view: &impl View, from: &[u8], to: Option<&[u8]>) -> Result<Option<Vec<u8>>, Error> {
    let mut first = None;
    view.scan(Family::Cells, from, to, &mut |key, _| {
        first = Some(parse(key)?.key());
        Ok(ControlFlow::Break(()))
    })?;
    Ok(first)
}

impl Range {
    /// The bounds of its places.
    fn bounds(&self, keyspace: &str) -> (Vec<u8>, Option<Vec<u8>>) {
        let (mut from, mut to) = bounds(keys_prefix(keyspace, &self.prefix));
        if let Some(start) = &self.start {
            from = from.max(keys_prefix(keyspace, start));
        }
        if let Some(after) = self.after.as_ref().and_then(|after| prefix_end(&key_prefix(keyspace, after))) {
            from = from.max(after);
        }
        if let Some(end) = &self.end {
            // Below every place of `end` itself: its key ends with 00 01, longer keys continue with larger bytes.
            let end = keys_prefix(keyspace, end);
            to = Some(to.map_or_else(|| end.clone(), |to| to.min(end.clone())));
        }
        (from, to)
    }
}
