//! Watches that replicas here serve, for this node and others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use starling_kv::Engine;
use starling_proto::Millis;
use starling_strong::api::{Event, Revision, Watch, WatchUpdate};
use starling_strong::group::GroupId;
use starling_strong::members::NodeKey;

use super::super::context::{Context, Timer};
use super::super::message::StrongMessage;
use super::super::replicas::{Replica, Replicas};

/// Watches served on this node, at most; further ones are rejected.
const WATCHES_MAX: usize = 65_536;
/// Bytes of events in one update, about: on a narrow link, updates have to arrive often enough to count as signs of
/// life.
const UPDATE_BYTES: usize = 32 << 10;

/// Bytes of updates of one watch that its client has not handled, at most, but for one update: a client that does not
/// read takes this much memory. Four updates of usual size.
const UNDER_WAY_BYTES: usize = 256 << 10;
/// Bytes of events sent in one step, at most, but for one update. A guess: a few milliseconds of work.
const STEP_BYTES: usize = 4 << 20;
/// Bytes of events in one update to another node, at most, but for one event. Half a frame
/// (`starling_proto::wire::STRONG_FRAME_BYTES_MAX`). Smaller revisions are not split, because nodes of release 0.1.0
/// take a part for the whole.
const PART_BYTES: usize = 4 << 20;
/// Bytes of an event on the wire beyond its keys and values, at most.
const EVENT_BYTES: usize = 128;

struct ServedWatch {
    group: GroupId,
    /// The node that it is for, and its id there.
    to: (NodeKey, u64),
    /// Updates that may still be sent.
    credit: u32,
    /// Bytes of each update that was sent, needed credit, and whose client has not asked for more since.
    under_way: VecDeque<usize>,
    /// Updates under way that their bytes do not hold up. A client on another node may ask for more only after it has
    /// handled half of the updates that it allowed.
    small_count: usize,
    /// Updates that were sent.
    sent: u64,
    /// The rest of an update that did not fit into one message.
    rest: VecDeque<WatchUpdate>,
}

impl ServedWatch {
    fn new(group: GroupId, to: (NodeKey, u64), credit: u32, is_local: bool) -> Self {
        let small_count = if is_local { 1 } else { (credit as usize / 2).max(1) };
        let (under_way, rest) = (VecDeque::new(), VecDeque::new());
        Self { group, to, credit, under_way, small_count, sent: 0, rest }
    }

    /// Allows further updates, after the client has handled as many.
    fn allow(&mut self, updates: u32) {
        self.credit = self.credit.saturating_add(updates);
        self.under_way.drain(..self.under_way.len().min(updates as usize));
    }

    /// Whether an update may be sent now.
    fn may_send(&self) -> bool {
        let has_room =
            self.under_way.len() < self.small_count || self.under_way.iter().sum::<usize>() < UNDER_WAY_BYTES;
        self.credit > 0 && has_room
    }
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
    /// The watch that has the first turn in the next step.
    turn: u64,
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
        self.state.watches.insert(own, ServedWatch::new(group, to, credit, from == self.cx.me));
        self.state.ready.insert(own);
    }

    /// Grants a watch more updates.
    pub fn on_more(&mut self, from: NodeKey, id: u64, updates: u32) {
        if let Some((own, watch)) = self.find(from, id) {
            watch.allow(updates);
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
            watch.under_way.clear();
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

    /// Sends the updates of ready watches, as far as their credit allows, and in one step at most [`STEP_BYTES`] of
    /// events. The other watches have their turn in the next step.
    pub fn serve(&mut self) {
        for replica in self.replicas.iter_mut() {
            self.state.ready.extend(replica.group.machine().take_ready());
        }
        let mut room = STEP_BYTES;
        let mut order = std::mem::take(&mut self.state.ready);
        let first = order.split_off(&self.state.turn);
        for own in first.into_iter().chain(order) {
            while room > 0
                && let Some(update) = self.next_update(own)
            {
                room = room.saturating_sub(update.bytes());
                self.state.turn = own + 1;
                self.send(own, update);
            }
            if room == 0 {
                self.state.ready.insert(own);
            }
        }
        if !self.state.ready.is_empty() {
            self.cx.timers.set_earlier(Timer::Serve, Millis(self.cx.now_ms));
        }
    }

    fn next_update(&mut self, own: u64) -> Option<WatchUpdate> {
        let watch = self.state.watches.get_mut(&own).filter(|watch| watch.may_send())?;
        if let Some(part) = watch.rest.pop_front() {
            return Some(part);
        }
        let replica = self.replicas.get_mut(&watch.group)?;
        match replica.group.machine().poll_watch(own, UPDATE_BYTES) {
            Ok(Some(WatchUpdate::Events { revision, events })) if watch.to.0 != self.cx.me => {
                watch.rest = parts(revision, events);
                watch.rest.pop_front()
            }
            Ok(update) => update,
            Err(error) => Some(WatchUpdate::Lost { reason: error.to_string() }),
        }
    }

    fn send(&mut self, own: u64, update: WatchUpdate) {
        let Some(watch) = self.state.watches.get_mut(&own) else { return };
        if !matches!(update, WatchUpdate::Created { .. }) {
            watch.credit -= 1;
            watch.under_way.push_back(update.bytes());
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

/// Splits an update into parts that fit into messages. A part that ends within a revision has the number of the revision
/// before it, up to which all events were sent; the receiver joins the parts of a revision.
fn parts(revision: Revision, events: Vec<Event>) -> VecDeque<WatchUpdate> {
    let (mut parts, mut part, mut bytes) = (VecDeque::new(), Vec::new(), 0);
    for event in events {
        let more = EVENT_BYTES + event.bytes();
        if bytes + more > PART_BYTES && bytes > 0 {
            let (revision, events) = (event.kv.mod_revision - 1, std::mem::take(&mut part));
            parts.push_back(WatchUpdate::Events { revision, events });
            bytes = 0;
        }
        bytes += more;
        part.push(event);
    }
    parts.push_back(WatchUpdate::Events { revision, events: part });
    parts
}
