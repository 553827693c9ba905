//! etcdctl (Debian: etcd-client), unmodified.

mod common;

use std::fmt::Write;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use common::{PATIENCE, Server, hold_against_etcd, starling};

/// One line of a transcript is a command for the shell, behind `$ `; or behind `$3 `, to be ended when it
/// has printed three lines. What it prints follows behind `| `. `$LEASE` is the lease that was named last.
struct Shell<'a> {
    server: &'a Server,
    lease: String,
}

impl Shell<'_> {
    fn replay(&mut self, transcript: &str) -> String {
        let mut heard = String::new();
        for line in transcript.lines() {
            if let Some((count, command)) = line.strip_prefix('$').and_then(|rest| rest.split_once(' ')) {
                writeln!(heard, "{line}").expect("writes to memory");
                heard.push_str(&self.run(command, count.parse().ok()));
            } else if line.is_empty() || line.starts_with('#') {
                writeln!(heard, "{line}").expect("writes to memory");
            }
        }
        heard
    }

    fn start(&self, command: &str) -> Child {
        Command::new("sh")
            .args(["-c", command])
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", &self.server.endpoint)
            .env("LEASE", &self.lease)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell")
    }

    fn run(&mut self, command: &str, lines_max: Option<usize>) -> String {
        let ended = |lines| if lines { format!("exec {command}") } else { command.to_owned() };
        let mut process = self.start(&ended(lines_max.is_some()));
        let (sender, lines) = mpsc::channel();
        let (mut stdout, mut stderr) = (process.stdout.take(), process.stderr.take());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout.take().expect("piped")).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            // Whatever came before an error counts.
            drop(stderr.take().expect("piped").read_to_string(&mut text));
            text
        });
        let mut said: Vec<String> = Vec::new();
        while lines_max.is_none_or(|max| said.len() < max) {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => said.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    drop(process.kill());
                    panic!("{command:?} hangs, and has said {said:?}");
                }
            }
        }
        if lines_max.is_some() {
            drop(process.kill());
        }
        drop(lines);
        let status = process.wait().expect("it was started");
        reader.join().expect("reads");
        let errors = errors.join().expect("reads");
        // The rest is the client's log.
        said.extend(errors.lines().filter(|line| !line.starts_with('{')).map(str::to_owned));
        if lines_max.is_none() && !status.success() {
            said.push(format!("(exit {})", status.code().unwrap_or(-1)));
        }
        self.tell(&said)
    }

    /// Without what differs from run to run: names of members and leases, terms, seconds left.
    fn tell(&mut self, said: &[String]) -> String {
        let mut text = String::new();
        for line in said {
            let names = ["\"ClusterID\"", "\"MemberID\"", "\"RaftTerm\"", "\"Term\""];
            if names.iter().any(|name| line.starts_with(name)) {
                continue;
            }
            if let Some((_, rest)) = line.split_once("lease ")
                && let Some(id) = rest.get(..16)
                && id.bytes().all(|byte| byte.is_ascii_hexdigit())
            {
                id.clone_into(&mut self.lease);
            }
            let mut line = line.clone();
            if let Ok(id) = i64::from_str_radix(&self.lease, 16) {
                line = line.replace(&self.lease, "LEASE").replace(&format!("{id:x}"), "LEASE");
                line = line.replace(&id.to_string(), "LEASE");
            }
            if let Some((before, rest)) = line.split_once("remaining(")
                && let Some((_, after)) = rest.split_once("s)")
            {
                line = format!("{before}remaining(..s){after}");
            }
            // The key of a candidate or a lock's holder ends with a lease that the server chose.
            if let Some((before, id)) = line.split_once('/')
                && id.len() > 12
                && id.bytes().all(|byte| byte.is_ascii_hexdigit())
            {
                line = format!("{before}/LEASE");
            }
            writeln!(text, "{}", format!("| {line}").trim_end()).expect("writes to memory");
        }
        text
    }
}

fn is_installed() -> bool {
    let found = Command::new("etcdctl").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        println!("etcdctl is not installed (Debian: apt-get install etcd-client): skipped");
    }
    found.is_ok()
}

fn replay(name: &str) {
    if is_installed() {
        hold_against_etcd(name, |server, transcript| {
            Shell { server, lease: String::new() }.replay(transcript)
        });
    }
}

#[test]
fn keys_and_transactions() {
    replay("keys.txt");
}

#[test]
fn watches_and_compaction() {
    replay("watches.txt");
}

#[test]
fn leases_locks_and_elections() {
    replay("leases.txt");
}

#[test]
fn the_cluster() {
    replay("cluster.txt");
}

/// What etcd answers otherwise, because it is another cluster.
#[test]
fn what_starling_says_of_itself() {
    if !is_installed() {
        return;
    }
    let server = starling();
    let mut shell = Shell { server: &server, lease: String::new() };
    let mut says = |command: &str, words: &[&str]| {
        let said = shell.run(command, None);
        for word in words {
            assert!(said.contains(word), "{command} says {said:?}, and not {word:?}");
        }
    };
    says("etcdctl member list", &["7, started, alone, , http://127.0.0.1:2379, false"]);
    says("etcdctl endpoint status", &["7, 3.5.13", "true, false, 3, 0, 0"]);
    says("etcdctl move-leader 8", &["transfer-leader"]);
    says("etcdctl member add other --peer-urls=http://127.0.0.1:1", &["starling keyspace voters"]);
    says("etcdctl snapshot save /dev/null", &["no file of etcd's"]);
    says("etcdctl user add somebody:secret", &["no users and roles"]);
}
