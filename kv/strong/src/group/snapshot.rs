//! Snapshots for followers that lack entries which the leader's log no longer has. Raft's message only names
//! the snapshot. The follower pulls it in chunks and builds the new state beside the current one. When it is
//! complete, the follower passes the message to Raft, and replaces state and log.
//!
//! ```text
//! leader                          follower
//!   Raft Snapshot: index, term, members ->
//!                              <- Pull: index, cursor, bytes
//!   Chunk: index, bytes          ->        (repeated until the last chunk)
//!                              <- Raft AppendReply: index
//! ```

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use raft::{ProgressState, SnapshotStatus};
use starling_kv::Engine;

use super::wire::{Offer, RaftMessage};
use super::{Group, GroupMessage, Output, Stop};
use crate::log::SnapshotPoint;
use crate::log::witness::{members_row, term_row};
use crate::machine::{Cursor, Next, Restore, RestoreError, Snapshot};
use crate::members::{MemberId, NodeKey};

/// Bytes of the first chunk and of the largest one, about; one row is sent whatever its size.
const CHUNK_BYTES: RangeInclusive<usize> = 16 << 10..=512 << 10;
/// The longest time that a chunk should take, milliseconds: on a narrow link everything else waits behind it. After
/// a slower chunk the size is halved, after one in less than a fourth of this time it is doubled.
const CHUNK_MS: u64 = 400;
/// Longest cursor, bytes: a part, a checksum and a row's key.
pub(super) const CURSOR_BYTES_MAX: usize = 16 << 10;
/// How long a follower waits for a chunk before it asks again, milliseconds, at least. The wait is twice the time of
/// the chunk before, because on a narrow link the chunk is still on its way, and doubles with each retry.
const ASK_AGAIN_MS: u64 = 1_000;
/// The longest such wait, milliseconds.
const ASK_AGAIN_MS_MAX: u64 = 30_000;
/// How long the leader waits for a follower to pull before it names the snapshot again, milliseconds: the message, or
/// the follower's reply that it has the snapshot, may have been lost. A guess: several round trips, and the
/// installation of a snapshot of usual size.
const NAME_AGAIN_MS: u64 = 3_000;
/// How long the leader keeps a snapshot from which no follower pulls, milliseconds. Compaction of the state waits
/// until it is dropped.
const UNUSED_MS: u64 = 60_000;

/// A snapshot that followers pull from this member.
pub struct Sending<E> {
    offer: Offer,
    snapshot: Snapshot<E>,
    /// When a follower last pulled, milliseconds.
    used_ms: u64,
    /// When the snapshot was last named to each follower, or the follower last pulled, milliseconds.
    active_ms: BTreeMap<NodeKey, u64>,
}

/// A snapshot that this member pulls from the leader.
pub struct Receiving<E> {
    from: NodeKey,
    /// The message that is passed to Raft when the snapshot is complete.
    message: RaftMessage,
    offer: Offer,
    restore: Restore<E>,
    cursor: Cursor,
    /// Bytes of the next chunk.
    chunk_bytes: usize,
    /// When the chunk was last asked for, milliseconds.
    asked_ms: u64,
    /// How long this member waits before it asks again, milliseconds.
    patience_ms: u64,
    /// When the last chunk arrived, milliseconds.
    moved_ms: u64,
}

/// A complete snapshot that Raft has not installed yet.
pub struct Received<E> {
    point: SnapshotPoint,
    restore: Restore<E>,
}

impl<E> Receiving<E> {
    /// Records that a chunk has arrived, and adapts the size of the next one, which begins at `cursor`.
    fn moved(&mut self, now_ms: u64, cursor: Cursor) {
        let took_ms = now_ms - self.moved_ms;
        let bytes = match took_ms {
            _ if 4 * took_ms < CHUNK_MS => 2 * self.chunk_bytes,
            _ if took_ms > CHUNK_MS => self.chunk_bytes / 2,
            _ => self.chunk_bytes,
        };
        self.chunk_bytes = bytes.clamp(*CHUNK_BYTES.start(), *CHUNK_BYTES.end());
        self.patience_ms = (2 * took_ms).clamp(ASK_AGAIN_MS, ASK_AGAIN_MS_MAX);
        (self.cursor, self.moved_ms) = (cursor, now_ms);
    }
}

