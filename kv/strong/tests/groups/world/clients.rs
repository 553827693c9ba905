//! Clients that write, read and compare-and-set a few keys, and remember what they were told.

use std::collections::BTreeMap;

use starling_strong::api::{
    Answer, Body, Compare, Failure, KeyValue, Keys, Operand, Options, Put, Range, Read, Relation, Request,
    RequestId, Txn, TxnOp, Write,
};
use starling_strong::group::{ChangeError, Input};

use super::World;
use super::linear::{Call, Op, is_linearizable};

/// How long a client waits for an answer before it gives up: some do so while a leader that was cut off
/// still believes to lead.
fn patience_ms(client: usize) -> u64 {
    if client.is_multiple_of(2) { 500 } else { 3_000 }
}

/// What one client is doing.
#[derive(Clone)]
struct Doing {
    token: u64,
    key: u8,
    op: Op,
    start: u64,
    tries: u32,
    request: Request,
    options: Options,
}

#[derive(Default)]
pub struct Clients {
    doing: BTreeMap<usize, Option<Doing>>,
    /// When it is a client's turn.
    pub turns: BTreeMap<usize, u64>,
    /// Where a client thinks the leader is.
    hints: BTreeMap<usize, usize>,
    next: u64,
    pub keys: u8,
    pub history: BTreeMap<u8, Vec<Call>>,
    pub acknowledged: u64,
    pub failures: BTreeMap<String, u64>,
    /// What nobody of them had asked for.
    pub answers: BTreeMap<u64, Result<Answer, Failure>>,
    pub changed: Vec<(u64, Result<(), ChangeError>)>,
    pub stop: bool,
}

impl Clients {
    /// What was done to each key, also what has not been answered yet.
    fn calls(&self) -> BTreeMap<u8, Vec<Call>> {
        let mut calls = self.history.clone();
        for doing in self.doing.values().flatten() {
            let call = Call { op: doing.op, start: doing.start, end: None };
            calls.entry(doing.key).or_default().push(call);
        }
        calls
    }

    /// Every key's history is linearizable.
    pub fn assert_linearizable(&self) {
        for (key, calls) in self.calls() {
            assert!(is_linearizable(&calls), "key {key} is not linearizable: {calls:#?}");
        }
    }

    pub fn is_linearizable(&self) -> bool {
        self.calls().values().all(|calls| is_linearizable(calls))
    }
}

/// `count` clients on `keys` keys begin.
pub fn begin(world: &mut World, count: usize, keys: u8) {
    world.clients.keys = keys;
    world.clients.stop = false;
    for client in 0..count {
        world.clients.doing.insert(client, None);
        let after = world.below(50);
        world.schedule_client(after, client);
    }
}

/// The client's turn: it has nothing to do, or has waited too long, or tries again.
pub fn act(world: &mut World, client: usize) {
    let now = world.now_ms;
    match world.clients.doing.get(&client).cloned().flatten() {
        None if world.clients.stop => {}
        None => {
            let doing = draw(world, client);
            world.clients.doing.insert(client, Some(doing));
            send(world, client);
        }
        Some(doing) if now >= doing.start + patience_ms(client) => end(world, client, None),
        Some(_) => send(world, client),
    }
}

fn draw(world: &mut World, client: usize) -> Doing {
    world.clients.next += 1;
    let value = world.clients.next;
    let key = world.below(u64::from(world.clients.keys)) as u8;
    let kind = world.below(3);
    let last = world.clients.history.get(&key).and_then(|calls| {
        calls.last().map(|call| match call.op {
            Op::Write(value) | Op::Read(value) | Op::Cas(_, value) => value,
        })
    });
    let from = last.unwrap_or(0);
    let (op, request) = match kind {
        0 => (Op::Write(value), Request::Write(Write::Put(put(key, value)))),
        1 => (Op::Read(0), Request::Read(Read::Range(get(key)))),
        _ => (Op::Cas(from, value), Request::Write(Write::Txn(cas(key, from, value)))),
    };
    // The client's own name for the write: sent again, it is applied once. Some have none, and are sent
    // once.
    let id = RequestId { client: client as u128 + 1, seq: value, answered_below: 0 };
    let is_named = matches!(request, Request::Write(_)) && !value.is_multiple_of(4);
    let id = is_named.then_some(id);
    let options = Options { timeout_ms: patience_ms(client), stale: false, id, fence: None };
    Doing { token: 0, key, op, start: world.now_ms, tries: 0, request, options }
}

