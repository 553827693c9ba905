//! Clients that write, read and compare-and-set a few keys, and record the answers.

use std::collections::BTreeMap;

use starling_history::{Call, Op, Outcome, Register, Verdict, check_answers, check_linearizable};
use starling_strong::api::{
    Answer, Body, Compare, Failure, KeyValue, Keys, Operand, Options, Put, Range, Read, Relation, Request,
    RequestId, Txn, TxnOp, Write,
};
use starling_strong::group::{ChangeError, Input};

use super::World;

/// How long a client waits for an answer, milliseconds. Short enough that some time out at a leader that was cut off
/// and has not stepped down yet.
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
    /// When a client's next step is due.
    pub turns: BTreeMap<usize, u64>,
    /// The node that a client presumes to lead.
    hints: BTreeMap<usize, usize>,
    next: u64,
    pub keys: u8,
    history: Vec<Call>,
    /// The last known value of each key.
    last: BTreeMap<u8, u64>,
    pub acknowledged: u64,
    pub failures: BTreeMap<String, u64>,
    /// Answers that fit no request.
    pub answers: BTreeMap<u64, Result<Answer, Failure>>,
    pub changed: Vec<(u64, Result<(), ChangeError>)>,
    pub stop: bool,
}

impl Clients {
    /// The calls on the keys, including those without an answer yet.
    fn calls(&self) -> Vec<Call> {
        let doing = self.doing.iter().filter_map(|(client, doing)| Some((*client, doing.as_ref()?)));
        let open = doing.map(|(client, doing)| call(client, doing.op.clone(), doing.start, Outcome::Unknown));
        self.history.iter().cloned().chain(open).collect()
    }
}

fn call(client: usize, op: Op, start: u64, outcome: Outcome) -> Call {
    Call { client: client as u32, op, start, outcome }
}

impl World {
    /// Every key's history is linearizable, and every answer agrees with what happened.
    pub fn assert_linearizable(&self) {
        let calls = self.clients.calls();
        match check_linearizable(&calls) {
            Verdict::Linearizable { .. } => {}
            Verdict::Violated(calls) => {
                let lines: Vec<_> = calls.iter().map(ToString::to_string).collect();
                panic!("not linearizable:\n{}", lines.join("\n"));
            }
            Verdict::Undecided { calls } => panic!("whether {calls} calls are linearizable is not decided"),
        }
        let key = |key: &[u8]| <[u8; 1]>::try_from(key).ok().map(|[key]| Register::from(key));
        check_answers(&calls, &self.log, key).unwrap_or_else(|violation| panic!("{violation}"));
    }

    pub fn is_linearizable(&self) -> bool {
        matches!(check_linearizable(&self.clients.calls()), Verdict::Linearizable { .. })
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
    let from = world.clients.last.get(&key).copied().unwrap_or_default();
    let (op, request) = match kind {
        0 => (Op::write(key.into(), value), Request::Write(Write::Put(put(key, value)))),
        1 => (Op::read(key.into(), 0), Request::Read(Read::Range(get(key)))),
        _ => (Op::swap(key.into(), from, value), Request::Write(Write::Txn(cas(key, from, value)))),
    };
    // The client's own name for the write: sent again, it is applied once. Some have none, and are sent
    // once.
    let id = RequestId { client: RequestId::draw(1, client as u128 + 1), seq: value, answered_below: 0 };
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

/// The value that a read of one key has found; 0: none.
pub fn found(answer: &Answer) -> u64 {
    let Body::Range(found) = &answer.body else { panic!("no answer to a read: {answer:?}") };
    value(found.kvs.first())
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
    // Some send to a random node, perhaps to a former leader.
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
    // There may never be an answer, because the node may crash.
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
        Ok(answer) => {
            let answer = answered(world, client, &answer);
            end(world, client, answer);
        }
        Err(failure) => {
            let is_nameless =
                |doing: &Doing| doing.options.id.is_none() && matches!(doing.request, Request::Write(_));
            if world.clients.doing[&client].as_ref().is_some_and(is_nameless) {
                let changed_nothing =
                    matches!(failure, Failure::Timeout(_) | Failure::NoMajority { .. } | Failure::Overloaded);
                let outcome = if changed_nothing { Outcome::Failed } else { Outcome::Unknown };
                return end(world, client, Some((None, outcome)));
            }
            // The same write under the same name: it may be in the log, and is applied once.
            *world.clients.failures.entry(format!("{failure:?}")).or_default() += 1;
            let after = 20 + world.below(100);
            world.schedule_client(after, client);
        }
    }
}

/// What a client was answered to what it is doing: what was done after all, if it was something else.
fn answered(world: &World, client: usize, answer: &Answer) -> Option<(Option<Op>, Outcome)> {
    let doing = world.clients.doing.get(&client)?.as_ref()?;
    let key = doing.key.into();
    let op = match &answer.body {
        Body::Range(found) => Some(Op::read(key, value(found.kvs.first()))),
        Body::Txn { succeeded: false, bodies } => match bodies.first() {
            Some(Body::Range(found)) => Some(Op::read(key, value(found.kvs.first()))),
            other => panic!("not what the transaction reads: {other:?}"),
        },
        _ => None,
    };
    Some((op, Outcome::Answered { end: world.now_ms, revision: answer.revision }))
}

/// Ends a client's call; without an answer if it has timed out.
fn end(world: &mut World, client: usize, answer: Option<(Option<Op>, Outcome)>) {
    let Some(Some(doing)) = world.clients.doing.insert(client, None) else { return };
    let (op, outcome) = answer.unwrap_or((None, Outcome::Unknown));
    let op = op.unwrap_or(doing.op);
    if let Some((_, value)) = op.written.first().or(op.seen.first()) {
        world.clients.last.insert(doing.key, *value);
    }
    world.clients.acknowledged += u64::from(matches!(outcome, Outcome::Answered { .. }));
    world.clients.history.push(call(client, op, doing.start, outcome));
    let after = 1 + world.below(100);
    world.schedule_client(after, client);
}
