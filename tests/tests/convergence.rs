//! Nodes that come, go, fall and stall end up equal.

use std::collections::BTreeSet;

use rustix::process::Signal;
use starling_api::admin::Nodes;
use starling_api::{Precondition, Range};
use starling_client::Client;
use starling_tests::{Node, equal, joined, wait_until};
use tokio::task::JoinSet;

/// Nodes named n1, n2, ...; all join by the first one's ticket.
async fn network(count: usize) -> Vec<Node> {
    let first = Node::up("n1").started().await;
    let ticket = first.ticket().await.to_string();
    let mut nodes = vec![first];
    for number in 2..=count {
        nodes.push(Node::up(&format!("n{number}")).join(&ticket).started().await);
    }
    joined(&nodes.iter().collect::<Vec<_>>()).await;
    nodes
}

async fn put(client: &Client, key: &str) -> bool {
    client.put("default", key.as_bytes(), key.into(), None, &Precondition::Any).await.is_ok()
}

async fn keys(node: &Node) -> BTreeSet<String> {
    let range = Range { limit: Some(10_000), ..Range::default() };
    let listing = node.client().list("default", &range).await.expect("the node answers");
    listing.keys.into_iter().map(|info| info.key.escaped()).collect()
}

/// Writes keys and increments through one node until it has done so many or the node is gone; the
/// acknowledged keys and increments.
async fn write(client: Client, name: String, count: usize) -> (Vec<String>, i128) {
    let (mut written, mut incremented) = (Vec::new(), 0);
    for n in 0..count {
        let key = format!("{name}-{n}");
        if !put(&client, &key).await {
            break;
        }
        written.push(key);
        if client.increment("counters", b"total", 1).await.is_err() {
            break;
        }
        incremented += 1;
    }
    (written, incremented)
}

#[tokio::test]
async fn writes_through_all_nodes_survive_the_fall_of_one() {
    let mut nodes = network(5).await;
    let doomed: Vec<String> = (0..20).map(|n| format!("doomed-{n}")).collect();
    for key in &doomed {
        assert!(put(nodes[0].client(), key).await);
    }
    equal(&nodes.iter().collect::<Vec<_>>()).await;

    let mut writers = JoinSet::new();
    for node in &nodes {
        writers.spawn(write(node.client().clone(), node.name().to_owned(), 150));
    }
    wait_until("the node that is to fall has written", async || match keys(&nodes[4]).await {
        keys if keys.contains("n5-20") => Ok(()),
        keys => Err(format!("{} keys", keys.len())),
    })
    .await;
    nodes[4].kill();
    assert!(nodes[1].client().delete_prefix("default", b"doomed-").await.expect("the node answers") > 0);
    nodes[4].start().await;

    let (mut expected, mut total) = (BTreeSet::new(), 0);
    for (written, incremented) in writers.join_all().await {
        expected.extend(written);
        total += incremented;
    }
    let all: Vec<&Node> = nodes.iter().collect();
    joined(&all).await;
    equal(&all).await;
    for node in &all {
        let found = keys(node).await;
        let lost: Vec<_> = expected.difference(&found).collect();
        assert!(lost.is_empty(), "{} lost acknowledged keys: {lost:?}", node.name());
        let back: Vec<_> = doomed.iter().filter(|key| found.contains(*key)).collect();
        assert!(back.is_empty(), "at {} deleted keys are back: {back:?}", node.name());
        assert!(found.len() <= expected.len() + 1, "one write was in flight");
        let counted = node
            .client()
            .counter("counters", b"total")
            .await
            .expect("the node answers")
            .expect("a counter")
            .0;
        assert!((total..=total + 1).contains(&counted), "{total} increments acknowledged, {counted} counted");
    }
}

