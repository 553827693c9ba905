//! Measures the costs of logs, elections and state machines in groups of three, without network and disk.
//!
//! `cargo bench -p starling-strong --bench group`

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads clocks")]

use std::time::{Duration, Instant};

use starling_kv::MemoryEngine;
use starling_strong::api::{Keys, Options, Put, Range, Read, Request, Write};
use starling_strong::group::{Group, GroupConfig, History, Input, KEPT_ENTRIES, Output, TIDY_PAUSE_MS};
use starling_strong::machine::Config;
use starling_strong::members::NodeKey;

/// Bytes of a value: those of the targets (etcd's `benchmark put`).
const VALUE_BYTES: usize = 100;
const MEMBERS: usize = 3;

fn main() {
    println!("{:<44} {:>10} {:>12}", "three members in one thread, memory engine", "ops/s", "CPU us/op");
    for clients in [1, 64, 256] {
        let mut net = Net::new(1);
        net.measure("put", clients, 200_000, put);
        net.measure("linearizable get", clients, 200_000, get);
    }
    let mut net = Net::new(1);
    net.measure("put, to be compacted", 64, 100_000, put);
    net.tidy();
    let mut idle = Net::new(100);
    let started = cpu();
    idle.pass(20_000);
    let share = cpu().saturating_sub(started).as_secs_f64() / 20.0 * 100.0;
    println!("100 idle groups of three: {share:.2} % of one core, frames not counted");
}

fn key(n: u64) -> Vec<u8> {
    format!("key{:08}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 100_000).into_bytes()
}

fn put(n: u64) -> Request {
    let value = Some(vec![b'v'; VALUE_BYTES]);
    Request::Write(Write::Put(Put { key: key(n), value, lease: Some(0), prev: false }))
}

fn get(n: u64) -> Request {
    Request::Read(Read::Range(Range::of(Keys::One(key(n)))))
}

fn node(at: usize) -> NodeKey {
    [at as u8 + 1; 32]
}

/// Groups whose messages arrive at once and whose disks sync at once.
struct Net {
    /// The groups, each with its members.
    groups: Vec<Vec<Group<MemoryEngine>>>,
    now_ms: u64,
    answered: u64,
}

impl Net {
    fn new(groups: usize) -> Self {
        let keys: Vec<NodeKey> = (0..MEMBERS).map(node).collect();
        let found = |group: usize, at: usize| {
            let mut id = [7; 16];
            id[..8].copy_from_slice(&(group as u64).to_le_bytes());
            let member = at as u64 + 1;
            let keyspace = String::from("bench");
            let (machine, history) = (Config::default(), History::default());
            let (node, kept_entries, in_journal) = (node(at), KEPT_ENTRIES, true);
            let config =
                GroupConfig { group: id, keyspace, node, member, machine, history, kept_entries, in_journal };
            let mut seed = [at as u8; 32];
            seed[1] = group as u8;
            Group::create(MemoryEngine::new(), config, &keys, seed, 0).expect("memory")
        };
        let groups = (0..groups).map(|group| (0..MEMBERS).map(|at| found(group, at)).collect()).collect();
        let mut net = Self { groups, now_ms: 0, answered: 0 };
        net.pass(3_000);
        net
    }

    /// Lets time pass, tick by tick.
    fn pass(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        while self.now_ms < until {
            self.now_ms += 10;
            for group in 0..self.groups.len() {
                for at in 0..MEMBERS {
                    if self.groups[group][at].poll_timeout().is_some_and(|due| due <= self.now_ms) {
                        self.groups[group][at].handle(self.now_ms, Input::Timeout);
                    }
                }
                self.drain(group);
            }
        }
    }

    fn drain(&mut self, group: usize) {
        let mut quiet = false;
        while !quiet {
            quiet = true;
            for at in 0..MEMBERS {
                while let Some(output) = self.groups[group][at].poll_output() {
                    quiet = false;
                    match output {
                        Output::Send { to, message } => {
                            let input = Input::Message { from: node(at), message };
                            self.groups[group][usize::from(to[0]) - 1].handle(self.now_ms, input);
                        }
                        Output::Sync(number) => {
                            self.groups[group][at].handle(self.now_ms, Input::Synced(number));
                        }
                        Output::Answer { result, .. } => {
                            result.expect("an answer");
                            self.answered += 1;
                        }
                        Output::Redirect { .. } => panic!("the leader was asked"),
                        _ => {}
                    }
                }
            }
        }
    }

    /// Sends requests of `clients` in rounds: each round begins when all of the previous one are answered.
    fn measure(&mut self, name: &str, clients: u64, count: u64, request: impl Fn(u64) -> Request) {
        let leader = self.groups[0].iter().position(Group::is_leader).expect("a leader");
        let (started, cpu_before, before) = (Instant::now(), cpu(), self.answered);
        for round in 0..count / clients {
            for client in 0..clients {
                let token = round * clients + client;
                let options = Options { timeout_ms: 60_000, stale: false, id: None, fence: None };
                let request = request(token);
                self.groups[0][leader].handle(self.now_ms, Input::Request { token, request, options });
            }
            self.drain(0);
        }
        let answered = self.answered - before;
        let per_second = answered as f64 / started.elapsed().as_secs_f64();
        let micros = cpu().saturating_sub(cpu_before).as_secs_f64() * 1e6 / answered as f64;
        println!("{:<44} {per_second:>10.0} {micros:>12.2}", format!("{name}, {clients} at a time"));
    }
}

impl Net {
    /// Compacts the leader's keyspace, and removes the compacted rows.
    fn tidy(&mut self) {
        let leader = self.groups[0].iter().position(Group::is_leader).expect("a leader");
        let group = &mut self.groups[0][leader];
        let revision = group.machine().revision();
        let options = Options { timeout_ms: 60_000, stale: false, id: None, fence: None };
        let request = Request::Write(Write::Compact { revision });
        group.handle(self.now_ms, Input::Request { token: 0, request, options });
        self.drain(0);
        let group = &mut self.groups[0][leader];
        let (mut portions, mut longest, started) = (0_u32, Duration::ZERO, Instant::now());
        while group.poll_work().is_some() {
            let began = Instant::now();
            group.work();
            longest = longest.max(began.elapsed());
            portions += 1;
        }
        let each = started.elapsed().as_secs_f64() * 1e3 / f64::from(portions.max(1));
        println!(
            "removing {revision} revisions: {portions} portions of {each:.2} ms (longest {:.2} ms), \
             one in {TIDY_PAUSE_MS} ms: {:.1} % of the loop",
            longest.as_secs_f64() * 1e3,
            100.0 * each / (each + TIDY_PAUSE_MS as f64),
        );
    }
}

/// CPU time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
    // utime and stime, in hundredths of a second (proc(5)).
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
