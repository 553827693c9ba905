//! Strong keyspaces on real processes: from any node, through the death, the silence and the loss of
//! nodes.

use rustix::process::Signal;
use starling_api::ErrorCode;
use starling_api::strong::{Body, Keys, Put, Range, Read, RequestId, StrongCall, StrongEvent, Write};
use starling_client::new_request_id;
use starling_tests::{KEYSPACE, Node, Requests, etcdctl, flock, heard_of, leader, led, wait_until};

async fn put(node: &Node, key: &str, value: &str) -> Result<u64, starling_api::Error> {
    let put = Write::Put(Put::new(key, value));
    Ok(node.client().ask(KEYSPACE, &put.into()).await?.revision)
}

async fn get(node: &Node, key: &str) -> Result<Option<String>, starling_api::Error> {
    let get = Range::of(Keys::One(key.into()));
    match node.client().ask(KEYSPACE, &get.into()).await?.body {
        Body::Range(mut found) => {
            Ok(found.kvs.pop().map(|kv| String::from_utf8_lossy(&kv.value).into_owned()))
        }
        other => panic!("not what was asked for: {other:?}"),
    }
}

/// The first node of these that is not `but`.
fn another(nodes: &[Node], but: usize) -> &Node {
    &nodes[(but + 1) % 3]
}

#[tokio::test]
async fn every_node_serves_it_and_says_the_same() {
    let nodes = flock().await;
    for (at, node) in nodes.iter().enumerate() {
        put(node, "k", &at.to_string()).await.expect("written");
        for other in &nodes {
            assert_eq!(get(other, "k").await.expect("read"), Some(at.to_string()), "{}", other.name());
        }
    }
    let (a, d) = (&nodes[0], &nodes[3]);
    let version = d.run(["put", "-k", KEYSPACE, "cas", "one"]).ok();
    d.run(["put", "-k", KEYSPACE, "cas", "two", "--if-version", "1"]).exits(4);
    a.run(["put", "-k", KEYSPACE, "cas", "two", "--if-version", &version]).ok();
    a.run(["put", "-k", KEYSPACE, "cas", "three", "--if-absent"]).exits(4);
    assert_eq!(d.run(["get", "-k", KEYSPACE, "cas"]).ok(), "two");
    d.run(["get", "-k", KEYSPACE, "cas", "--stale"]).exits(1).says("no replica");
    assert!(a.run(["--output", "raw", "ls", "-k", KEYSPACE]).ok().contains("cas"));
    assert_eq!(d.run(["del", "-k", KEYSPACE, "cas"]).ok(), "1");
    d.run(["get", "-k", KEYSPACE, "cas"]).exits(3);
    assert!(d.run(["keyspace", "ls"]).ok().contains("strong"));
    assert!(d.run(["keyspace", "info", KEYSPACE]).ok().contains("leader"));
}

#[tokio::test]
async fn replicas_tell_the_same_hash_and_another_one_after_a_write() {
    let nodes = flock().await;
    let mut before = [0; 32];
    for value in ["1", "2"] {
        put(&nodes[3], "k", value).await.expect("written");
        before = wait_until("three replicas tell one hash, a new one", async || {
            let call = StrongCall { stale: true, ..Read::Hash.into() };
            let mut told = Vec::new();
            for node in &nodes[..3] {
                match node.client().ask(KEYSPACE, &call).await.map(|answer| answer.body) {
                    Ok(Body::Hash { hash, .. }) => told.push(hash),
                    other => return Err(format!("{other:?}")),
                }
            }
            let is_one = told.iter().all(|hash| *hash == told[0] && *hash != before);
            is_one.then(|| told.remove(0)).ok_or_else(|| format!("{told:?}"))
        })
        .await;
    }
    let call = StrongCall { stale: true, ..Read::Hash.into() };
    let refused = nodes[3].client().ask(KEYSPACE, &call).await.expect_err("it has no replica");
    assert_eq!(refused.code, ErrorCode::NoStore);
}

