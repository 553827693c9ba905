//! Any bytes as a peer's frame about strong keyspaces, to a node that leads one, and as a published location:
//! handled or dropped, never a panic. What decodes encodes to the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use starling_core::strong::{
    CoreCall, Effect, GroupLocation, Strong, StrongConfig, StrongMessage, decode_frame, encode_frames,
};
use starling_kv::MemoryEngine;
use starling_proto::message::Payload;
use starling_proto::{NodeId, NodeRecord, Role};

const GROUP: [u8; 16] = [9; 16];

fn record(number: u8) -> NodeRecord {
    NodeRecord { name: format!("n{number}"), addresses: vec![format!("/ip4/10.0.{number}.1/tcp/7400")], signature: vec![0; 64], ..NodeRecord::new(NodeId([number; 32]), 1, Role::Replica) }
}

/// Time passes; every sync ends at once, and nothing is published.
fn pass(strong: &mut Strong<MemoryEngine>, now_ms: u64) {
    strong.handle_timeout(now_ms);
    strong.process_ready(now_ms);
    while let Some(effect) = strong.poll_output() {
        match effect {
            Effect::Sync(number) => strong.handle_synced(now_ms, number),
            Effect::Call(CoreCall::LookupFirst { from, message, .. }) => {
                strong.handle_looked_up(now_ms, from, *message);
            }
            _ => continue,
        }
        strong.process_ready(now_ms);
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(hint) = GroupLocation::decode(bytes) {
        assert_eq!(GroupLocation::decode(&hint.encode()), Ok(hint));
    }
    let frame = Payload(bytes.to_vec().into());
    let Ok(decoded) = decode_frame(&frame) else { return };
    let frames = encode_frames(&decoded.messages);
    let again = frames.iter().flat_map(decode_frame).flat_map(|frame| frame.messages).collect::<Vec<_>>();
    assert_eq!(again, decoded.messages);

    let engine = MemoryEngine::new();
    let mut strong = Strong::open(engine, record(1), StrongConfig::default(), [7; 32], 0).expect("a memory engine opens");
    let members = vec![record(1)];
    let create = StrongMessage::Create { group: GROUP, keyspace: "orders".into(), members, manual: false };
    let from = NodeId([2; 32]);
    strong.handle_connected(record(2));
    for frame in encode_frames(&[create]) {
        strong.handle_frame(0, from, &frame);
    }
    (1..=20).for_each(|turn| pass(&mut strong, turn * 100));
    assert!(strong.leads("orders"), "alone it leads");
    strong.handle_frame(2_100, from, &frame);
    (22..=40).for_each(|turn| pass(&mut strong, turn * 100));
});
