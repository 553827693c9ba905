//! Many keys in and out: NDJSON, CSV, and what `export` writes.

use std::path::PathBuf;

use serde_json::Value;
use starling_tests::Node;
use tempfile::TempDir;

/// A file with this name and these contents.
fn file(name: &str, contents: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join(name);
    std::fs::write(&path, contents).expect("our directory");
    (dir, path)
}

/// What an export holds, without versions: those belong to one history.
fn records(export: &str) -> Vec<Value> {
    let without_version = |line: &str| {
        let mut record: Value = serde_json::from_str(line).expect("each line is JSON");
        record.as_object_mut().expect("each record is an object").remove("version");
        record
    };
    export.lines().map(without_version).collect()
}

#[tokio::test]
async fn an_export_of_every_type_is_imported_into_another_network() {
    let (from, to) = (Node::up("from").started().await, Node::up("to").started().await);
    from.run_with(["put", "bin"], b"\0\xff\n").ok();
    from.run(["put", "text", "Zürich \"quoted\"\n"]).ok();
    from.run(["put", "--ttl", "7d", "lasting", "v"]).ok();
    from.run(["incr", "counter", "-7"]).ok();
    from.run(["hset", "map", "f", "1", "g", "2"]).ok();
    from.run(["flag", "enable", "flag"]).ok();
    let members: Vec<String> = (0..2500).map(|n| format!("m{n:04}")).collect();
    from.run(["sadd", "set"].into_iter().chain(members.iter().map(String::as_str))).ok();
    from.run(["-k", "other", "put", "not", "exported"]).ok();

    let export = from.run(["export"]).ok();
    assert_eq!(records(&export).len(), 6 + 4, "a large set takes several lines");
    to.run_with(["import", "-"], export.as_bytes()).ok();
    let mut again = records(&to.run(["export"]).ok());
    // Its end is counted from the import on.
    for record in &mut again {
        if record["key"] == "lasting" {
            assert!(record["expires_at_ms"].is_u64(), "{record}");
            record["expires_at_ms"] = records(&export)
                .iter()
                .find_map(|exported| {
                    (exported["key"] == "lasting").then(|| exported["expires_at_ms"].clone())
                })
                .expect("exported");
        }
    }
    assert_eq!(again, records(&export));
    assert_eq!(to.run(["get", "bin"]).exits(0).stdout, b"\0\xff\n");
    assert_eq!(to.run(["smembers", "set"]).ok().lines().count(), 2500);
    to.run(["-k", "other", "get", "not"]).exits(3);
}

#[tokio::test]
async fn tables_are_imported_by_a_key_column() {
    let node = Node::up("node").started().await;
    let (_dir, path) =
        file("places.csv", "code,name\nCH,\"Switzerland, Swiss\nConfederation\"\nLI,Liechtenstein\n");
    let path = path.display().to_string();
    assert!(
        node.run(["-k", "countries", "import", "--key-field", "code", &path]).ok().starts_with("2 records")
    );
    let value = node.run(["-k", "countries", "get", "CH"]).ok();
    let record: Value = serde_json::from_str(&value).expect("a record is JSON");
    assert_eq!(record["name"], "Switzerland, Swiss\nConfederation");
    node.run_with(["import", "--format", "csv", "-"], b"key,value\nplain,1\n").ok();
    assert_eq!(node.run(["get", "plain"]).ok(), "1");
}

#[tokio::test]
async fn thousands_of_records_arrive() {
    let node = Node::up("node").started().await;
    let line = |n| format!("{{\"key\":\"k{n:04}\",\"value\":{{\"n\":{n}}}}}");
    let lines: Vec<String> = (0..5000).map(line).collect();
    let done: Value = node.run_with(["--output", "json", "import", "-"], lines.join("\n").as_bytes()).json();
    assert_eq!(done["records"], 5000);
    assert_eq!(node.run(["--output", "raw", "ls"]).ok().lines().count(), 5000);
    assert_eq!(node.run(["get", "k4999"]).ok(), "{\"n\":4999}");
}

#[tokio::test]
async fn mistakes_are_named_by_their_record() {
    let node = Node::up("node").started().await;
    let (_dir, path) = file("mistake.ndjson", "{\"key\":\"a\",\"value\":1}\n{\"key\":\"b\"\n");
    node.run(["import", &path.display().to_string()]).exits(1).says("record 2");
    let long = format!("{{\"key\":\"{}\",\"value\":1}}\n", "k".repeat(5000));
    node.run_with(["import", "-"], long.as_bytes()).exits(1).says("records 1 to 1 were not imported");
    node.run(["import", "/nonexistent/file"]).exits(2).says("/nonexistent/file");
}
