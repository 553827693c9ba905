//! Whether a history of registers is linearizable: is there an order of its operations, compatible with real
//! time, in which each is answered as registers would answer?
//!
//! Linearizability is local (Herlihy and Wing 1990), so registers that no operation touches together are
//! searched apart from each other.

use std::collections::BTreeMap;

use crate::calls::{Call, Outcome, Register};
use crate::search::{Found, search};
use crate::shrink::shrink;

/// States remembered for one set of registers, at most: some hundred bytes each. A guess: a history of an
/// hour needs about one for each call.
const STATES_MAX: usize = 1 << 20;

/// What the search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order for every set of registers.
    Linearizable {
        /// Sets of registers that were searched apart.
        sets: usize,
    },
    /// There is none for these calls, a part of the history: as few as were found.
    Violated(Vec<Call>),
    /// It took more memory than is granted. That is no success.
    Undecided {
        /// In the set of registers that was given up.
        calls: usize,
    },
}

/// Looks for an order, in bounded memory.
pub fn check_linearizable(calls: &[Call]) -> Verdict {
    check_within(calls, STATES_MAX)
}

pub(crate) fn check_within(calls: &[Call], states_max: usize) -> Verdict {
    let (mut sets, mut undecided) = (0, None);
    for part in apart(calls) {
        sets += 1;
        match search(&part, states_max) {
            Found::Order => {}
            Found::Nothing => return Verdict::Violated(shrink(part)),
            Found::GaveUp => undecided = Some(Verdict::Undecided { calls: part.len() }),
        }
    }
    undecided.unwrap_or(Verdict::Linearizable { sets })
}

fn registers(call: &Call) -> impl Iterator<Item = Register> {
    call.op.seen.iter().chain(&call.op.written).map(|(register, _)| *register)
}

/// The calls of each set of registers that nothing touches together with others.
fn apart(calls: &[Call]) -> Vec<Vec<Call>> {
    let mut set_of: BTreeMap<Register, Register> = BTreeMap::new();
    for call in calls {
        let sets: Vec<Register> =
            registers(call).map(|register| *set_of.entry(register).or_insert(register)).collect();
        let Some(least) = sets.iter().min() else { continue };
        set_of.values_mut().filter(|set| sets.contains(set)).for_each(|set| *set = *least);
    }
    let mut parts: BTreeMap<Register, Vec<Call>> = BTreeMap::new();
    for call in calls {
        if let Some(register) = registers(call).next() {
            parts.entry(set_of[&register]).or_default().push(call.clone());
        }
    }
    parts.into_values().collect()
}

/// A call that took effect by `end`.
#[derive(Clone, Debug)]
pub struct Done {
    /// Registers are numbered from 0.
    pub seen: Vec<(usize, u64)>,
    pub written: Vec<(usize, u64)>,
    pub start: u64,
    pub end: u64,
}

/// A history in which only deletions may still have happened or not.
#[derive(Clone, Debug)]
pub struct Decided {
    /// In order of their beginning.
    pub calls: Vec<Done>,
    /// When deletions of unknown outcome began, by register, in order.
    pub erasures: Vec<Vec<u64>>,
}

/// Decides what nobody was told: a value that was seen had been written by then, and what nobody ever saw
/// may as well not have been written. Deletions have no value to tell them by, and stay open.
pub fn decide(calls: &[Call]) -> Decided {
    let ends = ends(calls);
    let mut places: BTreeMap<Register, usize> = BTreeMap::new();
    for register in calls.iter().flat_map(registers) {
        let next = places.len();
        places.entry(register).or_insert(next);
    }
    let mut decided = Decided { calls: Vec::new(), erasures: vec![Vec::new(); places.len()] };
    let numbered = |pairs: &[(Register, u64)]| {
        pairs.iter().map(|(register, value)| (places[register], *value)).collect()
    };
    for (call, end) in calls.iter().zip(ends) {
        if let Some(end) = end {
            let (seen, written) = (numbered(&call.op.seen), numbered(&call.op.written));
            decided.calls.push(Done { seen, written, start: call.start, end });
        } else if call.outcome == Outcome::Unknown {
            for (register, _) in call.op.written.iter().filter(|(_, value)| *value == 0) {
                decided.erasures[places[register]].push(call.start);
            }
        }
    }
    decided.calls.sort_by_key(|call| call.start);
    decided.erasures.iter_mut().for_each(|starts| starts.sort_unstable());
    decided
}

