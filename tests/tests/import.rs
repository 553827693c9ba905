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
async fn an_export_holds_siblings_and_other_types_too() {
    let (from, to) = (Node::up("from").started().await, Node::up("to").started().await);
    let write = |op: Value| {
        let mut write = serde_json::json!({ "key": "k", "if_version": "concurrent" });
        write.as_object_mut().expect("an object").extend(op.as_object().expect("an object").clone());
        serde_json::from_value::<starling_api::Write>(write).expect("a write")
    };
    let writes = vec![
        write(serde_json::json!({ "op": "put", "value": "earlier" })),
        write(serde_json::json!({ "op": "put", "value": "later", "ttl_ms": 600_000 })),
        write(serde_json::json!({ "op": "incr", "by": i64::MAX })),
        write(serde_json::json!({ "op": "incr", "by": i64::MAX })),
        write(
            serde_json::json!({ "op": "set_add", "members": (0..1500).map(|n| n.to_string()).collect::<Vec<_>>() }),
        ),
    ];
    from.client().batch(&starling_api::Batch { writes }).await.expect("accepted");
    let export = from.run(["export"]).ok();
    to.run_with(["import", "-"], export.as_bytes()).ok();
    let entry = to.client().get_entry("default", b"k").await.expect("answers").expect("is there");
    let starling_api::Data::Register(register) = &entry.data else { panic!("{entry:?}") };
    let siblings: Vec<_> =
        register.siblings.iter().map(|s| (s.value.escaped(), s.expires_at_ms.is_some())).collect();
    assert_eq!(siblings, [("later".to_owned(), true), ("earlier".to_owned(), false)]);
    assert_eq!(
        to.client().counter("default", b"k").await.expect("answers").expect("is there").0,
        2 * i128::from(i64::MAX)
    );
    assert_eq!(to.run(["smembers", "k"]).ok().lines().count(), 1500);
    // Once more: values and members are the same, as an import replaces what it brings.
    to.run_with(["import", "-"], export.as_bytes()).ok();
    let again = to.client().get_entry("default", b"k").await.expect("answers").expect("is there");
    let starling_api::Data::Register(register) = &again.data else { panic!("{again:?}") };
    assert_eq!(register.siblings.len(), 2);
}

#[tokio::test]
async fn an_export_of_a_strong_keyspace_is_imported_into_another_network() {
    let (from, to) = (Node::up("from").started().await, Node::up("to").started().await);
    for node in [&from, &to] {
        node.run(["keyspace", "create", "orders", "--strong", "--voters", "1"]).ok();
    }
    let lease = from.run(["-k", "orders", "lease", "grant", "1h"]).ok();
    from.run_with(["-k", "orders", "put", "bin"], b"\0\xff\n").ok();
    from.run(["-k", "orders", "put", "leased", "v", "--lease", &lease]).ok();
    for item in ["first", "second", "third"] {
        from.run(["-k", "orders", "queue", "push", "jobs", item]).ok();
    }
    let line = |n| format!("{{\"key\":\"k{n:03}\",\"value\":{n}}}");
    let lines: Vec<String> = (0..300).map(line).collect();
    from.run_with(["-k", "orders", "import", "-"], lines.join("\n").as_bytes()).ok();
    let export = from.run(["-k", "orders", "export"]).ok();
    assert_eq!(export.lines().count(), 1 + 2 + 3 + 300);

    to.run_with(["import", "-"], export.as_bytes()).ok();
    assert_eq!(to.run(["-k", "orders", "get", "bin"]).exits(0).stdout, b"\0\xff\n");
    assert_eq!(to.run(["-k", "orders", "get", "k299"]).ok(), "299");
    assert_eq!(
        to.run(["-k", "orders", "lease", "ls"]).ok().lines().filter(|line| line.contains(&lease)).count(),
        1
    );
    // Items that come later stand behind those that were imported.
    to.run(["-k", "orders", "queue", "push", "jobs", "fourth"]).ok();
    for item in ["first", "second", "third", "fourth"] {
        assert_eq!(to.run(["-k", "orders", "queue", "pop", "jobs"]).ok(), item);
    }
    let other = to.run_with(["-k", "elsewhere", "import", "-"], export.as_bytes());
    other.exits(1).says("elsewhere");
    other.says("record 1: ");
}

