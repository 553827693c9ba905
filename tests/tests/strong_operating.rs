//! What an operator of strong keyspaces sees and does while voters are lost, leave, and come back.

use starling_api::admin::Doctor;
use starling_tests::{
    Answer, KEYSPACE, Node, flock, heard_of, leader, led, meet, pair, run, strangers, wait_until,
};

/// The findings of a node's doctor, one line each, with the hints.
fn findings(node: &Node) -> Vec<String> {
    let answer = node.run(["--output", "json", "doctor"]);
    let doctor: Doctor = serde_json::from_slice(&answer.stdout).expect("a report");
    assert_eq!(answer.code == 0, doctor.healthy, "{answer:?}");
    doctor.findings.into_iter().map(|finding| format!("{}; {}", finding.what, finding.hint)).collect()
}

/// Waits until an answer of a command contains a text, and returns the answer.
async fn shows(node: &Node, args: &[&str], text: &str) -> Answer {
    wait_until(&format!("{args:?} shows {text:?}"), async || {
        let answer = node.run(args);
        if answer.text().contains(text) { Ok(answer) } else { Err(answer.text()) }
    })
    .await
}

#[tokio::test]
async fn a_keyspace_that_has_lost_its_majority_is_unhealthy_on_every_node() {
    let mut nodes = flock().await;
    for node in [&nodes[0], &nodes[3]] {
        assert_eq!(findings(node), [""; 0], "an election that is over is no finding");
    }
    nodes[1].kill();
    nodes[2].kill();
    let lost = "keyspace orders has had no leader for ";
    let status = shows(&nodes[0], &["status"], lost).await.text();
    assert!(status.contains("1 of its 3 voters answers (not b, c)"), "{status}");
    for node in [&nodes[0], &nodes[3]] {
        let found = findings(node);
        let [finding] = &found[..] else { panic!("{}: {found:?}", node.name()) };
        assert!(
            finding.starts_with(lost) && finding.contains("1 of its 3 voters answers (not b, c)"),
            "{finding}"
        );
        assert!(finding.contains("start b and c") && finding.contains("recover --help"), "{finding}");
        for command in [&["keyspace", "info", KEYSPACE][..], &["keyspace", "ls"]] {
            let shown = node.run(command).ok();
            assert!(shown.contains("none for ") && shown.contains("1 of its 3 voters answers"), "{shown}");
        }
        assert!(node.client().is_ready().await.expect("it answers"), "eventual keyspaces are served");
    }
    nodes[0].kill();
    let found = findings(&nodes[3]);
    assert!(found.len() == 2 && found[0].contains("no peer is connected"), "{found:?}");
    assert!(found[1].contains("none of its voters answers"), "{found:?}");
    // It is over as soon as a majority is back.
    let known = nodes[3].address().to_owned();
    for node in &mut nodes[..2] {
        node.also_join(&known);
        node.start().await;
    }
    for node in [&nodes[0], &nodes[3]] {
        wait_until("the doctor finds nothing but the third voter", async || match &findings(node)[..] {
            [] => Ok(()),
            [found] if found.contains("voter c has sent its leader nothing") => Ok(()),
            found => Err(format!("{found:?}")),
        })
        .await;
    }
    assert!(nodes[0].status().await.leaderless.is_empty());
}

/// Waits until the doctor of a node finds nothing.
async fn healthy(node: &Node) {
    wait_until("the doctor finds nothing", async || match findings(node) {
        found if found.is_empty() => Ok(()),
        found => Err(format!("{}: {found:?}", node.name())),
    })
    .await;
}

