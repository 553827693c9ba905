//! Servers for the tests, and transcripts of their answers. A transcript is recorded from etcd, and
//! Starling has to give the same answers. Where etcd is installed (Debian: etcd-server), it is compared too.
#![allow(dead_code, reason = "each test uses a part")]

#[path = "../../examples/memory/backend.rs"]
mod backend;

use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use starling_listener::{Reach, Socket, Stop};
use starling_service::StrongKeyspace;
use tempfile::TempDir;

/// How long a step may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server that speaks etcd v3. It ends with the test.
pub struct Server {
    pub endpoint: String,
    process: Option<(Child, TempDir)>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((process, _)) = &mut self.process {
            // The process may have ended already.
            drop(process.kill());
            drop(process.wait());
        }
    }
}

/// The etcd server over a keyspace in memory.
pub fn starling() -> Server {
    starling_with(usize::MAX)
}

/// The same with this many places for connections.
pub fn starling_with(connections_max: usize) -> Server {
    let (bound, address) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut socket = Socket::bind("127.0.0.1:0", Reach::Loopback).expect("a port");
            socket.limit(connections_max);
            bound.send(socket.address()).expect("the test waits");
            let (calls, taken) = tokio::sync::mpsc::channel(1024);
            // Lives as long as the test's process.
            let (_stop, stop) = Stop::channel();
            let keyspace = StrongKeyspace::new(backend::KEYSPACE, backend::NODE, calls);
            let server = starling_etcd::serve(socket, keyspace, None, stop);
            let (ended, ()) = tokio::join!(server, backend::Backend::run(taken));
            ended.expect("serves");
        });
    });
    let address: SocketAddr = address.recv().expect("the server listens");
    Server { endpoint: address.to_string(), process: None }
}

/// A fresh etcd, where one is installed.
pub fn etcd() -> Option<Server> {
    let folder = tempfile::tempdir().expect("a folder");
    let (client, peer) = (free_port(), free_port());
    let client_url = format!("http://127.0.0.1:{client}");
    let peer_url = format!("http://127.0.0.1:{peer}");
    let mut process = Command::new("etcd")
        .args(["--data-dir", path(folder.path()), "--logger", "zap"])
        .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
        .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
        .args(["--initial-cluster", &format!("default={peer_url}")])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let log = process.stderr.take().expect("piped");
    let (ready, is_ready) = mpsc::channel();
    // Reads to the end, so that etcd never blocks on its output.
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            if line.contains("serving client traffic") || line.contains("serving insecure client requests") {
                // Later lines may come after the test.
                ready.send(()).ok();
            }
        }
    });
    let server = Server { endpoint: format!("127.0.0.1:{client}"), process: Some((process, folder)) };
    is_ready.recv_timeout(PATIENCE).expect("etcd says that it is ready");
    Some(server)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a text")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Holds what `ask` hears from Starling against the transcript, and the transcript against etcd.
/// `ask` is given the transcript too. `STARLING_UPDATE_GOLDEN=1` writes it anew, from etcd.
pub fn hold_against_etcd(name: &str, ask: impl Fn(&Server, &str) -> String) {
    let path = PathBuf::from("tests/transcripts").join(name);
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    match etcd() {
        Some(etcd) => {
            let heard = ask(&etcd, &read());
            if std::env::var_os("STARLING_UPDATE_GOLDEN").is_some() {
                std::fs::write(&path, heard).expect("writes");
            } else {
                same("etcd", &heard, &read());
            }
        }
        None => println!("etcd is not installed: {name} was not asked of it anew"),
    }
    same("Starling", &ask(&starling(), &read()), &read());
}

fn same(who: &str, heard: &str, transcript: &str) {
    if heard == transcript {
        return;
    }
    let (mut heard, mut expected) = (heard.lines(), transcript.lines());
    let mut before = Vec::new();
    loop {
        let (said, wanted) = (heard.next(), expected.next());
        assert!(
            said == wanted,
            "{who} says\n  {}\nwhere the transcript has\n  {}\nafter\n{}",
            said.unwrap_or("nothing more"),
            wanted.unwrap_or("nothing more"),
            before.split_off(before.len().saturating_sub(12)).join("\n"),
        );
        before.extend(said);
    }
}

/// Takes names of clusters, members and terms out, and writes bytes as text.
pub fn scrub(debug: &str) -> String {
    let mut text = debug.to_owned();
    for name in ["cluster_id", "member_id", "raft_term"] {
        while let Some(at) = text.find(&format!("{name}: ")) {
            let rest = &text[at + name.len() + 2..];
            let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
            let comma = if rest[digits..].starts_with(", ") { 2 } else { 0 };
            text.replace_range(at..at + name.len() + 2 + digits + comma, "");
        }
    }
    let mut scrubbed = String::new();
    let mut rest = text.as_str();
    while let Some((before, inside)) = rest.split_once('[') {
        let (list, after) = inside.split_once(']').unwrap_or((inside, ""));
        let bytes: Option<Vec<u8>> = list.split(", ").map(|byte| byte.parse().ok()).collect();
        let bytes = bytes.filter(|bytes| bytes.iter().all(u8::is_ascii_graphic));
        scrubbed.push_str(before);
        let Some(bytes) = bytes.and_then(|bytes| String::from_utf8(bytes).ok()) else {
            scrubbed.push('[');
            rest = inside;
            continue;
        };
        write!(scrubbed, "{bytes:?}").expect("writes to memory");
        rest = after;
    }
    scrubbed + rest
}
