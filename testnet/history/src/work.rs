//! A queue whose items are reserved and acknowledged together with their effects.

use std::collections::{BTreeMap, BTreeSet};

use crate::fate::Fate;
use crate::log::Log;
use crate::{Checked, Violation, ensure, shown};

/// The name of the queue.
pub const WORK: &[u8] = b"work";
/// What the keys of effects begin with; the item follows.
pub const EFFECTS: &[u8] = b"effect/";
/// What the keys of items and of claims on them begin with.
const ITEMS: &[u8] = b"work/0";
const CLAIMS: &[u8] = b"work/claim/";

/// What a client has pushed and acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Worker {
    number: u64,
    pushed: BTreeMap<String, Fate>,
    /// The items whose acknowledgement was answered with success.
    done: Vec<String>,
}

impl Worker {
    /// A client whose items have its number, which no other client has.
    pub fn new(number: u64) -> Self {
        Self { number, ..Self::default() }
    }

    /// The next item that it pushes; its fate is not known yet.
    pub fn item(&mut self) -> String {
        let item = format!("{}-{}", self.number, self.pushed.len() + 1);
        self.pushed.insert(item.clone(), Fate::Unknown);
        item
    }

    /// Records the outcome of a push.
    pub fn pushed(&mut self, item: &str, fate: Fate) {
        self.pushed.insert(item.to_owned(), fate);
    }

    /// Records that an acknowledgement has succeeded.
    pub fn acknowledged(&mut self, item: &str) {
        self.done.push(item.to_owned());
    }

    /// Items whose acknowledgement was answered with success.
    pub fn done(&self) -> u64 {
        self.done.len() as u64
    }
}

/// What the log shows of the queue: how often each item came into it, and the items that left it with their effects.
#[derive(Default)]
struct Seen {
    came: BTreeMap<String, usize>,
    done: BTreeSet<String>,
}

impl Seen {
    fn of(log: &Log) -> Result<Self, Violation> {
        let mut seen = Self::default();
        let mut items: BTreeMap<&[u8], String> = BTreeMap::new();
        let mut claims: BTreeSet<&[u8]> = BTreeSet::new();
        for (revision, changes) in log.revisions() {
            let mut effects = BTreeSet::new();
            for change in changes {
                let Some(item) = change.key.strip_prefix(EFFECTS) else { continue };
                let item = shown(item).into_owned();
                ensure(change.version == 1, || {
                    format!("the effect of {item} was applied again at {revision}")
                })?;
                effects.insert(item);
            }
            let mut gone = BTreeSet::new();
            for change in changes.iter().filter(|change| change.key.starts_with(ITEMS)) {
                if let Some(value) = &change.value {
                    let item = shown(value).into_owned();
                    *seen.came.entry(item.clone()).or_default() += 1;
                    items.insert(&change.key, item);
                    continue;
                }
                let item = items.remove(change.key.as_slice()).unwrap_or_default();
                let place = change.key.strip_prefix(b"work/").unwrap_or_default();
                let is_claimed = claims.contains(place);
                ensure(is_claimed, || format!("{item} left the queue at {revision}, and nobody had it"))?;
                ensure(effects.contains(&item), || {
                    format!("{item} left the queue at {revision} without its effect")
                })?;
                gone.insert(item);
            }
            ensure(gone == effects, || {
                format!("effects of {effects:?} at {revision}, where {gone:?} left the queue")
            })?;
            seen.done.extend(gone);
            for change in changes {
                let Some(place) = change.key.strip_prefix(CLAIMS) else { continue };
                let is_new = change.value.is_none() || claims.insert(place);
                ensure(is_new, || format!("{} was claimed by two at {revision}", shown(place)))?;
                if change.value.is_none() {
                    claims.remove(place);
                }
            }
        }
        Ok(seen)
    }
}

