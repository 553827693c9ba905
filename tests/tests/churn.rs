//! `testnet churn`: a scenario with every kind of fault on real processes, and what is left of it when it
//! is interrupted.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use starling_api::admin::{RUN_FILE, RunFile};
use starling_tests::testnet;

/// Five nodes: one is killed, one stands still, one loses its disk, one is cut off, one joins.
const SCENARIO: &str = r#"
about = "A bit of everything."
nodes = 5
warmup_s = 1
measure_s = 9

[links]
latency = { uniform_ms = [1, 5] }
jitter_ms = 1
loss = 0.01

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
at_s = 4
do = "partition"
nodes = "node:4"
for_s = 3

[[step]]
at_s = 5
do = "join"
count = 1
"#;

/// A step and a setting that name a release.
const OTHER_RELEASES: [&str; 2] = [
    "[[step]]\nat_s = 1\ndo = \"rolling_restart\"\nnodes = \"all\"\ngap_s = 1\nfor_s = 1\nrelease = \"previous\"\n",
    "[node]\nrelease = \"previous\"\n",
];

fn write_scenario(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("everything.toml");
    std::fs::write(&path, SCENARIO).expect("writable");
    path
}

#[test]
fn nothing_is_lost_and_nothing_comes_back_whatever_happens_to_the_processes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = testnet().arg("churn").arg(write_scenario(folder.path())).args(["--output", "json"]).output();
    let run = run.expect("it runs");
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{errors}");
    let report: Value = serde_json::from_slice(&run.stdout).expect("JSON on standard output");
    let writes = &report["writes"];
    for count in ["lost", "missing", "resurrected"] {
        assert_eq!(writes[count], 0, "{count}: {errors}");
    }
    assert!(writes["acknowledged"].as_u64() > Some(100), "{writes}");
    assert_eq!(report["source"]["kind"], "processes");
    assert_eq!(report["views"]["components"], 1, "{errors}");
    assert_eq!(report["topology"]["nodes"].as_array().map(Vec::len), Some(6), "one has joined");
    let healing = report["healing"].as_array().expect("a list");
    let partition = healing.iter().find(|h| h["what"].as_str().is_some_and(|what| what.contains("cut off")));
    assert!(
        partition.is_some_and(|h| h["one_component_ms"].is_u64() && h["equal_ms"].is_u64()),
        "{healing:?}"
    );
}

#[test]
fn an_interrupted_run_leaves_no_process_behind() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let mut child = testnet()
        .arg("churn")
        .arg(write_scenario(folder.path()))
        .arg("--dir")
        .arg(&data)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("warming up")), "it ended before its nodes were started");
    let pids: Vec<Pid> = std::fs::read_dir(&data)
        .expect("its data directories")
        .filter_map(|node| std::fs::read(node.ok()?.path().join(RUN_FILE)).ok())
        .filter_map(|file| Pid::from_raw(serde_json::from_slice::<RunFile>(&file).ok()?.pid.cast_signed()))
        .collect();
    assert_eq!(pids.len(), 6, "five nodes and the bootstrap node");
    let own = Pid::from_raw(child.id().cast_signed()).expect("it has a number");
    kill_process(own, Signal::INT).expect("it runs");
    assert!(!child.wait().expect("ours").success());
    let alive: Vec<&Pid> = pids.iter().filter(|pid| test_kill_process(**pid).is_ok()).collect();
    assert!(alive.is_empty(), "still there: {alive:?}");
}

#[test]
fn a_scenario_of_another_release_is_refused_instead_of_run_with_this_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("releases.toml");
    for release in OTHER_RELEASES {
        std::fs::write(&file, format!("about = \"Two releases.\"\nnodes = 3\n{release}")).expect("writable");
        let run = testnet().arg("churn").arg(&file).output().expect("it runs");
        let errors = String::from_utf8_lossy(&run.stderr);
        assert!(!run.status.success() && errors.contains("all processes run one program"), "{errors}");
    }
}
