//! The API of a running node, through its client and by hand.

mod common;

use common::{Node, eventually};
use starling_api::{
    BatchRequest, Blob, Count, Data, ErrorCode, Field, MapUpdate, Members, Operation, Precondition, Range,
    WatchEvent, WriteRequest,
};

const KS: &str = "default";

#[tokio::test]
async fn every_type_is_written_read_and_refused_as_another() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(dir.path(), &[]).await;
    let client = &node.client;
    let key: &[u8] = b"any/bytes \xff\x00?#%";

    let version = client.put(KS, key, vec![0, 255], None, &Precondition::Absent).await.expect("puts");
    let raw = client.get_raw(KS, key).await.expect("reads").expect("is there");
    assert_eq!((raw.bytes, raw.version, raw.siblings), (vec![0, 255], version, 1));
    assert_eq!(client.increment(KS, b"c", -5).await.expect("counts"), Count(-5));
    assert_eq!(client.counter(KS, b"c").await.expect("reads"), Some(Count(-5)));
    let members = Members { add: vec![vec![255].into(), "b".into()], remove: vec!["x".into()] };
    assert_eq!(client.update_set(KS, b"s", &members).await.expect("adds"), 2);
    let page = client.members(KS, b"s", None).await.expect("reads").expect("is there");
    assert_eq!(page.members, ["b".into(), Blob(vec![255])]);
    let update = MapUpdate { put: vec![Field { name: "f".into(), value: "v".into() }], delete: Vec::new() };
    assert_eq!(client.update_map(KS, b"m", &update).await.expect("sets"), 1);
    assert_eq!(client.field(KS, b"m", b"f").await.expect("reads").expect("is there").value, "v".into());
    assert_eq!(client.field(KS, b"m", b"g").await.expect("reads"), None);
    client.set_flag(KS, b"f", true).await.expect("enables");
    assert_eq!(client.flag(KS, b"f").await.expect("reads"), Some(true));

    let error = client.increment(KS, b"s", 1).await.expect_err("holds a set");
    assert_eq!(error.code(), Some(ErrorCode::TypeMismatch));
    let error = client.members(KS, b"c", None).await.expect_err("holds a counter");
    assert_eq!(error.code(), Some(ErrorCode::TypeMismatch));
    let entry = client.get_entry(KS, b"f").await.expect("reads").expect("is there");
    assert!(matches!(entry.data, Data::Flag(flag) if flag.enabled));
    assert_eq!(client.delete(KS, key, &Precondition::Any).await.expect("deletes"), 1);
    assert_eq!(client.get_raw(KS, key).await.expect("reads"), None);
    let names: Vec<_> =
        client.keyspaces().await.expect("lists").keyspaces.into_iter().map(|k| k.name).collect();
    assert_eq!(names, [KS]);
    assert!(client.doctor().await.expect("checks").healthy);
}

#[tokio::test]
async fn conditions_and_limits_refuse_whole_batches() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(dir.path(), &["--set", "limits.value_bytes=100"]).await;
    let client = &node.client;
    let first = client.put(KS, b"k", b"1".to_vec(), None, &Precondition::Absent).await.expect("puts");
    let only_first = Precondition::Version(first);
    client.put(KS, b"k", b"2".to_vec(), None, &only_first).await.expect("still the first");
    for wrong in [only_first, Precondition::Absent] {
        let error = client.put(KS, b"k", b"3".to_vec(), None, &wrong).await.expect_err("has changed");
        assert_eq!(error.code(), Some(ErrorCode::VersionMismatch));
    }
    let put = |key: &str, size| WriteRequest::new(KS, key, Operation::Put { value: vec![b'x'; size].into() });
    let error =
        client.batch(&BatchRequest { ops: vec![put("a", 1), put("b", 101)] }).await.expect_err("too large");
    assert_eq!(error.code(), Some(ErrorCode::TooLarge));
    assert_eq!(client.get_raw(KS, b"a").await.expect("reads"), None, "half of a batch");
    let error =
        client.put("Not A Name", b"k", Vec::new(), None, &Precondition::Any).await.expect_err("no name");
    assert_eq!(error.code(), Some(ErrorCode::Invalid));
}

