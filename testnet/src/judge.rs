//! What became of the writes, from a history and from what every live replica holds at the end.
//!
//! Whatever could be right counts as right: a write whose place is written again before its
//! acknowledgement may be superseded by that one; a write that got no answer may have been made or not.
//! What remains cannot be excused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use starling_report::Writes;

use crate::history::{History, Operation, Outcome, Replica, Write, WriteId};
use crate::relay::Member;

/// Of two writes by different nodes, the one sent so long after the other's acknowledgement has the
/// later timestamp: the nodes share a clock, whose milliseconds a hybrid logical clock counts up from. Clocks of several machines
/// are further apart.
const CLOCK_GRAIN: Duration = Duration::from_millis(20);
/// Findings described one by one; the others are only counted.
const FINDINGS_MAX: usize = 20;

/// The judgement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// The counts.
    pub writes: Writes,
    /// What is wrong, a line each.
    pub findings: Vec<String>,
}

/// Judges a run by what the live replicas hold at its end. `apart`: how far the clocks of the nodes are apart.
pub fn judge(history: &History, replicas: &BTreeMap<Member, Replica>, apart: Duration) -> Judgement {
    let mut court = Court {
        history,
        replicas,
        grain: CLOCK_GRAIN + apart,
        places: places(history),
        judgement: Judgement::default(),
    };
    court.count();
    court.registers();
    court.sets();
    court.counters();
    court.judgement
}

/// Every write that may have been made, by its place.
fn places(history: &History) -> BTreeMap<(Kind, u64), Vec<WriteId>> {
    let mut places: BTreeMap<_, Vec<WriteId>> = BTreeMap::new();
    for (id, write) in history.writes.iter().enumerate().filter(|(_, w)| w.outcome != Outcome::Refused) {
        places.entry((kind(write.operation), write.key)).or_default().push(id);
    }
    places
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Register,
    Expiring,
    Counter,
    Set,
}

fn kind(operation: Operation) -> Kind {
    match operation {
        Operation::Put | Operation::Delete => Kind::Register,
        Operation::PutExpiring => Kind::Expiring,
        Operation::Increment => Kind::Counter,
        Operation::SetAdd | Operation::SetRemove(_) => Kind::Set,
    }
}

struct Court<'h> {
    history: &'h History,
    replicas: &'h BTreeMap<Member, Replica>,
    /// Two writes of different nodes within this time may have any order.
    grain: Duration,
    places: BTreeMap<(Kind, u64), Vec<WriteId>>,
    judgement: Judgement,
}

