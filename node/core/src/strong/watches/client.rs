//! Watches of clients here, each served by a replica here or elsewhere.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use starling_kv::Engine;
use starling_strong::api::{Event, Revision, Watch, WatchUpdate};
use starling_strong::group::GroupId;
use starling_strong::members::NodeKey;

use super::super::context::{Context, Timer};
use super::super::directory::Directory;
use super::super::input::{CoreCall, StrongOutput};
use super::super::message::StrongMessage;
use super::super::replicas::Replicas;
use crate::Token;

/// Watches of clients on this node, at most; further ones are rejected.
const WATCHES_MAX: usize = 16_384;
/// How long a member has to reply to a new watch, milliseconds; twice as long after each attempt that came to
/// nothing, three times at most: the link may be slow.
const REPLY_MS: u64 = 1_000;
/// Pause before a watch is opened again, milliseconds, and as long again at random.
const PAUSE_MS: u64 = 100;
/// How long a watch that another node serves may get no update before it is checked, milliseconds. A guess: a
/// watch whose last update was lost makes no progress for this long; any other costs four small messages in this
/// time.
const CHECK_MS: u64 = 15_000;
/// How long the member has to reply to a check, milliseconds.
const CHECKED_MS: u64 = 3_000;
/// Bytes of the parts of one revision that wait for its last one, at most. A guess: twice the largest deletion.
const PARTS_BYTES_MAX: usize = 128 << 20;
/// How long no member replies before a watch is lost, milliseconds.
const LOST_MS: u64 = 30_000;

struct ClientWatch {
    keyspace: String,
    /// What is watched, from the revision after the last update.
    spec: Watch,
    /// Updates that may still be sent before the client asks for more.
    credit: u32,
    /// The id under which it is served, and the node that serves it.
    served: Option<(u64, NodeKey)>,
    /// The group that serves it, or was the last one to.
    group: GroupId,
    /// Updates received from that node.
    received: u64,
    /// Events of a revision that that node has not sent whole, and their bytes.
    part: Vec<Event>,
    part_bytes: usize,
    /// Whether the reply to a check is awaited.
    checking: bool,
    /// Whether the client awaits its progress: another member is asked, too.
    wants_progress: bool,
    /// Whether the client knows that the watch is open.
    was_created: bool,
    attempts: u32,
    /// Attempts since the last update.
    unanswered: u32,
    /// The time since which no member has replied, milliseconds.
    lonely_since: Option<u64>,
}

impl ClientWatch {
    /// Joins the parts of a revision that an update had no room for. Returns the events to deliver; `None`: there is a
    /// part only. A revision beyond [`PARTS_BYTES_MAX`] is delivered in parts.
    fn join(&mut self, revision: Revision, mut events: Vec<Event>) -> Option<Vec<Event>> {
        let whole = events.partition_point(|event| event.kv.mod_revision <= revision);
        let mut part = events.split_off(whole);
        let bytes: usize = part.iter().map(Event::bytes).sum();
        if whole == 0 && !part.is_empty() && self.part_bytes + bytes <= PARTS_BYTES_MAX {
            self.part.append(&mut part);
            self.part_bytes += bytes;
            return None;
        }
        let mut all = std::mem::replace(&mut self.part, part);
        self.part_bytes = bytes;
        all.append(&mut events);
        Some(all)
    }

    fn go_on_after(&mut self, revision: Revision) {
        self.spec.from_revision = self.spec.from_revision.max(revision.saturating_add(1));
    }
}

/// The watches of clients on this node.
#[derive(Default)]
pub struct ClientWatches {
    watches: BTreeMap<Token, ClientWatch>,
    /// The watches' tokens, by the ids in their messages.
    tokens: BTreeMap<u64, Token>,
}

/// [`ClientWatches`] with the parts that it uses.
pub struct Handler<'a, E: Engine> {
    pub cx: &'a mut Context,
    pub state: &'a mut ClientWatches,
    pub directory: &'a Directory,
    pub replicas: &'a Replicas<E>,
}

