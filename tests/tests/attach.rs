//! `testnet attach`, `topology`, `conformity` and `chaos doctor`: what is measured of a network that runs already, that nothing of it
//! stays, and that only unhealthy nodes are retired.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use rustix::process::Signal;
use serde_json::Value;
use starling_tests::{
    KEYSPACE, Node, SmallDisk, equal, flock, heard_of, joined, led, put_noise, testnet, wait_until,
};

/// Three nodes in two zones of one region.
async fn fleet() -> [Node; 3] {
    let a = Node::up("a").set("labels", "region=eu,zone=a").started().await;
    let ticket = a.ticket().await.to_string();
    let b = Node::up("b").set("labels", "region=eu,zone=b").join(&ticket).started().await;
    let c = Node::up("c").set("labels", "region=eu,zone=b").join(&ticket).started().await;
    joined(&[&a, &b, &c]).await;
    equal(&[&a, &b, &c]).await;
    [a, b, c]
}

/// Runs `testnet`, without blocking the nodes' clients of this process.
async fn run(args: Vec<String>) -> Output {
    tokio::task::spawn_blocking(move || testnet().args(args).output().expect("it runs"))
        .await
        .expect("it ends")
}

fn args<'a>(command: &[&'a str], nodes: impl IntoIterator<Item = &'a Node>) -> Vec<String> {
    let nodes = nodes.into_iter().map(Node::api);
    command.iter().copied().chain(nodes).map(str::to_owned).collect()
}

fn json(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

#[tokio::test]
async fn a_running_network_is_measured_and_nothing_of_the_probes_stays() {
    let nodes = fleet().await;
    let key = b"own";
    nodes[0]
        .client()
        .put("default", key, b"value".to_vec(), None, &starling_api::Precondition::Any)
        .await
        .expect("a node");
    let before = nodes[0].client().keyspaces().await.expect("a node");
    let command = ["attach", "--seconds", "3", "--write", "--writes-s", "20", "--output", "json"];
    let output = run(args(&command, &nodes)).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = json(&output);
    assert_eq!(report["source"]["kind"], "attached");
    assert_eq!(report["nodes"], 3);
    let writes = &report["writes"];
    assert!(writes["acknowledged"].as_u64() > Some(20), "{writes}");
    for count in ["lost", "missing", "resurrected"] {
        assert_eq!(writes[count], 0, "{count}");
    }
    assert!(report["convergence"]["nodes_all"]["count"].as_u64() > Some(20), "{}", report["convergence"]);
    assert_eq!(report["views"]["components"], 1);
    assert_eq!(report["clocks"].as_array().map(Vec::len), Some(3));
    assert_eq!(report["roots"]["different"], 1);
    let sent: Vec<&Value> = report["availability"].as_array().expect("a list").iter().collect();
    assert!(sent.iter().any(|kind| kind["operation"] == "put" && kind["failures"] == 0), "{sent:?}");

    let after = nodes[0].client().keyspaces().await.expect("a node");
    assert_eq!(after, before, "the keyspace of the probes is gone, and no other one is touched");
    let value = nodes[2].client().get_raw("default", key).await.expect("a node").expect("its value");
    assert_eq!(value.bytes, b"value");
}

#[tokio::test]
async fn what_is_not_reached_is_named_and_a_ticket_is_refused() {
    let nodes = fleet().await;
    let output = run(args(&["attach", "--seconds", "1"], &nodes[..1])).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for part in ["1 of 3 nodes", "the APIs of b, c were not named", "nothing was written"] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    let ticket = nodes[0].ticket().await.to_string();
    let output = run(vec!["attach".into(), ticket.clone()]).await;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && errors.contains("Name the API of a node"), "{errors}");
    assert!(!errors.contains(&ticket), "a ticket is a secret");
}

#[tokio::test]
async fn a_running_network_becomes_a_scenario_that_is_simulated() {
    let nodes = fleet().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("own.toml");
    let path = |file: &Path| file.to_str().expect("text").to_owned();
    wait_until("the delays of all links are known, at one of their ends", async || {
        let mut known = BTreeSet::new();
        for node in &nodes {
            let peers = node.client().peers().await.expect("the node answers").peers;
            let timed = peers.into_iter().filter(|peer| peer.rtt_ms.is_some());
            known.extend(timed.map(|peer| BTreeSet::from([peer.id, node.id().to_owned()])));
        }
        if known.len() == 3 { Ok(()) } else { Err(format!("{known:?}")) }
    })
    .await;
    let output = run(args(&["topology", &path(&file), "--seconds", "2"], &nodes)).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let set = ["warmup_s=5", "measure_s=5"].iter().flat_map(|set| ["--set".to_owned(), (*set).to_owned()]);
    let command = ["sim".to_owned(), path(&file), "--output".into(), "json".into()].into_iter().chain(set);
    let report = json(&run(command.collect()).await);
    assert_eq!((&report["nodes"], &report["writes"]["lost"]), (&Value::from(3), &Value::from(0)));
    assert_eq!(report["topology"]["nodes"][0]["region"], "eu");
}

