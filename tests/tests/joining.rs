//! How a node finds its network, and who is kept out.

use starling_api::admin::Nodes;
use starling_tests::{Node, equal, joined, pair, run, wait_until};

#[tokio::test]
async fn a_ticket_is_all_that_a_second_machine_needs() {
    let (a, b) = pair().await;
    assert_eq!(a.status().await.network, b.status().await.network);
    a.run(["put", "city", "Bern"]).ok();
    equal(&[&a, &b]).await;
    assert_eq!(b.run(["get", "city"]).ok(), "Bern");
    let peers = b.client().peers().await.expect("the node answers").peers;
    assert!(peers.iter().any(|peer| peer.id == a.id() && peer.name == "a" && peer.view == "active"));
}

#[tokio::test]
async fn a_known_network_is_joined_by_address() {
    let mut a = Node::up("a").started().await;
    let ticket = a.ticket().await.to_string();
    a.stop().await;
    let mut b = Node::up("b").join(&ticket).started().await;
    assert!(!b.status().await.joined, "nobody is there");
    assert!(!b.client().is_ready().await.expect("the node answers"));
    b.stop().await;
    // At another port than the ticket says.
    a.start().await;
    b.also_join(a.address());
    b.start().await;
    joined(&[&a, &b]).await;
    assert!(b.client().is_ready().await.expect("the node answers"));
}

/// Nobody answers at the addresses of the ticket: the start, the log, the status and the doctor say so.
#[tokio::test]
async fn a_node_that_finds_no_peer_says_where_it_looked() {
    let mut a = Node::up("a").started().await;
    let (ticket, address) = (a.ticket().await.to_string(), a.address().to_owned());
    a.stop().await;
    let mut b = Node::up("b").join(&ticket).started().await;
    assert!(b.log().contains("joining its network"), "{}", b.log());
    wait_until("the log names the address", async || {
        let log = b.log();
        let line = log.lines().find(|line| line.contains("no peer is connected; tried "));
        line.filter(|line| line.contains(&address)).map(drop).ok_or(log.clone())
    })
    .await;
    let doctor = b.run(["doctor"]);
    doctor.exits(1);
    assert!(
        doctor.text().contains("no peer is connected; tried ") && doctor.text().contains(&address),
        "{doctor:?}"
    );
    let status = b.run(["status"]).ok();
    assert!(status.contains("no peer at") && status.contains(&address), "{status}");
    // At another port than the ticket says.
    a.also_join(b.address());
    a.start().await;
    joined(&[&a, &b]).await;
    b.run(["doctor"]).ok();
    assert_eq!(b.status().await.failed_contacts, []);
    // Without the ticket it looks for the peers that it remembers.
    let remembered = b.data_dir().join("peers.json");
    wait_until("b remembers a", async || {
        let text = std::fs::read_to_string(&remembered).map_err(|e| e.to_string())?;
        if text.contains("\"a\"") { Ok(()) } else { Err(text) }
    })
    .await;
    a.stop().await;
    b.stop().await;
    b.forget_joins();
    b.start().await;
    wait_until("the peer that it remembers is named", async || {
        let failed = b.status().await.failed_contacts;
        if failed.iter().any(|it| it.reason.starts_with("a: ")) { Ok(()) } else { Err(format!("{failed:?}")) }
    })
    .await;
}

#[tokio::test]
async fn an_address_alone_does_not_let_a_new_node_in() {
    let a = Node::up("a").started().await;
    Node::up("b").join(a.address()).refused().says("ticket");
}

#[tokio::test]
async fn with_the_seed_gone_for_good_a_node_finds_its_way_back() {
    let mut seed = Node::bootstrap("seed").started().await;
    let ticket = seed.ticket().await.to_string();
    let a = Node::up("a").join(&ticket).started().await;
    let b = Node::up("b").join(&ticket).started().await;
    let mut c = Node::up("c").join(&ticket).started().await;
    joined(&[&a, &b, &c]).await;
    let remembered = c.data_dir().join("peers.json");
    wait_until("c remembers a replica", async || {
        let text = std::fs::read_to_string(&remembered).map_err(|e| e.to_string())?;
        if text.contains("\"a\"") || text.contains("\"b\"") { Ok(()) } else { Err(text) }
    })
    .await;
    seed.kill();
    c.kill();
    a.run(["put", "while", "away"]).ok();
    c.start().await;
    joined(&[&c]).await;
    equal(&[&a, &b, &c]).await;
    assert_eq!(c.run(["get", "while"]).ok(), "away");
}

