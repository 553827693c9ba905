//! Any bytes as a delta of a peer: joined whole or refused, never a panic; and a join that was
//! accepted is idempotent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use starling_kv::{MemoryEngine, Options, Store};

fuzz_target!(|delta: &[u8]| {
    let engine = MemoryEngine::default();
    let mut store = Store::open(engine, Options::default(), [7; 32]).expect("a memory engine opens");
    if store.join(1_767_225_600_000, delta).is_ok() {
        let root = store.root();
        let again = store.join(1_767_225_600_000, delta).expect("it was accepted before");
        assert!(!again.changed, "joining the same delta twice changed something");
        assert_eq!(store.root(), root);
    }
});
