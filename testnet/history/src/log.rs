//! What happened, revision by revision.

use std::collections::BTreeMap;

use crate::{Checked, ensure, shown};

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub key: Vec<u8>,
    /// What it holds now; `None`: it was deleted, and what follows `revision` is 0.
    pub value: Option<Vec<u8>>,
    /// When.
    pub revision: u64,
    /// When it came into being.
    pub create_revision: u64,
    /// Writes since then.
    pub version: u64,
    /// The lease it goes with.
    pub lease: i64,
}

/// All changes, as replicas or watches told them. What two of them say of one revision has to be the same.
#[derive(Clone, Debug, Default)]
pub struct Log {
    changes: BTreeMap<u64, Vec<Change>>,
}

impl Log {
    /// The last revision that is known: 1 is that of an empty keyspace.
    pub fn last(&self) -> u64 {
        self.changes.last_key_value().map_or(1, |(revision, _)| *revision)
    }

    /// All changes of one revision, told by `who`.
    pub fn note(&mut self, who: &str, revision: u64, changes: Vec<Change>) -> Checked {
        if let Some(known) = self.changes.get(&revision) {
            return ensure(*known == changes, || {
                format!("{who} differs at revision {revision}: {changes:?}, and others said {known:?}")
            });
        }
        let last = self.last();
        ensure(revision == last + 1, || format!("{who} goes on at revision {revision} after {last}"))?;
        self.changes.insert(revision, changes);
        Ok(())
    }

    /// Revisions with their changes, in order.
    pub fn revisions(&self) -> impl Iterator<Item = (u64, &[Change])> {
        self.changes.iter().map(|(revision, changes)| (*revision, changes.as_slice()))
    }

    /// Changes of keys that begin with `prefix`, in order.
    pub fn changes<'l>(&'l self, prefix: &'l [u8]) -> impl Iterator<Item = &'l Change> {
        self.changes.values().flatten().filter(move |change| change.key.starts_with(prefix))
    }

    /// Changes after one revision, up to another, in order.
    pub(crate) fn between(&self, after: u64, to: u64) -> impl Iterator<Item = &Change> {
        let later = self.changes.range(after + 1..);
        later.take_while(move |(revision, _)| **revision <= to).flat_map(|(_, changes)| changes)
    }

    /// The keys there are in the end, each with its last change.
    pub fn state(&self) -> BTreeMap<&[u8], &Change> {
        let mut state = BTreeMap::new();
        self.changes.values().flatten().for_each(|change| take(&mut state, change));
        state
    }

    /// What a replica or a linearizable read says to be there in the end is what these changes make.
    pub fn check_state(&self, who: &str, found: &[Change]) -> Checked {
        let state = self.state();
        for change in found {
            let known = state.get(change.key.as_slice());
            ensure(known == Some(&change), || {
                format!("{who} holds {change:?} in the end, and what happened makes {known:?}")
            })?;
        }
        let missing = state.values().find(|known| !found.contains(known));
        ensure(missing.is_none(), || match missing {
            Some(known) => format!("{who} lacks {:?} of revision {}", shown(&known.key), known.revision),
            None => String::new(),
        })
    }
}

/// A change takes effect.
pub fn take<'l>(state: &mut BTreeMap<&'l [u8], &'l Change>, change: &'l Change) {
    match change.value {
        Some(_) => drop(state.insert(&change.key, change)),
        None => drop(state.remove(change.key.as_slice())),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A log of puts and deletions; revisions count from 2.
    pub fn log_of(changes: &[(&str, Option<&str>)]) -> Log {
        let mut log = Log::default();
        let mut created = BTreeMap::new();
        for (at, (key, value)) in changes.iter().enumerate() {
            let revision = at as u64 + 2;
            let change = if let Some(value) = value {
                let (create_revision, version) = created.entry(*key).or_insert((revision, 0));
                *version += 1;
                change(key, Some(value), revision, *create_revision, *version)
            } else {
                created.remove(key);
                change(key, None, revision, 0, 0)
            };
            log.note("a test", revision, vec![change]).expect("in order");
        }
        log
    }

    fn change(key: &str, value: Option<&str>, revision: u64, create_revision: u64, version: u64) -> Change {
        let (key, value) = (key.into(), value.map(Into::into));
        Change { key, value, revision, create_revision, version, lease: 0 }
    }

    #[test]
    fn replicas_that_differ_and_gaps_are_found() {
        let mut log = log_of(&[("a", Some("1")), ("b", Some("2"))]);
        log.note("another", 2, vec![change("a", Some("1"), 2, 2, 1)]).expect("the same");
        log.note("another", 2, vec![change("a", Some("9"), 2, 2, 1)]).expect_err("it differs");
        log.note("another", 5, vec![change("a", Some("1"), 5, 2, 2)]).expect_err("4 is missing");
    }

    #[test]
    fn a_state_is_what_the_changes_make() {
        let log = log_of(&[("a", Some("1")), ("b", Some("2")), ("a", Some("3")), ("b", None)]);
        let a = change("a", Some("3"), 4, 2, 2);
        log.check_state("n1", std::slice::from_ref(&a)).expect("so it is");
        log.check_state("n1", &[]).expect_err("a lost write");
        log.check_state("n1", &[Change { version: 3, ..a.clone() }]).expect_err("applied twice");
        log.check_state("n1", &[a, change("b", Some("2"), 3, 3, 1)]).expect_err("what was deleted");
    }
}
