//! What clients of a strong keyspace were answered is what registers would have answered, in some order that
//! agrees with time; and the order is the one that the revisions say.

use starling_history::{Call, Checked, Log, Verdict, Violation, check_answers, check_linearizable};

use crate::strong::register_of;

/// All calls of registers, and everything that happened.
pub fn check(calls: &[Call], log: &Log) -> Checked {
    match check_linearizable(calls) {
        Verdict::Linearizable { .. } => {}
        Verdict::Violated(calls) => {
            let calls: Vec<String> = calls.iter().map(ToString::to_string).collect();
            return Err(Violation(format!("no order explains\n  {}", calls.join("\n  "))));
        }
        Verdict::Undecided { calls } => {
            return Err(Violation(format!("{calls} calls of one register are too many to decide")));
        }
    }
    check_answers(calls, log, register_of)
}

/// All stale reads of registers.
pub fn check_stale(calls: &[Call], log: &Log) -> Checked {
    starling_history::check_stale(calls, log, register_of)
}