impl Court<'_> {
    fn count(&mut self) {
        let writes = &self.history.writes;
        let acknowledged = writes.iter().filter(|write| write.acknowledged().is_some()).count() as u64;
        self.judgement.writes.sent = writes.len() as u64;
        self.judgement.writes.acknowledged = acknowledged;
        self.judgement.writes.failed = writes.len() as u64 - acknowledged;
    }

    fn of(&self, kind: Kind) -> Vec<(u64, Vec<WriteId>)> {
        let of = self.places.iter().filter(|((found, _), _)| *found == kind);
        of.map(|((_, key), ids)| (*key, ids.clone())).collect()
    }

    /// Whether a replica that had the write lives, and still has the disk it had then.
    fn is_held(&self, write: &Write) -> bool {
        let kept = |node: Member, at: Duration| {
            self.replicas.contains_key(&node)
                && !self.history.wiped.iter().any(|(n, t)| *n == node && *t >= at)
        };
        let acknowledged = write.acknowledged().is_some_and(|at| kept(write.node, at));
        acknowledged || write.shown.iter().any(|(node, at)| kept(*node, *at))
    }

    /// A write that must be everywhere: notes where it is not.
    fn demand(&mut self, id: WriteId, is_there: impl Fn(&Replica) -> bool) {
        let without: Vec<Member> =
            self.replicas.iter().filter(|(_, replica)| !is_there(replica)).map(|(node, _)| *node).collect();
        if without.is_empty() {
            return;
        }
        if without.len() == self.replicas.len() {
            self.judgement.writes.lost += 1;
            self.find(id, "lost");
        } else {
            self.judgement.writes.missing += 1;
            self.find(id, &format!("missing on nodes {without:?}"));
        }
    }

    /// A write that must be nowhere: notes where it is.
    fn forbid(&mut self, id: WriteId, is_there: impl Fn(&Replica) -> bool) {
        let with: Vec<Member> =
            self.replicas.iter().filter(|(_, replica)| is_there(replica)).map(|(node, _)| *node).collect();
        if !with.is_empty() {
            self.judgement.writes.resurrected += 1;
            self.find(id, &format!("removed, and back on nodes {with:?}"));
        }
    }

    fn registers(&mut self) {
        for (key, ids) in self.of(Kind::Register) {
            for id in &ids {
                let write = &self.history.writes[*id];
                if write.operation != Operation::Put || write.acknowledged().is_none() {
                    continue;
                }
                let others =
                    || ids.iter().filter(|other| *other != id).map(|other| &self.history.writes[*other]);
                let shows =
                    |replica: &Replica| replica.registers.get(&key).is_some_and(|all| all.contains(id));
                if others().any(|other| self.removes(other, *id, ids.len())) {
                    self.forbid(*id, shows);
                } else if others().all(|other| is_before(other, write, self.grain)) && self.is_held(write) {
                    self.demand(*id, shows);
                }
            }
        }
    }

    /// Whether `other`, at the same register as the put `id`, was made by a node that had that put, and
    /// is still held by a replica that lives.
    fn removes(&self, other: &Write, id: WriteId, at_this_place: usize) -> bool {
        let Outcome::Acknowledged { removed, .. } = other.outcome else { return false };
        let found_it = other.operation == Operation::Delete && removed > 0 && at_this_place == 2;
        let had_it = found_it || self.history.writes[id].was_at(other.node, other.sent);
        had_it && self.is_held(other)
    }

    fn sets(&mut self) {
        for (key, ids) in self.of(Kind::Set) {
            for id in &ids {
                let write = &self.history.writes[*id];
                if write.operation != Operation::SetAdd || write.acknowledged().is_none() {
                    continue;
                }
                let has = |replica: &Replica| replica.sets.get(&key).is_some_and(|all| all.contains(id));
                let removals = ids.iter().map(|other| &self.history.writes[*other]);
                let removals: Vec<_> =
                    removals.filter(|other| other.operation == Operation::SetRemove(*id)).collect();
                let found = |other: &&&Write| matches!(other.outcome, Outcome::Acknowledged { removed, .. } if removed > 0);
                if removals.iter().find(found).is_some_and(|other| self.is_held(other)) {
                    self.forbid(*id, has);
                } else if removals.is_empty() && self.is_held(write) {
                    self.demand(*id, has);
                }
            }
        }
    }

    /// A counter shows at least the increments that a living replica holds, and at most those that were
    /// sent and not refused.
    fn counters(&mut self) {
        for (key, ids) in self.of(Kind::Counter) {
            let held = |id: &&WriteId| self.is_held(&self.history.writes[**id]);
            let (least, most) = (ids.iter().filter(held).count() as i128, ids.len() as i128);
            let shown = |replica: &Replica| replica.counters.get(&key).copied().unwrap_or_default();
            let values: Vec<i128> = self.replicas.values().map(shown).collect();
            let (Some(low), Some(high)) = (values.iter().min(), values.iter().max()) else { return };
            let count = |excess: i128| u64::try_from(excess).unwrap_or_default();
            let writes = &mut self.judgement.writes;
            writes.lost += count(least - high);
            writes.missing += count(least.min(*high) - low);
            writes.resurrected += count(high - most);
            if *low < least || *high > most {
                let finding = format!(
                    "counter {key}: nodes show {low} to {high}; {least} increments are acknowledged and held, {most} may have been made"
                );
                self.note(finding);
            }
        }
    }

    fn find(&mut self, id: WriteId, what: &str) {
        let Write { operation, key, node, sent, outcome, shown } = &self.history.writes[id];
        let nodes = shown.iter().map(|(node, _)| node).collect::<BTreeSet<_>>().len();
        let finding = format!(
            "{what}: write {id}, {operation:?} of key {key} through node {node} at {:.3} s, {outcome:?}, shown by {nodes} nodes",
            sent.as_secs_f64()
        );
        self.note(finding);
    }

    fn note(&mut self, finding: String) {
        if self.judgement.findings.len() < FINDINGS_MAX {
            self.judgement.findings.push(finding);
        }
    }
}

