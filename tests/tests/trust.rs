//! The network's authority: who gets a certificate, who is admitted with and without one, and how a node is cut off.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use starling_api::admin::Nodes;
use starling_api::trust::Trust;
use starling_tests::{Node, Release, equal, joined, linked, run, wait_until};

/// A network in which every node has a certificate.
struct Certified {
    nodes: Vec<Node>,
    key: PathBuf,
}

impl Certified {
    async fn new() -> Self {
        Self::of(3).await
    }

    async fn of(count: usize) -> Self {
        let a = Node::up("a").started().await;
        let ticket = a.ticket().await.to_string();
        let mut nodes = vec![a];
        for name in ["b", "c"].into_iter().map(String::from).chain((3..count).map(|n| format!("n{n}"))) {
            nodes.push(Node::up(&name).join(&ticket).started().await);
        }
        nodes.iter_mut().for_each(Node::keep_address);
        joined(&nodes.iter().collect::<Vec<_>>()).await;
        wait_until("every node has a certificate", async || certificates(&nodes[0], count)).await;
        let key = nodes[0].authority_key();
        Self { nodes, key }
    }

    /// In which certificates are required.
    async fn required(count: usize) -> Self {
        let network = Self::of(count).await;
        network.nodes[1].run(["authority", "require", "--key", network.key()]).ok();
        network
    }

    fn key(&self) -> &str {
        path(&self.key)
    }

