//! `testnet bench`: a measurement that counts, and measures no time, runs and meets its targets.

use serde_json::Value;
use starling_tests::testnet;

#[test]
fn two_replicas_with_copied_stores_find_out_that_they_are_equal() {
    let run =
        testnet().args(["bench", "equal", "--keys", "2000", "--output", "json"]).output().expect("it runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let report: Value = serde_json::from_slice(&run.stdout).expect("JSON on standard output");
    let bars = report["bars"].as_array().expect("a list");
    assert!(bars.len() == 3 && bars.iter().all(|bar| bar["met"] == true), "{bars:?}");
}
