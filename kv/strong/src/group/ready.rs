//! Writes, sends and applies what Raft asks for, in a safe order. A follower sends an acknowledgement or a vote
//! only after what it promises is durable. A leader sends entries at once, and counts itself as having them only
//! after they are durable here (Ongaro's thesis, 10.2.1).

use raft::eraftpb::{Message, MessageType};
use starling_kv::Engine;

use super::wire::RaftMessage;
use super::{Group, GroupMessage, Output, Stop};

/// One `Ready` of raft-rs that is not durable yet, or waits for an earlier one.
pub struct Unsynced {
    /// The number that raft-rs gave it.
    number: u64,
    /// The number of the write that has to be durable first.
    write: u64,
    /// Messages that are sent when it is durable.
    messages: Vec<Message>,
    /// The last entry of the snapshot that it installed.
    installed: Option<u64>,
}

impl<E: Engine> Group<E> {
    /// Requests a first sync: what an earlier run wrote may not be durable, and nothing is promised before it is.
    pub(super) fn sync_at_start(&mut self) {
        self.written = 1;
        self.outputs.push_back(Output::Sync(self.written));
        self.sync_change_at_start();
        let (write, messages) = (self.written, Vec::new());
        self.unsynced.push_back(Unsynced { number: 0, write, messages, installed: None });
    }

    pub(super) fn process_raft_ready(&mut self, now_ms: u64) -> Result<(), Stop> {
        let mut ready = self.raw.ready();
        self.send_all(ready.take_messages());
        let hard = ready.hs().cloned();
        let entries = ready.take_entries();
        let mut installed = None;
        if !ready.snapshot().is_empty() {
            installed = Some(self.install_snapshot(hard.as_ref())?);
        }
        if ready.must_sync() {
            // A change of the commit index alone is not written: a member learns it again after a restart.
            let commit = self.raw.raft.raft_log.committed;
            self.keep_marks(now_ms);
            self.raw.mut_store().append(&entries, hard.as_ref(), commit)?;
            self.written += 1;
            self.outputs.push_back(Output::Sync(self.written));
        }
        let messages = ready.take_persisted_messages();
        self.hold(
            ready.must_sync(),
            Unsynced { number: ready.number(), write: self.written, messages, installed },
        );
        self.confirmed(ready.take_read_states());
        let committed = ready.take_committed_entries();
        let number = ready.number();
        self.raw.advance_append_async(ready);
        if self.unsynced.is_empty() {
            self.raw.on_persist_ready(number);
        }
        self.unapplied.extend(committed);
        self.apply(now_ms)
    }

    /// Sends the messages that promise nothing new, and holds back the others until the write is durable.
    fn hold(&mut self, must_sync: bool, mut unsynced: Unsynced) {
        #[cfg(planted)]
        let must_sync = must_sync
            && (unsynced.installed.is_some()
                || !starling_planted::on(starling_planted::Bug::AcknowledgedBeforeSync));
        let messages = std::mem::take(&mut unsynced.messages);
        if !must_sync && self.unsynced.is_empty() {
            self.send_all(messages);
            return;
        }
        // The reply to a heartbeat promises nothing but the term. If the term is durable, it is sent at once, so
        // that reads do not wait for the disk.
        let (at_once, held): (Vec<_>, Vec<_>) = messages
            .into_iter()
            .partition(|message| !must_sync && message.get_msg_type() == MessageType::MsgHeartbeatResponse);
        let is_term_durable = at_once.iter().all(|message| message.term == self.synced_term);
        unsynced.messages = if is_term_durable {
            self.send_all(at_once);
            held
        } else {
            at_once.into_iter().chain(held).collect()
        };
        self.unsynced.push_back(unsynced);
    }

    pub(super) fn handle_synced(&mut self, write: u64) {
        self.synced_change(write);
        let (mut last, mut installed) = (None, None);
        while self.unsynced.front().is_some_and(|unsynced| unsynced.write <= write) {
            let Some(unsynced) = self.unsynced.pop_front() else { break };
            last = Some(unsynced.number);
            installed = unsynced.installed.or(installed);
            self.send_all(unsynced.messages);
        }
        if let Some(number) = last {
            self.raw.on_persist_ready(number);
        }
        if let Some(index) = installed {
            self.raw.advance_apply_to(index);
        }
        if self.unsynced.is_empty() {
            self.synced_term = self.raw.raft.term;
        }
    }

    fn send_all(&mut self, messages: Vec<Message>) {
        if !self.takes_part() {
            return;
        }
        for message in messages {
            let Some(to) = self.node_of(message.to) else { continue };
            let offer = self.offer_named(message.get_snapshot().get_metadata().index);
            if let Some(mut message) = RaftMessage::from_raft(&message, offer) {
                self.mark_hurried(&mut message);
                self.outputs.push_back(Output::Send { to, message: GroupMessage::Raft(message) });
            }
        }
    }
}