    fn ticket(&self, args: &[&str]) -> String {
        self.nodes[0].run([&["ticket"], args].concat()).ok()
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("is text")
}

/// So many nodes answer, and each is an issuer or has a certificate.
fn certificates(node: &Node, count: usize) -> Result<(), String> {
    let found: Nodes = node.run(["member", "ls", "--output", "json"]).json();
    let trust: Trust = node.run(["authority", "show", "--output", "json"]).json();
    let has = found.nodes.iter().filter(|it| {
        trust.has_issuer(&it.id)
            || it.standing.as_ref().is_some_and(|standing| standing.not_after_ms.is_some())
    });
    if has.count() == count && found.nodes.len() == count { Ok(()) } else { Err(format!("{found:?}")) }
}

async fn is_alone(node: &Node) -> Result<(), String> {
    let peers = node.client().peers().await.expect("the node answers").peers;
    let linked = peers.iter().filter(|peer| peer.view == "active").count();
    if linked == 0 { Ok(()) } else { Err(format!("{peers:?}")) }
}

/// The first node of a network makes its authority, and any node makes tickets until certificates are required.
#[tokio::test]
async fn a_network_has_an_authority_from_its_first_node_on() {
    let a = Node::up("a").started().await;
    assert!(a.log().contains(&format!("key     {}", path(&a.authority_key()))), "{}", a.log());
    let mode = fs::metadata(a.authority_key()).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let b = Node::up("b").join(&a.ticket().await.to_string()).started().await;
    assert!(!b.log().contains("key     ") && !b.authority_key().exists(), "{}", b.log());
    wait_until("b has a certificate", async || certificates(&a, 2)).await;
    let ticket = b.ticket().await;
    let named = ticket.authority.as_ref().expect("it names the authority");
    assert!(named.invitation.is_empty(), "b is no issuer");
    b.run(["ticket", "--uses", "1"]).exits(4).says("no issuer");
    let c = Node::up("c").join(&ticket.to_string()).started().await;
    wait_until("c has a certificate", async || certificates(&a, 3)).await;
    a.run(["authority", "require", "--key", path(&a.authority_key())]).says("3 of the 3 nodes");
    b.run(["ticket"]).exits(4).says("no issuer");
    let shown = c.run(["authority", "show"]).ok();
    assert!(shown.contains("required") && shown.contains("by "), "{shown}");
}

/// A network that a seed or an earlier release has begun.
#[tokio::test]
async fn a_network_without_an_authority_is_given_one() {
    let seed = Node::bootstrap("seed").started().await;
    let ticket = seed.ticket().await.to_string();
    let a = Node::up("a").join(&ticket).started().await;
    let b = Node::up("b").join(&ticket).started().await;
    joined(&[&a, &b]).await;
    let shown = a.run(["authority", "show"]).ok();
    assert!(shown.contains("no authority"), "{shown}");
    a.run(["ticket", "--uses", "1"]).exits(4);
    a.run(["member", "revoke", "a", "--yes", "--key", "/nonexistent"]).exits(1);
    a.run(["authority", "init", "--key", path(&a.authority_key())]).says("3 of the 3 nodes");
    let mode = fs::metadata(a.authority_key()).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let shown = b.run(["authority", "show"]).ok();
    assert!(shown.contains(&a.id()[..8]), "a is the issuer: {shown}");
}

#[tokio::test]
async fn a_network_requires_certificates_and_new_nodes_join_with_tickets_of_an_issuer() {
    let network = Certified::new().await;
    let [a, b, c] = &network.nodes[..] else { panic!("three nodes") };
    a.run(["authority", "init", "--key", network.key()]).exits(4);
    let old_ticket = {
        let mut ticket = a.ticket().await;
        ticket.authority = None;
        ticket.to_string()
    };
    // Any node passes a statement on; the key is not the node's.
    let required = b.run(["authority", "require", "--key", network.key()]);
    required.says("3 of the 3 nodes that answer have it");
    let shown = c.run(["authority", "show"]).ok();
    assert!(shown.contains("required") && shown.contains("by "), "{shown}");

    // A node with the network's secret, and without an invitation.
    let stranger = Node::up("stranger").join(&old_ticket).started().await;
    wait_until("the stranger is told why", async || {
        let log = stranger.log();
        log.contains("has no certificate").then_some(()).ok_or(log)
    })
    .await;
    is_alone(&stranger).await.expect("it has no link");
    // Only an issuer makes tickets.
    b.run(["ticket"]).exits(4).says("no issuer");
    a.run(["ticket", "--uses", "0"]).exits(1).says("uses is out of its bounds: 1 to 100000");
    a.run(["ticket", "--expires", "5000d"]).exits(1).says("1000 to 315360000000 milliseconds");

    let ticket = network.ticket(&["--uses", "1"]);
    let invited = Node::up("d").join(&ticket).started().await;
    joined(&[a, b, c, &invited]).await;
    wait_until("it has a certificate", async || certificates(a, 4)).await;
    invited.run(["put", "city", "Bern"]).ok();
    equal(&[a, b, c, &invited]).await;
    let late = Node::up("late").join(&ticket).started().await;
    wait_until("the second one is told why", async || {
        let log = late.log();
        log.contains("used as often as it may be").then_some(()).ok_or(log)
    })
    .await;
    assert!(a.counter("not_admitted").await > 0);

    // The only issuer stays one. A second one: its tickets count, and it renews.
    b.run(["issuer", "rm", "a", "--key", network.key()]).exits(4).says("the only issuer");
    b.run(["member", "revoke", "a", "--yes", "--key", network.key()]).exits(4).says("the only issuer");
    let one = a.run(["doctor"]);
    one.exits(1);
    assert!(one.text().contains("has one issuer"), "{one:?}");
    b.run(["issuer", "add", "b", "--key", network.key()]).ok();
    a.run(["doctor"]).ok();
    wait_until("b knows", async || {
        let trust: Trust = b.run(["authority", "show", "--output", "json"]).json();
        trust.is_issuer.then_some(()).ok_or(format!("{trust:?}"))
    })
    .await;
    let second = Node::up("e").join(&b.run(["ticket"]).ok()).started().await;
    joined(&[a, b, c, &invited, &second]).await;
    // The first one retires: nodes keep their links, and get certificates of the other one, as it does.
    b.run(["issuer", "rm", "a", "--key", network.key()]).ok();
    for node in [a, c, &invited] {
        wait_until("it has a certificate of b", async || {
            let certificate = node.client().trust().await.expect("the node answers").certificate;
            certificate
                .as_ref()
                .is_some_and(|it| it.issuer == b.id())
                .then_some(())
                .ok_or(format!("{certificate:?}"))
        })
        .await;
    }
    joined(&[a, b, c, &invited, &second]).await;
}

/// `STARLING_TRUST_NODES` says how many nodes; the time until the last one knows of it is printed.
#[tokio::test]
async fn a_revoked_node_is_cut_off_at_once_and_its_writes_reach_no_node() {
    let count = std::env::var("STARLING_TRUST_NODES").map_or(3, |n| n.parse().expect("a number"));
    let mut network = Certified::required(count).await;
    let key = network.key().to_owned();
    let [a, b, c, others @ ..] = &mut network.nodes[..] else { panic!("three nodes") };
    b.run(["member", "revoke", "c", "--key", &key]).exits(2);
    let rest = count - 1;
    b.run(["member", "revoke", "c", "--yes", "--key", &key])
        .says(&format!("{rest} of the {rest} nodes that answer have it"));
    wait_until("c is alone", async || is_alone(c).await).await;
    assert!(c.log().contains("has revoked this node"), "{}", c.log());
    let known = [&*a, &*b].into_iter().chain(others.iter()).map(|node| logged_ms(node, "has revoked a node"));
    let known: Vec<f64> = known.collect();
    let [first, last] = [f64::min, f64::max].map(|of| known.iter().copied().reduce(of).expect("a time"));
    println!("{count} nodes: the last one knows {:.0} ms after the first one", last - first);
    c.run(["put", "k", "from the lost node"]).ok();
    a.run(["put", "k", "v"]).ok();
    equal(&[a, b]).await;
    assert_eq!(b.run(["get", "k"]).ok(), "v");
    // With all that it knows, and a new ticket.
    c.also_join(&a.run(["ticket"]).ok());
    c.stop().await;
    c.start().await;
    wait_until("it is told why", async || {
        let log = c.log();
        log.contains("does not admit this node: it was revoked").then_some(()).ok_or(log)
    })
    .await;
    is_alone(c).await.expect("it has no link");
    let found = c.run(["doctor"]);
    found.exits(1);
    assert!(found.text().contains("has revoked this node"), "{found:?}");
    // The others remember it after a restart.
    for node in [&mut *a, &mut *b] {
        node.stop().await;
        node.start().await;
    }
    joined(&[a, b]).await;
    let trust: Trust = a.run(["authority", "show", "--output", "json"]).json();
    assert!(trust.required && trust.revoked == [c.id().to_owned()], "{trust:?}");
    let members = a.run(["member", "ls"]).ok();
    assert!(members.contains("issuer"), "{members}");
    is_alone(c).await.expect("it has no link");
}

/// When the node logged a line with this text, milliseconds of the day.
fn logged_ms(node: &Node, text: &str) -> f64 {
    let log = node.log();
    let line = log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {log}"));
    let time = line.split_once('T').and_then(|(_, rest)| rest.split_once('Z')).expect("a time").0;
    time.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().expect("a number")) * 1000.0
}

