//! A queue that is pushed and popped, every item once.

use std::collections::BTreeMap;

use crate::fate::Fate;
use crate::log::Log;
use crate::{Checked, Violation, ensure, shown};

/// What the queue's keys begin with.
pub const QUEUE: &[u8] = b"queue/";
/// Bytes of a large item: a few of them are more than waits for one watch.
const LARGE_BYTES: usize = 24 << 10;

/// What a client of the queue asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueAsk {
    /// Put this in, under a sequential key.
    Push(Vec<u8>),
    /// Take the first one out.
    Pop,
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueAnswer {
    /// It is in.
    Pushed,
    /// This was the first; `None`: there was none.
    Popped(Option<Vec<u8>>),
    /// It may have been done or not.
    Unknown,
    /// It was said to have changed nothing.
    Failed,
}

/// A client that pushes and pops.
#[derive(Clone, Debug)]
pub struct Queuer {
    number: u64,
    count: u64,
    /// What it pushes at the moment; none: it pops.
    pushing: Option<String>,
    pushed: BTreeMap<String, Fate>,
    popped: Vec<String>,
    unknown_pops: usize,
}

impl Queuer {
    /// Its items bear its number, which nobody else has.
    pub fn new(number: u64) -> Self {
        Self { number, count: 0, pushing: None, pushed: BTreeMap::new(), popped: Vec::new(), unknown_pops: 0 }
    }

    /// Items it was given.
    pub fn popped(&self) -> u64 {
        self.popped.len() as u64
    }

    /// What it asks for next, by a number drawn at random.
    pub fn next(&mut self, draw: u64) -> QueueAsk {
        if draw % 5 >= 3 {
            return QueueAsk::Pop;
        }
        self.count += 1;
        let name = format!("{}-{}", self.number, self.count);
        self.pushed.insert(name.clone(), Fate::Unknown);
        self.pushing = Some(name.clone());
        let mut value = name.into_bytes();
        if (draw / 5).is_multiple_of(4) {
            value.resize(LARGE_BYTES, b' ');
        }
        QueueAsk::Push(value)
    }

    /// What came of it.
    pub fn learn(&mut self, answer: QueueAnswer) -> Checked {
        match (self.pushing.take(), answer) {
            (Some(name), QueueAnswer::Pushed) => drop(self.pushed.insert(name, Fate::Done)),
            (Some(name), QueueAnswer::Failed) => drop(self.pushed.insert(name, Fate::Failed)),
            (None, QueueAnswer::Popped(Some(value))) => self.popped.push(item(&value)),
            (Some(_), QueueAnswer::Unknown) | (None, QueueAnswer::Popped(None) | QueueAnswer::Failed) => {}
            (None, QueueAnswer::Unknown) => self.unknown_pops += 1,
            (_, other) => return Err(Violation(format!("not what a queue answers: {other:?}"))),
        }
        Ok(())
    }
}

fn item(value: &[u8]) -> String {
    shown(value).trim_end().to_owned()
}

/// Items that were ever in the queue, and that left it, with how often.
type Counts = BTreeMap<String, usize>;

fn counts(log: &Log) -> Result<(Counts, Counts), Violation> {
    let (mut there, mut popped) = (Counts::new(), Counts::new());
    let mut names = BTreeMap::new();
    for change in log.changes(QUEUE) {
        if let Some(value) = &change.value {
            let item = item(value);
            names.insert(&change.key, item.clone());
            *there.entry(item).or_default() += 1;
        } else {
            let first = names.first_key_value().map(|(key, _)| *key);
            ensure(first == Some(&change.key), || {
                let first = first.map(|key| shown(key));
                format!("{:?} left the queue, whose first was {first:?}", shown(&change.key))
            })?;
            let item = names.remove(&change.key).unwrap_or_default();
            *popped.entry(item).or_default() += 1;
        }
    }
    Ok((there, popped))
}

/// Every item that was pushed is in the queue once if its push was acknowledged, not at all if that was said
/// to have failed, and at most once otherwise; it is the first when it leaves, and one client gets it.
pub fn check_queue<'q>(log: &Log, queuers: impl IntoIterator<Item = &'q Queuer>) -> Checked {
    let (mut there, mut left) = counts(log)?;
    let mut unknown = 0;
    for queuer in queuers {
        for (item, push) in &queuer.pushed {
            let count = there.remove(item).unwrap_or_default();
            ensure(push.allows(count), || {
                format!("item {item} is in the queue's log {count} times, its push: {push:?}")
            })?;
        }
        for item in &queuer.popped {
            let count = left.remove(item);
            ensure(count == Some(1), || format!("{item} was popped by one, and left the queue: {count:?}"))?;
        }
        unknown += queuer.unknown_pops;
    }
    ensure(there.is_empty(), || format!("nobody pushed {there:?}"))?;
    ensure(left.len() <= unknown, || format!("{left:?} left the queue, and {unknown} pops are not known"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::log_of;

    const PUSH: u64 = 5;
    const POP: u64 = 3;

    /// One client's pushes and pops, and the log beside them.
    fn check(answers: Vec<(u64, QueueAnswer)>, log: &[(&str, Option<&str>)]) -> Checked {
        let mut queuer = Queuer::new(1);
        for (draw, answer) in answers {
            queuer.next(draw);
            queuer.learn(answer)?;
        }
        check_queue(&log_of(log), [&queuer])
    }

    #[test]
    fn lost_doubled_and_disordered_items_are_found() {
        let got = |item: &str| QueueAnswer::Popped(Some(item.into()));
        let pushed = || (PUSH, QueueAnswer::Pushed);
        let (one, two) = (("queue/1", Some("1-1")), ("queue/2", Some("1-2")));
        let (first, second) = (("queue/1", None), ("queue/2", None));
        check(vec![pushed(), pushed(), (POP, got("1-1"))], &[one, two, first]).expect("as it should be");
        check(vec![pushed(), (POP, QueueAnswer::Unknown)], &[one, first]).expect("nobody was told");
        check(vec![pushed()], &[]).expect_err("a lost push");
        check(vec![pushed()], &[one, ("queue/2", Some("1-1"))]).expect_err("pushed twice");
        check(vec![(PUSH, QueueAnswer::Failed)], &[one]).expect_err("said to have failed");
        check(vec![pushed(), pushed(), (POP, got("1-2"))], &[one, two, second]).expect_err("not the first");
        check(vec![pushed(), (POP, got("1-1")), (POP, got("1-1"))], &[one, first]).expect_err("popped twice");
        check(vec![pushed()], &[one, first]).expect_err("nobody popped it");
        check(vec![], &[one]).expect_err("nobody pushed it");
    }
}
