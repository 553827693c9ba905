//! How many requests a command sends to its node.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::command::{Answer, run};
use crate::node::Node;

/// The end of every request line.
const PATTERN: &[u8] = b" HTTP/1.1\r\n";

/// A relay before a node's API. Counts the HTTP requests that pass. Its threads end with the test's process.
pub struct Requests {
    address: String,
    count: Arc<AtomicU64>,
}

impl Requests {
    /// Before this node's API.
    pub fn of(node: &Node) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound").to_string();
        let api = node.api().trim_start_matches("http://").to_owned();
        let count = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&count);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&api) else { continue };
                relay(client, server, &counter);
            }
        });
        Self { address, count }
    }

    /// Runs a command through the relay, and says how many requests it sent.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> (Answer, u64) {
        let before = self.count.load(Ordering::SeqCst);
        let mut all: Vec<OsString> = vec!["--api".into(), OsString::from(&self.address)];
        all.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        (run(all, b""), self.count.load(Ordering::SeqCst) - before)
    }
}

fn relay(client: TcpStream, server: TcpStream, counter: &Arc<AtomicU64>) {
    let (to_client, to_server) = (client.try_clone(), server.try_clone());
    let counter = Arc::clone(counter);
    if let (Ok(to_client), Ok(to_server)) = (to_client, to_server) {
        let mut rest = Vec::new();
        let count = move |bytes: &[u8]| {
            rest.extend_from_slice(bytes);
            let found = rest.windows(PATTERN.len()).filter(|window| *window == PATTERN).count();
            counter.fetch_add(found as u64, Ordering::SeqCst);
            rest.drain(..rest.len().saturating_sub(PATTERN.len() - 1));
        };
        thread::spawn(move || copy(client, to_server, count));
        thread::spawn(move || copy(server, to_client, |_| ()));
    }
}

/// Copies until either side ends. Bytes are counted before they are passed on, so before there is an answer.
fn copy(mut from: TcpStream, mut to: TcpStream, mut count: impl FnMut(&[u8])) {
    let mut buffer = [0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        count(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // The other side is gone already, or learns of it now.
    let _ = to.shutdown(std::net::Shutdown::Both);
}