#[tokio::test]
async fn a_seed_keeps_no_data_and_is_nobodys_neighbour() {
    let seed = Node::bootstrap("seed").started().await;
    let ticket = seed.ticket().await.to_string();
    let a = Node::up("a").join(&ticket).started().await;
    let b = Node::up("b").join(&ticket).started().await;
    joined(&[&a, &b]).await;
    assert_eq!(seed.status().await.role, "seed");
    for command in [&["put", "k", "v"][..], &["get", "k"], &["ls"]] {
        let answer = seed.run(["--output", "json"].iter().chain(command));
        answer.exits(1);
        assert_eq!(answer.error(), "no_store", "{}", answer.line);
        answer.says("keeps no data");
    }
    seed.run(["doctor"]).ok();
    for node in [&a, &b] {
        let peers = node.client().peers().await.expect("the node answers").peers;
        assert!(!peers.iter().any(|peer| peer.id == seed.id() && peer.view == "active"), "{peers:?}");
    }
}

/// A stranger knocks with this ticket: it is not let in, both sides say why, and nothing leaks.
async fn is_kept_out(owner: &Node, stranger: &Node, counter: &str, reason: &str) {
    wait_until(&format!("{counter} is counted"), async || match owner.counter(counter).await {
        0 => Err("it is 0".to_owned()),
        _ => Ok(()),
    })
    .await;
    wait_until("the stranger knows why", async || {
        let log = stranger.log();
        if log.contains(reason) { Ok(()) } else { Err(log) }
    })
    .await;
    assert!(!stranger.status().await.joined);
    assert_eq!(stranger.status().await.entries, 0);
    assert_eq!(owner.status().await.active, 0);
}

#[tokio::test]
async fn another_networks_ticket_does_not_let_in() {
    let owner = Node::up("owner").started().await;
    owner.run(["put", "secret", "42"]).ok();
    let other = Node::up("other").started().await;
    let mut ticket = other.ticket().await;
    ticket.addresses = owner.ticket().await.addresses;
    let stranger = Node::up("stranger").join(&ticket.to_string()).started().await;
    is_kept_out(&owner, &stranger, "wrong_network", "another network").await;
}

#[tokio::test]
async fn a_wrong_secret_does_not_let_in() {
    let owner = Node::up("owner").started().await;
    owner.run(["put", "secret", "42"]).ok();
    let mut ticket = owner.ticket().await;
    ticket.secret[0] ^= 1;
    let stranger = Node::up("stranger").join(&ticket.to_string()).started().await;
    is_kept_out(&owner, &stranger, "wrong_secret", "secret differs").await;
}

#[tokio::test]
async fn a_directory_belongs_to_one_network() {
    let ours = Node::up("ours").started().await;
    let other = Node::up("other").started().await;
    let mut node = Node::up("node").join(&ours.ticket().await.to_string()).started().await;
    node.stop().await;
    node.also_join(&other.ticket().await.to_string());
    let answer = node.refused();
    answer.exits(1);
    answer.says("belongs to network");
    answer.says("--data-dir");
}

#[tokio::test]
async fn a_damaged_ticket_is_told_from_a_good_one() {
    let a = Node::up("a").started().await;
    let ticket = a.ticket().await.to_string();
    let cut = &ticket[..ticket.len() - 5];
    Node::up("b").join(cut).refused().says("copy");
    Node::up("b").join("starling1nonsense").refused().says("starling ticket");
    assert!(!run(["config"], b"").ok().contains(&ticket));
}

#[tokio::test]
async fn leaving_is_told_to_the_neighbours() {
    let (a, mut b) = pair().await;
    b.run(["leave"]).ok();
    assert!(b.ended().await.success());
    assert!(!b.data_dir().join("run.json").exists(), "a clean stop removes it");
    wait_until("a has no neighbour", async || match a.status().await.active {
        0 => Ok(()),
        active => Err(format!("{active} active")),
    })
    .await;
    assert_eq!(a.counter("suspicions").await, 0, "a goodbye leaves nothing to suspect");
    wait_until("a knows that b has left", async || {
        let found: Nodes = a.run(["--output", "json", "nodes"]).json();
        match found.unreachable.as_slice() {
            // No view has it any more.
            [] => Ok(()),
            [gone] if gone.name == "b" && gone.left => {
                let shown = a.run(["nodes"]).ok();
                assert!(!shown.contains("no answer"), "{shown}");
                Ok(())
            }
            others => Err(format!("{others:?}")),
        }
    })
    .await;
    let unknown = a.run(["keyspace", "create", "orders", "--strong", "--on", "nobody"]);
    assert_ne!(unknown.code, 0, "{unknown:?}");
    unknown.says("known here: a (");
    assert!(!unknown.stderr.contains("b ("), "it has left: {unknown:?}");
    // It is no node that has left once it is back.
    b.start().await;
    joined(&[&a, &b]).await;
    b.kill();
    wait_until("b does not answer", async || {
        let shown = a.run(["nodes"]).ok();
        if shown.contains("no answer") { Ok(()) } else { Err(shown) }
    })
    .await;
}

