//! The URLs at which nodes serve etcd clients, with the strong keyspace of each. They are fields in the part of a node's
//! signed record that is kept for later versions ([`NodeRecord::more`]), so 0.1.0 passes them on unread. A field is its tag
//! and its length, one byte each, and its bytes; a node skips fields that it does not know.

use starling_proto::NodeRecord;
use starling_proto::record::MORE_BYTES_MAX;

/// The tag of a URL: one byte with the length of the keyspace's name, the name, the URL.
const CLIENT_URL: u8 = 1;

/// The fields for these keyspaces and URLs, and those that did not fit into a record.
pub fn encode(urls: &[(String, String)]) -> (Vec<u8>, Vec<&(String, String)>) {
    let mut fields = Vec::new();
    let mut omitted = Vec::new();
    for url in urls {
        let (keyspace, text) = (url.0.as_bytes(), url.1.as_bytes());
        let length = u8::try_from(1 + keyspace.len() + text.len());
        match (length, u8::try_from(keyspace.len())) {
            (Ok(length), Ok(name)) if fields.len() + 2 + usize::from(length) <= MORE_BYTES_MAX => {
                fields.extend([CLIENT_URL, length, name]);
                fields.extend_from_slice(keyspace);
                fields.extend_from_slice(text);
            }
            _ => omitted.push(url),
        }
    }
    (fields, omitted)
}

/// The URLs at which a node serves a keyspace to etcd clients.
pub fn decode(record: &NodeRecord, keyspace: &str) -> Vec<String> {
    let mut urls = Vec::new();
    let mut rest = record.more.as_slice();
    while let [tag, length, after @ ..] = rest {
        let Some((field, next)) = after.split_at_checked(usize::from(*length)) else { break };
        rest = next;
        if *tag == CLIENT_URL
            && let Some((name_bytes, field)) = field.split_first()
            && let Some((name, url)) = field.split_at_checked(usize::from(*name_bytes))
            && name == keyspace.as_bytes()
            // Another node wrote it, and clients print it.
            && url.iter().all(u8::is_ascii_graphic)
        {
            urls.extend(String::from_utf8(url.to_vec()));
        }
    }
    urls
}

#[cfg(test)]
mod tests {
    use starling_proto::{NodeId, Role};

    use super::*;

    fn record(more: Vec<u8>) -> NodeRecord {
        NodeRecord { more, ..NodeRecord::new(NodeId([1; 32]), 1, Role::Replica) }
    }

    fn url(keyspace: &str, url: &str) -> (String, String) {
        (keyspace.into(), url.into())
    }

    #[test]
    fn urls_are_found_by_keyspace_beside_fields_of_later_versions() {
        let urls = [url("orders", "http://a:1"), url("jobs", "http://a:2"), url("orders", "https://b:3")];
        let (fields, omitted) = encode(&urls);
        assert!(omitted.is_empty());
        let record = record([&[77, 3, 1, 2, 3][..], &fields].concat());
        assert_eq!(decode(&record, "orders"), ["http://a:1", "https://b:3"]);
        assert_eq!(decode(&record, "jobs"), ["http://a:2"]);
        assert!(decode(&record, "order").is_empty());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let long = "http://".to_owned() + &"x".repeat(100);
        let urls = [
            url("a", &long),
            url("b", &long),
            url("c", &long),
            url("d", "http://d:1"),
            url("e", &long.repeat(3)),
        ];
        let (fields, omitted) = encode(&urls);
        assert!(fields.len() <= MORE_BYTES_MAX);
        assert_eq!(omitted, [&urls[2], &urls[4]]);
        assert_eq!(decode(&record(fields), "d"), ["http://d:1"]);
    }

    #[test]
    fn damaged_fields_are_skipped() {
        for more in [&[][..], &[1], &[1, 9, 1], &[1, 0], &[1, 1, 200], &[1, 3, 1, b'k', 0x1b]] {
            assert!(decode(&record(more.to_vec()), "k").is_empty(), "{more:?}");
        }
    }
}
