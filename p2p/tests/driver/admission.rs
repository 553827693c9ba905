//! Admission: only nodes with the network's secret are admitted, also during a change of it.

use crate::support::{Node, QUIC, TCP, config, connected, network, until};
use starling_p2p::{Event, Identity, IdentityError, Limits, Network};

async fn refused(listen: &[&str], dialer: Network, listener: Network) -> Vec<Node> {
    let mut nodes = vec![Node::start(listen, dialer).await, Node::start(listen, listener).await];
    let record = nodes[1].record.clone();
    nodes[0].driver.dial(&record);
    until(&mut nodes, "refused", |n| n[0].unreachable().is_some()).await;
    assert!(nodes.iter().all(|node| node.ups_and_downs() == (0, 0)));
    nodes
}

#[tokio::test]
async fn a_wrong_secret_is_refused_on_both_sides_and_says_so() {
    for listen in [&[TCP], &[QUIC]] {
        let mut nodes = refused(listen, network(&[1]), network(&[2])).await;
        assert!(nodes[0].unreachable().expect("an answer").contains("network secret differs"));
        until(&mut nodes, "counted", |n| n.iter().all(|n| n.driver.metrics().wrong_secret.get() == 1)).await;
    }
}

#[tokio::test]
async fn another_network_is_refused_whatever_its_secret() {
    let elsewhere = Network { id: [8; 16], ..network(&[1]) };
    let mut nodes = refused(&[TCP], network(&[1]), elsewhere).await;
    assert!(nodes[0].unreachable().expect("an answer").contains("another network"));
    until(&mut nodes, "counted", |n| n.iter().all(|n| n.driver.metrics().wrong_network.get() == 1)).await;
}

#[tokio::test]
async fn two_secrets_are_valid_while_one_replaces_the_other() {
    // Every pair of neighbouring steps of a rotation, in both directions; and the ends, which are
    // strangers.
    let steps: [&[u8]; 3] = [&[1], &[2, 1], &[2]];
    for (dialer, listener) in [(0, 1), (1, 0), (1, 1), (1, 2), (2, 1)] {
        let mut nodes = vec![
            Node::start(&[TCP], network(steps[dialer])).await,
            Node::start(&[TCP], network(steps[listener])).await,
        ];
        let record = nodes[1].record.clone();
        nodes[0].driver.dial(&record);
        connected(&mut nodes).await;
    }
    refused(&[TCP], network(steps[0]), network(steps[2])).await;
    refused(&[TCP], network(&[]), network(&[])).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_and_counted() {
    let mut small = config(Identity::generate(), &[TCP], network(&[1]));
    small.limits = Limits { connections_max: 1, ..Limits::default() };
    let mut nodes = vec![Node::start(&[TCP], network(&[1])).await, Node::start_with(small).await];
    let record = nodes[1].record.clone();
    nodes[0].driver.dial(&record);
    connected(&mut nodes).await;
    nodes.push(Node::start(&[TCP], network(&[1])).await);
    nodes[2].driver.dial(&record);
    until(&mut nodes, "refused", |n| n[2].unreachable().is_some()).await;
    until(&mut nodes, "counted", |n| n[1].driver.metrics().refused.get() == 1).await;
    assert!(nodes[0].is_connected(record.id), "the first one stays");
    let is_second = |event: &Event| matches!(event, Event::Connected { peer, .. } if *peer == nodes[2].id());
    assert!(!nodes[1].seen.iter().any(is_second));
}

#[test]
fn an_identity_is_created_once_kept_private_and_checked() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("identity");
    let first = Identity::load_or_create(&path).expect("is sound").node_id();
    let mode = || std::fs::metadata(&path).expect("is there").permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("works");
    assert_eq!(Identity::load_or_create(&path).expect("is sound").node_id(), first);
    assert_eq!(mode(), 0o600, "closed to others again");

    let text = std::fs::read_to_string(&path).expect("reads");
    let cut = &text[..text.len() - 3];
    for damaged in ["", "starling identity v9\n", cut, &text.replace("v1", "v2"), &"\0".repeat(99)] {
        std::fs::write(&path, damaged).expect("works");
        let Err(error) = Identity::load_or_create(&path) else { panic!("{damaged:?} is no identity") };
        assert!(matches!(error, IdentityError::Malformed { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&path).expect("reads"), damaged, "left as it was");
    }
    let nowhere = folder.path().join("missing").join("identity");
    assert!(matches!(Identity::load_or_create(&nowhere), Err(IdentityError::Io { .. })));
}
