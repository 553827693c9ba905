//! Every command on keys, end to end over two nodes, with its exit codes.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;

use serde_json::{Value, json};
use starling_api::{Data, Entry, Extremum};
use starling_tests::{Node, equal, meet, pair, run, strangers, wait_until};

#[tokio::test]
async fn every_type_is_written_here_and_read_there() {
    let (a, b) = pair().await;
    a.run(["put", "city", "Bern"]).ok();
    assert_eq!(a.run(["incr", "hits", "5"]).ok(), "5");
    assert_eq!(a.run(["incr", "hits", "-2"]).ok(), "3");
    assert_eq!(a.run(["sadd", "tags", "z", "y", "x"]).ok(), "3");
    assert_eq!(a.run(["srem", "tags", "y"]).ok(), "1");
    assert_eq!(a.run(["hset", "user", "name", "Ada", "born", "1815"]).ok(), "2");
    assert_eq!(a.run(["hdel", "user", "born"]).ok(), "1");
    a.run(["flag", "enable", "dark"]).ok();
    a.run(["-k", "other", "put", "city", "Basel"]).ok();
    equal(&[&a, &b]).await;

    assert_eq!(b.run(["get", "city"]).ok(), "Bern");
    assert_eq!(b.run(["get", "hits"]).ok(), "3");
    assert_eq!(b.run(["smembers", "tags"]).ok(), "x\nz");
    assert_eq!(b.run(["hget", "user", "name"]).ok(), "Ada");
    assert_eq!(b.run(["--output", "raw", "hgetall", "user"]).ok(), "name\tAda");
    assert_eq!(b.run(["flag", "get", "dark"]).ok(), "on");
    assert_eq!(b.run(["-k", "other", "get", "city"]).ok(), "Basel");
    assert_eq!(b.run(["keyspaces"]).ok(), "default\nother");
    let entry: Entry = b.run(["--output", "json", "get", "hits"]).json();
    assert_eq!(serde_json::to_value(entry).expect("serializes")["value"], 3);

    b.run(["flag", "disable", "dark"]).ok();
    assert_eq!(b.run(["del", "city", "hits"]).ok(), "2");
    assert_eq!(b.run(["del", "--prefix", "t"]).ok(), "2");
    equal(&[&a, &b]).await;
    assert_eq!(a.run(["flag", "get", "dark"]).ok(), "off");
    for gone in ["city", "hits", "tags"] {
        a.run(["get", gone]).exits(3);
    }
    assert_eq!(a.run(["-k", "other", "get", "city"]).ok(), "Basel");
}

#[tokio::test]
async fn max_and_min_registers_keep_the_greatest_and_the_least() {
    let (a, b) = pair().await;
    // From then on b knows that the data version that they need is in force.
    equal(&[&a, &b]).await;
    assert_eq!(a.run(["max", "high", "5"]).ok(), "5");
    assert_eq!(a.run(["max", "high", "-7"]).ok(), "5");
    assert_eq!(b.run(["min", "low", "-3"]).ok(), "-3");
    equal(&[&a, &b]).await;
    assert_eq!(b.run(["max", "high", "9"]).ok(), "9");
    assert_eq!(b.run(["--output", "json", "min", "low", "4"]).json::<Value>(), json!({ "value": -3 }));
    equal(&[&a, &b]).await;

    assert_eq!(a.run(["get", "high"]).ok(), "9");
    let entry: Entry = a.run(["--output", "json", "get", "low"]).json();
    assert_eq!(entry.data, Data::Min(Extremum { value: -3 }));
    let exported = a.run(["export"]).ok();
    assert_eq!(a.run(["del", "high", "low"]).ok(), "2");
    a.run(["get", "high"]).exits(3);
    a.run_with(["import", "-"], exported.as_bytes()).ok();
    equal(&[&a, &b]).await;
    assert_eq!((b.run(["get", "high"]).ok(), b.run(["get", "low"]).ok()), ("9".into(), "-3".into()));
    // Another type's operation is refused.
    b.run(["incr", "high"]).exits(4);
}

#[tokio::test]
async fn bytes_survive_whatever_they_are() {
    let (a, b) = pair().await;
    let value: Vec<u8> =
        (0..100_000u32).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    let key = OsStr::from_bytes(b"bin/\xff \n%");
    a.run_with([OsStr::new("put"), key], &value).ok();
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), b"\0\xff\n").expect("our file");
    a.run(["put", "file", &format!("@{}", file.path().display())]).ok();
    a.run_with(["put", "dash", "-"], b"no line feed is added\n").ok();
    a.run(["put", "at", "@@home"]).ok();
    a.run(["put", "empty", ""]).ok();
    a.run(["put", "--", "-k", "-1"]).ok();
    equal(&[&a, &b]).await;

    assert_eq!(b.run([OsStr::new("get"), key]).exits(0).stdout, value);
    assert_eq!(b.run(["get", "file"]).exits(0).stdout, b"\0\xff\n");
    assert_eq!(b.run(["get", "dash"]).exits(0).stdout, b"no line feed is added\n");
    assert_eq!(b.run(["get", "at"]).exits(0).stdout, b"@home");
    assert_eq!(b.run(["get", "empty"]).exits(0).stdout, b"");
    assert_eq!(b.run(["get", "--", "-k"]).exits(0).stdout, b"-1");
    assert_eq!(b.run(["--output", "table", "get", "file"]).ok(), "\\u{0}\\xff\\n");
    let shown: Value = b.run(["--output", "json", "get", "file"]).json();
    assert_eq!(shown["value"], json!({ "base64": "AP8K" }));
}

