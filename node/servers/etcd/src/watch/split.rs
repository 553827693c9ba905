//! Answers in several fragments, for clients that asked for them.

use prost::Message;
use starling_etcd_proto::etcdserverpb::WatchResponse;

/// Bytes of events in one fragment, at most: etcd's largest request and its overhead.
const PART_BYTES_MAX: usize = 2 << 20;

/// Splits an answer into fragments, all but the last of which are marked. A single larger event is a fragment of its
/// own.
pub fn split(mut whole: WatchResponse) -> Vec<WatchResponse> {
    let events = std::mem::take(&mut whole.events);
    let mut parts = Vec::new();
    let mut part = whole.clone();
    let mut bytes = 0;
    for event in events {
        let size = event.encoded_len();
        if bytes + size > PART_BYTES_MAX && !part.events.is_empty() {
            part.fragment = true;
            parts.push(std::mem::replace(&mut part, whole.clone()));
            bytes = 0;
        }
        bytes += size;
        part.events.push(event);
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use starling_etcd_proto::etcdserverpb::WatchResponse;
    use starling_etcd_proto::mvccpb::{Event, KeyValue};

    use super::{PART_BYTES_MAX, split};

    fn event(bytes: usize) -> Event {
        let kv = KeyValue { value: vec![1; bytes], ..KeyValue::default() };
        Event { kv: Some(kv), ..Event::default() }
    }

    #[test]
    fn parts_are_bounded_and_all_but_the_last_are_marked() {
        let half = PART_BYTES_MAX / 2;
        let events = vec![event(10), event(half), event(half), event(PART_BYTES_MAX * 2), event(1)];
        let parts = split(WatchResponse { watch_id: 7, events, ..WatchResponse::default() });
        let shape: Vec<_> = parts.iter().map(|part| (part.events.len(), part.fragment)).collect();
        assert_eq!(shape, [(2, true), (1, true), (1, true), (1, false)]);
        assert!(parts.iter().all(|part| part.watch_id == 7));
    }

    #[test]
    fn what_fits_is_whole() {
        let whole = WatchResponse { events: vec![event(1), event(2)], ..WatchResponse::default() };
        assert_eq!(split(whole.clone()), [whole]);
    }
}
