//! Nodes as processes that die with the test.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use starling_api::Client;
use starling_api::admin::{RUN_FILE, RunFile};

/// How long a state may take to come about: far longer than it does, on the slowest machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A running node. Its standard input is held open: it stops when this is dropped.
pub struct Node {
    process: Child,
    /// To its API.
    pub client: Client,
}

impl Node {
    /// Starts a node and waits until its API answers.
    pub async fn start(dir: &Path, arguments: &[&str]) -> Self {
        let process = command(dir, arguments).spawn().expect("the binary runs");
        let mut node = Self { process, client: Client::new("127.0.0.1:1", None).expect("an address") };
        node.client = eventually("the node writes its run file", async || {
            let text = std::fs::read_to_string(dir.join(RUN_FILE)).ok()?;
            let run: RunFile = serde_json::from_str(&text).expect("the run file is whole");
            let client = Client::new(&run.api, None).expect("an address");
            (run.pid == node.process.id()).then_some(client)
        })
        .await;
        node
    }

    /// Stops it politely and waits for its end.
    pub async fn stop(mut self) {
        drop(self.process.stdin.take());
        let status =
            eventually("the node ends", async || self.process.try_wait().expect("it is our child")).await;
        assert!(status.success(), "{status}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `starling up` on loopback with ports of the system's choice.
pub fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_starling"));
    command
        .args([
            "up",
            "--listen",
            "/ip4/127.0.0.1/tcp/0",
            "--api",
            "127.0.0.1:0",
            "--exit-with-parent",
            "--data-dir",
        ])
        .arg(dir)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    command
}

/// Asks until there is an answer.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