#[tokio::test]
async fn listings_have_prefixes_ranges_and_limits() {
    let a = Node::up("a").started().await;
    for key in ["b/1", "b/2", "b/3", "a", "c"] {
        a.run(["put", key, &format!("value of {key}")]).ok();
    }
    let list = |args: &[&str]| a.run(["--output", "raw", "ls"].iter().chain(args)).ok();
    assert_eq!(list(&[]), "a\nb/1\nb/2\nb/3\nc");
    assert_eq!(list(&["b/"]), "b/1\nb/2\nb/3");
    assert_eq!(list(&["--start", "b/2", "--end", "c"]), "b/2\nb/3");
    assert_eq!(list(&["--limit", "2"]), "a\nb/1");
    assert_eq!(list(&["nothing"]), "");
    assert!(a.run(["ls", "-v", "a"]).ok().contains("value of a"));
    let lines = a.run(["--output", "json", "ls", "b/"]).ok();
    let keys: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(keys[2], json!({ "key": "b/3", "types": ["register"] }));
}

#[tokio::test]
async fn what_has_expired_is_hidden_everywhere() {
    let (a, b) = pair().await;
    a.run(["put", "--ttl", "1h", "later", "v"]).ok();
    a.run(["put", "--ttl", "500ms", "soon", "v"]).ok();
    equal(&[&a, &b]).await;
    for node in [&a, &b] {
        wait_until("it has expired", async || match node.run(["get", "soon"]).code {
            3 => Ok(()),
            code => Err(format!("exit code {code}")),
        })
        .await;
        assert_eq!(node.run(["--output", "raw", "ls"]).ok(), "later");
        let entry: Value = node.run(["--output", "json", "get", "later"]).json();
        assert!(entry["expires_at_ms"].is_u64(), "{entry}");
    }
    a.run(["put", "later", "for ever"]).ok();
    let entry: Value = a.run(["--output", "json", "get", "later"]).json();
    assert!(entry["expires_at_ms"].is_null(), "a write without a time to live ends it: {entry}");
}

#[tokio::test]
async fn a_version_check_decides() {
    let a = Node::up("a").started().await;
    let first = a.run(["put", "--if-version", "none", "k", "1"]).ok();
    a.run(["put", "--if-version", "none", "k", "2"]).exits(4);
    let second = a.run(["put", "--if-version", &first, "k", "2"]).ok();
    let late = a.run(["--output", "json", "put", "--if-version", &first, "k", "3"]);
    late.exits(4);
    assert_eq!(late.error(), "version_mismatch");
    assert_eq!(a.run(["get", "k"]).ok(), "2");
    a.run(["del", "--if-version", &first, "k"]).exits(4);
    a.run(["del", "--if-version", &second, "k"]).ok();
    a.run(["get", "k"]).exits(3);
    a.run(["put", "--if-version", "nonsense", "k", "3"]).exits(1);
}

#[tokio::test]
async fn concurrent_writes_are_kept_and_merged() {
    let (a, mut b) = strangers().await;
    for (node, name) in [(&a, "a"), (&b, "b")] {
        node.run(["put", "register", name]).ok();
        node.run(["sadd", "set", name, "both"]).ok();
        node.run(["hset", "map", name, "1"]).ok();
        node.run(["incr", "counter", "10"]).ok();
        node.run(["flag", "enable", "flag"]).ok();
    }
    b.run(["flag", "disable", "flag"]).ok();
    a.run(["put", "types", "v"]).ok();
    b.run(["sadd", "types", "m"]).ok();
    meet(&a, &mut b).await;

    for node in [&a, &b] {
        assert_eq!(node.run(["smembers", "set"]).ok(), "a\nb\nboth");
        assert_eq!(node.run(["--output", "raw", "hgetall", "map"]).ok(), "a\t1\nb\t1");
        assert_eq!(node.run(["get", "counter"]).ok(), "20");
        assert_eq!(node.run(["flag", "get", "flag"]).ok(), "on", "enable wins");
        let both: Entry = node.run(["--output", "json", "get", "types"]).json();
        assert_eq!(both.also.len(), 1, "{both:?}");
        node.run(["--output", "table", "get", "types"]).exits(0).says("several types");
        node.run(["--output", "table", "get", "register"]).exits(0).says("one of 2 values");
        let all = node.run(["--output", "raw", "get", "--siblings", "register"]).ok();
        // The later write is shown first.
        assert_eq!(all, "b\na");
    }
    let entry: Value = a.run(["--output", "json", "get", "register"]).json();
    assert_eq!(entry["siblings"].as_array().map(Vec::len), Some(2), "{entry}");
    let version = entry["version"].as_str().expect("a register has a version");
    a.run(["put", "--if-version", version, "register", "settled"]).ok();
    equal(&[&a, &b]).await;
    let entry: Value = b.run(["--output", "json", "get", "register"]).json();
    assert_eq!((&entry["value"], &entry["siblings"]), (&json!("settled"), &Value::Null));
}

