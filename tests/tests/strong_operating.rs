//! What an operator of strong keyspaces sees and does while voters are lost, leave, and come back.

use starling_api::admin::Doctor;
use starling_tests::{Answer, KEYSPACE, Node, flock, wait_until};

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
        assert!(finding.starts_with(lost) && finding.contains("1 of its 3 voters answers (not b, c)"), "{finding}");
        assert!(finding.contains("start b and c") && finding.contains("recover --help"), "{finding}");
        let info = node.run(["keyspace", "info", KEYSPACE]).ok();
        assert!(info.contains("none for ") && info.contains("1 of its 3 voters answers"), "{info}");
        assert!(node.client().is_ready().await.expect("it answers"), "eventual keyspaces are served");
    }
    nodes[0].kill();
    let found = findings(&nodes[3]);
    assert!(found.len() == 1 && found[0].contains("none of its voters answers"), "{found:?}");
    // It is over as soon as a majority is back.
    let known = nodes[3].address().to_owned();
    for node in &mut nodes[..2] {
        node.also_join(&known);
        node.start().await;
    }
    for node in [&nodes[0], &nodes[3]] {
        wait_until("the doctor finds nothing", async || match findings(node) {
            found if found.is_empty() => Ok(()),
            found => Err(format!("{found:?}")),
        })
        .await;
    }
    assert!(nodes[0].status().await.leaderless.is_empty());
}
