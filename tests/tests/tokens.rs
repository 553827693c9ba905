//! Tokens of clients: what each grants on every node of the network, how it ends, and what is recorded.

use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use starling_api::admin::SOCKET_FILE;
use starling_api::token::Tokens;
use starling_tests::{Answer, Node, http_client, run, wait_until};

/// Two nodes of a network with an authority. The second one wants a token by TCP.
struct Guarded {
    issuer: Node,
    node: Node,
}

impl Guarded {
    async fn new() -> Self {
        let issuer = Node::up("issuer").started().await;
        let ticket = issuer.ticket().await.to_string();
        let node = Node::up("node").set("api.anonymous", "false").join(&ticket).started().await;
        wait_until("they are neighbours", async || {
            let peers = issuer.client().peers().await.expect("the node answers").peers;
            if peers.iter().any(|peer| peer.view == "active") { Ok(()) } else { Err(format!("{peers:?}")) }
        })
        .await;
        Self { issuer, node }
    }

    /// A new token.
    fn token(&self, name: &str, args: &[&str]) -> String {
        self.issuer.run([&["token", "add", name], args].concat()).ok()
    }

    /// Runs a command against the second node, with a token.
    fn with(&self, token: &str, args: &[&str]) -> Answer {
        run([&["--api", self.node.api(), "--token", token], args].concat(), b"")
    }

    /// Runs a command against the second node, as its own user.
    fn own(&self, args: &[&str]) -> Answer {
        run([&["--api", &socket(&self.node)], args].concat(), b"")
    }
}

fn socket(node: &Node) -> String {
    format!("unix:{}", node.data_dir().join(SOCKET_FILE).display())
}