#[tokio::test]
async fn a_voter_that_is_down_is_named_on_every_node_until_it_is_back() {
    let mut nodes = flock().await;
    let leads = leader(&nodes, &led(&nodes[3]).await);
    let dead = (leads + 1) % 3;
    nodes[dead].kill();
    let name = nodes[dead].name().to_owned();
    let what = format!("voter {name} has sent its leader nothing for ");
    // A leader that has never heard of it, because it was restarted itself, counts on, too.
    nodes[leads].stop().await;
    nodes[leads].start().await;
    let leads = leader(&nodes, &led(&nodes[3]).await);
    shows(&nodes[leads], &["status"], &format!("keyspace {KEYSPACE}: {what}")).await;
    for node in nodes.iter().enumerate().filter_map(|(at, node)| (at != dead).then_some(node)) {
        if !node.status().await.votes.is_empty() {
            shows(node, &["status"], &format!("keyspace {KEYSPACE}: {what}")).await;
        }
        shows(node, &["keyspace", "ls"], &what).await;
        shows(node, &["--output", "json", "keyspace", "ls"], &what).await;
        let silent_s = |found: &[String]| -> Option<u64> {
            let [finding] = found else { return None };
            assert!(finding.contains(&what) && finding.contains(&format!("start {name}")), "{finding}");
            finding.split_once(&what)?.1.split_whitespace().next()?.parse().ok()
        };
        let found = findings(node);
        let first = silent_s(&found).unwrap_or_else(|| panic!("{}: {found:?}", node.name()));
        wait_until("the time grows", async || match findings(node) {
            found if silent_s(&found).is_some_and(|later| later > first) => Ok(()),
            found => Err(format!("{found:?} after {first} s")),
        })
        .await;
        let [finding] = &found[..] else { panic!("{}: {found:?}", node.name()) };
        assert!(finding.contains(&format!("voters replace {KEYSPACE} {name} OTHER")), "{finding}");
        let row = node.run(["nodes"]).ok();
        let row = row.lines().find(|line| line.contains("no answer")).map(str::to_owned);
        assert!(row.is_some_and(|row| row.split_whitespace().nth(1) == Some(&name)), "it is named");
    }
    let known = nodes[3].address().to_owned();
    nodes[dead].also_join(&known);
    nodes[dead].start().await;
    for node in &nodes {
        healthy(node).await;
    }
}

/// Unsafe recovery on a node, as soon as it is not refused.
async fn recovered(node: &Node) {
    node.run(["keyspace", "recover", KEYSPACE]).exits(2).says("--force-new-group is missing");
    let args = ["keyspace", "recover", KEYSPACE, "--force-new-group", "--accept-loss", "1000", "--yes"];
    wait_until("the keyspace is recovered", async || match node.run(args) {
        answer if answer.code == 0 => Ok(()),
        answer => Err(answer.stderr),
    })
    .await;
    led(node).await;
}

/// Starts a node again, and waits until it keeps a removed replica, which may have more than the keyspace or not.
async fn kept(node: &mut Node, known: &str, may_have_more: bool) {
    node.also_join(known);
    node.start().await;
    wait_until("the removed replica is kept", async || {
        let kept = node.status().await.kept_replicas;
        let is_kept = kept.len() == 1 && kept[0].may_have_more == may_have_more;
        if is_kept { Ok(()) } else { Err(format!("{kept:?}")) }
    })
    .await;
}

#[tokio::test]
async fn only_a_removed_replica_that_may_have_more_is_a_finding_and_in_the_way() {
    let mut nodes = flock().await;
    let known = nodes[3].address().to_owned();
    nodes[3].run(["put", "-k", KEYSPACE, "k", "first"]).ok();
    let leads = leader(&nodes, &led(&nodes[3]).await);
    let (x, y) = ((leads + 1) % 3, (leads + 2) % 3);
    let names: Vec<String> = nodes.iter().map(|node| node.name().to_owned()).collect();
    // The two that are lost have nothing that the third one lacks.
    nodes[x].kill();
    nodes[y].kill();
    recovered(&nodes[leads]).await;
    for lost in [x, y] {
        kept(&mut nodes[lost], &known, false).await;
        assert_eq!(findings(&nodes[lost]), [""; 0]);
        let replicas = nodes[3].run(["keyspace", "replicas", KEYSPACE]).ok();
        assert!(replicas.contains("removed, and kept aside") && !replicas.contains("may have"), "{replicas}");
    }
    nodes[y].stop().await;
    let dir = nodes[y].data_dir().display().to_string();
    run(["doctor", "--data-dir", &dir], b"").exits(0);
    nodes[y].start().await;
    for lost in [x, y] {
        nodes[leads].run(["keyspace", "voters", "add", KEYSPACE, &names[lost]]).ok();
    }
    // Now the one that goes on lacks what the others had acknowledged.
    nodes[x].kill();
    led(&nodes[3]).await;
    nodes[3].run(["put", "-k", KEYSPACE, "k", "second"]).ok();
    nodes[leads].kill();
    nodes[y].kill();
    nodes[x].also_join(&known);
    nodes[x].start().await;
    recovered(&nodes[x]).await;
    assert_eq!(nodes[3].run(["get", "-k", KEYSPACE, "k"]).ok(), "first");
    kept(&mut nodes[y], &known, true).await;
    let found = findings(&nodes[y]);
    assert!(found.len() == 1 && found[0].contains("may have writes that it lacks"), "{found:?}");
    // The doctor of the stopped node says it in the same words.
    nodes[y].stop().await;
    let dir = nodes[y].data_dir().display().to_string();
    let stopped = run(["doctor", "--data-dir", &dir], b"");
    let words = found[0].split("; ").next().expect("what is wrong");
    assert!(stopped.exits(1).text().contains(&format!("WRONG: {words}")), "{}", stopped.text());
    kept(&mut nodes[y], &known, true).await;
    let replicas = nodes[3].run(["keyspace", "replicas", KEYSPACE]).ok();
    assert!(replicas.contains(&format!("the recovery of another replica lost: {}.", names[y])), "{replicas}");
    let declined = nodes[x].run(["keyspace", "voters", "add", KEYSPACE, &names[y]]);
    declined.exits(4).says(&format!("{} declines", names[y]));
    declined.says("nothing was changed");
    assert_eq!(led(&nodes[3]).await.members.len(), 1, "the node that declines is no learner");
    // A node that leaves asks the one that has been up for longer first, and the next one when that declines.
    nodes[3].stop().await;
    nodes[3].start().await;
    wait_until("both others are neighbours", async || match nodes[x].status().await.active {
        2 => Ok(()),
        active => Err(format!("{active} are")),
    })
    .await;
    nodes[x].run(["leave"]).exits(0);
    assert!(nodes[x].ended().await.success());
    let members = led(&nodes[3]).await.members;
    assert!(members.len() == 1 && members[0].name == nodes[3].name(), "{members:?}");
    // Where all decline, the error says which and why.
    let refused = nodes[3].run(["leave"]);
    refused.exits(4);
    refused
        .says(&format!("no other node takes its place: {} declines: it keeps a removed replica", names[y]));
    assert_eq!(led(&nodes[3]).await.members.len(), 1);
    nodes[y].run(["keyspace", "discard", KEYSPACE, "--yes"]).exits(0);
    nodes[3].run(["keyspace", "voters", "add", KEYSPACE, &names[y]]).ok();
    assert_eq!(findings(&nodes[y]), [""; 0]);
}