#[tokio::test]
async fn certificates_are_renewed_while_nodes_run() {
    let a = Node::up("a").set("trust.certificate_ms", "6000").started().await;
    let b = Node::up("b").join(&a.ticket().await.to_string()).started().await;
    joined(&[&a, &b]).await;
    wait_until("b has a certificate", async || certificates(&a, 2)).await;
    a.run(["authority", "require", "--key", path(&a.authority_key())]).ok();
    let until =
        async || b.client().trust().await.expect("the node answers").certificate.map(|it| it.not_after_ms);
    let first = until().await.expect("a certificate");
    wait_until("it was renewed twice", async || match until().await {
        Some(now) if now > first + 6000 => Ok(()),
        other => Err(format!("{other:?}, first {first}")),
    })
    .await;
    b.run(["put", "k", "v"]).ok();
    equal(&[&a, &b]).await;
}

/// The rolling change: nodes of the release before are members until certificates are required.
#[tokio::test]
async fn nodes_of_the_release_before_stay_members_until_certificates_are_required() {
    let a = Node::up("a").started().await;
    let mut old = Node::up("old").join(&a.ticket().await.to_string());
    old.set_release(&Release::HeldBack);
    let mut old = old.started().await;
    joined(&[&a, &old]).await;
    let key = a.authority_key();
    old.run(["put", "k", "v"]).ok();
    equal(&[&a, &old]).await;
    let refused = a.run(["authority", "require", "--key", path(&key)]);
    refused.exits(4).says("have no certificate, or do not answer: old");
    old.stop().await;
    old.set_release(&Release::Current);
    old.start().await;
    wait_until("it has a certificate", async || certificates(&a, 2)).await;
    a.run(["authority", "require", "--key", path(&key)]).ok();
    joined(&[&a, &old]).await;
    // And back: the program before cannot show it.
    old.stop().await;
    old.set_release(&Release::HeldBack);
    old.start().await;
    wait_until("it is refused", async || {
        let log = a.log();
        log.contains("has no certificate, and this network requires one").then_some(()).ok_or(log)
    })
    .await;
}

