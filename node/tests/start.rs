//! Starts that must fail, and what they say.

mod common;

use std::path::Path;
use std::process::{Output, Stdio};

use common::{Node, command};

fn run(dir: &Path, arguments: &[&str]) -> Output {
    command(dir, arguments).stdin(Stdio::null()).stderr(Stdio::piped()).output().expect("the binary runs")
}

#[track_caller]
fn refuses(dir: &Path, arguments: &[&str], exit: i32, words: &[&str]) {
    let output = run(dir, arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{text}");
    let [what, next] = text.lines().collect::<Vec<_>>()[..] else {
        panic!("one line what, one line next:\n{text}")
    };
    assert!(what.starts_with("error: ") && next.starts_with("  try: "), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in:\n{text}");
    }
}

#[tokio::test]
async fn a_running_node_is_left_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(dir.path(), &[]).await;
    let status = node.client.status().await.expect("answers");
    refuses(dir.path(), &[], 1, &["in use"]);
    let other = tempfile::tempdir().expect("a temporary directory");
    let api = node.client.url().trim_start_matches("http://").to_owned();
    refuses(other.path(), &["--set", &format!("api.listen={api}")], 1, &["API", &api]);
    refuses(
        other.path(),
        &["--set", &format!("listen={}", status.listen[0])],
        1,
        &["taken", &status.listen[0]],
    );
    assert_eq!(node.client.status().await.expect("still answers").id, status.id);
}

#[test]
fn mistakes_are_named_before_anything_is_made() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("data");
    refuses(&path, &["--set", "no.such=1"], 2, &["no.such"]);
    refuses(&path, &["--set", "mdns=maybe"], 2, &["mdns", "true or false"]);
    refuses(&path, &["--set", "api.listen=0.0.0.0:0"], 1, &["token"]);
    assert!(!path.exists());
    refuses(&path, &["--join", "starling1abc"], 1, &["ticket"]);
    refuses(&path, &["--join", "/ip4/127.0.0.1/tcp/1"], 1, &["ticket"]);
    refuses(Path::new("/proc/none"), &[], 1, &["/proc/none"]);
}

#[tokio::test]
async fn a_damaged_store_is_said_to_be_so() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    Node::start(dir.path(), &[]).await.stop().await;
    let store = dir.path().join("store");
    for file in std::fs::read_dir(&store).expect("lists").map(|entry| entry.expect("an entry").path()) {
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST")) {
            std::fs::write(file, b"nonsense").expect("writes");
        }
    }
    refuses(dir.path(), &[], 1, &["damaged", "peers refill"]);
}

#[tokio::test]
async fn a_ticket_of_another_network_is_refused() {
    let (dir_a, dir_b) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let a = Node::start(dir_a.path(), &[]).await;
    Node::start(dir_b.path(), &[]).await.stop().await;
    let ticket = a.client.ticket().await.expect("a ticket").ticket;
    refuses(dir_b.path(), &["--join", &ticket], 1, &["belongs to network"]);
}
