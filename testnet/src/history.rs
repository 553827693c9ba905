//! What was asked of the network, what it answered, and what each node showed when: everything that a
//! run is judged by.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use starling_report::Spread;

use crate::relay::Member;

/// A write, by the order in which it was sent.
pub type WriteId = usize;

/// What a write does. Registers, counters and sets have keys of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Sets a register to a value that names the write.
    Put,
    /// Sets another register, with a time to live; nothing is asked of it in the end.
    PutExpiring,
    /// Deletes a register.
    Delete,
    /// Adds 1 to a counter.
    Increment,
    /// Adds a member that names the write to a set.
    SetAdd,
    /// Removes the member that this write added.
    SetRemove(WriteId),
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No answer: it may have been made, or be made later.
    Unanswered,
    /// The node said no: it was not made.
    Refused,
    /// Made.
    Acknowledged {
        /// When the answer came, since the beginning of the history.
        at: Duration,
        /// How many values or members it found and removed.
        removed: u64,
    },
}

/// One write.
#[derive(Clone, Debug)]
pub struct Write {
    /// What it does.
    pub operation: Operation,
    /// To which key of its type.
    pub key: u64,
    /// Through which node.
    pub node: Member,
    /// When it was sent, since the beginning of the history.
    pub sent: Duration,
    /// What came of it.
    pub outcome: Outcome,
    /// Which nodes showed it when. Of registers only, and only what a watch told.
    pub shown: Vec<(Member, Duration)>,
}

/// A time during which a node ran and was watched without a break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From its watch being ready.
    pub from: Duration,
    /// Until it was killed, stopped or asked to leave.
    pub to: Option<Duration>,
}

/// The history of a run. Times count from its beginning.
#[derive(Debug)]
pub struct History {
    began: Instant,
    /// All writes.
    pub writes: Vec<Write>,
    /// Of each member, in order.
    pub spans: BTreeMap<Member, Vec<Span>>,
    /// When a member's data was removed.
    pub wiped: Vec<(Member, Duration)>,
}

/// What a replica holds at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    /// Writes whose values a register shows, the winner first, by key.
    pub registers: BTreeMap<u64, Vec<WriteId>>,
    /// Sums, by key.
    pub counters: BTreeMap<u64, i128>,
    /// Writes whose members are in a set, by key.
    pub sets: BTreeMap<u64, BTreeSet<WriteId>>,
}

impl Write {
    /// When it was acknowledged, if it was.
    pub fn acknowledged(&self) -> Option<Duration> {
        match self.outcome {
            Outcome::Acknowledged { at, .. } => Some(at),
            Outcome::Unanswered | Outcome::Refused => None,
        }
    }

    /// When a node first showed it.
    pub fn first_shown(&self, node: Member) -> Option<Duration> {
        self.shown.iter().filter(|(member, _)| *member == node).map(|(_, at)| *at).min()
    }

    /// Whether a node had it at a time: it had shown it, or acknowledged it itself.
    pub fn was_at(&self, node: Member, at: Duration) -> bool {
        let made_there = self.node == node && self.acknowledged().is_some_and(|made| made < at);
        made_there || self.first_shown(node).is_some_and(|shown| shown < at)
    }
}

impl Default for History {
    fn default() -> Self {
        Self { began: Instant::now(), writes: Vec::new(), spans: BTreeMap::new(), wiped: Vec::new() }
    }
}

impl History {
    /// Now, since its beginning.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// A write is about to be sent.
    pub fn send(&mut self, operation: Operation, key: u64, node: Member) -> WriteId {
        let sent = self.now();
        let outcome = Outcome::Unanswered;
        self.writes.push(Write { operation, key, node, sent, outcome, shown: Vec::new() });
        self.writes.len() - 1
    }

    /// A node showed a write.
    pub fn show(&mut self, write: WriteId, node: Member, at: Duration) {
        if let Some(write) = self.writes.get_mut(write) {
            write.shown.push((node, at));
        }
    }

