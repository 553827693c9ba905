//! `testnet churn` with every kind of fault, and what its report has to say.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// Of five nodes one is killed, one stands still, one loses its disk; one joins.
pub const FAULTS: &str = r#"
about = "A bit of everything."
nodes = 5
warmup_s = 1
measure_s = 9

[workload]
writes_s = 40
keys = 200
mix = { put = 6, delete = 2, put_ttl = 1, incr = 2, set_add = 2, set_remove = 1 }

[[step]]
at_s = 1
do = "kill"
nodes = "node:1"
for_s = 1

[[step]]
at_s = 2
do = "stall"
nodes = "node:2"
for_s = 1

[[step]]
at_s = 3
do = "wipe"
nodes = "node:3"
for_s = 0.5

[[step]]
at_s = 5
do = "join"
count = 1
"#;

/// Slow links of which one is cut, to be added to [`FAULTS`].
pub const SLOW_AND_CUT: &str = r#"
[links]
latency = { uniform_ms = [1, 5] }
jitter_ms = 1
loss = 0.01

[[step]]
at_s = 4
do = "partition"
nodes = "node:4"
for_s = 3
"#;

/// Starts a run, and waits until clients write.
pub fn begun(mut command: Command) -> Child {
    let mut child = command.stderr(Stdio::piped()).spawn().expect("it runs");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("warming up")), "it ended before its nodes were started");
    // The run must not wait for a reader of what it still prints.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

/// The report of a run of [`FAULTS`] with `--output json`, in which nothing was lost and nothing came back.
pub fn sound_report(run: &Output) -> Value {
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{errors}");
    let report: Value = serde_json::from_slice(&run.stdout).expect("JSON on standard output");
    let writes = &report["writes"];
    for count in ["lost", "missing", "resurrected"] {
        assert_eq!(writes[count], 0, "{count}: {errors}");
    }
    assert!(writes["acknowledged"].as_u64() > Some(100), "{writes}");
    assert_eq!(report["views"]["components"], 1, "{errors}");
    assert_eq!(report["topology"]["nodes"].as_array().map(Vec::len), Some(6), "one has joined");
    report
}

/// Whether the cut of [`SLOW_AND_CUT`] was healed: one overlay again, and equal replicas.
pub fn is_healed(report: &Value) -> bool {
    let healing = report["healing"].as_array().expect("a list");
    let partition = healing.iter().find(|h| h["what"].as_str().is_some_and(|what| what.contains("cut off")));
    partition.is_some_and(|h| h["one_component_ms"].is_u64() && h["equal_ms"].is_u64())
}
