//! What a run did and found, for people and for programs.

use std::time::Duration;

use serde::Serialize;
use starling_report::{Availability, Report};

use super::judge::{Histories, Verdicts};
use super::members::Minority;
use super::tally::{Counts, Outcomes};
use crate::error::{Error, Result};

/// One kind of operation.
#[derive(Debug, Serialize)]
struct Kind {
    operation: &'static str,
    #[serde(flatten)]
    outcomes: Outcomes,
}

/// One kind of fault.
#[derive(Debug, Serialize)]
struct Fault {
    of: &'static str,
    what: &'static str,
    times: u64,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    /// Absent: it holds.
    violation: Option<String>,
}

/// A run.
#[derive(Debug, Serialize)]
pub struct Outcome {
    voters: usize,
    nodes: usize,
    seed: u64,
    operations: Vec<Kind>,
    faults: Vec<Fault>,
    /// Times without a majority of running voters, and how long they were in all.
    without_majority: u64,
    without_majority_s: f64,
    longest_without_write_s: f64,
    longest_without_write_at_s: f64,
    /// Terms in which somebody was seen to lead.
    elections: usize,
    /// From the end of the last fault until one node, and every node, had taken a write.
    first_write_after_s: f64,
    all_write_after_s: f64,
    locks_held: u64,
    fenced_writes: u64,
    stale_tokens_refused: u64,
    items_popped: u64,
    changes_told: u64,
    watches_lost: u64,
    calls_checked: usize,
    availability: Vec<Availability>,
    checks: Vec<Check>,
}

/// How a run went, beside what its clients recorded.
pub struct Ran {
    pub voters: usize,
    pub nodes: usize,
    pub seed: u64,
    pub counts: Counts,
    pub minority: Minority,
    /// From the end of the last fault until one node, and every node, had taken a write.
    pub recovery: [Duration; 2],
}

impl Outcome {
    /// Sums it up.
    pub fn new(ran: Ran, histories: &Histories, verdicts: Verdicts) -> Self {
        let Ran { voters, nodes, seed, counts, minority, recovery } = ran;
        let locks: Vec<_> = histories.lockers.iter().map(starling_history::Locker::counts).collect();
        let operations =
            counts.operations.into_iter().map(|(operation, outcomes)| Kind { operation, outcomes }).collect();
        let faults = counts.faults.into_iter().map(|((of, what), times)| Fault { of, what, times }).collect();
        let availability = counts.availabilities.kinds();
        let checks = verdicts
            .into_iter()
            .map(|(check, checked)| Check { check, violation: checked.err().map(|it| it.0) })
            .collect();
        Self {
            voters,
            nodes,
            seed,
            operations,
            faults,
            without_majority: minority.times,
            without_majority_s: minority.lasted.as_secs_f64(),
            longest_without_write_s: counts.longest_gap.as_secs_f64(),
            longest_without_write_at_s: counts.longest_gap_at.as_secs_f64(),
            elections: counts.leaders.len(),
            first_write_after_s: recovery[0].as_secs_f64(),
            all_write_after_s: recovery[1].as_secs_f64(),
            locks_held: locks.iter().map(|(held, ..)| held).sum(),
            fenced_writes: locks.iter().map(|(_, writes, _)| writes).sum(),
            stale_tokens_refused: locks.iter().map(|(.., late)| late).sum(),
            items_popped: histories.queuers.iter().map(starling_history::Queuer::popped).sum(),
            changes_told: histories.watchers.iter().map(|watcher| watcher.told.counts().0).sum(),
            watches_lost: counts.watches_lost,
            calls_checked: histories.calls.len(),
            availability,
            checks,
        }
    }

    /// The report.
    pub fn report(&self) -> Report {
        let title =
            format!("A strong keyspace on {} of {} nodes, seed {}", self.voters, self.nodes, self.seed);
        let operations = self.operations.iter().map(|Kind { operation, outcomes }| {
            let Outcomes { done, refused, failed, unknown, again } = outcomes;
            let [done, refused, failed, unknown, again] =
                [done, refused, failed, unknown, again].map(ToString::to_string);
            [(*operation).to_string(), done, refused, failed, unknown, again]
        });
        let faults = self.faults.iter().map(|it| [format!("{}: {}", it.of, it.what), it.times.to_string()]);
        let checks = self.checks.iter().map(|it| {
            [it.check.to_string(), if it.violation.is_none() { "holds" } else { "VIOLATED" }.to_string()]
        });
        Report::new(title, self)
            .table(["operation", "done", "refused", "changed nothing", "not known", "sent again"], operations)
            .table(["fault", "times"], faults)
            .availability(&self.availability)
            .line(format!(
                "No majority ran {} times, for {:.1} s in all; {} elections were seen. The longest time without \
                 a successful write was {:.2} s, and ended at {:.1} s. After the last fault the first node took a \
                 write within {:.2} s, and every node within {:.2} s.",
                self.without_majority,
                self.without_majority_s,
                self.elections,
                self.longest_without_write_s,
                self.longest_without_write_at_s,
                self.first_write_after_s,
                self.all_write_after_s,
            ))
            .line(format!(
                "The lock was held {} times, {} writes were made under it, {} came too late and were refused; {} \
                 items were popped; watchers were told {} changes, and lost {} watches; {} calls on registers \
                 were checked.",
                self.locks_held,
                self.fenced_writes,
                self.stale_tokens_refused,
                self.items_popped,
                self.changes_told,
                self.watches_lost,
                self.calls_checked,
            ))
            .table(["check", ""], checks)
    }

    /// An error with every violation and the command that repeats the run, if there is one.
    pub fn verdict(&self, again: &str) -> Result<()> {
        let violations: Vec<String> = self
            .checks
            .iter()
            .filter_map(|check| Some(format!("{}:\n{}", check.check, check.violation.as_ref()?)))
            .collect();
        if violations.is_empty() {
            return Ok(());
        }
        Err(Error::Broken(format!(
            "violated: {}\nThe same faults and clients again (not to the microsecond):  {again}",
            violations.join("\nviolated: ")
        )))
    }
}