fn audit(node: &Node) -> Vec<Value> {
    let read = |name| std::fs::read_to_string(node.data_dir().join(name)).unwrap_or_default();
    let text = read("audit.log") + &read("audit-data.log");
    text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

#[tokio::test]
async fn a_token_grants_its_keys_on_every_node_and_nothing_else() {
    let network = Guarded::new().await;
    run(["--api", network.node.api(), "get", "k"], b"").exits(1).says("wants a token");
    let web =
        network.token("web", &["--grant", "read,watch:config", "--grant", "read,write,delete:orders:eu/"]);
    network.own(&["-k", "config", "put", "greeting", "hello"]).ok();
    network.own(&["-k", "orders", "put", "us/1", "open"]).ok();

    assert_eq!(network.with(&web, &["-k", "config", "get", "greeting"]).ok(), "hello");
    network.with(&web, &["-k", "orders", "put", "eu/1", "open"]).ok();
    assert_eq!(network.with(&web, &["-k", "orders", "get", "eu/1"]).ok(), "open");
    assert!(network.with(&web, &["-k", "orders", "ls", "eu/"]).ok().contains("eu/1"));
    for (denied, what) in [
        (
            &["-k", "config", "put", "greeting", "bye"][..],
            "it needs write on the key \"greeting\" of the keyspace config",
        ),
        (&["-k", "orders", "get", "us/1"], "it needs read on the key \"us/1\""),
        (&["-k", "orders", "ls"], "it needs read on all keys"),
        (&["-k", "orders", "ls", "e"], "it needs read on the keys from \"e\" to \"f\""),
        (&["-k", "orders", "del", "--prefix", ""], "it needs delete on all keys"),
        (&["-k", "orders", "watch", "eu/"], "it needs watch"),
        (&["get", "k"], "it needs a grant on the keyspace default"),
        (
            &["keyspace", "create", "jobs", "--strong", "--voters", "1"],
            "it needs admin on all keys of the keyspace jobs",
        ),
        (&["token", "ls"], "it needs admin on all keyspaces"),
        (&["ticket"], "it needs admin on all keyspaces"),
        (&["leave"], "it needs admin on all keyspaces"),
    ] {
        let answer = network.with(&web, denied);
        answer.exits(1).says("token web may not do this");
        answer.says(what);
    }
    // A client sees only the keyspaces of which it has a key.
    let seen = network.with(&web, &["keyspaces"]).ok();
    assert!(seen.contains("config") && seen.contains("orders") && !seen.contains("default"), "{seen}");

    // The one who may manage a keyspace may not administer the node, nor read it.
    let deploy = network.token("deploy", &["--grant", "admin:jobs"]);
    network.with(&deploy, &["keyspace", "create", "jobs", "--strong", "--voters", "1"]).ok();
    network.with(&deploy, &["-k", "jobs", "get", "k"]).exits(1).says("it needs read");
    network.with(&deploy, &["keyspace", "drop", "config", "--yes"]).exits(1).says("config");
    network.with(&deploy, &["config", "--running"]).exits(1).says("it needs admin on all keyspaces");
    let root = network.token("root", &["--grant", "data,admin:*"]);
    network.with(&root, &["config", "--running"]).ok();
    let listed: Tokens = network.with(&root, &["token", "ls", "--output", "json"]).json();
    let mut names: Vec<&str> = listed.tokens.iter().map(|it| it.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["deploy", "root", "web"]);

    let records = audit(&network.node);
    let has = |who: &str, action: &str, outcome: &str| {
        records.iter().any(|it| {
            it["who"] == who
                && it["action"] == action
                && it["outcome"].as_str().expect("text").contains(outcome)
        })
    };
    assert!(has("token deploy", "keyspace create", "done"), "{records:?}");
    assert!(has("token web", "request", "refused: it needs write"), "{records:?}");
    assert!(
        audit(&network.issuer)
            .iter()
            .any(|it| it["action"] == "token add" && it["target"] == "deploy: admin:jobs")
    );
}

#[tokio::test]
async fn leases_and_locks_belong_to_the_name_of_a_token() {
    let network = Guarded::new().await;
    network.own(&["keyspace", "create", "jobs", "--strong", "--voters", "1"]).ok();
    let one = network.token("one", &["--grant", "data:jobs:one/"]);
    let other = network.token("other", &["--grant", "data:jobs"]);
    let lease = network.with(&one, &["-k", "jobs", "lease", "grant", "60s"]).ok();
    network.with(&one, &["-k", "jobs", "put", "one/a", "v", "--lease", &lease]).ok();
    // Whoever ends a lease deletes the keys of others.
    network.with(&other, &["-k", "jobs", "lease", "revoke", &lease]).exits(1).says("another one's");
    network
        .with(&other, &["-k", "jobs", "put", "two/a", "v", "--lease", &lease])
        .exits(1)
        .says("another one's");
    let again = network.token("one", &["--grant", "data:jobs:one/"]);
    network.with(&again, &["-k", "jobs", "lease", "revoke", &lease]).ok();
    network.with(&one, &["-k", "jobs", "get", "one/a"]).exits(3);
    network.with(&one, &["-k", "jobs", "lock", "one/lock", "--", "true"]).ok();
    network.with(&one, &["-k", "jobs", "lock", "two/lock", "--", "true"]).exits(1).says("two/lock");
    // A transaction is looked at as a whole.
    let txn = r#"{"compare":[],"then":[{"op":"put","key":"one/b","value":"v"},{"op":"txn","then":[{"op":"get","keys":{"key":"two/a"}}]}]}"#;
    let denied = network.with(&one, &["-k", "jobs", "txn", txn]);
    assert_ne!(denied.code, 0, "{denied:?}");
    network.own(&["-k", "jobs", "get", "one/b"]).exits(3);
}

#[tokio::test]
async fn a_token_ends_when_it_expires_or_is_revoked_also_in_an_open_watch() {
    let network = Guarded::new().await;
    let web = network.token("web", &["--grant", "data:config"]);
    network.with(&web, &["-k", "config", "put", "k", "v"]).ok();
    let watched = watch(&network.node, &web).await;
    let id = network.issuer.run_with(["token", "show", "--output", "json"], web.as_bytes());
    let id = id.json::<Value>()["id"].as_str().expect("text").to_owned();
    network.issuer.run(["token", "revoke", &id[..8]]).ok();
    wait_until("the other node knows", async || {
        let answer = network.with(&web, &["-k", "config", "get", "k"]);
        if answer.code == 1 && format!("{answer:?}").contains("was revoked") {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    })
    .await;
    let seen = watched.text().await.expect("it ends");
    assert!(seen.contains("lagged") && seen.contains("was revoked"), "{seen}");
    let listed = network.issuer.run(["token", "ls"]).ok();
    assert!(listed.contains("revoked"), "{listed}");

    let short = network.token("short", &["--grant", "data:config", "--expires", "1s"]);
    wait_until("it expires", async || {
        let answer = network.with(&short, &["-k", "config", "get", "k"]);
        if answer.code == 1 && format!("{answer:?}").contains("has expired") {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    })
    .await;
    // What was changed on the way, or comes from elsewhere, is nothing.
    let cut = &web[..web.len() - 4];
    network.with(cut, &["-k", "config", "get", "k"]).exits(1).says("does not count");
    network.with("starling-token1-AAAA", &["get", "k"]).exits(1).says("does not count");
    // Also where none is needed.
    run(["--api", network.issuer.api(), "--token", cut, "get", "k"], b"").exits(1).says("does not count");
    let metrics = network.issuer.client().metrics().await.expect("the node answers");
    assert!(metrics.contains("starling_api_unauthorized_total 1"), "{metrics}");
    let stranger = Node::up("stranger").set("api.anonymous", "false").started().await;
    run(["--api", stranger.api(), "--token", &web, "get", "k"], b"")
        .exits(1)
        .says("no issuer of this network");
    // Only an issuer makes tokens, and only with bounds.
    network.own(&["token", "add", "x", "--grant", "data:*"]).exits(4).says("no issuer");
    network.issuer.run(["token", "add", "a:b", "--grant", "data:*"]).exits(1).says("a name is");
    // A client's token in the environment of a node would make an administrator of its bearer.
    Node::up("mixed").set("api.token", &web).refused().says("STARLING_API_TOKEN");
    for (wrong, what) in [
        ("data", "VERBS:KEYSPACE"),
        ("all:config", "no verb"),
        ("data:No", "names no keyspace"),
        ("data:a*b", "names no keyspace"),
        ("data,admin:a:eu/", "of whole keyspaces"),
    ] {
        network.issuer.run(["token", "add", "x", "--grant", wrong]).exits(1).says(what);
    }
}

async fn watch(node: &Node, token: &str) -> Response {
    let url = format!("http://{}/v1/keyspaces/config/watch", node.api());
    let answer = http_client().get(url).bearer_auth(token).send().await.expect("the node answers");
    assert_eq!(answer.status(), StatusCode::OK);
    answer
}

#[tokio::test]
async fn a_quota_is_of_each_node_and_tells_when_to_come_again() {
    let network = Guarded::new().await;
    let token = network.token("slow", &["--grant", "data:*", "--requests", "5"]);
    let get = |node: &Node| {
        let url = format!("http://{}/v1/keyspaces/default/keys/k", node.api());
        http_client().get(url).bearer_auth(&token).send()
    };
    let mut refused = None;
    for _ in 0..200 {
        let answer = get(&network.node).await.expect("the node answers");
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("200 requests take less than 40 s");
    assert!(refused.headers().contains_key("retry-after"));
    let error: Value = refused.json().await.expect("JSON");
    assert_eq!(error["error"], "too_many_requests");
    assert_eq!(get(&network.issuer).await.expect("the node answers").status(), StatusCode::NOT_FOUND);
    wait_until("it may again", async || {
        let status = get(&network.node).await.expect("the node answers").status();
        if status == StatusCode::NOT_FOUND { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

/// Whatever path is added: without rights it serves nothing but what every caller may know.
#[tokio::test]
async fn a_token_without_rights_is_refused_by_every_path_but_those_that_show_the_node() {
    const OPEN: [&str; 11] = [
        "/v1/status",
        "/v1/peers",
        "/v1/nodes",
        "/v1/upgrade",
        "/v1/trust",
        "/v1/trust/statements",
        "/v1/keyspaces",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
    ];
    let network = Guarded::new().await;
    let token = network.token("nobody", &["--grant", "read:elsewhere:no/"]);
    let url = |path: &str| format!("http://{}{path}", network.node.api());
    let document: Value = http_client()
        .get(url("/openapi.json"))
        .bearer_auth(&token)
        .send()
        .await
        .expect("answers")
        .json()
        .await
        .expect("JSON");
    let mut tried = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for name in methods.as_object().expect("methods").keys() {
            let method: Method = name.to_uppercase().parse().expect("a method");
            if OPEN.contains(&path.as_str()) && method == Method::GET {
                continue;
            }
            let filled = path.replace("{keyspace}", "jobs").replace("{key}", "k").replace("{id}", "00000000");
            let query = if filled.ends_with("/keys") { "?prefix=" } else { "" };
            let request =
                http_client().request(method.clone(), url(&format!("{filled}{query}"))).bearer_auth(&token);
            let answer = request.body(body(path, &method)).send().await.expect("the node answers");
            let status = answer.status();
            // That there is no such keyspace is all that a caller learns who has no right there.
            let is_unknown = path == "/v1/strong/{keyspace}" || path.ends_with("/replicas");
            let expected = if is_unknown && method == Method::GET {
                StatusCode::NOT_FOUND
            } else {
                StatusCode::FORBIDDEN
            };
            let text = answer.text().await.expect("text");
            assert_eq!(status, expected, "{method} {path}: {text}");
            tried += 1;
        }
    }
    assert!(tried > 25, "{tried}");
    assert!(network.own(&["status"]).ok().contains("node"), "it was not told to leave");
}

/// A body with which the path would do something.
fn body(path: &str, method: &Method) -> &'static str {
    match path.rsplit('/').next().expect("a path") {
        "batch" => r#"{"ops":[{"key":"k","op":"put","value":"v"}]}"#,
        "call" => r#"{"op":"get","keys":{"key":"k"}}"#,
        "queue" => r#"{"queue":"q","op":"stats"}"#,
        "strong" => r#"{"name":"jobs"}"#,
        "tokens" => r#"{"name":"x","grants":["data:*"],"expires_ms":1000}"#,
        "voters" => r#"{"nodes":["a"]}"#,
        "leader" => r#"{"node":"a"}"#,
        "finalize" => r#"{"force":true}"#,
        "statements" => r#"{"statements":[]}"#,
        "{key}" if path.contains("/counters/") => r#"{"by":1}"#,
        "{key}" if path.contains("/sets/") => r#"{"add":["m"]}"#,
        "{key}" if path.contains("/maps/") => r#"{"put":[{"name":"f","value":"v"}]}"#,
        "{key}" if path.contains("/flags/") => r#"{"enabled":true}"#,
        "{key}" if *method == Method::POST => r#"{"op":"put","value":"v"}"#,
        _ => "",
    }
}
