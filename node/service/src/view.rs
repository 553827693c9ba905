//! Conversion of the store's contents into the API's types.

use starling_api::{Blob, Entry, KeyInfo, Listing};
use starling_kv::{Contents, Page};

/// The contents of a key, of all its types; `None` if this version can read nothing of it.
pub fn entry(keyspace: &str, key: Vec<u8>, contents: Contents) -> Option<Entry> {
    let mut all = contents.data.into_iter();
    Some(Entry { keyspace: keyspace.into(), data: all.next()?, key: Blob(key), also: all.collect() })
}

/// A page of keys; with `values`, what they hold as well.
pub fn listing(page: Page, values: bool) -> Listing {
    let info = |(key, contents): (Vec<u8>, Contents)| {
        let types = contents.kinds();
        KeyInfo { key: Blob(key), types, data: if values { contents.data } else { Vec::new() } }
    };
    Listing { keys: page.items.into_iter().map(info).collect(), next: page.next.map(Blob) }
}