/// Its certificate is of an issuer that was revoked: a ticket of another one gives it a new one. The nodes are named before.
#[tokio::test]
async fn a_node_with_an_invalid_certificate_joins_again_with_a_new_ticket() {
    let mut network = Certified::required(3).await;
    let key = network.key().to_owned();
    let [a, b, c] = &mut network.nodes[..] else { panic!("three nodes") };
    a.run(["issuer", "add", "b", "--key", &key]).says("b is an issuer now");
    a.run(["issuer", "add", "b", "--key", &key])
        .says("an issuer already, at these addresses: nothing was changed");
    a.run(["issuer", "rm", "c", "--key", &key]).exits(3).says("c is no issuer");
    // While b is down, a is the last issuer that answers.
    b.stop().await;
    wait_until("b does not answer", async || {
        let found: Nodes = a.run(["member", "ls", "--output", "json"]).json();
        if found.nodes.len() == 2 { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    for command in [&["issuer", "rm", "a"][..], &["member", "revoke", "a", "--yes"]] {
        let held = c.run([command, &["--key", &key]].concat());
        held.exits(4).says("no issuer other than a answers");
    }
    a.run(["leave"]).exits(4).says("no other issuer answers");
    b.start().await;
    joined(&[a, b, c]).await;
    let revoked = b.run(["member", "revoke", "a", "--yes", "--key", &key]);
    revoked.says("It has given the certificates of c, which become invalid");
    assert!(!revoked.stderr.contains("do not answer"), "c does not learn it later: {revoked:?}");
    wait_until("c is alone", async || is_alone(c).await).await;
    b.run(["member", "revoke", "a", "--yes", "--key", &key]).says("revoked already: nothing was changed");
    a.run(["member", "revoke", "c", "--yes", "--key", &key]).exits(4).says("a is revoked");
    c.also_join(&b.run(["ticket"]).ok());
    c.stop().await;
    c.start().await;
    joined(&[b, c]).await;
    b.run(["put", "k", "v"]).ok();
    equal(&[b, c]).await;
}

#[tokio::test]
async fn a_seed_gets_its_certificate_by_its_own_ticket_and_no_authority_is_made_apart() {
    let network = Certified::required(3).await;
    let a = &network.nodes[0];
    let seed = Node::bootstrap("seed").join(&network.ticket(&["--seed"])).started().await;
    wait_until("the seed has a certificate", async || {
        let trust = seed.client().trust().await.expect("the node answers");
        trust.certificate.is_some().then_some(()).ok_or(format!("{trust:?}"))
    })
    .await;
    assert!(seed.status().await.joined);
    // One with a ticket for replicas is not admitted, and says so.
    let refused = Node::bootstrap("other").join(&network.ticket(&[])).started().await;
    wait_until("it says why", async || {
        let found = refused.run(["doctor"]).text();
        let is_said = found.contains("no peer is connected") && found.contains("another role");
        is_said.then_some(()).ok_or(found)
    })
    .await;
    let status = refused.status().await;
    assert!(!status.joined && !status.failed_contacts.is_empty(), "{status:?}");
    let replica = Node::up("replica").join(&network.ticket(&["--seed"])).started().await;
    wait_until("it is told why", async || {
        let log = replica.log();
        log.contains("for another role").then_some(()).ok_or(log)
    })
    .await;
    // A node that its network has refused makes no authority of its own.
    let mut ticket = a.ticket().await;
    ticket.authority = None;
    let refused = Node::up("refused").join(&ticket.to_string()).started().await;
    let other = network.key.with_file_name("other");
    refused.run(["authority", "init", "--key", path(&other)]).exits(4).says("has no peer");
    assert!(!other.exists());
    assert!(refused.run(["authority", "show"]).ok().contains("no authority is known here"));
}

#[tokio::test]
async fn a_second_key_of_the_authority_takes_over_and_the_first_one_is_retired() {
    let mut network = Certified::required(3).await;
    let key = network.key().to_owned();
    let new_key = network.key.with_file_name("later.key");
    let new_key = path(&new_key).to_owned();
    let old_ticket = network.ticket(&[]);
    let [a, b, c] = &mut network.nodes[..] else { panic!("three nodes") };
    let trust = |node: &Node| -> Trust { node.run(["authority", "show", "--output", "json"]).json() };
    let old = trust(a).authority.expect("an authority");
    let rotate = ["authority", "rotate", "--key", &key, "--new-key", &new_key];
    b.run(rotate).says("3 of the 3 nodes that answer have it");
    let mode = fs::metadata(&new_key).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    b.run(rotate).exits(1).says("name a file that does not exist with --new-key");
    let new = trust(c).keys.last().expect("a key").id.clone();
    assert!(new != old && trust(c).authority.as_ref() == Some(&old), "{:?}", trust(c));
    // Both sign. The later one cannot be retired by the first one.
    b.run(["issuer", "add", "b", "--key", &new_key]).ok();
    b.run(["issuer", "add", "c", "--key", &key]).ok();
    b.run(["authority", "retire", &new[..8], "--key", &key]).exits(4).says("cannot retire it");
    b.run(["authority", "retire", "0000", "--key", &key])
        .exits(3)
        .says("no key of the authority begins with");
    let retire = ["authority", "retire", &old[..8], "--key", &new_key];
    c.signal(Signal::STOP);
    a.run(retire).exits(4).says("do not answer: c");
    c.signal(Signal::CONT);
    linked(&[a, b, c]).await;
    // One node is away while the first key is retired.
    c.stop().await;
    a.run(retire).says("2 of the 2 nodes that answer have it");
    a.run(["issuer", "rm", "c", "--key", &key]).exits(2).says("is retired");
    for node in [&mut *a, &mut *b] {
        node.stop().await;
        node.start().await;
    }
    c.start().await;
    joined(&[a, b, c]).await;
    for node in [&*a, b, c] {
        let found = trust(node);
        assert_eq!((found.authority.as_ref(), found.keys.len()), (Some(&new), 1), "{found:?}");
        assert_eq!(found.former_keys, std::slice::from_ref(&old));
        assert!(
            found.required && found.issuers.len() == 3,
            "it has stated again what the first one had: {found:?}"
        );
    }
    // A ticket that names the first key, and one that names the later one.
    let late = Node::up("late").join(&old_ticket).started().await;
    let later = Node::up("later").join(&a.run(["ticket"]).ok()).started().await;
    joined(&[a, b, c, &late, &later]).await;
    a.run(["member", "revoke", "late", "--yes", "--key", &new_key]).ok();
    wait_until("it is alone", async || is_alone(&late).await).await;
    let shown = later.run(["authority", "show"]).ok();
    assert!(shown.contains("retired keys") && shown.contains(&old[..8]), "{shown}");
}

#[tokio::test]
async fn a_revoked_voter_is_named_as_such() {
    let network = Certified::required(4).await;
    let [a, b, c, _] = &network.nodes[..] else { panic!("four nodes") };
    a.run(["keyspace", "create", "orders", "--strong", "--on", "a,b,c"]).ok();
    a.run(["-k", "orders", "put", "k", "v"]).ok();
    b.run(["member", "revoke", "c", "--yes", "--key", network.key()]).ok();
    wait_until("c is alone", async || is_alone(c).await).await;
    let replace = "`starling keyspace voters replace orders c OTHER`";
    for node in [a, b] {
        for command in [&["doctor"][..], &["keyspace", "ls"]] {
            wait_until("the voter is revoked", async || {
                let found = node.run(command).text();
                let is_said = found.contains("voter c is revoked") && found.contains(replace);
                is_said.then_some(()).ok_or(found)
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_damaged_file_and_a_ticket_of_another_authority_are_refused_at_the_start() {
    let mut network = Certified::new().await;
    let a = &mut network.nodes[0];
    a.stop().await;
    let file = a.data_dir().join("trust");
    let whole = fs::read_to_string(&file).expect("is there");
    assert_eq!(fs::metadata(&file).expect("is there").permissions().mode() & 0o777, 0o600);
    let mut forged = whole.clone().into_bytes();
    let digit = forged.len() - 2;
    forged[digit] = if forged[digit] == b'0' { b'1' } else { b'0' };
    let forged = String::from_utf8(forged).expect("is text");
    for damaged in [String::new(), forged, whole.replace("trust v1", "trust v2")] {
        assert_ne!(damaged, whole);
        fs::write(&file, damaged).expect("writes");
        a.refused().says("cannot be read, or is not signed");
    }
    fs::write(&file, &whole).expect("writes");
    a.start().await;
    let mut other = a.ticket().await;
    other.authority.as_mut().expect("an authority").key = [7; 32];
    let b = &mut network.nodes[1];
    b.stop().await;
    b.also_join(&other.to_string());
    b.refused().says("follows the authority");
    let foreign = network.key.with_file_name("foreign");
    fs::copy(b.data_dir().join("identity"), &foreign).expect("copies");
    let c = &network.nodes[2];
    c.run(["issuer", "add", "c", "--key", path(&foreign)]).exits(2);
    run(["--api", "127.0.0.1:1", "authority", "show"], b"").exits(5);
}
