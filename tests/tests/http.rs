//! The HTTP front door: its description, its errors, watches, metrics and health.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use starling_api::admin::SOCKET_FILE;
use starling_api::{Batch, Check, Op, WatchEvent};
use starling_tests::{Node, http_client, http_client_builder, pair, wait_until};

async fn send(node: &Node, method: &str, path: &str, body: &[u8]) -> Response {
    request(&http_client(), method, format!("http://{}{path}", node.api()), body).await
}

async fn request(client: &Client, method: &str, url: String, body: &[u8]) -> Response {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    client.request(method, url).body(body.to_vec()).send().await.expect("the node answers")
}

/// The same over the unix socket, as an administrator.
async fn administer(node: &Node, method: &str, path: &str, body: &[u8]) -> Response {
    let client = http_client_builder().unix_socket(node.data_dir().join(SOCKET_FILE)).build();
    request(&client.expect("a client"), method, format!("http://localhost{path}"), body).await
}

/// A body that each operation takes.
fn example_body(method: &str, path: &str) -> &'static str {
    match (method, path.rsplit('/').nth(1).unwrap_or_default()) {
        ("post", "v1") if path == "/v1/batch" => r#"{"ops":[{"key":"k","op":"put","value":"v"}]}"#,
        ("post", "keys") => r#"{"op":"put","value":"v"}"#,
        ("post", "counters") => r#"{"by":1}"#,
        ("post", "sets") => r#"{"add":["member"]}"#,
        ("post", "maps") => r#"{"put":[{"name":"n","value":"v"}]}"#,
        ("put", "flags") => r#"{"enabled":true}"#,
        ("post", _) if path == "/v1/strong" => r#"{"name":"another","voters":1}"#,
        ("post", _) if path.ends_with("/call") => r#"{"op":"put","key":"k","value":"v"}"#,
        ("post", _) if path.ends_with("/queue") => r#"{"queue":"q","op":"stats"}"#,
        ("post", _) if path.ends_with("/tokens") => r#"{"name":"n","grants":["data:*"],"expires_ms":1000}"#,
        ("post", _) if path.ends_with("/finalize") => r#"{"force":false}"#,
        ("post", _) if path.ends_with("/statements") => r#"{"statements":[]}"#,
        ("put", _) if path.ends_with("/leader") => r#"{"node":"node"}"#,
        ("put", _) if path.ends_with("/voters") => r#"{"nodes":["node"]}"#,
        _ => "",
    }
}

