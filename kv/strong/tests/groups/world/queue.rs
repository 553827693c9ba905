//! A queue that is pushed and popped, every item once; and what compacts the history meanwhile.

use std::collections::BTreeMap;

use starling_strong::api::{Body, EventKind, Keys, Request, Revision, Write};

use super::World;
use super::actors::{Outcome, Step};

/// Revisions that are kept.
const KEPT: Revision = 250;
/// Bytes of a large item: a few of them are more than waits for one watch.
const LARGE_BYTES: usize = 24 << 10;
const QUEUE: &[u8] = b"queue/";

pub struct Queuer {
    number: u64,
    count: u64,
    /// What it pushes at the moment; none: it pops.
    pushing: Option<String>,
    /// Item -> whether it was acknowledged.
    pushed: BTreeMap<String, bool>,
    pub popped: Vec<String>,
    unknown_pops: u64,
}

impl Queuer {
    pub fn new(number: u64) -> Self {
        Self { number, count: 0, pushing: None, pushed: BTreeMap::new(), popped: Vec::new(), unknown_pops: 0 }
    }

    pub fn next(&mut self, draw: u64) -> Step {
        let write = if draw % 5 < 3 {
            self.count += 1;
            let name = format!("{}-{}", self.number, self.count);
            self.pushed.insert(name.clone(), false);
            self.pushing = Some(name.clone());
            let mut value = name.into_bytes();
            if (draw / 5).is_multiple_of(4) {
                value.resize(LARGE_BYTES, b' ');
            }
            Write::PutSequential { prefix: QUEUE.to_vec(), value, lease: 0 }
        } else {
            Write::PopFirst { keys: Keys::Range { from: QUEUE.to_vec(), to: Some(b"queue0".to_vec()) } }
        };
        Step::Ask { request: Request::Write(write), fence: None }
    }

    pub fn learn(&mut self, outcome: Outcome) {
        let body = outcome.result.map(|result| result.expect("a queue refuses nothing").body);
        match (self.pushing.take(), body) {
            (Some(name), Some(Body::Sequential { .. })) => drop(self.pushed.insert(name, true)),
            (Some(_), None) | (None, Some(Body::Popped(None))) => {}
            (None, Some(Body::Popped(Some(kv)))) => self.popped.push(item(&kv.value)),
            (None, None) => self.unknown_pops += 1,
            (_, Some(other)) => panic!("not what a queue answers: {other:?}"),
        }
    }
}

fn item(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end().to_owned()
}

/// Every item that was pushed is in the queue once, if its push was acknowledged, and at most once if not;
/// every one that was popped left it once.
pub fn check(world: &World, queuers: &[&Queuer]) {
    let mut there = BTreeMap::new();
    let mut popped = BTreeMap::new();
    let mut names = BTreeMap::new();
    for event in world.scribe.events(QUEUE) {
        match event.kind {
            EventKind::Put => {
                let item = item(&event.kv.value);
                names.insert(event.kv.key.clone(), item.clone());
                *there.entry(item).or_insert(0) += 1;
            }
            EventKind::Delete => {
                let item = names.remove(&event.kv.key).expect("what is popped was there");
                *popped.entry(item).or_insert(0) += 1;
            }
        }
    }
    let mut told = 0;
    for queuer in queuers {
        for (item, is_acknowledged) in &queuer.pushed {
            let count = there.remove(item).unwrap_or(0);
            assert!(
                count == 1 || (count == 0 && !is_acknowledged),
                "{item} was pushed {count} times, acknowledged: {is_acknowledged}"
            );
        }
        for item in &queuer.popped {
            told += 1;
            let count = popped.remove(item);
            assert_eq!(count, Some(1), "{item} was popped by one, and left the queue so often");
        }
    }
    assert!(there.is_empty(), "nobody pushed {there:?}");
    let unknown: u64 = queuers.iter().map(|queuer| queuer.unknown_pops).sum();
    assert!(popped.len() as u64 <= unknown, "{popped:?} left, {told} told, {unknown} not known");
}

/// Compacts what is older than the last [`KEPT`] revisions.
pub struct Janitor {
    compacted: Revision,
}

impl Janitor {
    pub fn new() -> Self {
        Self { compacted: 0 }
    }

    pub fn next(&mut self, last: Revision) -> Step {
        let revision = last.saturating_sub(KEPT);
        if revision < self.compacted + KEPT / 2 {
            return Step::Wait(500);
        }
        self.compacted = revision;
        Step::Ask { request: Request::Write(Write::Compact { revision }), fence: None }
    }
}
