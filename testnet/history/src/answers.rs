//! Answers beside the log: every answer names the revision it stands for, so the log is a witness of the
//! order, over all keys at once. A history that agrees with it is strictly serializable; and what was written
//! is in the log as often as it was acknowledged.

use std::collections::BTreeMap;

use crate::calls::{Call, Outcome, Register};
use crate::log::Log;
use crate::{Checked, Violation, ensure};

/// When each register held what: revision, value.
type Values = BTreeMap<Register, Vec<(u64, u64)>>;

/// Every acknowledged write is in the log, once, at the revision that it was answered; one of unknown outcome
/// at most once, and one that was said to have changed nothing is not there. Every read saw what the log holds
/// at its revision, and revisions follow real time.
///
/// `register` says which register a key is, if it is one; its values are numbers in decimal digits.
pub fn check_answers(calls: &[Call], log: &Log, register: impl Fn(&[u8]) -> Option<Register>) -> Checked {
    let values = values(log, register)?;
    check_written(calls, &values)?;
    for call in calls {
        check_seen(call, &values)?;
    }
    check_real_time(calls)
}

/// Every stale read saw what the log holds at its revision, which may be an old one.
pub fn check_stale(calls: &[Call], log: &Log, register: impl Fn(&[u8]) -> Option<Register>) -> Checked {
    let values = values(log, register)?;
    calls.iter().try_for_each(|call| check_seen(call, &values))
}

fn values(log: &Log, register: impl Fn(&[u8]) -> Option<Register>) -> Result<Values, Violation> {
    let mut values = Values::new();
    for change in log.changes(b"") {
        let Some(register) = register(&change.key) else { continue };
        let value = match &change.value {
            Some(text) => std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| Violation(format!("nobody wrote {text:?} into register {register}")))?,
            None => 0,
        };
        values.entry(register).or_default().push((change.revision, value));
    }
    Ok(values)
}

/// Puts and deletions of registers, each as often as it was asked for.
fn check_written(calls: &[Call], values: &Values) -> Checked {
    let mut puts: BTreeMap<(Register, u64), Vec<u64>> = BTreeMap::new();
    let mut deletions: BTreeMap<Register, Vec<u64>> = BTreeMap::new();
    for (register, (revision, value)) in
        values.iter().flat_map(|(r, all)| all.iter().map(move |it| (*r, *it)))
    {
        match value {
            0 => deletions.entry(register).or_default().push(revision),
            _ => puts.entry((register, value)).or_default().push(revision),
        }
    }
    let mut open: BTreeMap<Register, usize> = BTreeMap::new();
    for call in calls {
        let mut at = Vec::new();
        for (register, value) in &call.op.written {
            if *value != 0 {
                let revisions = puts.remove(&(*register, *value)).unwrap_or_default();
                ensure(revisions.len() <= 1, || format!("applied at revisions {revisions:?}: {call}"))?;
                at.push(revisions.first().copied());
            } else if let Outcome::Answered { revision, .. } = call.outcome {
                let deleted = deletions.entry(*register).or_default();
                let found = deleted.iter().position(|at| *at == revision);
                at.push(found.map(|found| deleted.remove(found)));
            } else if call.outcome == Outcome::Unknown {
                *open.entry(*register).or_default() += 1;
            }
        }
        let told = match call.outcome {
            Outcome::Answered { revision, .. } => at.iter().all(|it| *it == Some(revision)),
            Outcome::Unknown => at.windows(2).all(|pair| pair[0] == pair[1]),
            Outcome::Failed => at.iter().all(Option::is_none),
        };
        ensure(told, || format!("it is in the log at revisions {at:?}: {call}"))?;
    }
    ensure(puts.is_empty(), || format!("nobody wrote these (register, value), at revisions: {puts:?}"))?;
    for (register, revisions) in deletions {
        let open = open.get(&register).copied().unwrap_or_default();
        ensure(revisions.len() <= open, || {
            format!(
                "register {register} was deleted at revisions {revisions:?}, and {open} outcomes are open"
            )
        })?;
    }
    Ok(())
}

