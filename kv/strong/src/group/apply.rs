//! Applies committed entries: commands to the state machine, changes of members to the group.

use bincode::config;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType,
};
use starling_kv::Engine;
use starling_kv::engine::RowOp;

use super::change::Change;
use super::{Group, Output, Stop};
use crate::log::witness::{members_row, term_row};
use crate::machine::{Command, Room};

/// Rows that entries read and write in one step, about, but for one entry: heartbeats and other requests wait for it. A
/// guess: some tens of milliseconds. Further entries are applied in the next step, at once.
pub(super) const APPLIED: Room = Room { rows: 16_384, bytes: 4 << 20 };
/// Entries applied in one write of the engine, at most. A guess: more do not make it cheaper.
const BATCH_MAX: usize = 4096;
impl<E: Engine> Group<E> {
    /// Applies committed entries, in order, as far as the step has room for them; see [`APPLIED`].
    pub(super) fn apply(&mut self, now_ms: u64) -> Result<(), Stop> {
        if self.unapplied.is_empty() || self.is_dropped() || self.apply_room.is_used_up() {
            return Ok(());
        }
        while let Some(entry) = self.unapplied.front()
            && !self.apply_room.is_used_up()
        {
            if entry.get_entry_type() == EntryType::EntryNormal {
                self.apply_commands(now_ms)?;
            } else if let Some(entry) = self.unapplied.pop_front() {
                self.apply_change(now_ms, &entry)?;
            }
        }
        let applied = self.machine.applied();
        self.raw.advance_apply_to(applied);
        self.raw.mut_store().record_commit(applied)?;
        self.cut_log()
    }

    fn apply_commands(&mut self, now_ms: u64) -> Result<(), Stop> {
        // Of one term: the machine records the term of the last one.
        let term = self.unapplied.front().map_or(0, |entry| entry.term);
        let is_command =
            |entry: &&Entry| entry.get_entry_type() == EntryType::EntryNormal && entry.term == term;
        let entries = self.unapplied.iter().take_while(is_command).take(BATCH_MAX);
        let (mut commands, mut places) = (Vec::new(), Vec::new());
        for entry in entries {
            // An empty entry begins a leader's term, or replaces a change of members that Raft rejected.
            let command = if entry.data.is_empty() {
                None
            } else {
                Some(Command::decode(&entry.data).map_err(|_| Stop::Unreadable(entry.index))?)
            };
            places.push((entry.index, entry.term));
            let is_last = command == Some(Command::Drop);
            commands.push((entry.index, command));
            if is_last {
                break;
            }
        }
        let drops = commands.last().is_some_and(|(_, command)| *command == Some(Command::Drop));
        let count = commands.len();
        let compared = commands.iter().filter(|(_, command)| *command == Some(Command::SendHash));
        let compared: Vec<u64> = compared.map(|(index, _)| index - 1).collect();
        self.write_beside(term, None);
        let results = self.machine.apply_within(now_ms, commands, &mut self.apply_room)?;
        self.unapplied.drain(..results.len());
        let is_dropped = drops && results.len() == count;
        for ((index, term), result) in places.into_iter().zip(results) {
            self.complete_write(index, term, result);
        }
        if self.machine.diverged().is_some() {
            self.raw.store().engine().flush()?;
            return Err(Stop::Diverged);
        }
        let last = self.machine.applied();
        for index in compared.into_iter().filter(|index| *index < last) {
            self.send_hash(index);
        }
        self.compare_hashes(last);
        if is_dropped {
            self.apply_drop(now_ms);
        }
        Ok(())
    }

    fn apply_change(&mut self, now_ms: u64, entry: &Entry) -> Result<(), Stop> {
        let index = entry.index;
        // After a crash the entry may be applied again: then the log has its members already.
        if index > self.raw.store().members().1 {
            let change = Change::decode(&entry.context).ok_or(Stop::Unreadable(index))?;
            match self.apply_raft_change(&raft_change(&change)) {
                Ok(conf) => {
                    for (member, node) in &change.added {
                        self.members.nodes.insert(*member, *node);
                        self.members.next = self.members.next.max(member + 1);
                    }
                    self.members.adopt(&conf);
                    self.introductions.settle(&self.members);
                    self.raw.mut_store().set_members(self.members.clone(), index)?;
                }
                // Every member rejects it alike, so that nothing changes.
                Err(_) => self.outputs.push_back(Output::Notice(super::Notice::ChangeRefused(index))),
            }
            self.sync_change();
        }
        let (members, at) = self.raw.store().members();
        let row = members_row(&self.config.group, members, at);
        self.write_beside(entry.term, Some(row));
        self.machine.apply(now_ms, vec![(index, None)])?;
        self.complete_write(index, entry.term, None);
        Ok(())
    }

    /// Lets the machine write what it has to record about the log together with the next applied entries.
    fn write_beside(&mut self, term: u64, members: Option<RowOp>) {
        if self.raw.store().is_in_journal() {
            let rows = [term_row(&self.config.group, term)].into_iter().chain(members);
            self.machine.write_beside(rows.collect());
        }
    }

    fn apply_raft_change(&mut self, change: &ConfChangeV2) -> raft::Result<ConfState> {
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::JointPhaseSkipped) {
            let one = |change: &ConfChangeSingle| {
                let mut one = ConfChangeV2::default();
                one.set_changes(vec![change.clone()].into());
                one
            };
            let steps: Vec<_> = change.get_changes().iter().map(one).collect();
            return steps
                .iter()
                .map(|one| self.raw.apply_conf_change(one))
                .last()
                .unwrap_or_else(|| self.raw.apply_conf_change(change));
        }
        self.raw.apply_conf_change(change)
    }
}

/// A change of members in raft-rs's type.
pub(super) fn raft_change(change: &Change) -> ConfChangeV2 {
    let single = |kind, member| {
        let mut single = ConfChangeSingle::default();
        single.set_change_type(kind);
        single.node_id = member;
        single
    };
    let learners = change.learners.iter().map(|member| single(ConfChangeType::AddLearnerNode, *member));
    let voters = change.voters.iter().map(|member| single(ConfChangeType::AddNode, *member));
    let removed = change.removed.iter().map(|member| single(ConfChangeType::RemoveNode, *member));
    let changes: Vec<_> = learners.chain(voters).chain(removed).collect();
    let mut raft = ConfChangeV2::default();
    // Several changes at once need a joint majority of the old and the new voters, which Raft then leaves.
    raft.set_transition(ConfChangeTransition::Auto);
    raft.set_changes(changes.into());
    raft
}

impl Change {
    /// Reads the context of an entry that changes the members. Raft itself proposes the end of a joint majority,
    /// without a context.
    fn decode(context: &[u8]) -> Option<Self> {
        if context.is_empty() {
            return Some(Self::default());
        }
        let (change, used): (Self, _) =
            bincode::decode_from_slice(context, config::standard().with_limit::<{ 16 << 10 }>()).ok()?;
        (used == context.len() && change.is_bounded()).then_some(change)
    }
}