#[tokio::test]
async fn nothing_is_imported_behind_a_record_that_is_refused() {
    let node = Node::up("node").started().await;
    let line = |n: usize| match n {
        701 => format!("{{\"key\":\"{}\",\"value\":1}}\n", "k".repeat(5000)),
        n => format!("{{\"key\":\"k{n:04}\",\"value\":{n}}}\n"),
    };
    let lines: String = (1..=5000).map(line).collect();
    let refused = node.run_with(["import", "-"], lines.as_bytes());
    refused.exits(1).says("record 701: ");
    refused.says("--from 701");
    let keys = node.run(["--output", "raw", "ls"]).ok();
    assert_eq!((keys.lines().count(), keys.lines().last()), (700, Some("k0700")));
    node.run_with(["import", "-", "--from", "702"], lines.as_bytes()).ok();
    assert_eq!(node.run(["--output", "raw", "ls"]).ok().lines().count(), 4999);

    let skipped = node.run_with(["-k", "other", "import", "-", "--skip-bad"], lines.as_bytes());
    skipped.exits_noted(1).says("record 701: ");
    assert_eq!(node.run(["-k", "other", "--output", "raw", "ls"]).ok().lines().count(), 4999);
    let bad = "{\"key\":\"a\",\"value\":1}\n{\"key\":\"b\"}\n[]\n";
    let checked = node.run_with(["-k", "none", "import", "-", "--dry-run"], bad.as_bytes());
    checked.exits_noted(1).says("record 3: ");
    checked.says("the import would refuse 2 records");
    checked.says("with --skip-bad");
    assert_eq!(
        checked.text(),
        "1 record can be imported with --skip-bad, which leaves out 2 records; nothing was written"
    );
    assert!(!checked.stderr.contains("left out"), "nothing was: {checked:?}");
    node.run(["-k", "none", "ls"]).exits(3);
}

/// A dry run refuses what the import would, by the limits of the kind of keyspace.
#[tokio::test]
async fn a_dry_run_refuses_the_records_that_the_import_would_refuse() {
    let node = Node::up("node").started().await;
    node.run(["keyspace", "create", "orders", "--strong", "--voters", "1"]).ok();
    let line = |key: usize, value: usize| {
        format!("{{\"key\":\"{}\",\"value\":\"{}\"}}\n", "k".repeat(key), "v".repeat(value))
    };
    let mib = 1 << 20;
    let lines =
        [line(1, mib), line(2, mib + 1), line(3, 3 * mib / 2), line(4, 3 * mib / 2 + 1), line(5000, 1)];
    for (keyspace, refused) in [("default", &[2, 3, 4, 5][..]), ("orders", &[4, 5])] {
        for more in [&["--dry-run"][..], &["--dry-run", "--only-missing"], &["--skip-bad"]] {
            let args = ["import", "-k", keyspace, "-"].into_iter().chain(more.iter().copied());
            let done = node.run_with(args, lines.concat().as_bytes());
            done.exits_noted(1);
            let named = |n: &usize| done.stderr.contains(&format!("record {n}: "));
            let found: Vec<usize> = (1..=lines.len()).filter(named).collect();
            assert_eq!(found, refused, "{keyspace} {more:?}: {}", done.stderr);
        }
    }
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
    node.run_with(["import", "-"], long.as_bytes()).exits(1).says("record 1: ");
    node.run(["import", "/nonexistent/file"]).exits(2).says("/nonexistent/file");
}

