//! Who may administer a node: its own user over the unix socket, and who has the token; and how join tickets are kept from
//! other users of the machine.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use starling_api::SOCKET_HEADER;
use starling_api::admin::{RUN_FILE, RunFile, SOCKET_FILE};
use starling_client::Client;
use starling_tests::{Node, command, http_client, run, wait_until};

/// What reveals the secret, changes the node or its network, or reads the whole store.
const ADMINISTRATION: [(Method, &str); 15] = [
    (Method::GET, "/v1/ticket"),
    (Method::POST, "/v1/trust/statements"),
    (Method::GET, "/v1/config"),
    (Method::GET, "/v1/doctor"),
    (Method::GET, "/v1/tokens"),
    (Method::POST, "/v1/tokens"),
    (Method::DELETE, "/v1/tokens/0123456789abcdef"),
    (Method::POST, "/v1/leave"),
    (Method::POST, "/v1/upgrade/finalize"),
    (Method::POST, "/v1/strong"),
    (Method::DELETE, "/v1/strong/orders"),
    (Method::PUT, "/v1/strong/orders/voters"),
    (Method::PUT, "/v1/strong/orders/leader"),
    (Method::POST, "/v1/strong/orders/recover"),
    (Method::DELETE, "/v1/strong/orders/kept"),
];

async fn by_tcp(node: &Node, method: &Method, path: &str) -> Response {
    let url = format!("http://{}{path}", node.api());
    let body = if path == "/v1/strong" { r#"{"name":"orders"}"# } else { "" };
    http_client().request(method.clone(), url).body(body).send().await.expect("the node answers")
}

#[tokio::test]
async fn without_a_token_tcp_serves_data_and_the_unix_socket_everything() {
    let node = Node::up("node").started().await;
    let socket = node.data_dir().join(SOCKET_FILE);
    let metadata = std::fs::metadata(&socket).expect("is there");
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);

    for (method, path) in &ADMINISTRATION {
        let refused = by_tcp(&node, method, path).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{method} {path}");
        assert!(refused.headers().contains_key(SOCKET_HEADER), "{method} {path}");
        let error: Value = refused.json().await.expect("JSON");
        assert_eq!(error["error"], "forbidden");
        assert!(error["hint"].as_str().is_some_and(|hint| hint.contains(SOCKET_FILE)), "{error}");
    }
    let compact = r#"{"op":"compact","revision":1}"#;
    let call = |query: &str, body: &'static str| {
        let url = format!("http://{}/v1/strong/orders/call{query}", node.api());
        async move { reqwest::Client::new().post(url).body(body).send().await.expect("the node answers") }
    };
    let refused = call("", compact).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN, "it ends the history of all clients");
    assert!(refused.headers().contains_key(SOCKET_HEADER));
    assert_eq!(
        call("?if_strong=true", r#"{"op":"leases"}"#).await.json::<Value>().await.expect("JSON")["error"],
        "other_keyspace"
    );
    for path in ["/v1/status", "/v1/peers", "/v1/nodes", "/v1/upgrade", "/v1/keyspaces", "/readyz"] {
        assert_eq!(by_tcp(&node, &Method::GET, path).await.status(), StatusCode::OK, "{path}");
    }
    let metrics = by_tcp(&node, &Method::GET, "/metrics").await.text().await.expect("text");
    assert!(metrics.contains("starling_api_forbidden_total 16"), "{metrics}");

    // Commands find the socket by the refusal, whichever way they name the node.
    let at_socket = format!("unix:{}", socket.display());
    for ticket in [node.run(["ticket"]), run(["--api", &at_socket, "ticket"], b"")] {
        assert!(ticket.ok().starts_with("starling2"));
    }
    run(["--api", &at_socket, "put", "k", "v"], b"").ok();
    assert_eq!(node.run(["get", "k"]).ok(), "v");
    node.run(["keyspace", "create", "orders", "--strong", "--voters", "1"]).ok();
    node.run(["-k", "orders", "put", "k", "v"]).ok();
    node.run(["keyspace", "compact", "orders"]).ok();
    Client::new(&at_socket, None).expect("an address").status().await.expect("it answers");
}

/// A token makes whoever has it an administrator; the node's own user needs none.
#[tokio::test]
async fn with_a_token_its_owner_is_pointed_to_the_socket_and_a_weak_one_is_noticed() {
    let node = Node::up("node").set("api.token", "secret").started().await;
    assert!(node.log().contains("api.token has less than 128 bits"), "{}", node.log());
    let refused = run(["--api", node.api(), "ticket"], b"");
    refused.exits(1).says("wants a token");
    let at_socket = format!("unix:{}", node.data_dir().join(SOCKET_FILE).display());
    refused.says(&at_socket);
    run(["--api", &at_socket, "ticket"], b"").ok();
}

#[test]
fn addresses_of_sockets_that_lead_nowhere_say_why() {
    let empty = run(["--api", "unix:", "status"], b"");
    empty.exits(2).says("write unix:PATH");
}

