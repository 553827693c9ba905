//! Any bytes as what a peer says about strong keyspaces, to a node that leads one, and as a hint where one is:
//! handled or dropped, never a panic. What decodes encodes to the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use starling_core::strong::{
    Hint, Strong, StrongInput, StrongMessage, StrongOutput, decode_frame, encode_frames,
};
use starling_kv::MemoryEngine;
use starling_proto::message::Payload;
use starling_proto::{NodeId, NodeRecord, Role};

const GROUP: [u8; 16] = [9; 16];

fn record(number: u8) -> NodeRecord {
    NodeRecord {
        id: NodeId([number; 32]),
        incarnation: 1,
        revision: 0,
        role: Role::Replica,
        name: format!("n{number}"),
        addresses: vec![format!("/ip4/10.0.{number}.1/tcp/7400")],
        signature: vec![0; 64],
    }
}

/// Time passes; every sync ends at once.
fn pass(strong: &mut Strong<MemoryEngine>, now_ms: u64) {
    strong.handle(now_ms, StrongInput::Timeout);
    strong.settle(now_ms);
    while let Some(output) = strong.poll_output() {
        if let StrongOutput::Sync(number) = output {
            strong.handle(now_ms, StrongInput::Synced(number));
            strong.settle(now_ms);
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(hint) = Hint::decode(bytes) {
        assert_eq!(Hint::decode(&hint.encode()), Ok(hint));
    }
    let frame = Payload(bytes.to_vec().into());
    let Ok(messages) = decode_frame(&frame) else { return };
    let again = encode_frames(&messages).iter().flat_map(decode_frame).flatten().collect::<Vec<_>>();
    assert_eq!(again, messages);

    let engine = MemoryEngine::new();
    let mut strong = Strong::open(engine, record(1), None, [7; 32], 0).expect("a memory engine opens");
    let founders = vec![record(1)];
    let found = StrongMessage::Found { group: GROUP, keyspace: "orders".into(), founders, manual: false };
    let from = NodeId([2; 32]);
    strong.handle(0, StrongInput::Up(record(2)));
    for frame in encode_frames(&[found]) {
        strong.handle(0, StrongInput::Frame { from, frame });
    }
    (1..=20).for_each(|turn| pass(&mut strong, turn * 100));
    assert!(strong.leads("orders"), "alone it leads");
    strong.handle(2_100, StrongInput::Frame { from, frame });
    (22..=40).for_each(|turn| pass(&mut strong, turn * 100));
});