#[tokio::test]
async fn exit_codes_and_errors_are_for_programs_too() {
    let a = Node::up("a").started().await;
    a.run(["put", "register", "v"]).ok();
    a.run(["sadd", "set", "m"]).ok();
    let too_long = "k".repeat(4097);
    for (code, error, args) in [
        (3, "not_found", &["get", "nothing"][..]),
        (3, "not_found", &["del", "nothing"]),
        (3, "not_found", &["smembers", "nothing"]),
        (3, "not_found", &["hgetall", "nothing"]),
        (3, "not_found", &["hget", "nothing", "field"]),
        (3, "not_found", &["-k", "nowhere", "get", "register"]),
        (3, "not_found", &["-k", "nowhere", "ls"]),
        (3, "not_found", &["-k", "nowhere", "export"]),
        (4, "type_mismatch", &["incr", "register"]),
        (4, "type_mismatch", &["sadd", "register", "m"]),
        (4, "type_mismatch", &["hset", "set", "f", "v"]),
        (4, "type_mismatch", &["put", "set", "v"]),
        (4, "type_mismatch", &["smembers", "register"]),
        (4, "type_mismatch", &["hget", "set", "f"]),
        (4, "type_mismatch", &["flag", "get", "set"]),
        (1, "too_large", &["put", &too_long, "v"]),
        (1, "too_large", &["sadd", "set", &too_long]),
        (1, "invalid", &["-k", "No Such Name", "put", "k", "v"]),
        (2, "usage", &["put", "", "v"]),
        (2, "usage", &["put", "k", "@/nonexistent/file"]),
        (2, "usage", &["hset", "map", "f", "v", "odd"]),
    ] {
        let answer = a.run(["--output", "json"].iter().chain(args));
        answer.exits(code);
        assert_eq!(answer.error(), error, "{}", answer.line);
        a.run(args).exits(code);
    }
    a.run(["put", "-k", "misspelt", "k", "v"]).says("new eventual keyspace misspelt");
    for known in
        [&["put", "-k", "misspelt", "k", "w"][..], &["incr", "-k", "misspelt", "n"], &["put", "k", "v"]]
    {
        let answer = a.run(known);
        assert_eq!((answer.code, answer.stderr.as_str()), (0, ""), "{known:?}");
    }
    let answer = a.run(["-k", "orders", "get", "k", "--revision", "9"]);
    answer.exits(2).says("strong keyspace");
    a.run(["put", "", "v"]).exits(2).says("at least one byte");
    a.run(["keyspace", "create", "x", "--strong", "--voters", "a,b"]).says("--on a,b");
    a.run(["put", "k", "v", "--ttl", "0s"]).says("1ms");
    let forgotten = a.run(["put", "forgotten"]);
    forgotten.exits(2).says("no value");
    a.run(["get", "forgotten"]).exits(3);
    for given in [&["put", "empty", ""][..], &["put", "empty", "-"]] {
        a.run(given).ok();
        assert_eq!(a.run(["get", "empty"]).ok(), "");
    }
    for args in [&["put"][..], &["put", "--ttl", "10", "k", "v"], &["nonsense"], &["incr", "k", "many"]] {
        assert_eq!(a.run(args).code, 2, "{args:?}");
    }
    for bytes in [1_048_577, 20_000_000] {
        let answer = a.run_with(["--output", "json", "put", "large"], &vec![b'x'; bytes]);
        answer.exits(1);
        assert_eq!(answer.error(), "too_large", "{bytes} bytes");
    }
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    let answer = run(["--output", "json", "--api", &free.to_string(), "get", "k"], b"");
    answer.exits(5);
    assert_eq!(answer.error(), "unreachable");
}

#[tokio::test]
async fn a_watch_prints_changes_made_elsewhere() {
    let (a, b) = pair().await;
    let mut watch = b.begin(["--output", "json", "watch", "seen/"]);
    let mut next = || -> Value { serde_json::from_str(&watch.next_line()).expect("JSON") };
    assert_eq!(next()["event"], "ready");
    a.run(["put", "unseen", "0"]).ok();
    a.run(["put", "seen/1", "one"]).ok();
    let put = next();
    assert_eq!((&put["event"], &put["key"], &put["value"]), (&json!("put"), &json!("seen/1"), &json!("one")));
    a.run(["del", "seen/1"]).ok();
    let deleted = next();
    assert_eq!((&deleted["event"], &deleted["key"]), (&json!("delete"), &json!("seen/1")));
}
