//! The search for an order: Wing and Gong's, with Lowe's memory of states that led nowhere.

use std::collections::BTreeSet;

use crate::calls::Call;
use crate::linear::{Decided, decide};

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// An order in which a register answers as it was answered.
    Order,
    /// There is none.
    Nothing,
    /// Too many states for the memory that is granted.
    GaveUp,
}

/// Calls done, and what the registers hold then.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    /// Every call before this one is done.
    first: usize,
    /// Calls behind it that are done too, in order.
    ahead: Vec<usize>,
    values: Vec<u64>,
    /// Deletions of unknown outcome that took effect, by register.
    erased: Vec<usize>,
}

/// Looks for an order of these calls, compatible with real time, in which each is answered as registers
/// would answer; remembers at most `states_max` states.
pub fn search(calls: &[Call], states_max: usize) -> Found {
    let history = decide(calls);
    let registers = history.erasures.len();
    let begin = State { first: 0, ahead: Vec::new(), values: vec![0; registers], erased: vec![0; registers] };
    let (mut visited, mut stack) = (BTreeSet::new(), vec![begin]);
    while let Some(state) = stack.pop() {
        if state.first == history.calls.len() {
            return Found::Order;
        }
        if visited.contains(&state) {
            continue;
        }
        if visited.len() >= states_max {
            return Found::GaveUp;
        }
        stack.extend(next(&history, &state));
        visited.insert(state);
    }
    Found::Nothing
}

/// What may be done next, the most promising last.
fn next(history: &Decided, state: &State) -> Vec<State> {
    let waiting = (state.first..history.calls.len()).filter(|at| state.ahead.binary_search(at).is_err());
    // Nothing can be done after this instant before what ended by then is. Calls are in order of their
    // beginning, so none that begins later ends before it.
    let mut limit = u64::MAX;
    let mut candidates = Vec::new();
    for at in waiting {
        let call = &history.calls[at];
        if call.start > limit {
            break;
        }
        limit = limit.min(call.end);
        candidates.push(at);
    }
    candidates.sort_by_key(|at| std::cmp::Reverse(history.calls[*at].end));
    // A read of what is there changes nothing, so it may as well be done at once.
    let is_free = |at: &usize| {
        let call = &history.calls[*at];
        call.written.is_empty() && call.seen.iter().all(|(register, seen)| state.values[*register] == *seen)
    };
    if let Some(free) = candidates.iter().copied().find(is_free) {
        return done(history, state, free, limit).into_iter().collect();
    }
    candidates.into_iter().filter_map(|at| done(history, state, at, limit)).collect()
}

/// The state after a call, or `None` if it could not have been answered as it was. A deletion of unknown
/// outcome is done when somebody sees no value where there was one, and not before: until then nobody can
/// tell.
fn done(history: &Decided, state: &State, at: usize, limit: u64) -> Option<State> {
    let (call, mut state) = (&history.calls[at], state.clone());
    for (register, seen) in &call.seen {
        let register = *register;
        if state.values[register] == *seen {
            continue;
        }
        let begun = history.erasures[register].partition_point(|start| *start <= limit);
        if *seen != 0 || state.erased[register] >= begun {
            return None;
        }
        state.erased[register] += 1;
        state.values[register] = 0;
    }
    for (register, value) in &call.written {
        state.values[*register] = *value;
    }
    let place = state.ahead.partition_point(|other| *other < at);
    state.ahead.insert(place, at);
    while state.ahead.first() == Some(&state.first) {
        state.ahead.remove(0);
        state.first += 1;
    }
    Some(state)
}