#[tokio::test]
async fn only_missing_keys_are_imported_and_the_others_counted() {
    let (from, to) = (Node::up("from").started().await, Node::up("to").started().await);
    for node in [&from, &to] {
        node.run(["keyspace", "create", "orders", "--strong", "--voters", "1"]).ok();
        node.run(["put", "-k", "orders", "both", node.name()]).ok();
        node.run(["put", "both", node.name()]).ok();
        node.run(["incr", "counter", "5"]).ok();
    }
    // Another type under a key of the export counts, too.
    to.run(["sadd", "text", "member"]).ok();
    from.run(["put", "text", "v"]).ok();
    from.run(["put", "new", "v"]).ok();
    from.run(["put", "-k", "orders", "new", "v"]).ok();
    let members: Vec<String> = (0..2500).map(|n| format!("m{n:04}")).collect();
    from.run(["sadd", "set"].into_iter().chain(members.iter().map(String::as_str))).ok();
    let import = |export: &str| -> (u64, u64) {
        let args = ["--output", "json", "import", "--only-missing", "-"];
        let done: Value = to.run_with(args, export.as_bytes()).json();
        (done["records"].as_u64().expect("a number"), done["existing"].as_u64().expect("a number"))
    };
    let export = from.run(["export"]).ok();
    assert_eq!(export.lines().count(), 4 + 4, "a large set takes several lines");
    let rehearse =
        |export: &str| to.run_with(["import", "--only-missing", "--dry-run", "-"], export.as_bytes()).ok();
    let rehearsed = "5 records can be imported; 3 left out whose keys exist; nothing was written";
    assert_eq!(rehearse(&export), rehearsed);
    assert_eq!(import(&export), (1 + 4, 3));
    assert_eq!(import(&export), (0, 8), "once more");
    assert_eq!(to.run(["get", "both"]).ok(), "to");
    assert_eq!(to.run(["get", "new"]).ok(), "v");
    assert_eq!(to.run(["get", "counter"]).ok(), "5");
    assert_eq!(to.run(["smembers", "text"]).ok(), "member");
    assert_eq!(to.run(["smembers", "set"]).ok().lines().count(), 2500);

    let export = from.run(["export", "-k", "orders"]).ok();
    let rehearsed = "1 record can be imported; 1 left out whose keys exist; nothing was written";
    assert_eq!(rehearse(&export), rehearsed);
    assert_eq!(import(&export), (1, 1));
    assert_eq!(import(&export), (0, 2), "once more");
    assert_eq!(to.run(["get", "-k", "orders", "both"]).ok(), "to");
    assert_eq!(to.run(["get", "-k", "orders", "new"]).ok(), "v");
    // Of two records with one key the first one counts, in both kinds of keyspaces.
    let twice = "{\"key\":\"twice\",\"value\":\"1\"}\n{\"key\":\"twice\",\"value\":\"2\"}\n";
    for keyspace in ["orders", "default"] {
        let args = ["import", "-k", keyspace, "--only-missing", "-"];
        let done = to.run_with(args, twice.as_bytes()).ok();
        assert!(done.starts_with("1 record in ") && done.ends_with("1 left out whose keys exist"), "{done}");
        assert_eq!(to.run(["get", "-k", keyspace, "twice"]).ok(), "1");
    }
}

/// Clients that import the same keys at the same time: each key is written once, and the counts add up.
#[tokio::test]
async fn imports_of_missing_keys_at_the_same_time_write_each_key_of_a_strong_keyspace_once() {
    let node = Node::up("node").started().await;
    node.run(["keyspace", "create", "orders", "--strong", "--voters", "1"]).ok();
    let records = |writer: usize| {
        let line = |n: usize| format!("{{\"key\":\"k{n:04}\",\"value\":\"{writer}\"}}\n");
        (0..1500).map(line).collect::<String>()
    };
    let inputs = [0, 1, 2].map(|writer| file("records.ndjson", &records(writer)));
    let mut writers: Vec<_> = inputs
        .iter()
        .map(|(_, path)| {
            let path = path.display().to_string();
            node.begin(["import", "-k", "orders", "--only-missing", &path])
        })
        .collect();
    let mut written = 0;
    for writer in &mut writers {
        let line = writer.next_line();
        let count = line.split_whitespace().next().and_then(|count| count.parse::<u64>().ok());
        written += count.unwrap_or_else(|| panic!("no count: {line}"));
        writer.ended().await.exits(0);
    }
    assert_eq!(written, 1500);
    let versions = node.run(["--output", "json", "ls", "-k", "orders", "--values"]).ok();
    assert_eq!(versions.lines().count(), 1500);
    assert!(versions.lines().all(|line| line.contains("\"version\":1")), "{}", &versions[..200]);
}
