//! Clients of registers: keys that hold numbers, each written once.

use starling_history::{Call, Checked, Op, Outcome as Became, Register, Violation};
use starling_strong::api::{
    Body, Compare, Delete, Found, Keys, Operand, Put, Range, Read, Relation, Request, Txn, TxnOp, Write,
};

use super::actors::{Outcome, Step, Told};

/// What the registers' keys begin with.
const REGISTERS: &str = "register/";

/// Which register a key is, if it is one.
pub fn register_of(key: &[u8]) -> Option<Register> {
    std::str::from_utf8(key).ok()?.strip_prefix(REGISTERS)?.parse().ok()
}

fn key(register: Register) -> Vec<u8> {
    format!("{REGISTERS}{register}").into_bytes()
}

fn keys(register: Register) -> Keys {
    Keys::One(key(register))
}

/// Writes, reads, deletes, and compares and sets.
pub struct RegisterClient {
    number: u32,
    registers: u64,
    count: u64,
    /// What it saw last.
    seen: u64,
    doing: Op,
    calls: Vec<Call>,
    /// Whether it asks one replica what that holds.
    is_stale: bool,
    stale_calls: Vec<Call>,
}

impl RegisterClient {
    pub fn new(number: usize, registers: u8) -> Self {
        let (number, registers) = (number as u32, registers.into());
        Self {
            number,
            registers,
            count: 0,
            seen: 0,
            doing: Op::default(),
            calls: Vec::new(),
            is_stale: false,
            stale_calls: Vec::new(),
        }
    }

    pub fn next(&mut self, draw: u64) -> Step {
        self.count += 1;
        // Nobody else writes it.
        let value = u64::from(self.number) << 32 | self.count;
        let register = (draw % self.registers) as Register;
        let write = |write| Request::Write(write);
        let (op, request) = match draw / self.registers % 12 {
            0..4 => (Op::write(register, value), write(Write::Put(put(register, value)))),
            4..7 => (Op::read(register, 0), Request::Read(Read::Range(Range::of(keys(register))))),
            7 => {
                let delete = Delete { keys: keys(register), prev: false };
                (Op::write(register, 0), write(Write::Delete(delete)))
            }
            _ => {
                let op = Op::swap(register, self.seen, value);
                (op, write(Write::Txn(swap(register, self.seen, value))))
            }
        };
        self.doing = op;
        self.is_stale = matches!(request, Request::Read(_)) && self.count.is_multiple_of(3);
        // A stale read is no write that has to come to an end somewhere: the node that is asked answers or does not.
        let once = self.is_stale || self.count.is_multiple_of(4);
        Step::Ask { request, fence: None, once, stale: self.is_stale }
    }

    /// Everything that it asked; what it has asked since `asking_us` nobody has answered.
    pub fn all_calls(&self, asking_us: Option<u64>) -> Vec<Call> {
        let open = asking_us.filter(|_| !self.is_stale).map(|start| Call {
            client: self.number,
            op: self.doing.clone(),
            start,
            outcome: Became::Unknown,
        });
        self.calls.iter().cloned().chain(open).collect()
    }

    /// All stale reads.
    pub fn stale_calls(&self) -> &[Call] {
        &self.stale_calls
    }

    pub fn learn(&mut self, outcome: Outcome) -> Checked {
        let Outcome { start_us, now_us, result } = outcome;
        let mut op = std::mem::take(&mut self.doing);
        let became = match result {
            Told::Answer(answer) => {
                op = answered(op, &answer.body)?;
                if !self.is_stale {
                    self.seen = op.written.first().or(op.seen.first()).map_or(0, |(_, value)| *value);
                }
                Became::Answered { end: now_us, revision: answer.revision }
            }
            Told::Refused(refusal) => return Err(Violation(format!("{op:?} was refused: {refusal}"))),
            Told::Failed => Became::Failed,
            Told::Unknown => Became::Unknown,
        };
        let calls = if self.is_stale { &mut self.stale_calls } else { &mut self.calls };
        calls.push(Call { client: self.number, op, start: start_us, outcome: became });
        Ok(())
    }
}

/// What was done, as the answer says.
fn answered(op: Op, body: &Body) -> Result<Op, Violation> {
    let register = op.written.first().or(op.seen.first()).map_or(0, |(register, _)| *register);
    match body {
        Body::Range(found) => Ok(Op::read(register, number(found)?)),
        // There was nothing to delete.
        Body::Delete { deleted: 0, .. } => Ok(Op::read(register, 0)),
        Body::Put { .. } | Body::Delete { .. } | Body::Txn { succeeded: true, .. } => Ok(op),
        Body::Txn { succeeded: false, bodies } => match bodies.first() {
            Some(Body::Range(found)) => Ok(Op::read(register, number(found)?)),
            other => Err(Violation(format!("not what the transaction reads: {other:?}"))),
        },
        other => Err(Violation(format!("not what {op:?} is answered: {other:?}"))),
    }
}

fn number(found: &Found) -> Result<u64, Violation> {
    let Some(kv) = found.kvs.first() else { return Ok(0) };
    let parsed = std::str::from_utf8(&kv.value).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| Violation(format!("a register holds {:?}", kv.value)))
}

fn put(register: Register, value: u64) -> Put {
    Put { key: key(register), value: Some(value.to_string().into_bytes()), lease: Some(0), prev: false }
}

fn swap(register: Register, from: u64, to: u64) -> Txn {
    let operand = if from == 0 { Operand::Version(0) } else { Operand::Value(from.to_string().into_bytes()) };
    Txn {
        compare: vec![Compare { keys: keys(register), is: Relation::Equal, to: operand }],
        then: vec![TxnOp::Put(put(register, to))],
        otherwise: vec![TxnOp::Range(Range::of(keys(register)))],
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Simulation;
    use crate::scenario;

    #[test]
    fn replicas_answer_stale_reads() {
        let set = [("measure_s".to_string(), "40".to_string())];
        let scenario = scenario::load(Path::new("../scenarios/strong-churn.toml"), &set);
        let mut simulation = Simulation::new(scenario.expect("it is sound")).expect("no file is read");
        while simulation.step() {}
        let calls = simulation.strong.expect("there is a keyspace").stale_calls();
        let answered = calls.iter().filter(|call| matches!(call.outcome, Became::Answered { .. })).count();
        assert!(answered > 20, "{answered} of {}", calls.len());
    }
}