/// The names of the keyspace's voters, in order, once there are three of them.
async fn three_voters(node: &Node) -> Vec<String> {
    wait_until("there are three voters", async || {
        let info = led(node).await;
        let voters = info.members.iter().filter(|member| member.role == "voter");
        let mut names: Vec<String> = voters.map(|member| member.name.clone()).collect();
        names.sort();
        if names.len() == 3 && info.members.len() == 3 {
            Ok(names)
        } else {
            Err(format!("{:?}", info.members))
        }
    })
    .await
}

#[tokio::test]
async fn a_voter_that_leaves_gives_its_place_to_another_node_or_stays() {
    let mut nodes = flock().await;
    nodes[3].run(["put", "-k", KEYSPACE, "k", "v"]).ok();
    let leads = leader(&nodes, &led(&nodes[3]).await);
    let mut leaving = nodes.remove(leads);
    assert!(leaving.run(["status"]).ok().contains("votes for"), "the status shows it");
    let left = leaving.run(["leave"]);
    left.exits(0).says("other nodes have taken its votes in orders");
    left.says(&format!("{} leaves the network and stops", leaving.name()));
    assert!(leaving.ended().await.success());
    let expected: Vec<String> = nodes.iter().map(|node| node.name().to_owned()).collect();
    assert_eq!(three_voters(&nodes[0]).await, expected);
    assert_eq!(nodes[0].run(["get", "-k", KEYSPACE, "k"]).ok(), "v");
    // Nobody is left to take another vote.
    let refused = nodes[0].run(["leave"]);
    refused.exits(4);
    refused.says("this node votes for orders (no other node is up that could take its place)");
    refused.says(&format!("starling keyspace voters replace orders {} OTHER", nodes[0].name()));
    nodes[0].run(["put", "-k", KEYSPACE, "k", "w"]).ok();
    nodes[0].run(["leave", "--force"]).exits(0).says("its votes in orders stay");
    assert!(nodes[0].ended().await.success());
    assert_eq!(three_voters(&nodes[1]).await, expected, "they are for an operator to change");
    assert_eq!(nodes[1].run(["get", "-k", KEYSPACE, "k"]).ok(), "w");
}

#[tokio::test]
async fn the_only_voter_of_a_keyspace_does_not_leave_with_it() {
    let (mut a, b) = pair().await;
    a.run(["keyspace", "create", "lone", "--strong", "--on", "a"]).ok();
    a.run(["put", "-k", "lone", "k", "v"]).ok();
    let refused = a.run(["leave", "--force"]);
    refused.exits(4).says("this node is the only voter of lone, which would end");
    refused.says("starling keyspace drop lone");
    assert_eq!(b.run(["get", "-k", "lone", "k"]).ok(), "v");
    // A second voter of two, whose group needs both, is for the operator to decide about.
    let added = a.run(["keyspace", "voters", "add", "lone", "b"]);
    added.exits(0).says("2 voters tolerate the loss of 0, no more than 1 would");
    let odd = a.run(["keyspace", "voters", "remove", "lone", "b"]);
    assert!(odd.exits(0).stderr.is_empty(), "{odd:?}");
    a.run(["keyspace", "drop", "lone", "--yes"]).ok();
    a.run(["leave", "--force"]).exits(0);
    assert!(a.ended().await.success());
}

