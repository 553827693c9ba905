//! What an operator does: look, configure, stop, and read what went wrong.

use rustix::process::Signal;
use serde_json::Value;
use starling_api::admin::{Doctor, Nodes, Peers, Status};
use starling_tests::{Node, pair, run, wait_until};

#[tokio::test]
async fn the_node_is_shown_for_people_and_for_programs() {
    let (a, b) = pair().await;
    a.run(["put", "k", "v"]).ok();
    let status: Status = a.run(["--output", "json", "status"]).json();
    assert_eq!((status.name.as_str(), status.role.as_str(), status.entries), ("a", "replica", 1));
    assert!(a.run(["status"]).ok().contains(&status.id));
    let peers: Peers = a.run(["--output", "json", "peers"]).json();
    assert!(peers.peers.iter().any(|peer| peer.id == b.id() && peer.connected), "{peers:?}");
    assert!(a.run(["peers"]).ok().contains("active"));
    let doctor: Doctor = a.run(["--output", "json", "doctor"]).json();
    assert!(doctor.healthy && doctor.findings.is_empty(), "{doctor:?}");
    assert!(a.run(["doctor"]).ok().contains("healthy"));
    assert_eq!(a.run(["ticket"]).ok(), a.ticket().await.to_string());
    let nodes: Nodes = a.run(["--output", "json", "nodes"]).json();
    assert_eq!(nodes.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(a.run(["nodes"]).ok().contains(&b.id()[..8]));
    let graph = a.run(["nodes", "--dot"]).ok();
    assert!(graph.starts_with("graph") && graph.contains(" -- "), "{graph}");
}

#[tokio::test]
async fn settings_come_from_file_environment_and_flags_in_this_order() {
    let node = Node::up("node").set("sync.interval_ms", "7000").started().await;
    let settings: Value = node.run(["--output", "json", "config", "--running"]).json();
    let setting = |key: &str| {
        let found =
            settings["settings"].as_array().into_iter().flatten().find(|setting| setting["key"] == key);
        found.unwrap_or_else(|| panic!("{key} is missing")).clone()
    };
    assert_eq!(setting("sync.interval_ms")["value"], "7000");
    assert_eq!(setting("name")["source"], "flag --name");
    assert_eq!(setting("durability")["source"], "default");

    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("starling.toml");
    std::fs::write(&file, "name = \"from the file\"\n[detector]\ndetect_ms = 10000\n").expect("our file");
    let data_dir = dir.path().display().to_string();
    let shown = run(["config", "--data-dir", &data_dir, "--name", "from the flag"], b"").ok();
    assert!(shown.contains("from the flag") && !shown.contains("from the file"), "{shown}");
    assert!(
        shown.lines().any(|line| line.contains("detector.detect_ms") && line.contains("10000")),
        "{shown}"
    );

    std::fs::write(&file, "[detector]\ndetect = 1\n").expect("our file");
    run(["config", "--data-dir", &data_dir], b"").exits(2).says("detector.detect");
    std::fs::write(&file, "name = ").expect("our file");
    run(["config", "--data-dir", &data_dir], b"").exits(2).says("starling.toml");
    run(["config", "--set", "durability=sometimes"], b"").exits(2).says("durability");
    let reference = run(["config", "--reference"], b"").ok();
    assert!(reference.contains("STARLING_SYNC_INTERVAL_MS"), "{reference}");
}

#[tokio::test]
async fn a_node_ends_when_it_is_told_to() {
    let mut node = Node::up("node").started().await;
    node.stop().await;
    assert!(!node.data_dir().join("run.json").exists(), "a clean stop removes it");
    node.start().await;
    node.signal(Signal::INT);
    assert!(node.ended().await.success());
    node.start().await;
    node.close_input();
    assert!(node.ended().await.success(), "whoever started it is gone");
}

#[tokio::test]
async fn what_is_secret_is_kept_from_others() {
    use std::os::unix::fs::PermissionsExt;
    let node = Node::up("node").started().await;
    for file in ["identity", "network"] {
        let mode = std::fs::metadata(node.data_dir().join(file)).expect("it exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let log = node.log();
    assert!(log.contains("--join starling1"), "the first run shows the ticket: {log}");
}

#[tokio::test]
async fn a_second_run_keeps_name_and_data_and_is_brief() {
    let mut node = Node::up("node").started().await;
    let (id, ticket) = (node.id().to_owned(), node.ticket().await);
    node.run(["put", "k", "v"]).ok();
    let root = node.status().await.root;
    node.stop().await;
    let said = node.log().len();
    node.start().await;
    assert_eq!(node.id(), id);
    assert_eq!(node.ticket().await.network, ticket.network);
    assert_eq!(node.run(["get", "k"]).ok(), "v");
    wait_until("the fingerprints are back", async || match node.status().await.root {
        found if found == root => Ok(()),
        found => Err(format!("{found:?}, and it was {root:?}")),
    })
    .await;
    assert!(!node.log()[said..].contains("starling1"), "a later run does not show the ticket");
}

#[tokio::test]
async fn what_needs_no_node_works_without_one() {
    assert!(run(["version"], b"").ok().starts_with("starling "));
    assert!(run(["--help"], b"").ok().contains("Exit codes"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(["completions", shell], b"").ok().contains("smembers"), "{shell}");
    }
}
