//! Several nodes in one process, started from plain functions and inside runtimes.

use std::time::Duration;

use futures::executor::block_on;
use starling_api::strong::CreateKeyspace;
use starling_api::{Blob, Data, ErrorCode};
use starling_kv::Range;
use starling_service::{Config, KeyEvent, Node, Role, StrongWatchEvent, WriteOptions};
use starling_strong::api::{Body, Keys, Options, Put, Read, Request, Watch, Write};
use tempfile::TempDir;
use tokio::time::timeout;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(dir: &TempDir, name: &str, join: &[&Node]) -> Config {
    let mut config = Config::new(dir.path().join(name));
    config.name = name.into();
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
    config.join = join.iter().filter_map(|node| node.info().ticket.clone()).collect();
    config.cache_bytes = 1 << 20;
    config
}

/// Three nodes that know each other.
async fn flock(dir: &TempDir) -> [Node; 3] {
    let a = Node::start(config(dir, "a", &[])).expect("starts");
    let b = Node::start(config(dir, "b", &[&a])).expect("starts");
    let c = Node::start(config(dir, "c", &[&a, &b])).expect("starts");
    let nodes = [a, b, c];
    for node in &nodes {
        let name = &node.info().name;
        let admin = node.handle().admin();
        let joined = async {
            while admin.status().await.expect("runs").active < 2 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, joined).await.unwrap_or_else(|_| panic!("{name} has two neighbours"));
    }
    nodes
}

#[tokio::test]
async fn three_nodes_in_one_process_form_a_network_and_stop() {
    let dir = tempfile::tempdir().expect("a directory");
    let [a, b, c] = flock(&dir).await;
    let (writer, reader) = (
        a.handle().eventual("default").expect("eventual"),
        c.handle().eventual("default").expect("eventual"),
    );
    let mut watch = reader.watch("color").expect("a replica");
    writer.put("color", "blue").await.expect("written");
    let event =
        timeout(PATIENCE, watch.next()).await.expect("the change arrives").expect("the watch goes on");
    let KeyEvent::Put { key, held } = event else { panic!("another event: {event:?}") };
    assert_eq!(key, b"color");
    let Some(Data::Register(register)) = held.data.first() else { panic!("no register: {held:?}") };
    assert_eq!(register.value, Blob::from("blue"));
    assert_eq!(reader.get(b"color").await.expect("reads").expect("is there").value, "blue");
    drop(watch);
    b.stop().await;
    assert_eq!(
        a.handle()
            .eventual("default")
            .expect("runs")
            .get(b"color")
            .await
            .expect("reads")
            .expect("kept")
            .value,
        "blue"
    );
    let handle = c.handle().clone();
    let mut watch = reader.watch("").expect("a replica");
    let ((), (), last) = futures::join!(a.stop(), c.stop(), timeout(PATIENCE, watch.next()));
    assert_eq!(last.expect("the watch ends"), None);
    let stopped = handle.eventual("default").expect("a name").put("color", "red").await;
    assert_eq!(stopped.expect_err("the node has stopped").code, ErrorCode::NotReady);
}