#[tokio::test]
async fn a_transfer_to_a_node_that_has_stopped_is_no_success() {
    let mut nodes = flock().await;
    let leads = leader(&nodes, &led(&nodes[3]).await);
    let (dead, other) = ((leads + 1) % 3, (leads + 2) % 3);
    nodes[dead].kill();
    let transfer = |to: usize| nodes[3].run(["keyspace", "transfer-leader", KEYSPACE, nodes[to].name()]);
    transfer(dead).exits(4).says("has not taken over");
    let shown = transfer(other).ok();
    let suffix = format!(" {}", nodes[other].name());
    let is_leader = |line: &str| line.starts_with("leader ") && line.ends_with(&suffix);
    assert!(shown.lines().any(is_leader), "it leads already: {shown}");
}

#[tokio::test]
async fn eventual_keys_under_the_name_of_a_strong_keyspace_are_named_and_can_be_saved() {
    let (a, mut b) = strangers().await;
    a.run(["keyspace", "create", KEYSPACE, "--strong", "--voters", "1"]).ok();
    a.run(["put", "-k", KEYSPACE, "k", "strong"]).ok();
    b.run(["put", "-k", KEYSPACE, "k", "eventual"]).ok();
    b.run(["sadd", "-k", KEYSPACE, "s", "x", "y"]).ok();
    meet(&a, &mut b).await;
    for node in [&a, &b] {
        wait_until("both kinds are known", async || {
            let listed = node.run(["keyspace", "ls"]).ok();
            if listed.contains("both") { Ok(()) } else { Err(listed) }
        })
        .await;
        let found = findings(node);
        assert!(found.len() == 1 && found[0].contains("hides 2 keys of an eventual one"), "{found:?}");
        assert_eq!(node.run(["get", "-k", KEYSPACE, "k"]).ok(), "strong");
        assert_eq!(node.run(["get", "-k", "eventual:orders", "k"]).ok(), "eventual");
    }
    let refused = b.run(["put", "-k", "eventual:orders", "k", "v"]);
    refused.exits(1).says("read and deleted only");
    // The way out that the doctor shows; the keys may be wanted.
    let saved = b.run(["export", "-k", "eventual:orders"]).ok();
    b.run_with(["import", "-k", "rescued", "-"], saved.as_bytes()).exits(0);
    assert_eq!(b.run(["get", "-k", "rescued", "k"]).ok(), "eventual");
    assert_eq!(b.run(["--output", "raw", "smembers", "-k", "rescued", "s"]).ok(), "x\ny");
    b.run(["del", "-k", "eventual:orders", "--prefix", ""]).exits(0);
    for node in [&a, &b] {
        wait_until("the doctor finds nothing", async || match findings(node) {
            found if found.is_empty() => Ok(()),
            found => Err(format!("{found:?}")),
        })
        .await;
        assert_eq!(node.run(["get", "-k", KEYSPACE, "k"]).ok(), "strong");
        heard_of(node, KEYSPACE).await;
    }
    // The other way round it is refused, and says how many keys are in the way.
    let refused = a.run(["keyspace", "create", "rescued", "--strong", "--voters", "1"]);
    refused.exits(4).says("holds 2 keys");
    refused.says("starling export -k rescued > FILE");
}

#[tokio::test]
async fn both_doctors_read_the_rows_of_strong_replicas() {
    let mut node = Node::up("node").started().await;
    node.run(["keyspace", "create", KEYSPACE, "--strong", "--voters", "1"]).ok();
    for value in ["one", "two", "three"] {
        node.run(["put", "-k", KEYSPACE, "k", value]).ok();
    }
    let counts = |report: Answer| {
        let doctor: Doctor = report.json();
        (doctor.counts["strong_keys"], doctor.counts["strong_superseded"])
    };
    assert_eq!(counts(node.run(["--output", "json", "doctor"])), (1, 2));
    node.stop().await;
    let dir = node.data_dir().display().to_string();
    assert_eq!(counts(run(["--output", "json", "doctor", "--data-dir", &dir], b"")), (1, 2));
}