    /// A node runs and is watched from now on.
    pub fn begin_span(&mut self, node: Member) {
        let from = self.now();
        self.spans.entry(node).or_default().push(Span { from, to: None });
    }

    /// A node does not run from now on, or is not watched.
    pub fn end_span(&mut self, node: Member) {
        let now = self.now();
        if let Some(span) = self.spans.get_mut(&node).and_then(|spans| spans.last_mut()) {
            span.to.get_or_insert(now);
        }
    }

    /// A node's data is gone.
    pub fn wipe(&mut self, node: Member) {
        let now = self.now();
        self.wiped.push((node, now));
    }

    /// How many nodes ran at a time.
    pub fn running(&self, at: Duration) -> usize {
        let ran = |spans: &&Vec<Span>| spans.iter().any(|s| s.from <= at && s.to.is_none_or(|to| to > at));
        self.spans.values().filter(ran).count()
    }

    /// Whether a write may be the reason that a node never told of an earlier one at the same key:
    /// changes in quick succession are told as one.
    fn may_hide(&self, newer: WriteId, node: Member) -> bool {
        let newer = &self.writes[newer];
        newer.operation == Operation::Delete || newer.first_shown(node).is_some()
    }

    /// How long a write took to each of the nodes that ran from `since` on without a break until they
    /// showed it, or until `end`. None: one of them has not shown it although it ran on, and shows
    /// nothing newer under its key.
    pub fn spread(
        &self,
        id: WriteId,
        newer: &[WriteId],
        since: Duration,
        end: Duration,
    ) -> Option<Vec<Duration>> {
        let write = &self.writes[id];
        let mut times = Vec::new();
        for (node, spans) in &self.spans {
            let Some(span) = spans.iter().find(|s| s.from <= since && s.to.is_none_or(|to| to > write.sent))
            else {
                continue;
            };
            let until = span.to.unwrap_or(end);
            match write.first_shown(*node).filter(|shown| *shown <= until) {
                Some(shown) => times.push(shown.saturating_sub(write.sent)),
                None if span.to.is_some() => {}
                None if newer.iter().any(|n| self.may_hide(*n, *node)) => {}
                None => return None,
            }
        }
        Some(times)
    }

    /// How each acknowledged put that was sent between these times spread over the nodes that ran from the first one
    /// on.
    pub fn spreads(&self, since: Duration, end: Duration) -> Vec<Spread> {
        let puts = self.measured(since, end).filter(|id| self.writes[*id].operation == Operation::Put);
        let later = self.later_at_the_same_key();
        puts.filter_map(|id| {
            let write = &self.writes[id];
            let acknowledged = write.acknowledged()?.saturating_sub(write.sent);
            let newer = later.get(&write.key).map_or(&[][..], Vec::as_slice);
            let newer = &newer[newer.partition_point(|other| *other <= id)..];
            let readable = self.spread(id, newer, since, self.now())?;
            (!readable.is_empty()).then_some(Spread { acknowledged, readable })
        })
        .collect()
    }

    /// Writes sent between these times and acknowledged.
    pub fn measured(&self, since: Duration, end: Duration) -> impl Iterator<Item = WriteId> {
        let writes = self.writes.iter().enumerate();
        let measured = writes.filter(move |(_, write)| (since..end).contains(&write.sent));
        measured.filter(|(_, write)| write.acknowledged().is_some()).map(|(id, _)| id)
    }

    /// Puts and deletes by register, in the order of their sending.
    pub fn later_at_the_same_key(&self) -> BTreeMap<u64, Vec<WriteId>> {
        let mut all: BTreeMap<u64, Vec<WriteId>> = BTreeMap::new();
        for (id, write) in self.writes.iter().enumerate() {
            let is_at_register = matches!(write.operation, Operation::Put | Operation::Delete);
            if is_at_register && write.outcome != Outcome::Refused {
                all.entry(write.key).or_default().push(id);
            }
        }
        all
    }
}