#[tokio::test]
async fn a_name_is_strong_or_eventual() {
    let nodes = flock().await;
    let d = &nodes[3];
    let refused = d.client().put(KEYSPACE, b"k", b"v".to_vec(), None, &starling_api::Precondition::Any).await;
    assert_eq!(refused.expect_err("it is strong").code, ErrorCode::OtherKeyspace);
    let refused =
        d.client().put(".strong", b"k", b"v".to_vec(), None, &starling_api::Precondition::Any).await;
    assert_eq!(refused.expect_err("Starling's own").code, ErrorCode::Invalid);
    d.run(["put", "-k", "plain", "k", "v"]).ok();
    d.run(["keyspace", "create", "plain", "--strong"]).exits(4).says("eventual");
    d.run(["put", "-k", "plain", "k", "v", "--lease", "1"]).exits(2).says("strong");
}

#[tokio::test]
async fn a_command_on_a_strong_keyspace_takes_one_request() {
    let node = Node::up("a").started().await;
    node.run(["keyspace", "create", KEYSPACE, "--strong", "--voters", "1"]).ok();
    heard_of(&node, KEYSPACE).await;
    led(&node).await;
    let requests = Requests::of(&node);
    let sends = |count: u64, args: &[&str]| {
        let (answer, sent) = requests.run(args);
        assert_eq!(sent, count, "{answer:?}");
        answer
    };
    sends(1, &["put", "-k", KEYSPACE, "k", "v"]).ok();
    assert_eq!(sends(1, &["get", "-k", KEYSPACE, "k"]).ok(), "v");
    assert!(sends(1, &["ls", "-k", KEYSPACE]).ok().contains('k'));
    sends(1, &["del", "-k", KEYSPACE, "k"]).ok();
    // What only an eventual keyspace takes is refused by the first request too.
    sends(1, &["put", "-k", KEYSPACE, "k", "v", "--ttl", "60s"]).exits(2).says("lease");
    let lease = sends(1, &["lease", "-k", KEYSPACE, "grant", "60s"]).ok();
    sends(1, &["lease", "-k", KEYSPACE, "info", &lease]).ok();
    assert_eq!(sends(1, &["lease", "-k", KEYSPACE, "ls"]).ok(), lease);
    sends(1, &["lease", "-k", KEYSPACE, "revoke", &lease]).ok();
    sends(1, &["queue", "-k", KEYSPACE, "push", "jobs", "a"]).ok();
    assert_eq!(sends(1, &["queue", "-k", KEYSPACE, "len", "jobs"]).ok(), "1");
    // The look for the first item, and the transaction that takes it.
    assert_eq!(sends(2, &["queue", "-k", KEYSPACE, "pop", "jobs"]).ok(), "a");
    sends(1, &["elect", "-k", KEYSPACE, "leader", "boss"]).exits(3);
    sends(1, &["-k", KEYSPACE, "lock", "ls"]).ok();
    for refused in
        [["lease", "ls"].as_slice(), &["queue", "len", "jobs"], &["elect", "leader", "boss"], &["lock", "ls"]]
    {
        sends(1, &[&["-k", "plain"], refused].concat()).exits(2).says("strong");
        sends(0, refused).exits(2).says("strong");
    }
    // Of an eventual keyspace that takes two, and one where it is not named, or cannot be strong.
    sends(2, &["put", "-k", "plain", "k", "v"]).ok();
    assert_eq!(sends(2, &["get", "-k", "plain", "k"]).ok(), "v");
    sends(1, &["put", "-k", "plain", "k", "v", "--ttl", "60s"]).ok();
    sends(1, &["put", "k", "v"]).ok();
    sends(0, &["put", "k", "v", "--lease", "1"]).exits(2).says("strong");
}

