//! Keys and values that name the writes that made them, so that what a node holds tells which writes it has.

use starling_api::{Data, Entry, Error as ApiError, ErrorCode, PAGE_KEYS_MAX, Range};
use starling_client::Client;

use crate::history::WriteId;

/// The key of this number.
pub fn key_name(key: u64) -> String {
    format!("k{key}")
}

/// The member of a set that a write adds.
pub fn member_name(id: WriteId) -> String {
    format!("m{id}")
}

/// A value that names its write, as long as `padding` if there is room for the name.
pub fn value(id: WriteId, padding: &str) -> String {
    let name = format!("{id} ");
    let rest = padding.get(name.len()..).unwrap_or_default();
    name + rest
}

/// The number at the beginning of a text.
pub fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.split(' ').next()?.parse().ok()
}

/// The writes whose values an entry of a register shows, the winner first.
pub fn shown(entry: &Entry) -> Vec<WriteId> {
    std::iter::once(&entry.data).chain(&entry.also).flat_map(values).collect()
}

/// The writes whose values a register shows.
pub fn values(data: &Data) -> Vec<WriteId> {
    let Data::Register(register) = data else { return Vec::new() };
    let siblings = register.siblings.iter().map(|sibling| &sibling.value);
    let mut ids: Vec<WriteId> =
        std::iter::once(&register.value).chain(siblings).filter_map(|value| number(&value.0)).collect();
    // The value shown is the first of the siblings too.
    ids.dedup();
    ids
}

/// Every key of a keyspace with what it holds.
pub async fn list(client: &Client, keyspace: &str) -> Result<Vec<(u64, Data)>, ApiError> {
    let mut range = Range { limit: Some(PAGE_KEYS_MAX), values: true, ..Range::default() };
    let mut all = Vec::new();
    loop {
        let page = match client.list(keyspace, &range).await {
            // No key has been written, or every one was deleted.
            Err(error) if error.code == ErrorCode::NotFound => return Ok(all),
            page => page?,
        };
        for info in page.keys {
            if let Some(key) = info.key.0.strip_prefix(b"k").and_then(number) {
                all.extend(info.data.into_iter().map(|data| (key, data)));
            }
        }
        range.after = page.next;
        if range.after.is_none() {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use starling_api::{Register, Sibling};

    use super::*;

    #[test]
    fn a_value_names_its_write_and_is_as_long_as_asked() {
        let text = value(1234, &"x".repeat(20));
        assert_eq!((text.len(), number(text.as_bytes())), (20, Some(1234usize)));
        assert_eq!(number(value(7, "").as_bytes()), Some(7usize));
        assert_eq!(number::<usize>(b"somebody else's"), None);
        let sibling = |text: &str| Sibling { value: text.into(), ..Sibling::default() };
        let register = Register {
            value: "5 x".into(),
            siblings: vec![sibling("5 x"), sibling("3 y")],
            ..Register::default()
        };
        assert_eq!(values(&Data::Register(register)), [5, 3]);
    }
}