/// Whether a write was over before another one began, so that the other's timestamp is the later one.
fn is_before(write: &Write, other: &Write, grain: Duration) -> bool {
    write.acknowledged().is_some_and(|at| at + grain < other.sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A history by hand: a write every second, answered after 10 ms.
    #[derive(Default)]
    struct Story(History);

    impl Story {
        fn write(&mut self, operation: Operation, node: Member, removed: Option<u64>) -> WriteId {
            let id = self.0.send(operation, 0, node);
            let write = &mut self.0.writes[id];
            write.sent = 1000 * MS * (id as u32 + 1);
            if let Some(removed) = removed {
                write.outcome = Outcome::Acknowledged { at: write.sent + 10 * MS, removed };
            }
            id
        }

        fn shown(&mut self, id: WriteId, node: Member) {
            let at = self.0.writes[id].sent + 50 * MS;
            self.0.show(id, node, at);
        }

        fn wiped(&mut self, node: Member, at: Duration) {
            self.0.wiped.push((node, at));
        }

        /// Lost, missing and resurrected, when nodes 1 and 2 show these writes in the end.
        fn verdict(&self, shown: [&[WriteId]; 2]) -> [u64; 3] {
            let replica = |ids: &[WriteId]| {
                let is_set = |id: &&WriteId| self.0.writes[**id].operation == Operation::SetAdd;
                let registers = ids.iter().filter(|id| !is_set(id)).copied().collect();
                let sets = ids.iter().filter(is_set).copied().collect();
                Replica {
                    registers: BTreeMap::from([(0, registers)]),
                    sets: BTreeMap::from([(0, sets)]),
                    ..Replica::default()
                }
            };
            let replicas = BTreeMap::from([(1, replica(shown[0])), (2, replica(shown[1]))]);
            let Writes { lost, missing, resurrected, .. } = judge(&self.0, &replicas, Duration::ZERO).writes;
            [lost, missing, resurrected]
        }
    }

    #[test]
    fn an_acknowledged_write_is_there_or_missing_or_lost() {
        let mut story = Story::default();
        let id = story.write(Operation::Put, 1, Some(0));
        assert_eq!(story.verdict([&[id], &[id]]), [0, 0, 0]);
        assert_eq!(story.verdict([&[id], &[]]), [0, 1, 0]);
        assert_eq!(story.verdict([&[], &[]]), [1, 0, 0]);
    }

    #[test]
    fn a_write_whose_only_holder_was_wiped_or_is_gone_is_nobodys_fault() {
        let mut story = Story::default();
        let id = story.write(Operation::Put, 1, Some(0));
        story.write(Operation::Put, 3, None);
        story.wiped(1, 5000 * MS);
        assert_eq!(story.verdict([&[], &[]]), [0, 0, 0]);
        story.shown(id, 2);
        assert_eq!(story.verdict([&[], &[]]), [0, 0, 0], "the second write may have superseded it");
        let mut story = Story::default();
        let id = story.write(Operation::Put, 1, Some(0));
        story.wiped(1, 5000 * MS);
        story.shown(id, 2);
        assert_eq!(story.verdict([&[], &[]]), [1, 0, 0], "node 2 had it, and lives");
        let mut story = Story::default();
        story.write(Operation::Put, 3, Some(0));
        assert_eq!(story.verdict([&[], &[]]), [0, 0, 0], "node 3 does not live");
    }

    #[test]
    fn the_last_write_of_a_key_is_demanded_and_what_it_replaced_may_not_come_back() {
        let mut story = Story::default();
        let old = story.write(Operation::Put, 1, Some(0));
        let new = story.write(Operation::Put, 2, Some(0));
        assert_eq!(story.verdict([&[new], &[new]]), [0, 0, 0]);
        assert_eq!(story.verdict([&[new, old], &[new, old]]), [0, 0, 0], "node 2 may not have had it");
        assert_eq!(story.verdict([&[old], &[old]]), [1, 0, 0]);
        story.shown(old, 2);
        assert_eq!(story.verdict([&[new, old], &[new]]), [0, 0, 1]);
    }

    #[test]
    fn what_was_deleted_stays_deleted_if_the_deleting_node_had_it() {
        let mut story = Story::default();
        let put = story.write(Operation::Put, 1, Some(0));
        let delete = story.write(Operation::Delete, 2, Some(0));
        assert_eq!(story.verdict([&[put], &[put]]), [0, 0, 0], "nothing was there to be deleted");
        assert_eq!(story.verdict([&[], &[]]), [0, 0, 0]);
        story.shown(put, 2);
        assert_eq!(story.verdict([&[put], &[]]), [0, 0, 1]);
        story.wiped(2, 9000 * MS);
        assert_eq!(story.verdict([&[put], &[]]), [0, 0, 0], "the delete may have died with its node");
        let mut story = Story::default();
        let put = story.write(Operation::Put, 1, Some(0));
        assert_eq!((put, story.write(Operation::Delete, 2, Some(1))), (0, delete));
        assert_eq!(story.verdict([&[put], &[]]), [0, 0, 1], "it found what it deleted");
    }

    #[test]
    fn unanswered_and_concurrent_writes_excuse() {
        let mut story = Story::default();
        let first = story.write(Operation::Put, 1, Some(0));
        let second = story.write(Operation::Put, 2, None);
        assert_eq!(story.verdict([&[second], &[second]]), [0, 0, 0]);
        let mut story = Story::default();
        assert_eq!(story.write(Operation::Put, 1, Some(0)), first);
        assert_eq!(story.write(Operation::Put, 2, Some(0)), second);
        story.0.writes[second].sent = story.0.writes[first].sent + 15 * MS;
        assert_eq!(story.verdict([&[first], &[first]]), [0, 0, 0], "the clock is too coarse to tell");
    }

    #[test]
    fn members_of_sets_are_there_until_a_removal_finds_them() {
        let mut story = Story::default();
        let add = story.write(Operation::SetAdd, 1, Some(0));
        assert_eq!(story.verdict([&[add], &[]]), [0, 1, 0]);
        assert_eq!(story.verdict([&[], &[]]), [1, 0, 0]);
        story.write(Operation::SetRemove(add), 2, Some(0));
        assert_eq!(story.verdict([&[add], &[add]]), [0, 0, 0]);
        story.write(Operation::SetRemove(add), 2, Some(1));
        assert_eq!(story.verdict([&[], &[]]), [0, 0, 0]);
        assert_eq!(story.verdict([&[add], &[add]]), [0, 0, 1]);
    }

    #[test]
    fn counters_lie_between_what_is_held_and_what_was_sent() {
        let mut story = Story::default();
        for (node, answer) in [(1, Some(0)), (1, Some(0)), (2, None)] {
            story.write(Operation::Increment, node, answer);
        }
        let verdict = |values: [i128; 2]| {
            let replica = |value| Replica { counters: BTreeMap::from([(0, value)]), ..Replica::default() };
            let replicas = BTreeMap::from([(1, replica(values[0])), (2, replica(values[1]))]);
            let Writes { lost, missing, resurrected, .. } = judge(&story.0, &replicas, Duration::ZERO).writes;
            [lost, missing, resurrected]
        };
        assert_eq!(verdict([2, 3]), [0, 0, 0]);
        assert_eq!(verdict([1, 1]), [1, 0, 0]);
        assert_eq!(verdict([0, 2]), [0, 2, 0]);
        assert_eq!(verdict([3, 5]), [0, 0, 2]);
    }
}