#[tokio::test]
async fn a_write_with_a_request_id_is_applied_once() {
    let nodes = flock().await;
    let with = |client: u128| {
        let request_id = Some(RequestId { client, seq: 0, answered_below: 0 });
        StrongCall { request_id, ..Write::Put(Put::new("once", "v")).into() }
    };
    // A new group adopts the rule with its leader's first tick.
    wait_until("an id without a time is refused", async || {
        match nodes[3].client().ask(KEYSPACE, &with(0xab)).await {
            Err(error) if error.message.contains("RFC 9562") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let in_an_hour = new_request_id() + (3_600_000 << 80);
    let ahead = nodes[3].client().ask(KEYSPACE, &with(in_an_hour)).await.expect_err("it is in the future");
    assert!(ahead.message.contains("in the future"), "{ahead:?}");
    let call = with(new_request_id());
    let first = nodes[3].client().ask(KEYSPACE, &call).await.expect("written");
    let second = nodes[0].client().ask(KEYSPACE, &call).await.expect("answered again");
    assert_eq!(first.revision, second.revision);
}

#[tokio::test]
async fn writes_go_on_after_the_leader_was_killed_and_nothing_is_lost() {
    let mut nodes = flock().await;
    put(&nodes[3], "before", "1").await.expect("written");
    let was = leader(&nodes, &led(&nodes[3]).await);
    nodes[was].kill();
    let mut tries = 0;
    wait_until("writes go on", async || {
        tries += 1;
        put(&nodes[3], "after", "2").await.map_err(|error| format!("try {tries}: {error}"))
    })
    .await;
    assert_eq!(get(&nodes[3], "before").await.expect("read"), Some("1".into()));
    let known = nodes[3].address().to_owned();
    nodes[was].also_join(&known);
    nodes[was].start().await;
    wait_until("the one that died has caught up", async || match get_stale(&nodes[was], "after").await {
        Ok(Some(value)) if value == "2" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

async fn get_stale(node: &Node, key: &str) -> Result<Option<String>, starling_api::Error> {
    let call = StrongCall { stale: true, ..Range::of(Keys::One(key.into())).into() };
    match node.client().ask(KEYSPACE, &call).await?.body {
        Body::Range(mut found) => {
            Ok(found.kvs.pop().map(|kv| String::from_utf8_lossy(&kv.value).into_owned()))
        }
        other => panic!("not what was asked for: {other:?}"),
    }
}

#[tokio::test]
async fn all_killed_at_once_hold_what_was_acknowledged() {
    let mut nodes = flock().await;
    for at in 0..20 {
        put(&nodes[3], &format!("k{at}"), "v").await.expect("written");
    }
    nodes[..3].iter_mut().for_each(Node::kill);
    // They come back on other ports, and may not have had the time to remember who was there.
    let known = nodes[3].address().to_owned();
    for node in &mut nodes[..3] {
        node.also_join(&known);
        node.start().await;
    }
    for at in 0..20 {
        wait_until("it is read", async || match get(&nodes[3], &format!("k{at}")).await {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
}

#[tokio::test]
async fn a_stopped_leader_is_replaced() {
    let nodes = flock().await;
    let was = leader(&nodes, &led(&nodes[3]).await);
    nodes[was].signal(Signal::STOP);
    let asked = another(&nodes, was);
    wait_until("writes go on", async || put(asked, "k", "v").await.map_err(|error| error.to_string())).await;
    nodes[was].signal(Signal::CONT);
    wait_until("the one that was stopped serves again", async || match get(&nodes[was], "k").await {
        Ok(Some(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn without_a_majority_it_says_who_is_missing_and_the_rest_works() {
    let mut nodes = flock().await;
    put(&nodes[0], "k", "v").await.expect("written");
    // Whoever does not lead learns a moment later that it is committed.
    wait_until("it is applied here, too", async || {
        let stale = nodes[0].run(["get", "-k", KEYSPACE, "k", "--stale"]);
        if stale.stdout.starts_with(b"v") { Ok(()) } else { Err(stale.stderr) }
    })
    .await;
    nodes[1].kill();
    nodes[2].kill();
    let error =
        wait_until("it is said that there is no majority", async || match put(&nodes[0], "k", "w").await {
            Err(error) if error.code == ErrorCode::NoMajority => Ok(error.to_string()),
            other => Err(format!("{other:?}")),
        })
        .await;
    assert!(error.contains('b') && error.contains('c'), "{error}");
    nodes[0].run(["put", "-k", "plain", "k", "v"]).ok();
    assert_eq!(nodes[0].run(["get", "-k", "plain", "k"]).ok(), "v");
    assert_eq!(nodes[0].run(["get", "-k", KEYSPACE, "k", "--stale"]).ok(), "v");
}

#[tokio::test]
async fn a_watch_misses_nothing() {
    let nodes = flock().await;
    let first = put(&nodes[0], "w/0", "v").await.expect("written");
    let mut watch = nodes[3].client().watch_strong(KEYSPACE, b"w/", first).await.expect("watches");
    for at in 1..10 {
        put(&nodes[0], &format!("w/{at}"), "v").await.expect("written");
    }
    let mut seen = Vec::new();
    while seen.len() < 10 {
        match watch.next_event().await.expect("it goes on").expect("it is understood") {
            StrongEvent::Put { kv } => seen.push(String::from_utf8_lossy(&kv.key).into_owned()),
            StrongEvent::Ready { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, (0..10).map(|at| format!("w/{at}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn members_are_moved_while_it_serves() {
    let nodes = flock().await;
    put(&nodes[0], "k", "v").await.expect("written");
    let voters = |what: &str, node: Option<&str>| {
        nodes[3].run(["keyspace", "voters", what, KEYSPACE].into_iter().chain(node))
    };
    voters("cancel", None).exits(3).says("no node is being made a voter");
    voters("add", Some("b")).exits(4).says("b is a voter of orders already");
    let unknown = voters("add", Some("nope"));
    unknown.exits(1).says("nope: 0 nodes");
    for node in &nodes {
        unknown.says(&format!("{} (", node.name()));
    }
    nodes[3].run(["keyspace", "voters", "replace", KEYSPACE, "c", "d"]).ok();
    assert_eq!(get(&nodes[2], "k").await.expect("read"), Some("v".into()));
    wait_until("the new voter has a replica", async || match get_stale(&nodes[3], "k").await {
        Ok(Some(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    nodes[0].run(["keyspace", "transfer-leader", KEYSPACE, "d"]).ok();
    wait_until("d leads", async || {
        let info = led(&nodes[0]).await;
        (info.leader.as_deref() == Some("d")).then_some(()).ok_or_else(|| format!("{info:?}"))
    })
    .await;
    nodes[1].run(["keyspace", "drop", KEYSPACE]).exits(2).says("--yes");
    nodes[1].run(["keyspace", "drop", KEYSPACE, "--yes"]).ok();
    wait_until("it is gone", async || match nodes[1].client().strong_info(KEYSPACE).await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn etcdctl_works_on_every_node() {
    let nodes = flock().await;
    let said = |node: &Node, args: &[&str]| {
        let output = etcdctl(node, args).output().expect("etcdctl is installed (./tests/run does it)");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for node in &nodes {
        assert_eq!(said(node, &["put", "e", node.name()]), "OK\n");
        for other in &nodes {
            assert_eq!(said(other, &["get", "--print-value-only", "e"]).trim(), node.name());
        }
    }
}

#[tokio::test]
async fn etcd_clients_find_every_node_that_serves_them_and_one_leader() {
    let nodes = flock().await;
    let said = |node: &Node, args: &[&str]| {
        let output = etcdctl(node, args).output().expect("etcdctl is installed (./tests/run does it)");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let urls: Vec<String> = nodes.iter().map(|node| format!("http://{}", node.etcd(KEYSPACE))).collect();
    for node in &nodes {
        // The three voters, and the node outside of the group.
        let list = wait_until("the list of members has every node's URL", async || {
            let list = said(node, &["member", "list", "-w", "table"]);
            if urls.iter().all(|url| list.contains(url)) { Ok(list) } else { Err(list) }
        })
        .await;
        assert!(list.contains("tcp://127.0.0.1:") && !list.contains("/ip4/"), "{list}");
        assert_eq!(list.matches("started").count(), nodes.len(), "{list}");
        let health = said(node, &["endpoint", "health", "--cluster", "-w", "json"]);
        assert_eq!(health.matches(r#""health":true"#).count(), nodes.len(), "{health}");
        let status = said(node, &["endpoint", "status", "--cluster", "-w", "table"]);
        assert_eq!(status.matches(" true |").count(), 1, "one leader: {status}");
    }
    let outside = said(&nodes[3], &["endpoint", "status", "-w", "table"]);
    assert!(!outside.contains(" true |"), "{outside}");
}

/// A node of the same network that does not reach the others, with a keyspace of the same name.
async fn apart(nodes: &[Node]) -> Node {
    let mut ticket = nodes[0].ticket().await;
    ticket.addresses.clear();
    let node = Node::up("e").join(&ticket.to_string()).started().await;
    node.run(["keyspace", "create", KEYSPACE, "--strong", "--voters", "1"]).ok();
    put(&node, "whose", "theirs").await.expect("written");
    node
}

#[tokio::test]
async fn a_keyspace_made_apart_under_the_same_name_gives_way_and_keeps_what_it_holds() {
    let nodes = flock().await;
    put(&nodes[0], "whose", "ours").await.expect("written");
    let mut lone = apart(&nodes).await;
    lone.stop().await;
    lone.also_join(nodes[0].address());
    lone.start().await;
    let name = wait_until("the lone node has another name for its keyspace", async || {
        for node in &nodes {
            assert_eq!(get(node, "whose").await.expect("it is served").as_deref(), Some("ours"));
        }
        let keyspaces = lone.client().keyspaces().await.map_err(|error| error.to_string())?.keyspaces;
        let aside = keyspaces.iter().find(|it| it.name.starts_with("orders.aside-"));
        aside.map(|it| it.name.clone()).ok_or(format!("{keyspaces:?}"))
    })
    .await;
    wait_until("the lone node serves the other one", async || match get(&lone, "whose").await {
        Ok(Some(value)) if value == "ours" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    heard_of(&nodes[3], &name).await;
    for node in [&lone, &nodes[3]] {
        assert_eq!(node.run(["get", "-k", &name, "whose"]).ok(), "theirs");
        assert!(node.run(["keyspace", "ls"]).ok().contains("was created as orders"));
    }
    assert!(lone.run(["export", "-k", &name]).ok().contains("theirs"));
    let doctor = lone.run(["doctor"]);
    doctor.exits(1);
    assert!(doctor.text().contains(&format!("starling keyspace drop {name}")), "{}", doctor.text());
    nodes[3].run(["doctor"]).exits(0);
    lone.run(["keyspace", "drop", &name, "--yes"]).ok();
    lone.run(["doctor"]).exits(0);
}

#[tokio::test]
async fn after_a_recovery_the_replicas_of_those_that_come_back_are_kept_until_they_are_discarded() {
    let mut nodes = flock().await;
    put(&nodes[0], "k", "v").await.expect("written");
    nodes[1].kill();
    nodes[2].kill();
    let recover = ["keyspace", "recover", KEYSPACE, "--force-new-group", "--yes"];
    let shown = wait_until("it is not refused any more", async || {
        let answer = nodes[0].run(recover);
        if answer.code == 0 { Ok(answer) } else { Err(answer.stderr) }
    })
    .await;
    shown.says(
        "done: a is the one voter of orders; add others with `starling keyspace voters add orders NODE`",
    );
    let shown = shown.ok();
    assert!(shown.contains("no answer from b, c") && shown.contains("longest log: a"), "{shown}");
    nodes[0].run(recover).exits(4).says("orders has one voter, this node, and works");
    let known = nodes[0].address().to_owned();
    nodes[1].also_join(&known);
    nodes[1].start().await;
    wait_until("the replica on b is kept", async || {
        let listed = nodes[1].run(["keyspace", "ls"]).ok();
        if listed.contains("a removed replica is kept here") { Ok(()) } else { Err(listed) }
    })
    .await;
    let replicas = nodes[0].run(["keyspace", "replicas", KEYSPACE]).ok();
    assert!(replicas.contains("removed, and kept aside"), "{replicas}");
    // It has nothing that the other one lacks.
    nodes[1].run(["doctor"]).exits(0);
    nodes[1].run(["keyspace", "discard", KEYSPACE, "--yes"]).ok();
    nodes[1].run(["keyspace", "discard", KEYSPACE, "--yes"]).exits(3);
    nodes[1].run(["doctor"]).exits(0);
    nodes[0].run(["keyspace", "voters", "add", KEYSPACE, "b"]).ok();
    assert_eq!(get(&nodes[1], "k").await.expect("read").as_deref(), Some("v"));
}