impl<E: Engine> Group<E> {
    /// Prepares a snapshot, if Raft has asked for one.
    pub(super) fn offer_snapshot(&mut self, now_ms: u64) -> Result<(), Stop> {
        if !self.raw.mut_store().take_wanted() || !self.is_leader() || self.has_snapshot_for_all() {
            return Ok(());
        }
        let snapshot = self.machine.snapshot()?;
        let index = snapshot.index();
        let Some(term) = self.raw.store().term_of(index) else { return Ok(()) };
        let offer = Offer { index, term, members: self.members.clone() };
        self.raw.mut_store().offer(Some(offer.snapshot()));
        self.sending = Some(Sending { offer, snapshot, used_ms: now_ms, active_ms: BTreeMap::new() });
        Ok(())
    }

    /// Whether the snapshot that is being sent names every member: a member that it does not name rejects it.
    fn has_snapshot_for_all(&self) -> bool {
        self.sending.as_ref().is_some_and(|sending| {
            self.members.nodes.keys().all(|member| sending.offer.members.nodes.contains_key(member))
        })
    }

    /// The offer of the snapshot with this last entry, if it is the one that is being sent.
    pub(super) fn offer_named(&self, index: u64) -> Option<Offer> {
        let sending = self.sending.as_ref()?;
        (sending.offer.index == index).then(|| sending.offer.clone())
    }

    /// The last entry of the snapshot that is being sent: its followers need the entries after it.
    pub(super) fn snapshot_index(&self) -> Option<u64> {
        self.sending.as_ref().map(|sending| sending.offer.index)
    }

    /// Drops snapshots that are no longer pulled, asks again for a chunk that did not arrive, and names the snapshot
    /// again to followers that do not pull. For a follower that still needs a dropped one, Raft asks for a new one.
    pub(super) fn expire_snapshots(&mut self, now_ms: u64) {
        let progress = |(id, progress): (&u64, &raft::Progress)| {
            (progress.state == ProgressState::Snapshot).then_some(*id)
        };
        let behind: Vec<u64> = self.raw.raft.prs().iter().filter_map(progress).collect();
        let is_unused = |sending: &mut Sending<E>| {
            now_ms >= sending.used_ms + UNUSED_MS
                || (behind.is_empty() && now_ms >= sending.used_ms + ASK_AGAIN_MS)
        };
        let leads = self.is_leader();
        if self.sending.take_if(|sending| !leads || is_unused(sending)).is_some() {
            self.raw.mut_store().offer(None);
            for member in behind {
                self.raw.report_snapshot(member, SnapshotStatus::Failure);
            }
        } else {
            self.name_again(now_ms, &behind);
        }
        if let Some(receiving) = &mut self.receiving {
            if now_ms >= receiving.moved_ms + UNUSED_MS {
                self.receiving = None;
            } else if now_ms >= receiving.asked_ms + receiving.patience_ms {
                receiving.patience_ms = (2 * receiving.patience_ms).min(ASK_AGAIN_MS_MAX);
                self.pull(now_ms);
            }
        }
    }

    /// Makes Raft send its message again to followers that do not pull the snapshot.
    fn name_again(&mut self, now_ms: u64, behind: &[MemberId]) {
        let Some(sending) = &mut self.sending else { return };
        for member in behind {
            let Some(node) = self.members.nodes.get(member) else { continue };
            let active_ms = sending.active_ms.entry(*node).or_insert(now_ms);
            if now_ms >= *active_ms + NAME_AGAIN_MS {
                *active_ms = now_ms;
                self.raw.report_snapshot(*member, SnapshotStatus::Failure);
            }
        }
    }

    pub(super) fn on_pull(&mut self, now_ms: u64, from: NodeKey, index: u64, cursor: &[u8], bytes: u32) {
        let Ok(cursor) = Cursor::decode(cursor) else { return };
        let sending = self.sending.as_mut().filter(|sending| sending.offer.index == index);
        // If the chunk cannot be read, the follower starts again, perhaps with another snapshot.
        let bytes = sending.and_then(|sending| {
            sending.used_ms = now_ms;
            sending.active_ms.insert(from, now_ms);
            let bytes = (bytes as usize).clamp(*CHUNK_BYTES.start(), *CHUNK_BYTES.end());
            sending.snapshot.chunk(&cursor, bytes).ok()
        });
        let message = match bytes {
            Some(bytes) => GroupMessage::Chunk { index, bytes },
            None => GroupMessage::NoSnapshot { index },
        };
        self.outputs.push_back(Output::Send { to: from, message });
    }