/// Every item that was pushed came into the queue once if its push was acknowledged, not at all if it failed, and at most
/// once otherwise. It left the queue in the transaction that applied its effect, once, under a claim that stood; what
/// a client was told to be acknowledged has left.
pub fn check_work<'w>(log: &Log, workers: impl IntoIterator<Item = &'w Worker>) -> Checked {
    let Seen { mut came, done } = Seen::of(log)?;
    for worker in workers {
        for (item, push) in &worker.pushed {
            let count = came.remove(item).unwrap_or_default();
            ensure(push.allows(count), || {
                format!("item {item} came into the queue {count} times, its push: {push:?}")
            })?;
        }
        let mut told = BTreeSet::new();
        for item in &worker.done {
            ensure(done.contains(item), || format!("{item} was acknowledged, and has not left the queue"))?;
            ensure(told.insert(item), || format!("{item} was acknowledged twice"))?;
        }
    }
    ensure(came.is_empty(), || format!("no client pushed {came:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Change;

    /// A log of revisions, each a list of keys with values; `None` deletes.
    fn log(revisions: &[&[(&str, Option<&str>)]]) -> Log {
        let (mut log, mut versions) = (Log::default(), BTreeMap::new());
        for (at, changes) in revisions.iter().enumerate() {
            let revision = at as u64 + 2;
            let change = |(key, value): &(&str, Option<&str>)| {
                let version = versions.entry((*key).to_owned()).or_insert(0);
                *version = if value.is_some() { *version + 1 } else { 0 };
                Change {
                    key: key.as_bytes().to_vec(),
                    value: value.map(|value| value.as_bytes().to_vec()),
                    revision,
                    create_revision: revision,
                    version: *version,
                    lease: 0,
                }
            };
            let changes = changes.iter().map(change).collect();
            log.note("a test", revision, changes).expect("in order");
        }
        log
    }

    const PUSH: &[(&str, Option<&str>)] = &[("work/01000/1", Some("1-1"))];
    const CLAIM: &[(&str, Option<&str>)] = &[("work/claim/01000/1", Some(""))];
    const LAPSE: &[(&str, Option<&str>)] = &[("work/claim/01000/1", None)];
    const ACK: &[(&str, Option<&str>)] =
        &[("effect/1-1", Some("")), ("work/claim/01000/1", None), ("work/01000/1", None)];

    fn check(push: Fate, done: u64, revisions: &[&[(&str, Option<&str>)]]) -> Checked {
        let mut worker = Worker::new(1);
        let item = worker.item();
        worker.pushed(&item, push);
        (0..done).for_each(|_| worker.acknowledged(&item));
        check_work(&log(revisions), [&worker])
    }

    #[test]
    fn an_item_that_is_claimed_again_and_done_once_is_as_it_should_be() {
        check(Fate::Done, 1, &[PUSH, CLAIM, LAPSE, CLAIM, ACK]).expect("done once");
        check(Fate::Done, 0, &[PUSH, CLAIM, ACK]).expect("the answer was lost");
        check(Fate::Done, 0, &[PUSH, CLAIM]).expect("under way");
        check(Fate::Unknown, 0, &[]).expect("it may never have arrived");
    }

    #[test]
    fn lost_items_and_effects_that_are_applied_twice_are_found() {
        check(Fate::Done, 0, &[]).expect_err("a lost push");
        check(Fate::Failed, 0, &[PUSH]).expect_err("a push that failed");
        check(Fate::Done, 0, &[PUSH, &[("work/01000/2", Some("1-1"))]]).expect_err("pushed twice");
        check(Fate::Done, 0, &[PUSH, CLAIM, &[("work/01000/1", None)]]).expect_err("left without its effect");
        check(Fate::Done, 0, &[PUSH, CLAIM, LAPSE, ACK]).expect_err("nobody had it");
        check(Fate::Done, 0, &[PUSH, CLAIM, CLAIM]).expect_err("two had it");
        check(Fate::Done, 1, &[PUSH, CLAIM, ACK, &[("effect/1-1", Some(""))]]).expect_err("applied twice");
        check(Fate::Done, 1, &[PUSH, CLAIM, &[("effect/1-1", Some(""))]])
            .expect_err("an effect of an item that stays");
        check(Fate::Done, 1, &[PUSH, CLAIM]).expect_err("it has not left");
        check(Fate::Done, 2, &[PUSH, CLAIM, ACK]).expect_err("acknowledged twice");
    }
}