#[tokio::test]
async fn listings_go_page_by_page() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(dir.path(), &[]).await;
    let put = |n: u32| WriteRequest::new(KS, format!("p/{n:03}"), Operation::Put { value: "v".into() });
    node.client.batch(&BatchRequest { ops: (0..25).map(put).collect() }).await.expect("puts");
    let mut range = Range {
        prefix: "p/".into(),
        start: Some("p/003".into()),
        limit: Some(10),
        values: true,
        ..Range::default()
    };
    range.end = Some("p/020".into());
    let mut sizes = Vec::new();
    loop {
        let page = node.client.list(KS, &range).await.expect("lists");
        assert!(page.keys.iter().all(|info| info.data.len() == 1));
        sizes.push(page.keys.len());
        range.after = page.next;
        if range.after.is_none() {
            break;
        }
    }
    assert_eq!(sizes.iter().sum::<usize>(), 17);
    assert_eq!(sizes[0], 10);
    assert_eq!(node.client.delete_prefix(KS, b"p/01").await.expect("deletes"), 10);
}

#[tokio::test]
async fn what_one_node_writes_another_watches_and_keeps() {
    let (dir_a, dir_b) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let a = Node::start(dir_a.path(), &["--name", "a"]).await;
    let ticket = a.client.ticket().await.expect("a ticket").ticket;
    let b = Node::start(dir_b.path(), &["--name", "b", "--join", &ticket]).await;
    eventually("b is ready", async || b.client.is_ready().await.expect("answers").then_some(())).await;

    let mut watch = b.client.watch(KS, b"w/").await.expect("watches");
    assert_eq!(watch.next_event().await.expect("an event").expect("sound"), WatchEvent::Ready);
    a.client.put(KS, b"other", b"1".to_vec(), None, &Precondition::Any).await.expect("puts");
    a.client.put(KS, b"w/k", b"1".to_vec(), None, &Precondition::Any).await.expect("puts");
    match watch.next_event().await.expect("an event").expect("sound") {
        WatchEvent::Put(entry) => assert_eq!(entry.key, "w/k".into()),
        other => panic!("{other:?}"),
    }
    a.client.delete(KS, b"w/k", &Precondition::Any).await.expect("deletes");
    let gone = watch.next_event().await.expect("an event").expect("sound");
    assert_eq!(gone, WatchEvent::Delete { keyspace: KS.into(), key: "w/k".into() });

    a.stop().await;
    assert!(!dir_a.path().join(starling_api::admin::RUN_FILE).exists());
    b.stop().await;
    // Nobody is left to join; the data is.
    let b = Node::start(dir_b.path(), &["--name", "b"]).await;
    let raw = b.client.get_raw(KS, b"other").await.expect("reads").expect("was kept");
    assert_eq!(raw.bytes, b"1");
}

#[tokio::test]
async fn the_description_lists_paths_that_exist() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(dir.path(), &[]).await;
    let get = async |path: &str| {
        let url = format!("{}{path}", node.client.url());
        reqwest::get(url).await.expect("answers")
    };
    let text = get("/openapi.json").await.text().await.expect("a body");
    let document: serde_json::Value = serde_json::from_str(&text).expect("is JSON");
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 15, "{} paths", paths.len());
    for path in paths.keys() {
        let answer = get(&path.replace("{keyspace}", "nothing").replace("{key}", "nothing")).await;
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            let text = answer.text().await.expect("a body");
            assert!(!text.contains("no such path"), "{path} is described and does not exist");
        }
    }
    let metrics = node.client.metrics().await.expect("answers");
    assert!(metrics.contains("starling_active_view 0"), "{metrics}");
}
