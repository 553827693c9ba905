//! Whether a history of one register is linearizable: is there an order of its operations, compatible
//! with real time, in which each is answered as a register would? The search is Wing and Gong's, with
//! Lowe's memory of (operations done, value) that led nowhere.

use std::collections::{BTreeMap, BTreeSet};

/// What was done to a register. Every value is written once; 0 is "no value".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Write(u64),
    /// What was seen; a compare-and-set that did not hold saw something too.
    Read(u64),
    /// From, to: it held.
    Cas(u64, u64),
}

impl Op {
    fn seen(self) -> Option<u64> {
        match self {
            Self::Write(_) => None,
            Self::Read(seen) | Self::Cas(seen, _) => Some(seen),
        }
    }

    fn written(self) -> Option<u64> {
        match self {
            Self::Read(_) => None,
            Self::Write(new) | Self::Cas(_, new) => Some(new),
        }
    }
}

/// One operation. `end` is `None` if its outcome was never learned: it may take effect at any later
/// time, or never.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub op: Op,
    pub start: u64,
    pub end: Option<u64>,
}

/// The value after `op`, or `None` if it could not have been answered as it was.
fn apply(value: u64, op: Op) -> Option<u64> {
    op.seen().is_none_or(|seen| seen == value).then_some(op.written().unwrap_or(value))
}

/// Decides what nobody was told: a value that was seen had been written by then, and what nobody ever saw
/// may as well not have been written.
fn decided(calls: &[Call]) -> Vec<Call> {
    let mut calls = calls.to_vec();
    loop {
        let seen: BTreeMap<u64, u64> = calls
            .iter()
            .filter_map(|call| Some((call.op.seen()?, call.end?)))
            .fold(BTreeMap::new(), |mut seen, (value, end)| {
                seen.entry(value).and_modify(|at: &mut u64| *at = end.min(*at)).or_insert(end);
                seen
            });
        let mut is_decided = true;
        for call in calls.iter_mut().filter(|call| call.end.is_none()) {
            call.end = call.op.written().and_then(|written| seen.get(&written).copied());
            is_decided &= call.end.is_none();
        }
        if is_decided {
            calls.retain(|call| call.end.is_some());
            return calls;
        }
    }
}

/// Whether the calls are linearizable from an empty register.
pub fn is_linearizable(calls: &[Call]) -> bool {
    let mut calls = decided(calls);
    calls.sort_by_key(|call| call.start);
    let mut seen = BTreeSet::new();
    search(&calls, &mut vec![false; calls.len()], 0, 0, &mut seen)
}

/// Depth first; `first` is the earliest call that is not done yet.
fn search(
    calls: &[Call],
    done: &mut Vec<bool>,
    first: usize,
    value: u64,
    seen: &mut BTreeSet<(Vec<usize>, usize, u64)>,
) -> bool {
    let first = (first..calls.len()).find(|at| !done[*at]).unwrap_or(calls.len());
    let waiting = (first..calls.len()).filter(|at| !done[*at]);
    // Nothing can be done after this instant before what ended by then is.
    let Some(limit) = waiting.clone().filter_map(|at| calls[at].end).min() else { return true };
    let ahead: Vec<usize> = (first..calls.len()).filter(|at| done[*at]).collect();
    if !seen.insert((ahead, first, value)) {
        return false;
    }
    let candidates: Vec<_> = waiting.take_while(|at| calls[*at].start <= limit).collect();
    for at in candidates {
        if let Some(next) = apply(value, calls[at].op) {
            done[at] = true;
            if search(calls, done, first, next, seen) {
                return true;
            }
            done[at] = false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(op: Op, start: u64, end: u64) -> Call {
        Call { op, start, end: Some(end) }
    }

    #[test]
    fn honest_histories_pass() {
        let unknown = Call { op: Op::Write(2), start: 3, end: None };
        assert!(is_linearizable(&[call(Op::Write(1), 0, 2), call(Op::Read(1), 3, 4)]));
        assert!(is_linearizable(&[
            call(Op::Write(1), 0, 9),
            call(Op::Read(0), 1, 2),
            call(Op::Read(1), 3, 4)
        ]));
        assert!(is_linearizable(&[
            call(Op::Write(1), 0, 2),
            unknown,
            call(Op::Read(1), 4, 5),
            call(Op::Read(2), 6, 7)
        ]));
        assert!(is_linearizable(&[call(Op::Cas(0, 1), 0, 5), call(Op::Read(1), 0, 5)]));
    }

    #[test]
    fn planted_violations_are_found() {
        let stale = [call(Op::Write(1), 0, 1), call(Op::Write(2), 2, 3), call(Op::Read(1), 4, 5)];
        let lost = [call(Op::Write(1), 0, 1), call(Op::Read(0), 2, 3)];
        let back = [call(Op::Write(1), 0, 9), call(Op::Read(1), 1, 2), call(Op::Read(0), 3, 4)];
        let twice = [call(Op::Cas(0, 1), 0, 1), call(Op::Cas(0, 2), 2, 3)];
        let never = [call(Op::Read(7), 0, 1)];
        let unknown = Call { op: Op::Write(2), start: 6, end: None };
        let early = [call(Op::Write(1), 0, 1), unknown, call(Op::Read(2), 2, 3)];
        for history in [&stale[..], &lost, &back, &twice, &never, &early] {
            assert!(!is_linearizable(history), "{history:?}");
        }
    }
}
