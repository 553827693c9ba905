//! What an operator does: look, configure, stop, and read what went wrong.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use starling_api::admin::{Doctor, Nodes, Peers, Status};
use starling_bootstrap::Ticket;
use starling_tests::{DEADLINE, Node, Running, command, pair, run, wait_until};

#[tokio::test]
async fn the_node_is_shown_for_people_and_for_programs() {
    let (a, b) = pair().await;
    a.run(["put", "k", "v"]).ok();
    let status: Status = a.run(["--output", "json", "status"]).json();
    assert_eq!((status.name.as_str(), status.role.as_str(), status.entries), ("a", "replica", 1));
    assert!(a.run(["status"]).ok().contains(&status.id));
    let peers: Peers = a.run(["--output", "json", "peers"]).json();
    assert!(peers.peers.iter().any(|peer| peer.id == b.id() && peer.connected), "{peers:?}");
    assert!(a.run(["peers"]).ok().contains("active"));
    let doctor: Doctor = a.run(["--output", "json", "doctor"]).json();
    assert!(doctor.healthy && doctor.findings.is_empty(), "{doctor:?}");
    assert!(a.run(["doctor"]).ok().contains("healthy"));
    let printed: Ticket = a.run(["ticket"]).ok().parse().expect("a ticket");
    let ticket = a.ticket().await;
    assert_eq!((printed.network, printed.addresses), (ticket.network, ticket.addresses));
    let nodes: Nodes = a.run(["--output", "json", "nodes"]).json();
    assert_eq!(nodes.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(a.run(["nodes"]).ok().contains(&b.id()[..8]));
    let graph = a.run(["nodes", "--dot"]).ok();
    assert!(graph.starts_with("graph") && graph.contains(" -- "), "{graph}");
}

#[tokio::test]
async fn settings_come_from_file_environment_and_flags_in_this_order() {
    let node = Node::up("node").set("sync.interval_ms", "7000").started().await;
    let settings: Value = node.run(["--output", "json", "config", "--running"]).json();
    let setting = |key: &str| {
        let found =
            settings["settings"].as_array().into_iter().flatten().find(|setting| setting["key"] == key);
        found.unwrap_or_else(|| panic!("{key} is missing")).clone()
    };
    assert_eq!(setting("sync.interval_ms")["value"], "7000");
    assert_eq!(setting("name")["source"], "flag --name");
    assert_eq!(setting("durability")["source"], "default");

    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("starling.toml");
    std::fs::write(&file, "name = \"from the file\"\n[detector]\ndetect_ms = 10000\n").expect("our file");
    let data_dir = dir.path().display().to_string();
    let shown = run(["config", "--data-dir", &data_dir, "--name", "from the flag"], b"").ok();
    assert!(shown.contains("from the flag") && !shown.contains("from the file"), "{shown}");
    assert!(
        shown.lines().any(|line| line.contains("detector.detect_ms") && line.contains("10000")),
        "{shown}"
    );

    std::fs::write(&file, "[detector]\ndetect = 1\n").expect("our file");
    run(["config", "--data-dir", &data_dir], b"").exits(2).says("detector.detect");
    std::fs::write(&file, "name = ").expect("our file");
    run(["config", "--data-dir", &data_dir], b"").exits(2).says("starling.toml");
    run(["config", "--set", "durability=sometimes"], b"").exits(2).says("durability");
    let reference = run(["config", "--reference"], b"").ok();
    assert!(reference.contains("STARLING_SYNC_INTERVAL_MS"), "{reference}");
}

#[tokio::test]
async fn a_node_ends_when_it_is_told_to() {
    let mut node = Node::up("node").started().await;
    node.stop().await;
    assert!(!node.data_dir().join("run.json").exists(), "a clean stop removes it");
    node.start().await;
    node.signal(Signal::INT);
    assert!(node.ended().await.success());
    node.start().await;
    node.close_input();
    assert!(node.ended().await.success(), "whoever started it is gone");
}

#[tokio::test]
async fn what_is_secret_is_kept_from_others() {
    use std::os::unix::fs::PermissionsExt;
    let node = Node::up("node").started().await;
    for file in ["identity", "network"] {
        let mode = std::fs::metadata(node.data_dir().join(file)).expect("it exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let log = node.log();
    assert!(log.contains("--join starling2"), "the first run shows the ticket: {log}");
}

#[tokio::test]
async fn a_second_run_keeps_name_and_data_and_is_brief() {
    let mut node = Node::up("node").started().await;
    let (id, ticket) = (node.id().to_owned(), node.ticket().await);
    node.run(["put", "k", "v"]).ok();
    let root = node.status().await.root;
    node.stop().await;
    let said = node.log().len();
    node.start().await;
    assert_eq!(node.id(), id);
    assert_eq!(node.ticket().await.network, ticket.network);
    assert_eq!(node.run(["get", "k"]).ok(), "v");
    wait_until("the fingerprints are back", async || match node.status().await.root {
        found if found == root => Ok(()),
        found => Err(format!("{found:?}, and it was {root:?}")),
    })
    .await;
    assert!(!node.log()[said..].contains("starling2"), "a later run does not show the ticket");
}

#[tokio::test]
async fn what_needs_no_node_works_without_one() {
    assert!(run(["version"], b"").ok().starts_with("starling "));
    assert!(run(["--help"], b"").ok().contains("Exit codes"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(["completions", shell], b"").ok().contains("smembers"), "{shell}");
    }
}

#[test]
fn the_environment_may_hold_anything() {
    let not_text = OsStr::from_bytes(b"\xff");
    let output = |name: &str, value: &OsStr, args: &[&str]| {
        command().env(name, value).args(args).output().expect("the binary runs")
    };
    assert!(output("LS_COLORS", not_text, &["config"]).status.success());
    for (name, args) in [("STARLING_NAME", &["config"][..]), ("STARLING_API", &["status"])] {
        let failed = output(name, not_text, args);
        assert_eq!(failed.status.code(), Some(2), "{failed:?}");
        assert!(String::from_utf8_lossy(&failed.stderr).contains(name), "{failed:?}");
    }
    let misspelt = output("STARLING_KEYSPCE", OsStr::new("orders"), &["version"]);
    let warning = String::from_utf8_lossy(&misspelt.stderr);
    assert!(misspelt.status.success() && warning.contains("STARLING_KEYSPACE"), "{warning}");
}

/// A node that the test's own command line starts.
fn node_command(data_dir: &std::path::Path) -> Command {
    let mut node = command();
    node.args(["up", "--exit-with-parent", "--listen", "/ip4/127.0.0.1/tcp/0", "--api", "127.0.0.1:0"]);
    node.arg("--data-dir").arg(data_dir);
    node
}

#[tokio::test]
async fn a_service_manager_is_notified() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let socket = dir.path().join("notify");
    let manager = UnixDatagram::bind(&socket).expect("binds");
    manager.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let mut node = node_command(&dir.path().join("data"));
    node.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "200000");
    let mut node = Running::start(node);
    let next = || {
        let mut message = [0; 64];
        let length = manager.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    assert_eq!(next(), "READY=1");
    assert_eq!(next(), "WATCHDOG=1");
    // Nothing is reloaded yet, and the node goes on.
    node.signal(Signal::HUP);
    for _ in 0..4 {
        assert_eq!(next(), "WATCHDOG=1");
    }
    assert!(node.runs());
    node.signal(Signal::TERM);
    let last = std::iter::repeat_with(next).find(|message| message != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
    assert_eq!(node.ended().await.code, 0);
}

fn full() -> File {
    File::options().write(true).open("/dev/full").expect("every Linux has it")
}

#[tokio::test]
async fn output_that_nobody_can_take_is_no_panic() {
    let node = Node::up("node").started().await;
    node.run(["keyspace", "create", "orders", "--strong", "--voters", "1"]).ok();
    node.run(["put", "k", "v"]).ok();
    for args in [&["get", "k"][..], &["ls", "-v"], &["status"], &["export"], &["completions", "bash"]] {
        let mut command = command();
        let output = command.args(["--api", node.api()]).args(args).stdout(full()).output();
        let output = output.expect("the binary runs");
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
    }
    let mut lock = command();
    lock.args(["--api", node.api(), "-k", "orders", "lock", "job", "--", "sleep", "60"]).stderr(full());
    let mut lock = lock.stdin(Stdio::piped()).spawn().expect("the binary runs");
    let key = wait_until("the lock is held", async || {
        let key = node.run(["-k", "orders", "--output", "raw", "lock", "ls"]).ok();
        if key.is_empty() { Err("nobody holds it".to_owned()) } else { Ok(key) }
    })
    .await;
    node.run(["-k", "orders", "del", &key]).ok();
    let status = wait_until("the lock ends", async || {
        lock.try_wait().expect("our child").ok_or_else(|| "it runs".to_owned())
    })
    .await;
    assert_eq!(status.code(), Some(7));
}

#[tokio::test]
async fn a_node_whose_log_is_full_goes_on() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    // Every line of a debug log fails.
    let mut node = node_command(&data);
    node.args(["--log", "debug"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(full());
    let mut node = node.spawn().expect("the binary runs");
    let api = wait_until("the node runs", async || {
        let run = std::fs::read(data.join("run.json")).map_err(|error| error.to_string())?;
        let run: Value = serde_json::from_slice(&run).map_err(|error| error.to_string())?;
        Ok(run["api"].as_str().unwrap_or_default().to_owned())
    })
    .await;
    run(["--api", &api, "put", "k", "v"], b"").ok();
    run(["--api", &api, "leave"], b"").ok();
    let status = wait_until("the node stops", async || {
        node.try_wait().expect("our child").ok_or_else(|| "it runs".to_owned())
    })
    .await;
    assert!(status.success(), "{status}");
}

/// The output of a command on a terminal of no size, as a program's pseudo-terminal has, standard error with it.
fn at_terminal(node: &Node, args: &str) -> String {
    let line = format!("{} --api {} {args}", command().get_program().display(), node.api());
    let mut script = Command::new("script");
    let output = script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output();
    String::from_utf8_lossy(&output.expect("`script` is in every Debian (bsdutils)").stdout).replace('\r', "")
}

#[tokio::test]
async fn a_person_at_a_terminal_sees_tables_and_what_a_command_waits_for() {
    let node = Node::up("node").started().await;
    let nodes = at_terminal(&node, "nodes");
    assert!(nodes.starts_with("ID        NAME"), "one line for each row: {nodes:?}");
    assert!(!nodes.contains("note:"), "nothing was waited for: {nodes:?}");
    node.signal(Signal::STOP);
    let waited = at_terminal(&node, "--timeout 3s status");
    assert!(waited.contains(&format!("note: waiting for http://{}, up to 3 s", node.api())), "{waited:?}");
    node.run(["--timeout", "3s", "status"]).exits(5);
    node.signal(Signal::CONT);
}

#[tokio::test]
async fn a_person_at_a_terminal_sees_that_a_recovery_waits_for_other_nodes() {
    let (a, b) = pair().await;
    a.run(["keyspace", "create", "orders", "--strong", "--on", "a"]).ok();
    b.signal(Signal::STOP);
    for args in ["keyspace replicas orders", "keyspace recover orders --force-new-group"] {
        let waited = at_terminal(&a, args);
        assert!(waited.contains(&format!("note: waiting for http://{}", a.api())), "{args}: {waited:?}");
    }
    b.signal(Signal::CONT);
}
