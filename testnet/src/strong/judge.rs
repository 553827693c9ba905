//! What has to hold in the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use starling_history::{
    Call, Change, Checked, Locker, Log, Queuer, Verdict, Violation, check_answers, check_linearizable,
    check_locks, check_queue,
};

use super::registers::register;
use super::watchers::Watcher;

/// Calls of an excerpt that are shown, at most.
const EXCERPT_MAX: usize = 40;

/// All that clients recorded.
#[derive(Default)]
pub struct Histories {
    pub calls: Vec<Call>,
    pub lockers: Vec<Locker>,
    pub queuers: Vec<Queuer>,
    /// The first one watches everything.
    pub watchers: Vec<Watcher>,
    /// What each node said to hold in the end.
    pub states: Vec<(String, Vec<Change>)>,
}

/// A check by name, and what it came to.
pub type Verdicts = Vec<(&'static str, Checked)>;

/// Checks everything; what was noted while clients ran is a violation too.
pub fn judge(histories: &Histories, notes: &[String]) -> Verdicts {
    let meanwhile = match notes {
        [] => Ok(()),
        notes => Err(Violation(notes.join("\n"))),
    };
    let mut verdicts = vec![
        ("answers as they must be, and no lease ended early", meanwhile),
        ("linearizable, searched key by key", linearizable(&histories.calls)),
    ];
    let log = match log(&histories.watchers) {
        Ok(log) => log,
        Err(violation) => {
            verdicts.push(("the log without a gap", Err(violation)));
            return verdicts;
        }
    };
    let watched = histories.watchers.iter().try_for_each(|watcher| {
        watcher.told.check(&watcher.name, &log, log.last(), |change| change.key.starts_with(watcher.prefix))
    });
    verdicts.extend([
        ("watches told everything in order and once", watched),
        (
            "every answer agrees with the log, every write is there once",
            check_answers(&histories.calls, &log, register),
        ),
        ("one holder of the lock at a time, by token and by time", check_locks(&log, &histories.lockers)),
        ("every item of the queue once", check_queue(&log, &histories.queuers)),
        (
            "every replica holds what the log makes",
            histories.states.iter().try_for_each(|(who, state)| log.check_state(who, state)),
        ),
    ]);
    verdicts
}

/// Everything that happened, as the first watcher was told it.
fn log(watchers: &[Watcher]) -> Result<Log, Violation> {
    let mut by_revision: BTreeMap<u64, Vec<Change>> = BTreeMap::new();
    for change in watchers.first().into_iter().flat_map(|watcher| watcher.told.changes()) {
        by_revision.entry(change.revision).or_default().push(change.clone());
    }
    let mut log = Log::default();
    for (revision, changes) in by_revision {
        log.note("the first watcher", revision, changes)?;
    }
    Ok(log)
}

fn linearizable(calls: &[Call]) -> Checked {
    match check_linearizable(calls) {
        Verdict::Linearizable { .. } => Ok(()),
        Verdict::Undecided { calls } => {
            Err(Violation(format!("not decided: {calls} calls took more memory than is granted")))
        }
        Verdict::Violated(excerpt) => {
            let mut text = format!("no order explains these {} calls (times in us):", excerpt.len());
            for call in excerpt.iter().take(EXCERPT_MAX) {
                // Memory does not refuse.
                let _ = write!(text, "\n  {call}");
            }
            Err(Violation(text))
        }
    }
}
