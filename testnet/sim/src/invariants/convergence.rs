//! Strong eventual consistency: after healing all live replicas are equal, by their roots and by what
//! they hold, and each is sound row by row.

use starling_kv::{MemoryEngine, Store};

use super::State;

/// All live replicas.
pub fn check(replicas: &[(usize, &State, &Store<MemoryEngine>)]) -> Result<(), String> {
    let Some((first, state, store)) = replicas.first() else { return Ok(()) };
    for (node, other, other_store) in &replicas[1..] {
        if let Some(difference) = difference(state, other) {
            return Err(format!("nodes {first} and {node} differ: {difference}"));
        }
        if store.root() != other_store.root() {
            return Err(format!("nodes {first} and {node} hold the same, and have different roots"));
        }
    }
    Ok(())
}

/// A replica's rows among themselves.
pub fn check_sound(store: &Store<MemoryEngine>) -> Result<(), String> {
    let report = store.doctor().expect("a memory engine reads");
    if report.is_sound() { Ok(()) } else { Err(format!("the store is damaged: {:?}", report.problems)) }
}

fn difference(a: &State, b: &State) -> Option<String> {
    let mut seen = a.seen.minus(&b.seen).chain(b.seen.minus(&a.seen));
    if let Some(dot) = seen.next() {
        return Some(format!("{dot:?} was seen by one of them only (and {} more)", seen.count()));
    }
    let mut alive = a.alive.minus(&b.alive).chain(b.alive.minus(&a.alive));
    if let Some(dot) = alive.next() {
        return Some(format!("{dot:?} lives on one of them only (and {} more)", alive.count()));
    }
    (a.live != b.live).then(|| "one dot has two contents".into())
}