#[tokio::test]
async fn a_node_can_be_without_tcp_and_is_found_by_its_directory() {
    // A path that is too long for the address of a socket.
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let data_dir = temporary.path().join("d".repeat(120));
    let mut node = Node::up("node").data_in(&data_dir).api_on("off").started().await;
    assert_eq!(node.api(), format!("unix:{}", data_dir.join(SOCKET_FILE).display()));
    node.run(["put", "k", "v"]).ok();
    let found = command().env("STARLING_DATA_DIR", &data_dir).args(["get", "k"]).output().expect("it runs");
    assert_eq!(found.stdout, b"v", "{}", String::from_utf8_lossy(&found.stderr));
    // A socket that a killed node left is replaced, and one of a stopped node is removed.
    node.kill();
    assert!(data_dir.join(SOCKET_FILE).exists());
    node.start().await;
    node.run(["get", "k"]).ok();
    node.stop().await;
    assert!(!data_dir.join(SOCKET_FILE).exists() && !data_dir.join(RUN_FILE).exists());
}

/// Another process at the address that a command names cannot direct it to the socket of a node that was not meant.
#[tokio::test]
async fn a_refusal_that_names_the_socket_of_another_node_is_not_followed() {
    let node = Node::up("node").started().await;
    let impostor = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = impostor.local_addr().expect("bound").to_string();
    let socket = node.data_dir().join(SOCKET_FILE).display().to_string();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = impostor.accept().expect("the command connects");
        let mut request = [0; 4096];
        assert!(std::io::Read::read(&mut stream, &mut request).expect("it sends") > 0);
        let body = r#"{"error":"forbidden","message":"m","hint":"h"}"#;
        let length = body.len();
        let head = format!(
            "HTTP/1.1 403 Forbidden\r\n{SOCKET_HEADER}: {socket}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        std::io::Write::write_all(&mut stream, (head + body).as_bytes()).expect("it reads");
        // Until the client has read it and closes.
        std::io::copy(&mut stream, &mut std::io::sink()).ok();
    });
    run(["--api", &address, "leave", "--force"], b"").exits(1);
    answering.join().expect("it answered");
    node.run(["put", "k", "v"]).ok();
}

/// The arguments of a process, as every user can read them.
fn arguments(pid: u32) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).expect("it runs")).into_owned()
}

fn run_file(data_dir: &Path) -> Option<RunFile> {
    serde_json::from_slice(&std::fs::read(data_dir.join(RUN_FILE)).ok()?).ok()
}

#[tokio::test]
async fn a_ticket_is_in_no_list_of_processes_no_log_and_no_configuration() {
    let first = Node::up("first").started().await;
    let ticket = first.ticket().await.to_string();
    assert!(first.log().contains("--join starling2***") && !first.log().contains(&ticket), "{}", first.log());
    let token = "n4bQgYhMfWWaL-qgxVrQFaO";
    let second = Node::up("second").join(&ticket).set("api.token", token).started().await;
    let pid = run_file(second.data_dir()).expect("it runs").pid;
    let shown = arguments(pid);
    assert!(shown.contains("--name") && !shown.contains("starling2") && !shown.contains(token), "{shown}");
    let config = second.run(["--token", token, "config", "--running"]).ok();
    assert!(config.contains("starling2***") && !config.contains(&ticket), "{config}");
    let source = |key: &str| config.lines().find(|line| line.starts_with(key)).map(str::trim_end);
    assert!(source("join").is_some_and(|line| line.ends_with("flag --join")), "{config}");
    assert!(source("api.token").is_some_and(|line| line.ends_with("flag --set")), "{config}");
    assert!(!second.log().contains(&ticket), "{}", second.log());
    wait_until("they are joined", async || {
        let peers = first.client().status().await.expect("it answers").active;
        if peers == 1 { Ok(()) } else { Err(format!("{peers} peers")) }
    })
    .await;
}

#[tokio::test]
async fn a_ticket_can_come_from_a_file_and_from_standard_input() {
    let first = Node::up("first").started().await;
    let ticket = first.ticket().await.to_string();
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let path = temporary.path().join("ticket");
    Node::up("lost").join(&format!("@{}", path.display())).refused().says("cannot read the join ticket");
    // As a command that failed leaves it, or a variable that is not set: no network of its own.
    let empty = temporary.path().join("empty");
    File::options().write(true).create_new(true).mode(0o600).open(&empty).expect("a file");
    Node::up("lost").join(&format!("@{}", empty.display())).refused().says("it is empty");
    Node::up("lost").join("-").refused().says("it is empty");
    Node::up("lost").join("").refused().says("--join");
    std::fs::write(&path, format!("{ticket}\n")).expect("writes");
    let second = Node::up("second").join(&format!("@{}", path.display())).started().await;
    assert!(second.log().contains("other users can read the join ticket"), "{}", second.log());
    let data_dir = temporary.path().join("third");
    let mut third = command()
        .args(["up", "--exit-with-parent", "--join", "-", "--listen", "/ip4/127.0.0.1/tcp/0", "--api", "off"])
        .arg("--data-dir")
        .arg(&data_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let input = third.stdin.as_mut().expect("piped");
    std::io::Write::write_all(input, format!("{ticket}\n").as_bytes()).expect("it reads");
    wait_until("all are joined", async || {
        let status = first.client().status().await.expect("it answers");
        if status.active == 2 { Ok(()) } else { Err(format!("{} peers", status.active)) }
    })
    .await;
    drop(third.stdin.take());
    assert!(third.wait().expect("our child").success());
}