fn copied(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("a new directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("a file");
        let copy = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            copied(&entry.path(), &copy);
        } else {
            std::fs::copy(entry.path(), copy).expect("it fits");
        }
    }
}

#[tokio::test]
async fn a_copied_machine_is_noticed_on_both_and_by_their_neighbour() {
    let neighbour = Node::up("neighbour").started().await;
    let ticket = neighbour.ticket().await.to_string();
    let mut original = Node::up("original").join(&ticket).started().await;
    joined(&[&neighbour, &original]).await;
    original.run(["keyspace", "create", "lone", "--strong", "--on", "original"]).ok();
    original.run(["-k", "lone", "put", "from", "both"]).ok();
    original.stop().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    copied(original.data_dir(), &data);
    original.start().await;
    joined(&[&original]).await;
    assert_eq!(original.status().await.identity_conflict, None, "a restart is no copy");
    let copy = Node::up("copy").data_in(data).join(&ticket).started().await;
    for node in [&original, &copy] {
        wait_until(&format!("{} reports the other", node.name()), async || {
            node.status().await.identity_conflict.map(drop).ok_or_else(|| "nothing yet".to_owned())
        })
        .await;
        assert!(node.run(["status"]).ok().contains("uses this node's identity"));
        let answer = node.run(["doctor"]);
        assert!(answer.text().contains("uses this node's identity"), "{answer:?}");
        assert!(!answer.text().contains("leader"), "neither knows that of the other's keyspace: {answer:?}");
        answer.exits(1);
    }
    for (node, other) in [(&original, &copy), (&copy, &original)] {
        let shown = node.run(["status"]).ok();
        let where_it_is = format!("identity: {} at {}, started ", other.name(), other.address());
        assert!(shown.contains(&where_it_is), "{shown}");
    }
    wait_until("the neighbour reports both", async || {
        let peers = neighbour.client().peers().await.map_err(|error| error.to_string())?;
        if peers.peers.iter().any(|peer| peer.doubled) { Ok(()) } else { Err(format!("{peers:?}")) }
    })
    .await;
    for command in ["status", "doctor", "nodes", "peers"] {
        let shown = neighbour.run([command]);
        let shown = format!("{}{}", shown.text(), shown.stderr);
        let both = format!(
            "two processes use the identity {}: original at {}, started ",
            &original.id()[..8],
            original.address()
        );
        assert!(shown.contains(&both), "the one that started first is named first, {command}: {shown}");
        let then = format!(" GMT, and copy at {}, started ", copy.address());
        assert!(shown.contains(&then) && shown.contains("shown for "), "{command}: {shown}");
    }
    let nodes: Nodes = neighbour.run(["--output", "json", "nodes"]).json();
    assert_eq!(nodes.doubled_peers.iter().map(|peer| peer.id.as_str()).collect::<Vec<_>>(), [original.id()]);
    // Only one of them acknowledges writes of the voter that both are: the one that has started last.
    copy.run(["-k", "lone", "put", "from", "copy"]).ok();
    let refused = original.run(["-k", "lone", "--timeout", "1s", "put", "from", "original"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert_eq!(copy.run(["-k", "lone", "get", "from"]).ok(), "copy");
    let impaired = original.status().await.impaired_replicas;
    assert!(impaired[0].keyspace == "lone" && impaired[0].reason.contains("identity"), "{impaired:?}");
    assert_eq!(copy.status().await.impaired_replicas, []);
    let listed = original.run(["keyspace", "ls"]).ok();
    assert!(listed.contains("takes no part") && !listed.contains("voters answer"), "{listed}");
    let info = original.run(["keyspace", "info", "lone"]).ok();
    assert!(info.contains("leader        - (not known here)"), "{info}");
    // What ended is no second process any more once the other one was restarted.
    let mut copy = copy;
    copy.stop().await;
    original.stop().await;
    original.start().await;
    joined(&[&original, &neighbour]).await;
    assert_eq!(neighbour.status().await.doubled_peers, []);
    neighbour.run(["doctor"]).ok();
}
