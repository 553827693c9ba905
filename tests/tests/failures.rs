//! What can go wrong on one machine: a clear error, nothing lost, no panic.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use starling_api::admin::Doctor;
use starling_api::{ErrorCode, Precondition, Range};
use starling_tests::{Answer, Node, SmallDisk, http_client, joined, noise, put_noise, run, wait_until};
use tokio::task::JoinSet;

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    Node::up("node").api_on(&address.to_string()).refused().exits(1).says(&address.to_string());
    let multiaddress = format!("/ip4/127.0.0.1/tcp/{}", address.port());
    Node::up("node").listen_on(&multiaddress).refused().exits(1).says(&multiaddress);
    // By another node as well as by a stranger.
    let first = Node::up("first").started().await;
    Node::up("second").api_on(first.api()).refused().exits(1).says(first.api());
    let listen = first.address().split("/p2p/").next().expect("an address");
    Node::up("second").listen_on(listen).refused().exits(1).says("taken");
    first.run(["put", "k", "v"]).ok();
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let inside = file.path().join("data");
    Node::up("node").data_in(&inside).refused().exits(1).says(&inside.display().to_string());
    Node::up("node").data_in("/proc/data").refused().exits(1).says("/proc/data");
}

#[tokio::test]
async fn one_directory_has_one_node() {
    let first = Node::up("first").started().await;
    first.run(["put", "k", "v"]).ok();
    // As a cleaner of old files does.
    fs::remove_file(first.data_dir().join("store/LOCK")).expect("our file");
    let answer = Node::up("second").data_in(first.data_dir()).refused();
    answer.exits(1);
    answer.says("in use by another process");
    let answer = doctor_offline(&first);
    answer.exits(1).says("in use by another process");
    answer.says("without --data-dir");
    assert_eq!(first.run(["get", "k"]).ok(), "v");
    assert!(first.data_dir().join("run.json").exists(), "the first one's");
}

/// A node that is suspended, as by a debugger or a machine that pauses, accepts connections and says nothing.
#[tokio::test]
async fn a_node_that_is_silent_is_left_in_time() {
    let node = Node::up("node").started().await;
    node.run(["keyspace", "create", "orders", "--strong", "--voters", "1"]).ok();
    node.run(["-k", "orders", "put", "k", "v"]).ok();
    node.signal(Signal::STOP);
    let reads = [&["get", "k"][..], &["ls"], &["status"], &["put", "k", "v"], &["incr", "n"], &["watch"]];
    for args in reads.into_iter().chain([&["doctor"][..], &["keyspaces"], &["-k", "orders", "get", "k"]]) {
        node.run(["--timeout", "300ms"].iter().chain(args)).exits(5);
    }
    let named = "--request-id";
    let writes = [
        (&["put", "k", "w"][..], named),
        (&["del", "k"], named),
        (&["lease", "grant", "5s"], "may or may not"),
    ];
    for (args, hint) in writes {
        node.run(["--timeout", "300ms", "-k", "orders"].iter().chain(args)).exits(6).says(hint);
    }
    for args in [&["lock", "job"][..], &["elect", "campaign", "boss", "anna"]] {
        node.run(["--timeout", "300ms", "-k", "orders"].iter().chain(args)).exits(5).says("no answer");
    }
    for args in [&["lock", "ls"][..], &["lock", "ls", "job"], &["queue", "ls", "q"], &["queue", "pop", "q"]] {
        node.run(["--timeout", "300ms", "-k", "orders"].iter().chain(args)).exits(5).says("for 300ms");
    }
    node.signal(Signal::CONT);
    assert_eq!(node.run(["get", "k"]).ok(), "v");
}