    /// Handles Raft's message that names a snapshot. Returns whether the snapshot has to be pulled first; if not,
    /// the message goes to Raft at once.
    pub(super) fn begin_receiving(
        &mut self,
        now_ms: u64,
        from: NodeKey,
        message: RaftMessage,
    ) -> Result<bool, Stop> {
        let Some(offer) = message.snapshot.as_deref().cloned() else { return Ok(false) };
        let raft = &self.raw.raft;
        let is_known = offer.index <= raft.raft_log.committed
            || self.raw.store().term_of(offer.index) == Some(offer.term);
        if message.term < raft.term || is_known {
            return Ok(false);
        }
        let is_same = |receiving: &Receiving<E>| receiving.offer == offer && receiving.from == from;
        if !self.receiving.as_ref().is_some_and(is_same) {
            let restore = self.machine.restore()?;
            self.receiving = Some(Receiving {
                from,
                message,
                offer,
                restore,
                cursor: Cursor::default(),
                chunk_bytes: *CHUNK_BYTES.start(),
                asked_ms: now_ms,
                patience_ms: ASK_AGAIN_MS,
                moved_ms: now_ms,
            });
            self.pull(now_ms);
        }
        Ok(true)
    }

    fn pull(&mut self, now_ms: u64) {
        let Some(receiving) = &mut self.receiving else { return };
        receiving.asked_ms = now_ms;
        let (index, cursor) = (receiving.offer.index, receiving.cursor.encode());
        let message = GroupMessage::Pull { index, cursor, bytes: receiving.chunk_bytes as u32 };
        self.outputs.push_back(Output::Send { to: receiving.from, message });
    }

    pub(super) fn on_no_snapshot(&mut self, from: NodeKey, index: u64) {
        self.receiving.take_if(|receiving| receiving.from == from && receiving.offer.index == index);
    }

    pub(super) fn on_chunk(
        &mut self,
        now_ms: u64,
        from: NodeKey,
        index: u64,
        bytes: &[u8],
    ) -> Result<(), Stop> {
        let is_it = |receiving: &&mut Receiving<E>| receiving.from == from && receiving.offer.index == index;
        let Some(receiving) = self.receiving.as_mut().filter(is_it) else { return Ok(()) };
        match receiving.restore.push(bytes) {
            Ok(Next::Chunk(cursor)) => {
                receiving.moved(now_ms, cursor);
                self.pull(now_ms);
                Ok(())
            }
            Ok(Next::Nothing) => {
                self.hand_to_raft(now_ms);
                Ok(())
            }
            // A duplicate, or a chunk that was asked for before.
            Err(RestoreError::Malformed(_)) => Ok(()),
            Err(RestoreError::Storage(error)) => Err(error.into()),
        }
    }

    fn hand_to_raft(&mut self, now_ms: u64) {
        let Some(Receiving { message, offer, restore, .. }) = self.receiving.take() else { return };
        let Offer { index, term, members } = offer;
        self.received = Some(Received { point: SnapshotPoint { index, term, members }, restore });
        if let Ok(message) = message.into_raft(self.raw.store().last_index()) {
            self.step_raft(now_ms, message);
        }
        // Raft may have ignored the message.
        let pending = self.raw.snap().map(|snapshot| snapshot.get_metadata().index);
        self.received.take_if(|_| pending != Some(index));
    }

    /// Replaces state and log by the received snapshot. Returns its last entry.
    pub(super) fn install_snapshot(&mut self, hard: Option<&raft::eraftpb::HardState>) -> Result<u64, Stop> {
        let Some(Received { point, restore }) = self.received.take() else {
            return Err(Stop::NoSnapshot);
        };
        let (log, group) = (self.raw.store(), &self.config.group);
        let install = log.install(&point, hard);
        if log.is_in_journal() {
            // In this order: a state without its log is found at the next start, a log without its state is not.
            let beside = vec![term_row(group, point.term), members_row(group, &point.members, point.index)];
            self.machine.install(restore, beside)?;
            log.engine().flush()?;
            log.engine().write(install.rows())?;
        } else {
            self.machine.install(restore, install.rows())?;
        }
        self.raw.mut_store().installed(install);
        // Raft installs only what is behind everything that is committed here.
        self.unapplied.clear();
        self.forget_writes(point.index);
        self.members = point.members;
        self.introductions.settle(&self.members);
        self.sync_change();
        Ok(point.index)
    }
}