impl<E: Engine> Handler<'_, E> {
    /// Opens a client's watch.
    pub fn open(&mut self, token: Token, keyspace: String, spec: Watch, credit: u32) {
        if self.state.watches.len() >= WATCHES_MAX {
            let update = WatchUpdate::Lost { reason: "too many watches on this node".into() };
            self.cx.reply(StrongOutput::Update { token, update });
            return;
        }
        let watch = ClientWatch {
            keyspace,
            spec,
            credit,
            served: None,
            group: GroupId::default(),
            received: 0,
            part: Vec::new(),
            part_bytes: 0,
            checking: false,
            wants_progress: false,
            was_created: false,
            attempts: 0,
            unanswered: 0,
            lonely_since: None,
        };
        self.state.watches.insert(token, watch);
        self.attempt(token);
    }

    /// Asks a member to serve the watch.
    fn attempt(&mut self, token: Token) {
        let Some(watch) = self.state.watches.get_mut(&token).filter(|watch| watch.served.is_none()) else {
            return;
        };
        // No update may be sent, so there would be no reply: the watch is opened when its client asks for more.
        if watch.credit == 0 {
            watch.lonely_since = None;
            return;
        }
        let Some((group, node)) = choose(self.cx.me, self.directory, self.replicas, watch) else {
            self.cx.call(CoreCall::Lookup { keyspace: watch.keyspace.clone() });
            self.pause(token);
            return;
        };
        if watch.was_created && watch.group != group {
            self.lose(token, "another keyspace has its name now");
            return;
        }
        watch.group = group;
        let id = self.cx.fresh_id();
        // Without a reply, another member is asked.
        if node != self.cx.me {
            self.cx.set_timer(Timer::Watch(token), REPLY_MS << watch.unanswered.min(3));
        }
        watch.attempts += 1;
        watch.unanswered += 1;
        (watch.received, watch.checking) = (0, false);
        // The revision is sent again, from its first event on.
        (watch.part, watch.part_bytes) = (Vec::new(), 0);
        watch.served = Some((id, node));
        self.state.tokens.insert(id, token);
        let (watch, updates) = (watch.spec.clone(), watch.credit);
        self.cx.send(&node, StrongMessage::Watch { id, group, watch, updates });
    }

    /// Handles the end of a pause, of a time without updates, or of the time to reply.
    pub fn on_timeout(&mut self, token: Token) {
        let Some(watch) = self.state.watches.get_mut(&token) else { return };
        match watch.served {
            Some((id, node)) if watch.received > 0 && !watch.checking => {
                watch.checking = true;
                let (received, updates) = (watch.received, watch.credit);
                self.cx.send(&node, StrongMessage::Check { id, received, updates });
                self.cx.set_timer(Timer::Watch(token), CHECKED_MS);
            }
            Some(_) => self.pause(token),
            None => self.attempt(token),
        }
    }

    /// Handles the reply to a check. All updates that were sent before it have arrived or are lost.
    pub fn on_checked(&mut self, from: NodeKey, id: u64, sent: u64) {
        let Some(token) = self.state.tokens.get(&id).copied() else { return };
        let Some(watch) = self.state.watches.get_mut(&token) else { return };
        if watch.served != Some((id, from)) {
            return;
        }
        watch.checking = false;
        if watch.received < sent {
            self.cx.send(&from, StrongMessage::Unwatch { id });
            return self.pause(token);
        }
        // Nothing happened. The revision up to which that is so is where another member would continue.
        if watch.credit > 0 {
            self.cx.send(&from, StrongMessage::Progress { id });
        }
        self.cx.set_timer(Timer::Watch(token), CHECK_MS);
    }

    /// Opens the watch again later, or ends it when no member has replied for long.
    fn pause(&mut self, token: Token) {
        let pause_ms = PAUSE_MS + self.cx.below(PAUSE_MS);
        let Some(watch) = self.state.watches.get_mut(&token) else { return };
        if let Some((id, _)) = watch.served.take() {
            self.state.tokens.remove(&id);
        }
        watch.attempts += 1;
        let since = *watch.lonely_since.get_or_insert(self.cx.now_ms);
        if self.cx.now_ms >= since + LOST_MS {
            self.lose(token, "no member of the keyspace answers");
        } else {
            self.cx.set_timer(Timer::Watch(token), pause_ms);
        }
    }

    fn lose(&mut self, token: Token, reason: &str) {
        self.remove(token);
        let update = WatchUpdate::Lost { reason: reason.into() };
        self.cx.reply(StrongOutput::Update { token, update });
    }

    /// Ends the watches of a keyspace that another group than this one serves: revisions of two groups have nothing in
    /// common.
    pub fn on_moved(&mut self, keyspace: &str, group: GroupId) {
        let is_elsewhere = |watch: &ClientWatch| watch.keyspace == keyspace && watch.group != group;
        let all = self.state.watches.iter().filter(|(_, watch)| watch.was_created && is_elsewhere(watch));
        for token in all.map(|(token, _)| *token).collect::<Vec<_>>() {
            if let Some((id, node)) = self.state.watches.get(&token).and_then(|watch| watch.served) {
                self.cx.send(&node, StrongMessage::Unwatch { id });
            }
            self.lose(token, "another keyspace has its name now");
        }
    }

    /// Handles the loss of a peer: its watches are opened again elsewhere.
    pub fn on_peer_down(&mut self, peer: NodeKey) {
        let lost = self.state.watches.iter().filter(|(_, it)| it.served.is_some_and(|(_, at)| at == peer));
        for token in lost.map(|(token, _)| *token).collect::<Vec<_>>() {
            self.pause(token);
        }
    }

    /// Grants a watch more updates.
    pub fn more(&mut self, token: Token, updates: u32) {
        let Some(watch) = self.state.watches.get_mut(&token) else { return };
        watch.credit = watch.credit.saturating_add(updates);
        match watch.served {
            Some((id, node)) => self.cx.send(&node, StrongMessage::More { id, updates }),
            None => self.attempt(token),
        }
    }

    /// Requests the progress of a watch; from a member that is yet to be found, once it serves the watch.
    pub fn progress(&mut self, token: Token) {
        let Some(watch) = self.state.watches.get_mut(&token) else { return };
        watch.wants_progress = true;
        if let Some((id, node)) = watch.served {
            self.cx.send(&node, StrongMessage::Progress { id });
        }
    }

    /// Closes a client's watch.
    pub fn close(&mut self, token: Token) {
        if let Some((id, node)) = self.remove(token).and_then(|watch| watch.served) {
            self.cx.send(&node, StrongMessage::Unwatch { id });
        }
    }

    /// Handles an update. A duplicate is ignored; if one is missing, the watch is opened again.
    pub fn on_update(&mut self, from: NodeKey, id: u64, number: u64, update: WatchUpdate) {
        let token = self.state.tokens.get(&id).copied();
        let watch = token.and_then(|token| self.state.watches.get_mut(&token));
        let watch = watch.filter(|watch| watch.served == Some((id, from)));
        let (Some(token), Some(watch)) = (token, watch) else {
            self.cx.send(&from, StrongMessage::Unwatch { id });
            return;
        };
        match number.cmp(&watch.received) {
            Ordering::Less => {}
            Ordering::Equal => {
                watch.received += 1;
                self.deliver(token, (id, from), update);
            }
            Ordering::Greater => {
                self.cx.send(&from, StrongMessage::Unwatch { id });
                self.pause(token);
            }
        }
    }

    fn deliver(&mut self, token: Token, (id, from): (u64, NodeKey), mut update: WatchUpdate) {
        let Some(watch) = self.state.watches.get_mut(&token) else { return };
        // No message is lost between two ends on one node.
        if from == self.cx.me {
            self.cx.timers.cancel(&Timer::Watch(token));
        } else {
            self.cx.set_timer(Timer::Watch(token), CHECK_MS);
        }
        (watch.lonely_since, watch.checking, watch.unanswered) = (None, false, 0);
        if let WatchUpdate::Events { revision, events } = &mut update {
            let Some(whole) = watch.join(*revision, std::mem::take(events)) else {
                watch.go_on_after(*revision);
                // The client has allowed whole revisions.
                self.cx.send(&from, StrongMessage::More { id, updates: 1 });
                return;
            };
            *events = whole;
        }
        match &update {
            WatchUpdate::Created { revision } => {
                if watch.spec.from_revision == 0 {
                    watch.go_on_after(*revision);
                }
                if std::mem::replace(&mut watch.was_created, true) {
                    if watch.wants_progress {
                        self.cx.send(&from, StrongMessage::Progress { id });
                    }
                    return;
                }
            }
            WatchUpdate::Events { revision, .. } | WatchUpdate::Progress { revision } => {
                watch.wants_progress &= matches!(update, WatchUpdate::Events { .. });
                watch.credit = watch.credit.saturating_sub(1);
                watch.go_on_after(*revision);
            }
            WatchUpdate::Compacted { .. } => drop(self.remove(token)),
            // The node has no replica any more, or serves too many watches.
            WatchUpdate::Lost { .. } => return self.pause(token),
        }
        self.cx.reply(StrongOutput::Update { token, update });
    }

    fn remove(&mut self, token: Token) -> Option<ClientWatch> {
        self.cx.timers.cancel(&Timer::Watch(token));
        let watch = self.state.watches.remove(&token)?;
        if let Some((id, _)) = watch.served {
            self.state.tokens.remove(&id);
        }
        Some(watch)
    }
}

/// The group of a watch and the node to serve it: this one if it can, else one member after the other.
fn choose<E: Engine>(
    me: NodeKey,
    directory: &Directory,
    replicas: &Replicas<E>,
    watch: &ClientWatch,
) -> Option<(GroupId, NodeKey)> {
    if directory.is_ambiguous(&watch.keyspace) {
        return None;
    }
    if let Some((group, _)) = replicas.serving(&watch.keyspace).filter(|(_, it)| it.group.is_informed()) {
        return Some((group, me));
    }
    let (group, others) = replicas.elsewhere(&watch.keyspace, directory)?;
    let next = (watch.attempts as usize).checked_rem(others.len())?;
    Some((group, others[next]))
}