/// What a call saw is what the log holds at its revision; before it, if it wrote.
fn check_seen(call: &Call, values: &Values) -> Checked {
    let Outcome::Answered { revision, .. } = call.outcome else { return Ok(()) };
    let at = if call.op.written.is_empty() { revision } else { revision - 1 };
    for (register, seen) in &call.op.seen {
        let all = values.get(register).map_or(&[][..], Vec::as_slice);
        let before = all.partition_point(|(revision, _)| *revision <= at);
        let held = before.checked_sub(1).map_or(0, |last| all[last].1);
        ensure(held == *seen, || format!("register {register} held {held} at revision {at}: {call}"))?;
    }
    Ok(())
}

/// Whatever begins after an answer stands for the same revision or a later one; a write for a later one.
fn check_real_time(calls: &[Call]) -> Checked {
    let answered = calls.iter().filter_map(|call| match call.outcome {
        Outcome::Answered { end, revision } => Some((end, revision, call)),
        Outcome::Unknown | Outcome::Failed => None,
    });
    let mut by_end: Vec<_> = answered.collect();
    let mut by_start = by_end.clone();
    by_end.sort_by_key(|(end, ..)| *end);
    by_start.sort_by_key(|(_, _, call)| call.start);
    let (mut ended, mut newest) = (by_end.into_iter().peekable(), None);
    for (_, revision, call) in by_start {
        while let Some((_, before, earlier)) = ended.next_if(|(end, ..)| *end < call.start) {
            if newest.is_none_or(|(known, _)| before > known) {
                newest = Some((before, earlier));
            }
        }
        let Some((before, earlier)) = newest else { continue };
        let follows = if call.op.written.is_empty() { revision >= before } else { revision > before };
        ensure(follows, || format!("the second began after the end of the first:\n  {earlier}\n  {call}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::Op;
    use crate::log::tests::log_of;

    fn check(calls: &[Call], log: &[(&str, Option<&str>)]) -> Checked {
        check_answers(calls, &log_of(log), |key| match key {
            b"a" => Some(0),
            b"b" => Some(1),
            _ => None,
        })
    }

    fn call(op: Op, start: u64, outcome: Outcome) -> Call {
        Call { client: 1, op, start, outcome }
    }

    fn at(revision: u64, end: u64) -> Outcome {
        Outcome::Answered { end, revision }
    }

    #[test]
    fn what_agrees_with_the_log_passes() {
        let calls = [
            call(Op::write(0, 1), 0, at(2, 5)),
            call(Op::write(0, 2), 1, Outcome::Unknown),
            call(Op::swap(0, 2, 3), 6, at(4, 7)),
            call(Op::read(0, 1), 1, at(2, 9)),
            call(Op::write(0, 9), 8, Outcome::Failed),
            call(Op::write(0, 0), 8, Outcome::Unknown),
            call(Op::read(0, 0), 10, at(5, 11)),
        ];
        check(&calls, &[("a", Some("1")), ("a", Some("2")), ("a", Some("3")), ("a", None)])
            .expect("it agrees");
    }

    #[test]
    fn a_stale_read_may_be_old_and_has_to_be_true() {
        let log = log_of(&[("a", Some("1")), ("a", Some("2"))]);
        let check = |call: Call| check_stale(&[call], &log, |_| Some(0));
        check(call(Op::read(0, 1), 9, at(2, 10))).expect("what was there");
        check(call(Op::read(0, 2), 9, at(2, 10))).expect_err("what came later");
    }

    #[test]
    fn planted_violations_are_found() {
        let write = |end| call(Op::write(0, 1), 0, at(2, end));
        let put = ("a", Some("1"));
        check(&[write(1)], &[]).expect_err("a lost write");
        check(&[write(1)], &[put, put]).expect_err("applied twice");
        check(&[write(1)], &[("b", Some("2")), put]).expect_err("at another revision, and out of nowhere");
        check(&[call(Op::write(0, 1), 0, Outcome::Unknown)], &[put, put]).expect_err("unknown, and twice");
        check(&[call(Op::write(0, 1), 0, Outcome::Failed)], &[put]).expect_err("said to have failed");
        check(&[write(1), call(Op::read(0, 0), 2, at(1, 3))], &[put]).expect_err("a stale read");
        check(&[write(1), call(Op::read(0, 0), 0, at(2, 3))], &[put]).expect_err("not what was there");
        check(&[write(1)], &[put, ("a", None)]).expect_err("nobody deleted it");
        let half = Op { seen: Vec::new(), written: vec![(0, 1), (1, 2)] };
        check(&[call(half, 0, Outcome::Unknown)], &[put]).expect_err("half of a transaction");
    }
}
