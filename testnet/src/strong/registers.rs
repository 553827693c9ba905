//! Clients of registers: they write, read, compare, delete, and change two keys in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::RngExt;
use starling_api::strong::{
    Body, Compare, Delete, Found, KeyValue, Keys, Operand, Put, Range, Relation, Request, StrongAnswer, Txn,
    TxnOp, Write,
};
use starling_history::{Call, Op, Outcome, Register};
use tokio::time::sleep;

use super::asking::{Asked, Asker, Fate, Manner};

/// Registers; each of the second half is changed together with its neighbour too.
const REGISTERS: Register = 8;
/// Pause between two operations of a client, at most.
const PAUSE_MS: u64 = 40;
/// Values of one client, at most: they are told apart by it.
const VALUES: u64 = 1 << 32;

/// The key of a register.
fn key(register: Register) -> Vec<u8> {
    format!("r{register}").into()
}

/// The register of a key, if it is one.
pub fn register(key: &[u8]) -> Option<Register> {
    std::str::from_utf8(key).ok()?.strip_prefix('r')?.parse().ok()
}

/// One client with all that it did.
pub struct RegisterClient {
    number: u32,
    asker: Asker,
    values: u64,
    /// What a register held when this client last heard of it, and since which revision.
    known: BTreeMap<Register, (u64, u64)>,
    calls: Vec<Call>,
}

/// What is done, and what it is sent as.
struct Drawn {
    kind: &'static str,
    manner: Manner,
    /// What it does if it is done and nobody says more.
    op: Op,
    request: Request,
}

impl RegisterClient {
    /// Nobody else has its number.
    pub fn new(number: u32, asker: Asker) -> Self {
        Self { number, asker, values: 0, known: BTreeMap::new(), calls: Vec::new() }
    }

    /// Goes on until it is told to stop; returns all that it did.
    pub async fn run(mut self, stop: Arc<AtomicBool>) -> Vec<Call> {
        while !stop.load(Ordering::Relaxed) {
            let Drawn { kind, manner, op, request } = self.draw();
            let Asked { start, end, fate } = self.asker.ask(kind, manner, request, None).await;
            let (op, outcome) = match fate {
                Fate::Done(answer) => {
                    let revision = answer.revision;
                    (self.understand(&op, &answer), Outcome::Answered { end, revision })
                }
                Fate::Failed => (op, Outcome::Failed),
                Fate::Unknown => (op, Outcome::Unknown),
                Fate::Refused(body) => {
                    self.asker.tally.note(format!("{kind} was refused: {body}"));
                    (op, Outcome::Unknown)
                }
            };
            // A read without an answer says nothing.
            if matches!(outcome, Outcome::Answered { .. }) || !op.written.is_empty() {
                self.calls.push(Call { client: self.number, op, start, outcome });
            }
            let pause = self.asker.random.random_range(0..=PAUSE_MS);
            sleep(Duration::from_millis(pause)).await;
        }
        self.calls
    }

    fn value(&mut self) -> u64 {
        self.values += 1;
        u64::from(self.number) * VALUES + self.values
    }

    fn draw(&mut self) -> Drawn {
        let random = &mut self.asker.random;
        let register = random.random_range(0..REGISTERS);
        let pair = [REGISTERS / 2, REGISTERS / 2 + 2][random.random_range(0..2)];
        let manner = if random.random_ratio(1, 4) { Manner::Once } else { Manner::Named };
        let kind = random.random_range(0..16);
        let prev = kind == 1;
        match kind {
            0..=3 => {
                let value = self.value();
                let (kind, op) = ("put", Op::write(register, value));
                Drawn { kind, manner, op, request: Write::Put(put(register, value, prev)).into() }
            }
            4..=7 => self.compare_and_set(register, manner),
            8 => {
                let delete = Delete { keys: Keys::One(key(register)), prev: true };
                let op = Op::write(register, 0);
                Drawn { kind: "delete", manner, op, request: Write::Delete(delete).into() }
            }
            9..=10 => {
                let (one, two) = (self.value(), self.value());
                let written = vec![(pair, one), (pair + 1, two)];
                let puts = written.iter().map(|(register, value)| TxnOp::Put(put(*register, *value, false)));
                let then = [get(pair), get(pair + 1)].map(TxnOp::Range).into_iter().chain(puts).collect();
                let request = Request::txn(Txn { then, ..Txn::default() });
                Drawn { kind: "txn over two keys", manner, op: Op { seen: Vec::new(), written }, request }
            }
            11 => {
                let then = [get(pair), get(pair + 1)].map(TxnOp::Range).into();
                let op = Op { seen: vec![(pair, 0), (pair + 1, 0)], written: Vec::new() };
                let request = Request::txn(Txn { then, ..Txn::default() });
                Drawn { kind: "read of two keys", manner: Manner::Repeated, op, request }
            }
            _ => {
                let (op, request) = (Op::read(register, 0), get(register).into());
                Drawn { kind: "get", manner: Manner::Repeated, op, request }
            }
        }
    }

