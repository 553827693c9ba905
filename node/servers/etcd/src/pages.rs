//! Reads of ranges that do not fit into one answer of the keyspace, page by page. etcd's clients expect the whole
//! range in one answer, unless they set a limit themselves.

use std::cmp::Ordering;

use starling_service::StrongError;
use starling_strong::api::{Answer, Body, Found, KeyValue, Keys, Range, Revision, SortBy, SortOrder};
use tonic::Status;

use crate::convert::unexpected;
use crate::failure::status;

/// Keys and values in one answer, bytes, at most. A guess: far above what clients accept by default, and small enough
/// for a node's memory when there are a few at once.
pub const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Reads a whole range at one revision, and returns it with the keyspace's revision.
pub async fn all<F>(range: Range, read: impl Fn(Range) -> F) -> Result<(Revision, Found), Status>
where
    F: Future<Output = Result<Answer, StrongError>>,
{
    let (revision, first) = one(read(range.clone()).await)?;
    if !first.more || range.limit != 0 && first.kvs.len() as u64 >= range.limit {
        return Ok((revision, first));
    }
    // The pages follow one another in the order of keys, all at the revision of the first one.
    let at = if range.revision == 0 { revision } else { range.revision };
    let pages = Range { revision: at, limit: 0, sort: None, ..range.clone() };
    let mut found = Found { kvs: Vec::new(), more: false, count: first.count };
    let mut next = if range.sort.is_none() { Some(append(&mut found, first, &pages)) } else { None };
    let mut bytes = held(&found.kvs);
    loop {
        let keys = match next {
            None => pages.keys.clone(),
            Some(None) => break,
            Some(Some(ref keys)) => keys.clone(),
        };
        let (_, page) = one(read(Range { keys, ..pages.clone() }).await)?;
        bytes += held(&page.kvs);
        if bytes > ANSWER_BYTES_MAX {
            return Err(Status::resource_exhausted(format!(
                "the range holds more than {ANSWER_BYTES_MAX} bytes: ask for less, with a limit"
            )));
        }
        next = Some(append(&mut found, page, &pages));
    }
    if let Some((by, order)) = range.sort {
        found.kvs.sort_by(|a, b| compare(a, b, by, order));
    }
    if range.limit != 0 && found.kvs.len() as u64 > range.limit {
        found.kvs.truncate(usize::try_from(range.limit).unwrap_or(usize::MAX));
        found.more = true;
    }
    Ok((revision, found))
}

fn one(answer: Result<Answer, StrongError>) -> Result<(Revision, Found), Status> {
    let answer = answer.map_err(|error| status(&error))?;
    let Body::Range(found) = answer.body else { return Err(unexpected()) };
    Ok((answer.revision, found))
}

/// Adds a page. Returns the keys after it, if there may be any; none if the page made no progress.
fn append(found: &mut Found, page: Found, pages: &Range) -> Option<Keys> {
    let after = page.kvs.last().filter(|_| page.more).map(|last| [last.key.as_slice(), &[0]].concat());
    found.kvs.extend(page.kvs);
    match &pages.keys {
        Keys::Range { to, .. } => after.map(|from| Keys::Range { from, to: to.clone() }),
        Keys::One(_) => None,
    }
}

fn held(kvs: &[KeyValue]) -> usize {
    kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum()
}

fn compare(a: &KeyValue, b: &KeyValue, by: SortBy, order: SortOrder) -> Ordering {
    let ascending = match by {
        SortBy::Key => a.key.cmp(&b.key),
        SortBy::Version => a.version.cmp(&b.version),
        SortBy::CreateRevision => a.create_revision.cmp(&b.create_revision),
        SortBy::ModRevision => a.mod_revision.cmp(&b.mod_revision),
        SortBy::Value => a.value.cmp(&b.value),
    };
    match order {
        SortOrder::Ascending => ascending,
        SortOrder::Descending => ascending.reverse(),
    }
}

#[cfg(test)]
mod tests {
    use starling_strong::api::{Answer, Body, Found, KeyValue, Keys, Range, SortBy, SortOrder};

    use super::all;

    const KEYS: u64 = 10;

    /// A keyspace of ten keys, of which three fit into an answer. Values count down.
    fn answer(range: &Range) -> Answer {
        let Keys::Range { from, .. } = &range.keys else { panic!("one key") };
        let kv = |n: u64| KeyValue {
            key: format!("k{n}").into_bytes(),
            value: format!("{}", KEYS - 1 - n).into_bytes(),
            ..KeyValue::default()
        };
        let mut kvs: Vec<_> = (0..KEYS).map(kv).filter(|kv| kv.key >= *from).collect();
        let count = kvs.len() as u64;
        if range.sort.is_some() {
            kvs.reverse();
        }
        let fit = if range.limit == 0 { 3 } else { range.limit.min(3) as usize };
        let more = kvs.len() > fit;
        kvs.truncate(fit);
        assert!(range.revision == 0 || range.revision == 7, "another revision than the first page's");
        Answer { revision: 7, body: Body::Range(Found { kvs, more, count }) }
    }

    fn range(limit: u64, sort: Option<(SortBy, SortOrder)>) -> Range {
        Range { limit, sort, ..Range::of(Keys::Range { from: b"k".to_vec(), to: None }) }
    }

    async fn keys(limit: u64, sort: Option<(SortBy, SortOrder)>) -> (String, bool, u64) {
        let (_, found) = all(range(limit, sort), async |range| Ok(answer(&range))).await.expect("a range");
        let keys = found.kvs.iter().map(|kv| char::from(kv.key[1])).collect();
        (keys, found.more, found.count)
    }

    #[tokio::test]
    async fn a_range_is_whole_in_whatever_order() {
        assert_eq!(keys(0, None).await, ("0123456789".into(), false, KEYS));
        assert_eq!(keys(2, None).await, ("01".into(), true, KEYS));
        assert_eq!(keys(5, None).await, ("01234".into(), true, KEYS));
        let by_value = Some((SortBy::Value, SortOrder::Ascending));
        assert_eq!(keys(0, by_value).await, ("9876543210".into(), false, KEYS));
        assert_eq!(keys(4, by_value).await, ("9876".into(), true, KEYS));
    }
}