#[tokio::test]
async fn a_crawl_finds_every_node() {
    let nodes = network(5).await;
    let ids: BTreeSet<&str> = nodes.iter().map(Node::id).collect();
    for asked in [&nodes[0], &nodes[4]] {
        let found = wait_until("the crawl finds all", async || {
            let found: Nodes = asked.run(["--output", "json", "nodes"]).json();
            let found_ids: BTreeSet<&str> = found.nodes.iter().map(|node| node.id.as_str()).collect();
            if found_ids == ids { Ok(found) } else { Err(format!("{found:?}")) }
        })
        .await;
        assert!(found.edges.len() >= 4, "five nodes hang together: {:?}", found.edges);
        assert!(found.edges.iter().all(|edge| ids.contains(&*edge.a) && ids.contains(&*edge.b)));
        assert!(found.unreachable.is_empty(), "{:?}", found.unreachable);
    }
}

#[tokio::test]
async fn what_was_deleted_while_a_node_was_away_stays_deleted() {
    let mut nodes = network(3).await;
    for key in ["kept", "deleted", "replaced"] {
        assert!(put(nodes[0].client(), key).await);
    }
    nodes[0].run(["sadd", "set", "kept", "removed"]).ok();
    equal(&nodes.iter().collect::<Vec<_>>()).await;
    nodes[2].kill();
    nodes[1].run(["del", "deleted"]).ok();
    nodes[1].run(["put", "replaced", "anew"]).ok();
    nodes[1].run(["srem", "set", "removed"]).ok();
    nodes[2].start().await;
    let all: Vec<&Node> = nodes.iter().collect();
    joined(&all).await;
    equal(&all).await;
    for node in all {
        node.run(["get", "deleted"]).exits(3);
        let replaced = node.run(["--output", "json", "get", "replaced"]).json::<serde_json::Value>();
        assert_eq!((&replaced["value"], replaced["siblings"].is_null()), (&"anew".into(), true));
        assert_eq!(node.run(["smembers", "set"]).ok(), "kept");
    }
}

#[tokio::test]
async fn a_stalled_node_is_given_up_and_taken_back() {
    let a = Node::up("a").set("detector.detect_ms", "1000").started().await;
    let ticket = a.ticket().await.to_string();
    let b = Node::up("b").set("detector.detect_ms", "1000").join(&ticket).started().await;
    joined(&[&a, &b]).await;
    b.signal(Signal::STOP);
    wait_until("a gives b up", async || match a.status().await.active {
        0 => Ok(()),
        active => Err(format!("{active} active")),
    })
    .await;
    a.run(["put", "while", "stalled"]).ok();
    b.signal(Signal::CONT);
    joined(&[&a, &b]).await;
    equal(&[&a, &b]).await;
    assert_eq!(b.run(["get", "while"]).ok(), "stalled");
}

#[tokio::test]
async fn a_restored_backup_writes_nothing_twice() {
    let nodes = network(2).await;
    let mut restored = Node::up("restored").join(&nodes[0].ticket().await.to_string()).started().await;
    restored.run(["put", "k", "before"]).ok();
    restored.stop().await;
    let backup = tempfile::tempdir().expect("a temporary directory");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
        assert!(copied.expect("cp runs").success());
    };
    copy(restored.data_dir(), &backup.path().join("data"));
    restored.start().await;
    restored.run(["put", "k", "after"]).ok();
    restored.run(["put", "later", "v"]).ok();
    joined(&[&restored]).await;
    let all = [&nodes[0], &nodes[1], &restored];
    equal(&all).await;
    restored.kill();
    std::fs::remove_dir_all(restored.data_dir()).expect("ours");
    copy(&backup.path().join("data"), restored.data_dir());
    restored.start().await;
    restored.run(["put", "own", "after the restore"]).ok();
    joined(&[&restored]).await;
    let all = [&nodes[0], &nodes[1], &restored];
    equal(&all).await;
    for node in all {
        assert_eq!(node.run(["get", "k"]).ok(), "after");
        assert_eq!(node.run(["get", "later"]).ok(), "v");
        assert_eq!(node.run(["get", "own"]).ok(), "after the restore");
        assert_eq!(node.counter("equivocations").await, 0);
    }
}
