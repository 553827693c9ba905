//! `testnet strong`: voters of a strong keyspace are killed and stopped while clients do everything, and every
//! answer is checked.

use serde_json::Value;
use starling_tests::testnet;

/// Runs it for some seconds of faults, and asserts on its checks alone.
fn every_answer_holds(voters: &str, seed: &str) {
    let run = testnet()
        .args(["strong", "--voters", voters, "--seed", seed, "--seconds", "12", "--fault-ms", "1200"])
        .args(["--output", "json"])
        .output()
        .expect("it runs");
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{errors}");
    let report: Value = serde_json::from_slice(&run.stdout).expect("JSON on standard output");
    let checks = report["results"]["checks"].as_array().expect("a list");
    assert_eq!(checks.len(), 7, "{checks:?}");
    assert!(checks.iter().all(|check| check["violation"].is_null()), "{checks:?}");
    assert!(report["results"]["calls_checked"].as_u64() > Some(0), "{report}");
}

#[test]
fn three_voters_keep_every_promise_while_they_are_killed_and_stopped() {
    every_answer_holds("3", "1");
}

#[test]
fn five_voters_keep_every_promise_while_they_are_killed_and_stopped() {
    every_answer_holds("5", "2");
}