    /// By the value or by the revision that this client knows.
    fn compare_and_set(&mut self, register: Register, manner: Manner) -> Drawn {
        let (from, revision) = self.known.get(&register).copied().unwrap_or_default();
        let to = self.value();
        let by_value = from != 0 && self.asker.random.random_ratio(1, 2);
        let operand =
            if by_value { Operand::Value(from.to_string().into()) } else { Operand::ModRevision(revision) };
        let compare = Compare { keys: Keys::One(key(register)), is: Relation::Equal, to: operand };
        let txn = Txn {
            compare: vec![compare],
            then: vec![TxnOp::Put(put(register, to, false))],
            otherwise: vec![TxnOp::Range(get(register))],
        };
        let op = Op::swap(register, from, to);
        Drawn { kind: "compare-and-set", manner, op, request: Request::txn(txn) }
    }

    /// What was done, as the answer says.
    fn understand(&mut self, op: &Op, answer: &StrongAnswer) -> Op {
        let op = match &answer.body {
            Body::Range(found) => self.seen(op, &[found]).map(|seen| Op { seen, ..op.clone() }),
            Body::Put { prev: Some(prev) } => {
                number_of(prev).map(|seen| Op { seen: seen_of(op, seen), ..op.clone() })
            }
            Body::Put { prev: None } => Some(op.clone()),
            Body::Delete { deleted: 0, .. } => Some(Op { seen: seen_of(op, 0), written: Vec::new() }),
            Body::Delete { prev, .. } if prev.len() == 1 => {
                number_of(&prev[0]).map(|seen| Op { seen: seen_of(op, seen), ..op.clone() })
            }
            Body::Txn { succeeded, bodies } => self.transaction(op, *succeeded, bodies),
            _ => None,
        };
        let op = op.unwrap_or_else(|| {
            self.asker.tally.note(format!("this is no answer to what was asked: {answer:?}"));
            Op::default()
        });
        for (register, value) in &op.written {
            let revision = if *value == 0 { 0 } else { answer.revision };
            self.known.insert(*register, (*value, revision));
        }
        op
    }

    fn transaction(&mut self, op: &Op, succeeded: bool, bodies: &[Body]) -> Option<Op> {
        let found: Vec<&Found> = bodies
            .iter()
            .filter_map(|body| match body {
                Body::Range(found) => Some(found),
                _ => None,
            })
            .collect();
        match (succeeded, found.len()) {
            // A compare-and-set that held.
            (true, 0) => Some(op.clone()),
            // One that did not is a read.
            (false, 1) => Some(Op { seen: self.seen(op, &found)?, written: Vec::new() }),
            (true, 2) => Some(Op { seen: self.seen(op, &found)?, ..op.clone() }),
            _ => None,
        }
    }

    /// What registers were found to hold, in the order of the operation.
    fn seen(&mut self, op: &Op, found: &[&Found]) -> Option<Vec<(Register, u64)>> {
        let registers: Vec<Register> =
            if op.written.is_empty() { &op.seen } else { &op.written }.iter().map(|it| it.0).collect();
        let mut seen = Vec::new();
        for (register, found) in registers.into_iter().zip(found) {
            let kv = found.kvs.first();
            let value = kv.map_or(Some(0), number_of)?;
            self.known.insert(register, (value, kv.map_or(0, |kv| kv.mod_revision)));
            seen.push((register, value));
        }
        Some(seen)
    }
}

fn number_of(kv: &KeyValue) -> Option<u64> {
    std::str::from_utf8(&kv.value).ok()?.parse().ok()
}

fn seen_of(op: &Op, seen: u64) -> Vec<(Register, u64)> {
    op.written.iter().map(|(register, _)| (*register, seen)).collect()
}

fn put(register: Register, value: u64, prev: bool) -> Put {
    Put { prev, ..Put::new(key(register), value.to_string()) }
}

fn get(register: Register) -> Range {
    Range::of(Keys::One(key(register)))
}
