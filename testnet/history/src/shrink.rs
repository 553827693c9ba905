//! As few calls of a history as cannot be, for people to read.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::calls::{Call, Outcome, Register};
use crate::search::{Found, search};

/// States remembered for each try; one that takes more counts as not failing.
const STATES_MAX: usize = 1 << 16;
/// Tries, at most.
const TRIES_MAX: usize = 2_000;

/// A part of a history for which there is no order either. Each step is one that a history with an order
/// survives, so that what is left is a violation by itself.
pub fn shrink(calls: Vec<Call>) -> Vec<Call> {
    let mut least = beginning(calls);
    let (mut size, mut tries) = (least.len().div_ceil(2), 0);
    while size > 0 && tries < TRIES_MAX {
        let mut from = 0;
        while from < least.len() && tries < TRIES_MAX {
            let to = least.len().min(from + size);
            let fewer = without(&least, from..to);
            let is_news = fewer.len() < least.len() || fewer != least;
            tries += usize::from(is_news);
            if is_news && fails(&fewer) {
                least = fewer;
            } else {
                from = to;
            }
        }
        size /= 2;
    }
    least
}

fn fails(calls: &[Call]) -> bool {
    search(calls, STATES_MAX) == Found::Nothing
}

/// What had happened when it first could not be: calls that had not ended by then have no outcome yet.
fn beginning(mut calls: Vec<Call>) -> Vec<Call> {
    calls.sort_by_key(|call| call.start);
    let mut ends: Vec<u64> = calls.iter().filter_map(Call::end).collect();
    ends.sort_unstable();
    let until = |at: u64| -> Vec<Call> {
        let begun = calls.iter().filter(|call| call.start <= at).cloned();
        begun
            .map(|call| match call.end() {
                Some(end) if end > at => Call { outcome: Outcome::Unknown, ..call },
                _ => call,
            })
            .collect()
    };
    let (mut low, mut high) = (0, ends.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if fails(&until(ends[middle])) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    match ends.get(low) {
        Some(at) => until(*at),
        // Only the whole history takes more memory than a try may.
        None => calls,
    }
}

/// What some calls saw is forgotten; then calls that saw nothing, and wrote what nobody saw, are left out.
fn without(calls: &[Call], forget: Range<usize>) -> Vec<Call> {
    let mut calls = calls.to_vec();
    calls[forget].iter_mut().for_each(|call| call.op.seen.clear());
    let seen: BTreeSet<(Register, u64)> =
        calls.iter().flat_map(|call| call.op.seen.iter().copied()).collect();
    calls.retain(|call| {
        let was_seen = call.op.written.iter().any(|what| seen.contains(what));
        call.outcome != Outcome::Failed && (!call.op.seen.is_empty() || was_seen)
    });
    calls
}