/// The URL of an operation: a key of its own for each data type, and every wanted parameter.
fn example_url(path: &str, operation: &Value) -> String {
    let kind = path.rsplit('/').nth(1).unwrap_or_default();
    let keyspace = if path.starts_with("/v1/strong") { "orders" } else { "default" };
    let path = path.replace("{keyspace}", keyspace).replace("{key}", &format!("one-of-{kind}"));
    let wanted = operation["parameters"].as_array().into_iter().flatten();
    let wanted = wanted.filter(|parameter| parameter["in"] == "query" && parameter["required"] == true);
    let query: Vec<_> = wanted.filter_map(|parameter| parameter["name"].as_str()).collect();
    if query.is_empty() { path } else { format!("{path}?{}=x", query.join("=x&")) }
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
            object.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_operation_of_the_description_works() {
    let mut node = Node::up("node").started().await;
    let document: Value = send(&node, "GET", "/openapi.json", b"").await.json().await.expect("JSON");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "{document}");
    let paths = document["paths"].as_object().expect("paths");
    let orders = administer(&node, "POST", "/v1/strong", br#"{"name":"orders","voters":1}"#).await;
    assert!(orders.status().is_success(), "{}", orders.status());
    let mut called = 0;
    // Writes first, so that there is something to read, and then to delete.
    for method in ["put", "post", "get", "delete"] {
        for (path, operations) in paths.iter().filter(|(path, _)| *path != "/v1/leave") {
            let operation = &operations[method];
            if operation.is_null() {
                continue;
            }
            let url = example_url(path, operation);
            let response =
                administer(&node, &method.to_uppercase(), &url, example_body(method, path).as_bytes()).await;
            let status = response.status();
            // The only voter needs no recovery, and nothing here has the key of an authority, whose issuers make tokens.
            let is_refused = match status {
                StatusCode::CONFLICT => path.ends_with("/recover") || path == "/v1/tokens",
                StatusCode::NOT_FOUND => path == "/v1/tokens/{id}",
                StatusCode::BAD_REQUEST => path == "/v1/trust/statements",
                _ => false,
            };
            assert!(status.is_success() || is_refused, "{method} {url}: {status}");
            let documented = operation["responses"].get(if is_refused { "4XX" } else { status.as_str() });
            assert!(documented.is_some(), "{method} {path}: {status} is not described");
            called += 1;
        }
    }
    assert!(called >= 33, "only {called} operations are described");
    let mut wanted = BTreeSet::new();
    references(&document, &mut wanted);
    for reference in wanted {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
        let name = reference.rsplit('/').next().unwrap_or_default();
        assert!(name.starts_with(char::is_uppercase), "{name} is a type of Rust and not of the API");
    }
    for leave in ["/v1/leave", "/v1/leave?force=true"] {
        let refused = administer(&node, "POST", leave, b"").await.status();
        assert_eq!(refused, StatusCode::CONFLICT, "{leave}: it is the only voter of the other keyspace");
    }
    for name in node.status().await.votes {
        node.client().drop_keyspace(&name).await.expect("dropped");
    }
    let left = administer(&node, "POST", "/v1/leave?force=true", b"").await.status();
    assert_eq!(left, StatusCode::ACCEPTED);
    assert!(node.ended().await.success());
}

#[tokio::test]
async fn every_mistake_is_answered_with_a_code_and_a_hint() {
    let limits = [("limits.value_bytes", "1000"), ("limits.batch_bytes", "4000")];
    let node =
        limits.iter().fold(Node::up("node"), |node, (key, value)| node.set(key, value)).started().await;
    let keys = "/v1/keyspaces/default/keys";
    let set = "/v1/keyspaces/default/sets/s";
    let large = vec![b'x'; 1001];
    let very_large = vec![b' '; 1 << 20];
    let long_key = format!("{keys}/{}", "k".repeat(4097));
    for (method, path, body, status, code) in [
        ("POST", "/v1/batch", &b"{\"ops\":"[..], 400, "invalid"),
        ("POST", "/v1/batch", b"{\"ops\":[{\"key\":\"k\",\"op\":\"explode\"}]}", 400, "invalid"),
        ("POST", "/v1/batch", b"\xff\xfe", 400, "invalid"),
        ("POST", "/v1/batch", &very_large, 413, "too_large"),
        ("POST", set, b"{\"ad\":[\"x\"]}", 400, "invalid"),
        ("POST", set, b"{}", 400, "invalid"),
        ("POST", set, b"{\"add\":[{\"base64\":\"%\"}]}", 400, "invalid"),
        ("PUT", &format!("{keys}/k"), &large, 413, "too_large"),
        ("PUT", &format!("{keys}/k"), &very_large, 413, "too_large"),
        ("PUT", &long_key, b"v", 413, "too_large"),
        ("PUT", &format!("{keys}/k?ttl_ms=soon"), b"v", 400, "invalid"),
        ("PUT", &format!("{keys}/k?tll_ms=1"), b"v", 400, "invalid"),
        ("GET", "/v1/keyspaces/%FF/keys/k", b"", 400, "invalid"),
        ("PUT", "/v1/keyspaces/Not%20A%20Name/keys/k", b"v", 400, "invalid"),
        ("GET", &format!("{keys}?limit=0"), b"", 400, "invalid"),
        ("GET", &format!("{keys}?limit=10001"), b"", 400, "invalid"),
        ("DELETE", keys, b"", 400, "invalid"),
        ("GET", &format!("{keys}/nothing"), b"", 404, "not_found"),
        ("GET", "/v2/nowhere", b"", 404, "not_found"),
        ("POST", "/v1/status", b"", 405, "method_not_allowed"),
    ] {
        let response = send(&node, method, path, body).await;
        let (found, shown) = (response.status().as_u16(), &path[..path.len().min(60)]);
        assert_eq!(found, status, "{method} {shown}");
        assert_eq!(response.headers().contains_key("allow"), status == 405, "{method} {shown}");
        let error: Value = response.json().await.unwrap_or_else(|e| panic!("{method} {shown}: {e}"));
        assert_eq!(error["error"], code, "{method} {shown}: {error}");
        for field in ["message", "hint"] {
            assert!(error[field].as_str().is_some_and(|text| !text.is_empty()), "{method} {shown}: {error}");
        }
    }
    assert_eq!(node.status().await.entries, 0, "nothing was written");
}

#[tokio::test]
async fn keys_and_keyspaces_of_any_bytes_are_percent_encoded() {
    let node = Node::up("node").started().await;
    let path = "/v1/keyspaces/default/keys/a%2Fb/c%20%FF%00";
    send(&node, "PUT", path, b"\xfe").await.error_for_status().expect("written");
    let read = send(&node, "GET", path, b"").await;
    assert_eq!(read.bytes().await.expect("a body"), &b"\xfe"[..]);
    let listing: Value =
        send(&node, "GET", "/v1/keyspaces/default/keys?values=true", b"").await.json().await.expect("JSON");
    assert_eq!(listing["keys"][0]["key"], json!({ "base64": "YS9iL2Mg/wA=" }));
    assert_eq!(listing["keys"][0]["data"][0]["value"], json!({ "base64": "/g==" }));
}

#[tokio::test]
async fn conditions_are_those_of_http() {
    let node = Node::up("node").started().await;
    let url = format!("http://{}/v1/keyspaces/default/keys/k", node.api());
    let http = http_client();
    let put = async |name: &str, value: &str| {
        http.put(&url).header(name, value).body("v").send().await.expect("the node answers")
    };
    let created = put("if-none-match", "*").await;
    assert_eq!(created.status(), StatusCode::OK);
    let etag = created.headers()["etag"].to_str().expect("text").to_owned();
    assert_eq!(put("if-none-match", "*").await.status(), StatusCode::CONFLICT);
    let read = http.get(&url).send().await.expect("the node answers");
    assert_eq!(read.headers()["etag"], *etag);
    assert_eq!(read.headers()["x-starling-siblings"], "1");
    assert_eq!(put("if-match", &etag).await.status(), StatusCode::OK);
    assert_eq!(put("if-match", &etag).await.status(), StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_batch_happens_together_or_not_at_all() {
    let node = Node::up("node").started().await;
    let put = |key: &str| starling_api::Write::new("default", key, Op::Put { value: "v".into() });
    node.client().batch(&Batch { writes: vec![put("a"), put("b")] }).await.expect("written");
    let mut late = put("a");
    late.check = Some(Check::Absent);
    let refused = node.client().batch(&Batch { writes: vec![put("c"), late] }).await;
    assert_eq!(refused.err().map(|error| error.code), Some(starling_api::ErrorCode::VersionMismatch));
    assert_eq!(node.run(["--output", "raw", "ls"]).ok(), "a\nb");
}

#[tokio::test]
async fn a_watch_tells_puts_and_deletes() {
    let (a, b) = pair().await;
    let raw = send(&b, "GET", "/v1/keyspaces/default/watch", b"").await;
    assert_eq!(raw.headers()["content-type"], "text/event-stream");
    let mut watch = b.client().watch("default", b"seen/").await.expect("the node answers");
    let mut next = async || watch.next_event().await.expect("the watch goes on").expect("an event");
    assert_eq!(next().await, WatchEvent::Ready);
    // From elsewhere, then from here.
    a.run(["put", "unseen", "x"]).ok();
    a.run(["put", "seen/1", "x"]).ok();
    assert!(matches!(next().await, WatchEvent::Put(entry) if entry.key == "seen/1".into()));
    b.run(["sadd", "seen/2", "m"]).ok();
    assert!(matches!(next().await, WatchEvent::Put(entry) if entry.key == "seen/2".into()));
    a.run(["del", "seen/1"]).ok();
    assert!(matches!(next().await, WatchEvent::Delete { key, .. } if key == "seen/1".into()));
}

/// The samples of a page in Prometheus' text format. Panics where it is malformed.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut families = BTreeSet::new();
    let mut samples = BTreeMap::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.split(' ');
            match (words.next(), words.next()) {
                (Some("TYPE"), Some(name)) => assert!(families.insert(name.to_owned()), "{name} twice"),
                (Some("HELP" | "UNIT"), Some(_)) | (Some("EOF"), None) => {}
                _ => panic!("no comment of the format: {line}"),
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let bare = name.split('{').next().unwrap_or_default();
        let family = bare.strip_suffix("_total").unwrap_or(bare);
        assert!(families.contains(family), "{family} has no type");
        assert!(family.starts_with("starling_"), "{family}");
        assert!(
            family.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
            "{family}"
        );
        assert_eq!(name.contains('{'), name.ends_with('}'), "{line}");
        let value = value.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
        assert!(samples.insert(name.to_owned(), value).is_none(), "{name} twice");
    }
    assert!(text.ends_with("# EOF\n"), "the page is whole");
    samples
}

#[tokio::test]
async fn metrics_can_be_scraped() {
    let (a, b) = pair().await;
    let page = send(&a, "GET", "/metrics", b"").await;
    let content_type = page.headers()["content-type"].to_str().expect("text").to_owned();
    assert!(content_type.starts_with("application/openmetrics-text"), "{content_type}");
    let before = samples(&page.text().await.expect("text"));
    assert!(before["starling_active_view"] > 0.0);
    b.run(["put", "k", "v"]).ok();
    let name = "starling_payload_new_total";
    wait_until("a has counted b's rumor", async || {
        let now = samples(&a.client().metrics().await.expect("the node answers"));
        if now[name] > before[name] && now["starling_entries"] > 0.0 {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    })
    .await;
    for name in [
        "starling_frames_total{class=\"control\",direction=\"in\"}",
        "starling_frame_bytes_total{class=\"rumor\",direction=\"out\"}",
        "starling_wrong_secret_total",
        "starling_malformed_frames_total",
        "starling_sessions_total",
        "starling_suspicions_total",
    ] {
        assert!(before.contains_key(name), "{name} is missing");
    }
}

#[tokio::test]
async fn calls_of_strong_keyspaces_are_checked_and_carried_out_as_they_are() {
    let node = Node::up("a").started().await;
    let made = administer(&node, "POST", "/v1/strong", br#"{"name":"orders","voters":1}"#).await;
    assert!(made.status().is_success(), "{}", made.status());
    let call = async |body: Value| {
        let response = send(&node, "POST", "/v1/strong/orders/call", body.to_string().as_bytes()).await;
        (response.status().as_u16(), response.json::<Value>().await.expect("JSON"))
    };
    let (status, answer) =
        call(json!({ "op": "put", "key": "k", "value": "v", "request_id": { "client": "client-7" } })).await;
    assert_eq!((status, &answer["error"]), (400, &json!("invalid")), "{answer}");
    let message = answer["message"].as_str().unwrap_or_default();
    assert!(message.contains("request_id.client") && message.contains("hexadecimal"), "{message}");

    let nested = |depth: usize| {
        let put = json!({ "op": "put", "key": "k", "value": "v" });
        (0..depth).fold(put, |inner, _| json!({ "op": "txn", "then": [inner] }))
    };
    let (status, answer) = call(nested(8)).await;
    assert_eq!((status, &answer["result"]), (200, &json!("txn")), "{answer}");
    // From 9 on it depends on the version of data that the keyspace has adopted.
    let (status, answer) = call(nested(21)).await;
    assert_eq!((status, &answer["error"]), (413, &json!("too_large")), "{answer}");
    let bounded = json!({ "op": "get", "keys": { "key": "k" }, "max_mod_revision": 1 });
    let (status, answer) = call(bounded).await;
    assert_eq!((status, &answer["kvs"], &answer["more"]), (200, &json!([]), &json!(false)), "{answer}");
}

#[tokio::test]
async fn health_and_readiness_are_told_apart() {
    let mut gone = Node::up("gone").started().await;
    let ticket = gone.ticket().await.to_string();
    gone.stop().await;
    let alone = Node::up("alone").started().await;
    let looking = Node::up("looking").join(&ticket).started().await;
    for node in [&alone, &looking] {
        assert_eq!(send(node, "GET", "/healthz", b"").await.text().await.expect("text"), "ok\n");
    }
    assert_eq!(send(&alone, "GET", "/readyz", b"").await.status(), StatusCode::OK);
    let waiting = send(&looking, "GET", "/readyz", b"").await;
    assert_eq!(waiting.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(waiting.json::<Value>().await.expect("JSON")["error"], "not_ready");
    looking.run(["put", "reads and writes", "work"]).ok();
}

#[tokio::test]
async fn with_a_token_nobody_else_is_answered() {
    let open = |name: &str| Node::up(name).set("api.plaintext", "true").api_on("0.0.0.0:0");
    open("open").refused().says("api.token");
    open("guessed").set("api.token", "sesame").refused().says("128 bits");
    let token = "n4bQgYhMfWWaL-qgxVrQFaO";
    Node::up("read").set("api.token", token).api_on("0.0.0.0:0").refused().says("api.plaintext");
    let node = open("node").set("api.token", token).started().await;
    assert_eq!(send(&node, "GET", "/healthz", b"").await.status(), StatusCode::OK);
    assert_eq!(send(&node, "GET", "/v1/ticket", b"").await.status(), StatusCode::UNAUTHORIZED);
    let refused = node.run(["--output", "json", "put", "k", "v"]);
    refused.exits(1);
    assert_eq!(refused.error(), "unauthorized");
    node.run(["--token", "wrong", "get", "k"]).exits(1);
    node.run(["--token", token, "put", "k", "v"]).ok();
    assert_eq!(node.run(["--token", token, "get", "k"]).ok(), "v");
    let settings = node.run(["--token", token, "config", "--running"]).ok();
    assert!(settings.contains("api.token") && !settings.contains(token), "{settings}");
    let metrics = http_client().get(format!("http://{}/metrics", node.api())).bearer_auth(token);
    let metrics = metrics.send().await.expect("an answer").text().await.expect("text");
    assert!(metrics.contains("starling_api_unauthorized_total 3"), "{metrics}");
}

/// A connection that sends nothing takes no place from one that sends a request.
#[tokio::test]
async fn silent_connections_keep_nobody_out() {
    let node = Node::up("node").started().await;
    let silent: Vec<TcpStream> =
        (0..700).map(|_| TcpStream::connect(node.api()).expect("it listens")).collect();
    for _ in 0..3 {
        assert_eq!(in_time(send(&node, "GET", "/healthz", b"")).await.status(), StatusCode::OK);
    }
    node.run(["put", "k", "v"]).ok();
    assert_eq!(node.run(["get", "k"]).ok(), "v");
    // They are closed in the end, whether or not somebody needs their places.
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
        let read = stream.read(&mut [0]);
        let is_closed =
            read.as_ref().map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |n| *n == 0);
        assert!(is_closed, "{read:?}");
    }
}

/// While all places have requests in progress, the node still says how it is.
#[tokio::test]
async fn health_is_answered_while_watches_have_all_places() {
    let node = Node::up("node").started().await;
    let request = b"GET /v1/keyspaces/default/watch HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
    let mut watches = Vec::new();
    let refused = loop {
        let mut stream = TcpStream::connect(node.api()).expect("it listens");
        stream.write_all(request).expect("it reads");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("an answer");
        if status != *b"HTTP/1.1 200" {
            break String::from_utf8_lossy(&status).into_owned();
        }
        watches.push(stream);
        assert!(watches.len() < 1000, "there is no bound");
    };
    assert_eq!(refused, "HTTP/1.1 503");
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(in_time(send(&node, "GET", path, b"")).await.status(), StatusCode::OK, "{path}");
    }
    let refused = in_time(send(&node, "GET", "/v1/status", b"")).await;
    assert_eq!(refused.json::<Value>().await.expect("JSON")["error"], "not_ready");
    drop(watches);
    wait_until("the places are free", async || {
        let status = in_time(send(&node, "GET", "/v1/status", b"")).await.status();
        if status == StatusCode::OK { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

/// Fails if there is no answer for very long.
async fn in_time<T>(answer: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), answer).await.expect("an answer")
}

#[tokio::test]
async fn whoever_does_not_speak_http_disturbs_nobody() {
    let node = Node::up("node").started().await;
    for garbage in
        [&b"\0\xff\x16\x03\x01garbage\r\n\r\n"[..], b"GET\r\n\r\n", b"PUT / HTTP/1.1\r\nContent-Le"]
    {
        let mut stream = TcpStream::connect(node.api()).expect("it listens");
        stream.write_all(garbage).expect("it reads");
        stream.shutdown(std::net::Shutdown::Write).expect("open");
        let mut answer = Vec::new();
        // Cut off, or answered with 400: both are fine.
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{:?}", String::from_utf8_lossy(&answer));
    }
    node.run(["put", "k", "v"]).ok();
}