#[tokio::test]
async fn a_strong_keyspace_serves_every_node_of_the_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let nodes = flock(&dir).await;
    let create = CreateKeyspace { name: "orders".into(), voters: 3, on: Vec::new(), manual: false };
    let info = nodes[0].handle().admin().create_keyspace(create).await.expect("created");
    assert_eq!(info.members.len(), 3);
    let options = Options { timeout_ms: 60_000, stale: false, id: None, fence: None };
    let keyspace = nodes[0].handle().strong("orders").expect("a replica");
    let put = Put { key: b"k".to_vec(), value: Some(b"v".to_vec()), lease: Some(0), prev: false };
    let written = keyspace.request(Request::Write(Write::Put(put)), options.clone()).await.expect("written");
    for node in &nodes {
        let keyspace = node.handle().strong("orders").expect("a replica");
        let range = starling_strong::api::Range::of(Keys::One(b"k".to_vec()));
        let read = keyspace.request(Request::Read(Read::Range(range)), options.clone()).await.expect("read");
        let Body::Range(found) = read.body else { panic!("another answer") };
        assert_eq!(found.kvs[0].value, b"v");
        let watch = Watch {
            keys: Keys::One(b"k".to_vec()),
            from_revision: written.revision,
            prev: false,
            only: None,
        };
        let mut watch = keyspace.watch(watch).await.expect("watched");
        let changes = async {
            loop {
                match watch.next().await.expect("the watch goes on") {
                    StrongWatchEvent::Ready { .. } => {}
                    StrongWatchEvent::Changes(changes) => return changes,
                    other => panic!("the watch has ended: {other:?}"),
                }
            }
        };
        let changes = timeout(PATIENCE, changes).await.expect("the change arrives");
        assert_eq!(changes[0].kv.value, b"v");
    }
    // The name belongs to the strong keyspace now, on every node.
    for node in &nodes {
        let refused = node.handle().eventual("orders").err().expect("the name is taken");
        assert_eq!(refused.code, ErrorCode::OtherKeyspace);
    }
    for node in nodes {
        node.stop().await;
    }
}

/// No runtime of the caller is needed, and a dropped write leaves the node in order.
#[test]
fn a_plain_function_can_start_use_and_stop_a_node() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(config(&dir, "alone", &[])).expect("starts");
    let counters = node.handle().eventual("counters").expect("eventual");
    drop(counters.increment("never-polled", 1));
    for by in 1..=10 {
        block_on(counters.increment("visits", by)).expect("written");
    }
    assert_eq!(block_on(counters.counter(b"visits")).expect("reads"), Some(55));
    let mismatch = block_on(counters.get(b"visits")).expect_err("it is a counter");
    assert_eq!((mismatch.code, mismatch.hint.is_empty()), (ErrorCode::TypeMismatch, false));
    assert_eq!(block_on(counters.plain(b"visits")).expect("reads").expect("is there").value, "55");
    let page = block_on(counters.list(&Range::default(), 10, 0)).expect("lists");
    assert_eq!(page.items.len(), 1);
    assert_eq!(block_on(counters.delete_prefix(b"")).expect("deletes"), 1);
    assert_eq!(block_on(counters.counter(b"visits")).expect("reads"), None);
    block_on(node.stop());
    // The data directory is free again at once.
    let again = Node::start(config(&dir, "alone", &[])).expect("starts again");
    assert!(!again.info().is_first_run);
    block_on(again.stop());
}

#[test]
fn a_node_that_cannot_start_says_why_and_leaves_the_directory_free() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(config(&dir, "one", &[])).expect("starts");
    let error = Node::start(config(&dir, "one", &[])).err().expect("the directory is in use");
    assert!(error.to_string().contains("in use"), "{error}");
    assert!(!error.hint().is_empty());
    block_on(node.stop());
    let mut wrong = config(&dir, "one", &[]);
    wrong.value_bytes_max = 1 << 30;
    let error = Node::start(wrong).err().expect("out of bounds");
    assert!(error.to_string().contains("limits.value_bytes"), "{error}");
    block_on(Node::start(config(&dir, "one", &[])).expect("starts").stop());
}

#[test]
fn a_seed_keeps_no_data_and_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut seed = config(&dir, "seed", &[]);
    seed.role = Role::Seed;
    let node = Node::start(seed).expect("starts");
    let keyspace = node.handle().eventual("default").expect("a name");
    assert_eq!(block_on(keyspace.get(b"k")).expect_err("no store").code, ErrorCode::NoStore);
    let put = keyspace.put_with("k", "v", WriteOptions::default());
    assert_eq!(block_on(put).expect_err("no store").code, ErrorCode::NoStore);
    assert_eq!(node.handle().strong("orders").err().expect("no store").code, ErrorCode::NoStore);
    block_on(node.handle().admin().leave(false)).expect("leaves");
    block_on(node.stopped());
    block_on(node.stop());
}