#[tokio::test]
async fn rules_that_a_network_breaks_are_named_with_the_node() {
    let mut nodes = fleet().await;
    nodes[2].kill();
    let command = args(&["conformity", "--seconds", "1", "--output", "json"], &nodes[..2]);
    let output = run(command).await;
    assert!(!output.status.success(), "a node is dead, and no certificate is required");
    let report = json(&output);
    let rules = report["results"].as_array().expect("a list");
    let rule = |name: &str| {
        rules.iter().find(|rule| rule["rule"] == name).unwrap_or_else(|| panic!("{name}: {rules:?}"))
    };
    let stale = rule("no member is remembered that does not answer");
    assert!(
        stale["state"] == "broken" && stale["findings"][0].as_str().is_some_and(|it| it.starts_with("c ")),
        "{stale}"
    );
    assert_eq!(rule("one version everywhere")["state"], "kept");
    assert_eq!(rule("nodes need a certificate")["state"], "broken");
}

/// What `testnet chaos doctor` finds and does about unhealthy nodes, asked through these nodes.
async fn doctor<'a>(options: &[&'a str], nodes: impl IntoIterator<Item = &'a Node>) -> (bool, Value) {
    let command = [&["chaos", "doctor", "--seconds", "3", "--output", "json"], options].concat();
    let output = run(args(&command, nodes)).await;
    let report = json(&output);
    (output.status.success(), report["results"].clone())
}

/// Names of the voters of the flock's keyspace, in order.
async fn voters(node: &Node) -> Vec<String> {
    let members = led(node).await.members;
    let mut names: Vec<_> =
        members.into_iter().filter(|member| member.role == "voter").map(|member| member.name).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_voter_that_stands_still_is_found_and_retired_only_when_asked_to() {
    let nodes = flock().await;
    let key = nodes[0].authority_key();
    let key = key.to_str().expect("text");
    nodes[2].signal(Signal::STOP);
    let up = || [&nodes[0], &nodes[1], &nodes[3]];

    let (is_healthy, found) = doctor(&[], up()).await;
    assert!(!is_healthy, "a voter is silent");
    let unhealthy = &found["unhealthy"];
    assert_eq!((&unhealthy[0]["name"], unhealthy.as_array().map(Vec::len)), (&Value::from("c"), Some(1)));
    let step = &unhealthy[0]["steps"][0];
    assert_eq!(step["step"], "starling keyspace voters replace orders c d", "{unhealthy}");
    assert!(step["outcome"].as_str().is_some_and(|it| it.starts_with("to do")), "{unhealthy}");
    assert_eq!(voters(&nodes[0]).await, ["a", "b", "c"], "it was not asked to retire anything");

    let (is_done, retired) = doctor(&["--retire", "--key", key], up()).await;
    assert!(is_done, "{retired}");
    assert_eq!(voters(&nodes[0]).await, ["a", "b", "d"]);
    let trust = nodes[1].client().trust().await.expect("it answers");
    assert_eq!(trust.revoked, [nodes[2].id()]);
}

#[tokio::test]
async fn a_node_whose_disk_is_full_hands_its_vote_over_and_leaves() {
    let disk = SmallDisk::mount();
    let nodes = flock().await;
    let ticket = nodes[0].ticket().await.to_string();
    let mut full = disk.node("e").join(&ticket).started().await;
    heard_of(&full, KEYSPACE).await;
    nodes[0].run(["keyspace", "voters", "replace", KEYSPACE, "c", "e"]).ok();
    assert_eq!(voters(&nodes[0]).await, ["a", "b", "e"]);
    let mut n = 0;
    while put_noise(&full, n).await.is_ok() {
        n += 1;
        assert!(n < 1000, "the disk is never full");
    }
    let (is_done, retired) = doctor(&["--retire"], nodes.iter().chain([&full])).await;
    assert!(is_done, "{retired}");
    assert_eq!(retired["unhealthy"][0]["steps"][0]["step"], "starling leave (on e)", "{retired}");
    assert!(full.ended().await.success());
    let voters = voters(&nodes[0]).await;
    assert!(voters.len() == 3 && !voters.contains(&"e".to_owned()), "{voters:?}");
}
