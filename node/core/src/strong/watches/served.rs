//! Watches that replicas here serve, for this node and others.

use std::collections::{BTreeMap, BTreeSet};

use starling_kv::Engine;
use starling_strong::api::{Watch, WatchUpdate};
use starling_strong::group::GroupId;
use starling_strong::members::NodeKey;

use super::super::context::Context;
use super::super::message::StrongMessage;
use super::super::replicas::{Replica, Replicas};

/// Watches served on this node, at most; further ones are rejected.
const WATCHES_MAX: usize = 65_536;
/// Bytes of events in one update, about: on a narrow link, updates have to arrive often enough to count as signs of
/// life.
const UPDATE_BYTES: usize = 32 << 10;

struct ServedWatch {
    group: GroupId,
    /// The node that it is for, and its id there.
    to: (NodeKey, u64),
    /// Updates that may still be sent.
    credit: u32,
    /// Updates that were sent.
    sent: u64,
}

/// The watches that replicas on this node serve.
#[derive(Default)]
pub struct ServedWatches {
    /// The watches, by their ids in the state machines.
    watches: BTreeMap<u64, ServedWatch>,
    /// These ids, by the node that a watch is for and its id there.
    ids: BTreeMap<(NodeKey, u64), u64>,
    /// Watches that may have something to send.
    ready: BTreeSet<u64>,
}

/// [`ServedWatches`] with the parts that it uses.
pub struct Handler<'a, E: Engine> {
    pub cx: &'a mut Context,
    pub state: &'a mut ServedWatches,
    pub replicas: &'a mut Replicas<E>,
}

impl<E: Engine> Handler<'_, E> {
    /// Begins to serve a watch. A duplicate request for a watch that is served already is ignored.
    pub fn on_watch(&mut self, from: NodeKey, id: u64, group: GroupId, spec: Watch, credit: u32) {
        let to = (from, id);
        if self.state.ids.contains_key(&to) {
            return;
        }
        let is_full = self.state.watches.len() >= WATCHES_MAX;
        let serves = |it: &&mut Replica<E>| it.group.is_informed() && it.group.stopped().is_none();
        let replica = self.replicas.get_mut(&group).filter(|it| !is_full && serves(it));
        let Some(replica) = replica else {
            self.lost(to, 0, "not served here".into());
            return;
        };
        let own = self.cx.fresh_id();
        if let Err(refusal) = replica.group.machine().watch(own, spec) {
            self.lost(to, 0, refusal.to_string());
            return;
        }
        self.state.ids.insert(to, own);
        self.state.watches.insert(own, ServedWatch { group, to, credit, sent: 0 });
        self.state.ready.insert(own);
    }

    /// Grants a watch more updates.
    pub fn on_more(&mut self, from: NodeKey, id: u64, updates: u32) {
        if let Some((own, watch)) = self.find(from, id) {
            watch.credit = watch.credit.saturating_add(updates);
            self.state.ready.insert(own);
        }
    }

    /// Replies how many updates of a watch were sent. Its credit is corrected: a message that granted more may
    /// have been lost.
    pub fn on_check(&mut self, from: NodeKey, id: u64, received: u64, credit: u32) {
        let Some((own, watch)) = self.find(from, id) else {
            self.lost((from, id), received, "not served here any more".into());
            return;
        };
        let sent = watch.sent;
        if sent == received {
            watch.credit = credit;
            self.state.ready.insert(own);
        }
        self.cx.send(&from, StrongMessage::CheckReply { id, sent });
    }

    /// Makes a watch send its progress.
    pub fn on_progress(&mut self, from: NodeKey, id: u64) {
        let Some((own, watch)) = self.find(from, id) else { return };
        let group = watch.group;
        if let Some(replica) = self.replicas.get_mut(&group) {
            replica.group.machine().request_progress(own);
            self.state.ready.insert(own);
        }
    }

    /// Ends a watch.
    pub fn on_unwatch(&mut self, from: NodeKey, id: u64) {
        if let Some(own) = self.state.ids.get(&(from, id)).copied() {
            self.remove(own);
        }
    }

    /// Ends the watches of a peer whose link is gone: it opens them elsewhere.
    pub fn on_peer_down(&mut self, peer: NodeKey) {
        let gone = self.state.watches.iter().filter(|(_, watch)| watch.to.0 == peer);
        for own in gone.map(|(own, _)| *own).collect::<Vec<_>>() {
            self.remove(own);
        }
    }

    /// Ends the watches of a replica that is gone.
    pub fn on_replica_gone(&mut self, group: &GroupId) {
        let gone = self.state.watches.iter().filter(|(_, watch)| watch.group == *group);
        for own in gone.map(|(own, _)| *own).collect::<Vec<_>>() {
            if let Some(ServedWatch { to, sent, .. }) = self.remove(own) {
                self.lost(to, sent, "not served here any more".into());
            }
        }
    }

    /// Sends the updates of ready watches, as far as their credit allows.
    pub fn serve(&mut self) {
        for replica in self.replicas.iter_mut() {
            self.state.ready.extend(replica.group.machine().take_ready());
        }
        for own in std::mem::take(&mut self.state.ready) {
            while let Some(update) = self.next_update(own) {
                self.send(own, update);
            }
        }
    }

    fn next_update(&mut self, own: u64) -> Option<WatchUpdate> {
        let watch = self.state.watches.get(&own).filter(|watch| watch.credit > 0)?;
        let replica = self.replicas.get_mut(&watch.group)?;
        let update = replica.group.machine().poll_watch(own, UPDATE_BYTES);
        update.unwrap_or_else(|error| Some(WatchUpdate::Lost { reason: error.to_string() }))
    }

    fn send(&mut self, own: u64, update: WatchUpdate) {
        let Some(watch) = self.state.watches.get_mut(&own) else { return };
        if !matches!(update, WatchUpdate::Created { .. }) {
            watch.credit -= 1;
        }
        let ((to, id), number) = (watch.to, watch.sent);
        watch.sent += 1;
        if matches!(update, WatchUpdate::Compacted { .. } | WatchUpdate::Lost { .. }) {
            self.remove(own);
        }
        self.cx.send(&to, StrongMessage::Update { id, number, update });
    }

    fn lost(&mut self, (to, id): (NodeKey, u64), number: u64, reason: String) {
        self.cx.send(&to, StrongMessage::Update { id, number, update: WatchUpdate::Lost { reason } });
    }

    fn find(&mut self, from: NodeKey, id: u64) -> Option<(u64, &mut ServedWatch)> {
        let own = *self.state.ids.get(&(from, id))?;
        Some((own, self.state.watches.get_mut(&own)?))
    }

    fn remove(&mut self, own: u64) -> Option<ServedWatch> {
        let watch = self.state.watches.remove(&own)?;
        self.state.ids.remove(&watch.to);
        if let Some(replica) = self.replicas.get_mut(&watch.group) {
            replica.group.machine().unwatch(own);
        }
        Some(watch)
    }
}
