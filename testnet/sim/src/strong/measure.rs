//! How a strong keyspace served its clients in the measured time.

use std::collections::BTreeMap;
use std::time::Duration;

use starling_report::{Availabilities, Availability, Distribution, Series, Summary};
use starling_strong::api::Failure;

use super::Strong;
use super::actors::Role;

/// Latencies of requests of one kind, microseconds.
#[derive(Debug, Default)]
struct Served {
    member_us: Vec<u64>,
    outsider_us: Vec<u64>,
}

impl Served {
    fn add(&mut self, took_us: u64, through_member: bool) {
        if through_member { self.member_us.push(took_us) } else { self.outsider_us.push(took_us) }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Measured {
    began_us: Option<u64>,
    writes: Served,
    reads: Served,
    failures: u64,
    /// Answers by second.
    answers: BTreeMap<u64, u64>,
    availabilities: Availabilities,
}

/// Names of operations: attempts at one node, and requests with all their attempts; reads and writes.
const ATTEMPT: [&str; 2] = ["strong read, one node", "strong write, one node"];
const REQUEST: [&str; 2] = ["strong read, retried", "strong write, retried"];

impl Measured {
    pub fn begin(&mut self, now_us: u64) {
        self.began_us = Some(now_us);
    }

    pub fn end(&mut self, now_us: u64) {
        let Some(began_us) = self.began_us.take() else { return };
        // Also the seconds without any answer.
        for second in 0..(now_us - began_us) / 1_000_000 {
            self.answers.entry(second).or_default();
        }
    }

    pub fn answered(&mut self, start_us: u64, now_us: u64, is_write: bool, through_member: bool) {
        let Some(began_us) = self.began_us else { return };
        *self.answers.entry((now_us - began_us) / 1_000_000).or_default() += 1;
        let served = if is_write { &mut self.writes } else { &mut self.reads };
        served.add(now_us - start_us, through_member);
    }

    /// An attempt of a client at one node ended.
    pub fn attempted(&mut self, client: usize, is_write: bool, span_us: [u64; 2], succeeded: bool) {
        if self.began_us.is_some() {
            self.availabilities.note(client, ATTEMPT[usize::from(is_write)], span_us, succeeded);
        }
    }

    /// A request of a client ended, after any number of attempts.
    pub fn requested(&mut self, client: usize, is_write: bool, span_us: [u64; 2], succeeded: bool) {
        if self.began_us.is_some() {
            self.availabilities.note(client, REQUEST[usize::from(is_write)], span_us, succeeded);
        }
    }

    pub fn failed(&mut self, failure: &Failure) {
        self.failures += u64::from(self.began_us.is_some() && !matches!(failure, Failure::Refused(_)));
    }
}

fn summary(sample_us: &[u64]) -> Summary {
    let sample: Vec<Duration> = sample_us.iter().map(|us| Duration::from_micros(*us)).collect();
    Summary::of(&sample)
}

fn distribution(name: &str, sample_us: &[u64]) -> Distribution {
    Distribution::of(name, "ms", sample_us.iter().map(|us| *us as f64 / 1e3).collect())
}

impl Strong {
    /// The report's part.
    pub(crate) fn report(&self, violations: Vec<String>) -> starling_report::Strong {
        let Measured { writes, reads, failures, .. } = &self.measured;
        let (mut held, mut refused_late, mut popped) = (0, 0, 0);
        for actor in &self.actors {
            match &actor.role {
                Role::Lock(holder) => {
                    let (times, _, late) = holder.locker.counts();
                    (held, refused_late) = (held + times, refused_late + late);
                }
                Role::Queue(client) => popped += client.queuer.popped(),
                Role::Work(client) => popped += client.worker.done(),
                Role::Register(_) => {}
            }
        }
        starling_report::Strong {
            voters: self.load.voters.into(),
            clients: self.actors.len() as u64,
            revision: self.revision,
            failures: *failures,
            elections: self.leaders.elections(),
            leaders_lost: self.leaders.losses,
            locks_held: held,
            stale_refused: refused_late,
            items_popped: popped,
            changes_told: self.watchers.iter().map(|watcher| watcher.told.counts().0).sum(),
            next_write: summary(&self.leaders.next_write_us),
            write_member: summary(&writes.member_us),
            write_outsider: summary(&writes.outsider_us),
            read_member: summary(&reads.member_us),
            read_outsider: summary(&reads.outsider_us),
            violations,
        }
    }

    /// How available it was: attempts at one node beside requests that are retried.
    pub(crate) fn availability(&self) -> Vec<Availability> {
        self.measured.availabilities.kinds()
    }

    /// Its distributions, for plots.
    pub(crate) fn distributions(&self) -> Vec<Distribution> {
        let Measured { writes, reads, .. } = &self.measured;
        vec![
            distribution("next write after the leader was lost", &self.leaders.next_write_us),
            distribution("answer of the strong keyspace: write, member", &writes.member_us),
            distribution("answer of the strong keyspace: write, outsider", &writes.outsider_us),
            distribution("answer of the strong keyspace: read, member", &reads.member_us),
            distribution("answer of the strong keyspace: read, outsider", &reads.outsider_us),
        ]
    }

    /// Answers by second.
    pub(crate) fn series(&self) -> Series {
        let points = self.measured.answers.iter().map(|(second, count)| (*second as f64, *count as f64));
        Series {
            name: "answers of the strong keyspace per second".into(),
            unit: String::new(),
            points: points.collect(),
        }
    }
}