/// By when each call took effect: when it was answered, or when somebody was who had seen what it wrote.
fn ends(calls: &[Call]) -> Vec<Option<u64>> {
    let mut ends: Vec<Option<u64>> = calls.iter().map(Call::end).collect();
    loop {
        let mut seen: BTreeMap<(Register, u64), u64> = BTreeMap::new();
        for (call, end) in calls.iter().zip(&ends).filter_map(|(call, end)| Some((call, (*end)?))) {
            for what in call.op.seen.iter().filter(|(_, value)| *value != 0) {
                seen.entry(*what).and_modify(|at| *at = end.min(*at)).or_insert(end);
            }
        }
        let mut is_decided = true;
        for (call, end) in calls.iter().zip(&mut ends).filter(|(call, _)| call.outcome == Outcome::Unknown) {
            let by = call.op.written.iter().filter_map(|what| seen.get(what)).min().copied();
            if end.is_none() && by.is_some() {
                (*end, is_decided) = (by, false);
            }
        }
        if is_decided {
            return ends;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::Op;

    fn call(op: Op, start: u64, end: u64) -> Call {
        Call { client: 1, op, start, outcome: Outcome::Answered { end, revision: 0 } }
    }

    fn unknown(op: Op, start: u64) -> Call {
        Call { client: 2, op, start, outcome: Outcome::Unknown }
    }

    /// Reads two registers and writes both.
    fn pair(seen: [u64; 2], written: [u64; 2]) -> Op {
        let both = |values: [u64; 2]| vec![(0, values[0]), (1, values[1])];
        Op { seen: both(seen), written: both(written) }
    }

    fn is_linearizable(calls: &[Call]) -> bool {
        matches!(check_linearizable(calls), Verdict::Linearizable { .. })
    }

    #[test]
    fn honest_histories_pass() {
        let (write, read, swap) = (Op::write, Op::read, Op::swap);
        let failed = Call { outcome: Outcome::Failed, ..call(write(0, 9), 0, 1) };
        let histories = [
            vec![call(write(0, 1), 0, 2), call(read(0, 1), 3, 4)],
            vec![call(write(0, 1), 0, 9), call(read(0, 0), 1, 2), call(read(0, 1), 3, 4)],
            vec![
                call(write(0, 1), 0, 2),
                unknown(write(0, 2), 3),
                call(read(0, 1), 4, 5),
                call(read(0, 2), 6, 7),
            ],
            vec![call(swap(0, 0, 1), 0, 5), call(read(0, 1), 0, 5)],
            // Deletions of which nobody knows: one took effect between two reads, the other never.
            vec![
                call(write(0, 1), 0, 1),
                unknown(write(0, 0), 2),
                unknown(write(0, 0), 2),
                call(read(0, 1), 3, 4),
                call(read(0, 0), 5, 6),
                call(write(0, 2), 7, 8),
                call(read(0, 2), 9, 10),
            ],
            vec![call(pair([0, 0], [1, 2]), 0, 3), call(read(1, 2), 1, 2), call(read(0, 1), 1, 4)],
            vec![failed, call(read(0, 0), 2, 3)],
        ];
        for history in &histories {
            assert!(is_linearizable(history), "{history:#?}");
        }
    }

    #[test]
    fn planted_violations_are_found() {
        let (write, read, swap) = (Op::write, Op::read, Op::swap);
        let failed = Call { outcome: Outcome::Failed, ..call(write(0, 9), 0, 1) };
        let histories = [
            ("a stale read", vec![call(write(0, 1), 0, 1), call(write(0, 2), 2, 3), call(read(0, 1), 4, 5)]),
            ("a lost write", vec![call(write(0, 1), 0, 1), call(read(0, 0), 2, 3)]),
            (
                "a read that goes back",
                vec![call(write(0, 1), 0, 9), call(read(0, 1), 1, 2), call(read(0, 0), 3, 4)],
            ),
            ("two swaps from one value", vec![call(swap(0, 0, 1), 0, 1), call(swap(0, 0, 2), 2, 3)]),
            ("a value from nowhere", vec![call(read(0, 7), 0, 1)]),
            (
                "a write seen before it began",
                vec![call(write(0, 1), 0, 1), call(read(0, 2), 2, 3), unknown(write(0, 2), 6)],
            ),
            (
                "a deletion that came back",
                vec![call(write(0, 1), 0, 1), call(write(0, 0), 2, 3), call(read(0, 1), 4, 5)],
            ),
            (
                "one deletion that took effect twice",
                vec![
                    call(write(0, 1), 0, 1),
                    unknown(write(0, 0), 2),
                    call(read(0, 0), 3, 4),
                    call(write(0, 2), 5, 6),
                    call(read(0, 0), 7, 8),
                ],
            ),
            (
                "half of a transaction",
                vec![call(pair([0, 0], [1, 2]), 0, 9), call(read(0, 1), 1, 2), call(read(1, 0), 3, 4)],
            ),
            ("what was said to have failed", vec![failed, call(read(0, 9), 2, 3)]),
        ];
        for (what, history) in &histories {
            assert!(matches!(check_linearizable(history), Verdict::Violated(_)), "{what}: {history:#?}");
        }
    }

    /// A long history, each write seen by the next one, and a stale read late in it.
    #[test]
    fn an_excerpt_is_short() {
        let mut history: Vec<Call> = (0..3_000)
            .flat_map(|n| {
                [
                    call(Op::swap(0, n, n + 1), 10 * n, 10 * n + 5),
                    call(Op::read(0, n + 1), 10 * n + 6, 10 * n + 8),
                ]
            })
            .collect();
        assert!(is_linearizable(&history));
        history.push(call(Op::read(0, 2_000), 25_009, 25_009));
        match check_linearizable(&history) {
            Verdict::Violated(excerpt) => assert!(excerpt.len() <= 4, "{excerpt:#?}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn thousands_of_calls_with_unknown_outcomes_are_decided() {
        let mut history = Vec::new();
        let mut value = 0;
        for round in 0..1_000_u64 {
            let at = 100 * round;
            let writes = (1..=6).map(|n| call(Op::write(0, 10 * round + n), at + n, at + 50));
            history.extend(writes);
            history.push(unknown(Op::write(0, 0), at + 3));
            history.push(unknown(Op::write(0, 10 * round + 7), at + 3));
            value = 10 * round + 1 + round % 7;
            history.push(call(Op::read(0, if round % 5 == 0 { 0 } else { value }), at + 60, at + 70));
        }
        assert!(is_linearizable(&history));
        history.push(call(Op::read(0, value - 10), 200_000, 200_001));
        assert!(!is_linearizable(&history));
    }

    #[test]
    fn what_takes_too_much_memory_is_not_decided() {
        let mut history: Vec<Call> = (1..=40).map(|n| call(Op::write(0, n), 0, 1_000)).collect();
        history.push(call(Op::read(0, 41), 0, 1_000));
        assert_eq!(check_within(&history, 1_000), Verdict::Undecided { calls: 41 });
    }
}