pub fn put(key: u8, value: u64) -> Put {
    let value = Some(value.to_string().into_bytes());
    Put { key: vec![key], value, lease: Some(0), prev: false }
}

pub fn get(key: u8) -> Range {
    Range::of(Keys::One(vec![key]))
}

pub fn cas(key: u8, from: u64, to: u64) -> Txn {
    let operand = if from == 0 { Operand::Version(0) } else { Operand::Value(from.to_string().into_bytes()) };
    let compare = Compare { keys: Keys::One(vec![key]), is: Relation::Equal, to: operand };
    Txn {
        compare: vec![compare],
        then: vec![TxnOp::Put(put(key, to))],
        otherwise: vec![TxnOp::Range(get(key))],
    }
}

fn value(kv: Option<&KeyValue>) -> u64 {
    let text = kv.map(|kv| String::from_utf8_lossy(&kv.value).into_owned());
    text.map_or(0, |text| text.parse().expect("a number"))
}

fn send(world: &mut World, client: usize) {
    let up: Vec<usize> = (0..world.nodes.len()).filter(|node| world.is_up(*node)).collect();
    if up.is_empty() {
        world.schedule_client(100, client);
        return;
    }
    let any = up[world.below(up.len() as u64) as usize];
    // Some ask where nobody told them to: perhaps one that does not lead any more.
    let hint =
        world.clients.hints.remove(&client).filter(|hint| up.contains(hint) && !client.is_multiple_of(3));
    let node = hint.unwrap_or(any);
    world.clients.next += 1;
    let token = world.clients.next;
    let Some(Some(doing)) = world.clients.doing.get_mut(&client) else { return };
    doing.token = token;
    doing.tries += 1;
    let left = (doing.start + patience_ms(client)).saturating_sub(world.now_ms);
    let mut options = doing.options.clone();
    options.timeout_ms = left;
    let request = doing.request.clone();
    // Nobody may ever answer: the node may die.
    world.schedule_client(left + 1, client);
    world.feed(node, Input::Request { token, request, options });
}

fn asked(world: &World, token: u64) -> Option<usize> {
    let is_it = |doing: &Option<Doing>| doing.as_ref().is_some_and(|doing| doing.token == token);
    world.clients.doing.iter().find(|(_, doing)| is_it(doing)).map(|(client, _)| *client)
}

pub fn on_redirect(world: &mut World, token: u64, leader: Option<usize>) {
    let Some(client) = asked(world, token) else { return };
    if let Some(leader) = leader {
        world.clients.hints.insert(client, leader);
    }
    let after = 5 + world.below(50);
    world.schedule_client(after, client);
}

pub fn on_answer(world: &mut World, token: u64, result: Result<Answer, Failure>) {
    let Some(client) = asked(world, token) else {
        world.clients.answers.insert(token, result);
        return;
    };
    match result {
        Ok(answer) => end(world, client, Some(&answer.body)),
        Err(failure) => {
            let is_nameless =
                |doing: &Doing| doing.options.id.is_none() && matches!(doing.request, Request::Write(_));
            if world.clients.doing[&client].as_ref().is_some_and(is_nameless) {
                return end(world, client, None);
            }
            // The same write under the same name: it may be in the log, and is applied once.
            *world.clients.failures.entry(format!("{failure:?}")).or_default() += 1;
            let after = 20 + world.below(100);
            world.schedule_client(after, client);
        }
    }
}

fn end(world: &mut World, client: usize, body: Option<&Body>) {
    let Some(Some(doing)) = world.clients.doing.insert(client, None) else { return };
    let op = match (&doing.op, body) {
        (Op::Read(_), Some(Body::Range(found))) => Op::Read(value(found.kvs.first())),
        (Op::Cas(..), Some(Body::Txn { succeeded: false, bodies })) => match bodies.first() {
            Some(Body::Range(found)) => Op::Read(value(found.kvs.first())),
            other => panic!("not what the transaction reads: {other:?}"),
        },
        (op, _) => *op,
    };
    let end = body.is_some().then_some(world.now_ms);
    world.clients.acknowledged += u64::from(end.is_some());
    let call = Call { op, start: doing.start, end };
    world.clients.history.entry(doing.key).or_default().push(call);
    let after = 1 + world.below(100);
    world.schedule_client(after, client);
}