/// The node falls silent while a client waits for others: that they are before it is not known any more.
#[tokio::test]
async fn a_node_that_falls_silent_is_no_answer_to_those_that_wait() {
    let node = Node::up("node").started().await;
    node.run(["keyspace", "create", "orders", "--strong", "--voters", "1"]).ok();
    let holder = node.begin(["-k", "orders", "lock", "job"]);
    let listed = async || {
        let listed = node.run(["-k", "orders", "--output", "raw", "lock", "ls", "job"]).ok();
        Ok::<_, String>(listed.lines().count())
    };
    let places = async |count: usize| {
        wait_until("clients stand in line", async || match listed().await {
            Ok(found) if found == count => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    };
    places(1).await;
    let mut lock = node.begin(["-k", "orders", "--timeout", "3s", "lock", "job"]);
    places(2).await;
    let mut pop = node.begin(["-k", "orders", "queue", "pop", "q", "--wait", "3s"]);
    node.signal(Signal::STOP);
    lock.ended().await.exits_noted(5);
    // An empty queue is only looked at, so nothing may have been taken.
    pop.ended().await.exits_noted(5);
    node.signal(Signal::CONT);
    drop(holder);
}

/// A stopped node with data in sorted files, not in the log alone.
async fn stopped_with_data() -> Node {
    let mut node = Node::up("node").started().await;
    for n in 0..50 {
        node.client()
            .put("default", format!("k{n}").as_bytes(), vec![n; 1000], None, &Precondition::Any)
            .await
            .expect("written");
    }
    node.stop().await;
    // The next start moves the log's contents into them.
    node.start().await;
    node.stop().await;
    node
}

/// Overwrites the middle third of every file of the store that `matches`.
fn damage(node: &Node, matches: impl Fn(&str) -> bool) {
    let mut damaged = 0;
    for entry in fs::read_dir(node.data_dir().join("store")).expect("a store") {
        let path = entry.expect("a file").path();
        if matches(&path.file_name().expect("named").to_string_lossy()) {
            let mut bytes = fs::read(&path).expect("readable");
            let (from, to) = (bytes.len() / 3, bytes.len() * 2 / 3);
            bytes[from..to].fill(0xa5);
            fs::write(&path, bytes).expect("writable");
            damaged += 1;
        }
    }
    assert!(damaged > 0, "there is nothing to damage");
}

fn doctor_offline(node: &Node) -> Answer {
    run(["doctor", "--data-dir", &node.data_dir().display().to_string()], b"")
}

#[tokio::test]
async fn a_damaged_catalogue_of_the_store_is_an_error() {
    let node = stopped_with_data().await;
    damage(&node, |name| name.starts_with("MANIFEST"));
    node.refused().exits(1).says("the store is damaged");
    doctor_offline(&node).exits(1);
}

#[tokio::test]
async fn damaged_data_is_found_and_never_believed() {
    let mut node = stopped_with_data().await;
    damage(&node, |name| Path::new(name).extension().is_some_and(|extension| extension == "sst"));
    doctor_offline(&node).exits(1);
    // It may start, and then refuses what it cannot read.
    let start = run(
        [
            "up",
            "--exit-with-parent",
            "--listen",
            "/ip4/127.0.0.1/tcp/0",
            "--api",
            "127.0.0.1:0",
            "--data-dir",
        ]
        .into_iter()
        .chain([&*node.data_dir().display().to_string()]),
        b"",
    );
    if start.code == 0 {
        node.start().await;
        let mut refused = 0;
        for n in 0..50u8 {
            match node.client().get_raw("default", format!("k{n}").as_bytes()).await {
                Ok(found) => assert_eq!(found.map(|found| found.bytes), Some(vec![n; 1000])),
                Err(error) => {
                    assert_eq!(error.code, ErrorCode::Storage, "{error}");
                    refused += 1;
                }
            }
        }
        assert!(refused > 0, "a third of every file is damaged");
    } else {
        start.exits(1).says("damaged");
    }
}

#[tokio::test]
async fn damaged_files_beside_the_store_are_named() {
    for file in ["identity", "network"] {
        let mut node = Node::up("node").started().await;
        node.stop().await;
        fs::write(node.data_dir().join(file), b"nonsense").expect("our file");
        node.refused().exits(1).says(&node.data_dir().join(file).display().to_string());
    }
    // Peers can be found again.
    let mut node = Node::up("node").started().await;
    node.stop().await;
    fs::write(node.data_dir().join("peers.json"), b"nonsense").expect("our file");
    node.start().await;
    node.run(["put", "k", "v"]).ok();
}

#[tokio::test]
async fn a_file_that_was_lost_beside_the_store_is_not_made_anew() {
    let mut node = Node::up("node").started().await;
    let ticket = node.ticket().await.to_string();
    node.run(["put", "k", "v"]).ok();
    let other = Node::up("other").started().await.ticket().await.to_string();
    node.stop().await;
    let moved = |name: &str| {
        let path = node.data_dir().join(name);
        (path.clone(), fs::rename(&path, path.with_extension("aside")).expect("our file")).0
    };
    let identity = moved("identity");
    node.refused().exits(1).says(&identity.display().to_string());
    assert!(!identity.exists(), "a new key would be another node");
    fs::rename(identity.with_extension("aside"), &identity).expect("our file");
    let network = moved("network");
    let answer = node.refused();
    answer.exits(1).says(&network.display().to_string());
    answer.says("--join TICKET");
    let wrong = Node::up("node").data_in(node.data_dir()).join(&other).refused();
    wrong.exits(1).says("another network");
    assert!(!network.exists(), "the wrong ticket is not kept");
    node.also_join(&ticket);
    node.start().await;
    assert_eq!(node.run(["get", "k"]).ok(), "v");
}

async fn assert_noise(node: &Node, written: &[u64]) {
    for n in written {
        let found = node.client().get_raw("default", format!("k{n}").as_bytes()).await.expect("reads go on");
        assert!(found.is_some_and(|found| found.bytes == noise(*n, 200_000)), "k{n} was acknowledged");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_space_again() {
    let disk = SmallDisk::mount();
    let mut node = disk.node("node").started().await;
    let mut written = Vec::new();
    let refusal = loop {
        let n = written.len() as u64;
        match put_noise(&node, n).await {
            Ok(_) => written.push(n),
            Err(error) => break error,
        }
        assert!(n < 1000, "the disk is never full");
    };
    assert!(!written.is_empty());
    assert_eq!(refusal.code, disk.is_full(), "{refusal}");
    assert!(!refusal.hint.is_empty());
    assert!(node.status().await.storage_error.is_some());
    node.run(["put", "small", "v"]).exits(1);
    assert_noise(&node, &written).await;
    let doctor = node.run(["doctor"]);
    doctor.exits(1);
    let report = doctor.text();
    let found: Vec<&str> = report.lines().filter(|line| line.starts_with("WRONG: ")).collect();
    let reason = node.status().await.storage_error.expect("the disk is still full");
    assert_eq!(found, [format!("WRONG: {reason}")], "no data is damaged");

    disk.make_room(&mut node).await;
    wait_until("nothing is wrong, before any write", async || {
        node.status().await.storage_error.map_or(Ok(()), Err)
    })
    .await;
    let mut n = 1000;
    wait_until("writes work again", async || {
        n += 1;
        put_noise(&node, n).await.map_err(|error| error.to_string())
    })
    .await;
    written.push(n);
    wait_until("nothing is wrong any more", async || node.status().await.storage_error.map_or(Ok(()), Err))
        .await;
    assert_eq!(node.log().matches("storage failed: reads continue").count(), 1, "it is logged once");
    assert_noise(&node, &written).await;
    node.kill();
    node.start().await;
    assert_noise(&node, &written).await;
    assert!(node.run(["doctor"]).ok().contains("healthy"));
}

/// Connections on which nobody speaks take no descriptors from peers and the store.
#[tokio::test]
async fn silent_clients_leave_descriptors_to_peers_and_the_store() {
    let node = Node::up("node").open_files_max(500).started().await;
    let ticket = node.ticket().await.to_string();
    let api = node.api().parse().expect("an address");
    // The last one finds no place in the system's queue, not even when it asks again a second later.
    let connect = |_| TcpStream::connect_timeout(&api, Duration::from_millis(1500)).ok();
    let silent: Vec<TcpStream> = (0..600).map_while(connect).collect();
    assert!(silent.len() > 100, "{} connections", silent.len());
    let friend = Node::up("friend").join(&ticket).started().await;
    friend.run(["put", "k", "v"]).ok();
    wait_until("the friend is joined", async || {
        let status = friend.status().await;
        if status.joined && status.active == 1 { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    drop(silent);
    wait_until("the write has arrived", async || {
        let get = node.run(["get", "k"]);
        if get.code == 0 { Ok(()) } else { Err(format!("{get:?}")) }
    })
    .await;
    assert_eq!(node.status().await.storage_error, None);
}

#[tokio::test]
async fn garbage_from_the_network_is_counted_and_survived() {
    let node = Node::up("node").started().await;
    let port = node.address().split('/').nth(4).expect("a port").to_owned();
    let negotiation = b"\x13/multistream/1.0.0\n";
    let payloads = [
        noise(1, 5000),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0xff; 100_000],
        [&negotiation[..], &noise(2, 5000)].concat(),
        [&negotiation[..], b"\x07/noise\n", &noise(3, 5000)].concat(),
        [&negotiation[..], b"\x07/noise\n\x00\x20", &[7; 32], &noise(4, 500)].concat(),
        negotiation.to_vec(),
        Vec::new(),
    ];
    let mut open = Vec::new();
    for payload in &payloads {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).expect("it listens");
        // It may hang up before it has read all.
        let _ = stream.write_all(payload);
        open.push(stream);
    }
    open.truncate(payloads.len() / 2);
    wait_until("a failed handshake is counted", async || {
        let status = node.status().await;
        let count = status.counters["failed_handshakes"];
        if count > 0 { Ok(()) } else { Err(format!("{:?}", status.counters)) }
    })
    .await;
    node.run(["put", "k", "v"]).ok();
    let friend = Node::up("friend").join(&node.ticket().await.to_string()).started().await;
    joined(&[&node, &friend]).await;
}

/// Kills a node while it is written to; everything it acknowledged must be there afterwards.
async fn killed_under_load(durability: &str) {
    let mut node = Node::up("node").set("durability", durability).started().await;
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        let client = node.client().clone();
        writers.spawn(async move {
            let mut acknowledged = Vec::new();
            loop {
                let key = format!("{writer}-{}", acknowledged.len());
                let put = client.put("default", key.as_bytes(), key.clone().into(), None, &Precondition::Any);
                match put.await {
                    Ok(_) => acknowledged.push(key),
                    Err(_) => return acknowledged,
                }
            }
        });
    }
    wait_until("it is busy", async || match node.status().await.entries {
        300.. => Ok(()),
        entries => Err(format!("{entries} entries")),
    })
    .await;
    node.kill();
    let acknowledged: Vec<String> = writers.join_all().await.into_iter().flatten().collect();
    assert!(acknowledged.len() >= 290, "{}", acknowledged.len());

    node.start().await;
    for key in &acknowledged {
        let found = node.client().get_raw("default", key.as_bytes()).await.expect("the node answers");
        assert_eq!(found.map(|found| found.bytes).as_deref(), Some(key.as_bytes()), "{key} was acknowledged");
    }
    let listed = node.client().list("default", &Range { limit: Some(10_000), ..Range::default() }).await;
    let listed = listed.expect("the node answers").keys.len();
    assert!(
        (acknowledged.len()..=acknowledged.len() + 4).contains(&listed),
        "{listed} keys, 4 were in flight"
    );

    let actors = |doctor: Doctor| doctor.counts["actors"];
    let before = actors(node.run(["--output", "json", "doctor"]).json());
    node.run(["put", "after", "v"]).ok();
    let after: Doctor = node.run(["--output", "json", "doctor"]).json();
    assert!(after.healthy, "{after:?}");
    assert_eq!(actors(after), before + 1, "a new run of the process is a new actor");
    node.stop().await;
    assert!(doctor_offline(&node).ok().contains("healthy"));
}

#[tokio::test]
async fn kill_9_loses_no_acknowledged_write_at_everysec() {
    killed_under_load("everysec").await;
}

#[tokio::test]
async fn kill_9_loses_no_acknowledged_write_at_always() {
    killed_under_load("always").await;
}

/// Flips one bit in the middle of the write-ahead log of a node that was killed.
fn damage_log(node: &Node) {
    let paths = fs::read_dir(node.data_dir().join("store")).expect("a store");
    let paths = paths.map(|entry| entry.expect("a file").path());
    let logs: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|it| it == "log")).collect();
    let longest = logs.into_iter().max_by_key(|path| written_bytes(path)).expect("a log");
    let mut bytes = fs::read(&longest).expect("readable");
    let middle = written_bytes(&longest) / 2;
    bytes[middle] ^= 1;
    fs::write(&longest, bytes).expect("writable");
}

/// The length of a log without the zeros at its end.
fn written_bytes(path: &Path) -> usize {
    let bytes = fs::read(path).expect("readable");
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[tokio::test]
async fn damage_to_what_was_durable_is_noticed_and_a_strong_replica_does_not_go_on_with_less() {
    let mut node = Node::up("node").set("durability", "always").started().await;
    node.run(["keyspace", "create", "orders", "--strong", "--voters", "1"]).ok();
    for n in 0..200 {
        let n = n.to_string();
        node.run(["put", "-k", "orders", &format!("k{n}"), &n]).ok();
        node.run(["put", &format!("k{n}"), &n]).ok();
    }
    node.kill();
    damage_log(&node);
    let doctor = doctor_offline(&node);
    doctor.exits(1);
    assert!(doctor.text().contains("writes that were durable were missing"), "{}", doctor.text());
    node.start().await;
    assert!(node.log().contains("the store is damaged"), "{}", node.log());
    let doctor = node.run(["doctor"]);
    doctor.exits(1);
    let report = doctor.text();
    assert!(report.contains("writes that were durable were missing"), "{report}");
    let ready = http_client().get(format!("http://{}/readyz", node.api())).send().await.expect("an answer");
    assert_eq!(ready.status(), 503);
    let reason = ready.text().await.expect("text");
    assert!(reason.contains("orders") && reason.contains("durable"), "{reason}");
    let get = node.run(["get", "-k", "orders", "k0"]);
    assert_ne!(get.code, 0, "{get:?}");
    // This write is synced, so that the next start finds what was durable; the replica is still closed.
    node.run(["put", "again", "v"]).ok();
    node.stop().await;
    let doctor = doctor_offline(&node);
    doctor.exits(1);
    let report = doctor.text();
    assert!(!report.contains("were missing") && report.contains("strong keyspace \"orders\""), "{report}");
    node.start().await;
    let doctor = node.run(["doctor"]);
    doctor.exits(1);
    let report = doctor.text();
    assert!(!report.contains("were missing") && report.contains("orders"), "{report}");
    // The operator decides to go on with what is left.
    node.run(["keyspace", "recover", "orders", "--force-new-group", "--yes"]).ok();
    wait_until("the keyspace serves again", async || {
        let get = node.run(["get", "-k", "orders", "k0"]);
        if get.code == 0 { Ok(()) } else { Err(format!("{get:?}")) }
    })
    .await;
    node.run(["put", "-k", "orders", "after", "v"]).ok();
    node.stop().await;
    node.start().await;
    let doctor: Doctor = node.run(["--output", "json", "doctor"]).json();
    assert!(doctor.healthy, "{doctor:?}");
    assert_eq!(node.run(["get", "-k", "orders", "after"]).ok(), "v");
    node.stop().await;
    assert!(doctor_offline(&node).ok().contains("healthy"));
}

#[tokio::test]
async fn the_doctor_needs_a_data_directory() {
    let missing: PathBuf = tempfile::tempdir().expect("a temporary directory").path().join("missing");
    run(["doctor", "--data-dir", &missing.display().to_string()], b"").exits(1);
}
