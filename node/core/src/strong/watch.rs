//! Watches of clients here, served by a member here or elsewhere. A member that goes away is replaced by
//! another one, from the revision after the last one told: the client notices nothing. Where the last update
//! was lost, no later one tells: a watch that has heard nothing for a while asks its member whether all has come.

use std::cmp::Ordering;

use starling_kv::Engine;
use starling_proto::Millis;
use starling_strong::api::{Revision, Watch, WatchUpdate};
use starling_strong::group::GroupId;
use starling_strong::members::NodeKey;

use super::hosted::Hosted;
use super::message::StrongMessage;
use super::{CoreCall, Strong, StrongOutput, Timer};
use crate::Token;

/// Most watches of clients here.
const WATCHING_MAX: usize = 16_384;
/// Most watches served here.
const SERVED_MAX: usize = 65_536;
/// Bytes of events in one update, about: on a narrow link an update is a sign of life.
const UPDATE_BYTES: usize = 32 << 10;
/// A member that was asked for a watch has so long to answer, milliseconds; twice as long after each attempt
/// that came to nothing, three times at most: it may be the link that is slow.
const ANSWERED_MS: u64 = 1_000;
/// Before a watch is begun again, milliseconds, and as long again at random.
const AGAIN_MS: u64 = 100;
/// A watch that another node serves and that was told nothing for so long is checked, milliseconds. A guess: as
/// long as a watch may stand still where its last update was lost, and two small messages in that time else.
const CHECK_MS: u64 = 15_000;
/// Who does not answer that for so long is given up, milliseconds.
const CHECKED_MS: u64 = 3_000;
/// A watch that finds nobody for so long has ended, milliseconds.
const LOST_MS: u64 = 30_000;

/// A watch of a client here.
pub struct Watching {
    keyspace: String,
    spec: Watch,
    /// Updates that may still come before the client asks for more.
    updates: u32,
    /// The name under which it is served, and where.
    served: Option<(u64, NodeKey)>,
    /// Updates that came from there.
    heard: u64,
    /// Whoever serves it was asked whether all has come, and has not answered.
    checking: bool,
    /// The client knows that it stands.
    was_created: bool,
    attempts: u32,
    /// Attempts since it was told something.
    unanswered: u32,
    lonely_since: Option<u64>,
}

/// A watch served here.
pub struct Served {
    group: GroupId,
    to: Watcher,
    updates: u32,
    /// Updates that were sent.
    told: u64,
}

/// Whom a watch is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watcher {
    Here(Token),
    Peer(NodeKey, u64),
}

impl<E: Engine> Strong<E> {
    pub(super) fn handle_watch(
        &mut self,
        now_ms: u64,
        token: Token,
        keyspace: String,
        spec: Watch,
        updates: u32,
    ) {
        if self.watching.len() >= WATCHING_MAX {
            let update = WatchUpdate::Lost { reason: "too many watches on this node".into() };
            self.reply(StrongOutput::Update { token, update });
            return;
        }
        let watching = Watching {
            keyspace,
            spec,
            updates,
            served: None,
            heard: 0,
            checking: false,
            was_created: false,
            attempts: 0,
            unanswered: 0,
            lonely_since: None,
        };
        self.watching.insert(token, watching);
        self.begin_watch(now_ms, token);
    }

    /// Finds a member that serves the watch.
    fn begin_watch(&mut self, now_ms: u64, token: Token) {
        let Some(watching) = self.watching.get_mut(&token).filter(|watching| watching.served.is_none())
        else {
            return;
        };
        // Nobody would answer: it is begun when the client wants to be told something.
        if watching.updates == 0 {
            watching.lonely_since = None;
            return;
        }
        let keyspace = watching.keyspace.clone();
        let (spec, updates) = (watching.spec.clone(), watching.updates);
        let (attempts, unanswered) = (watching.attempts as usize, watching.unanswered);
        if let Some(group) = self.hosted(&keyspace).filter(|group| self.is_informed(group)) {
            let id = self.fresh();
            self.attach(token, id, self.me.id.0);
            self.serve(now_ms, id, group, Watcher::Here(token), spec, updates);
            return;
        }
        let me = self.me.id;
        let place = self.places.get(&keyspace).map(|place| {
            let others = place.members.iter().map(|record| record.id).filter(|member| *member != me);
            (place.group, others.collect::<Vec<_>>())
        });
        let Some((group, others)) = place.filter(|(_, others)| !others.is_empty()) else {
            self.call(CoreCall::Lookup { keyspace });
            self.watch_later(now_ms, token);
            return;
        };
        let node = others[attempts % others.len()].0;
        let id = self.fresh();
        self.attach(token, id, node);
        self.send(&node, StrongMessage::Watch { id, group, watch: spec, updates });
        // If nobody answers, another one is asked.
        self.timers.set(Timer::Watch(token), Millis(now_ms + (ANSWERED_MS << unanswered.min(3))));
    }

    fn is_informed(&self, group: &GroupId) -> bool {
        self.groups.get(group).is_some_and(|hosted| hosted.group.is_informed())
    }

    fn attach(&mut self, token: Token, id: u64, node: NodeKey) {
        let Some(watching) = self.watching.get_mut(&token) else { return };
        watching.attempts += 1;
        watching.unanswered += 1;
        (watching.heard, watching.checking) = (0, false);
        if let Some((before, _)) = watching.served.replace((id, node)) {
            self.watch_ids.remove(&before);
        }
        self.watch_ids.insert(id, token);
    }

    /// The pause is over, or nothing was told for a while, or who was asked has not answered.
    pub(super) fn watch_again(&mut self, now_ms: u64, token: Token) {
        let Some(watching) = self.watching.get_mut(&token) else { return };
        match watching.served {
            Some((id, node)) if watching.heard > 0 && !watching.checking => {
                watching.checking = true;
                let (heard, updates) = (watching.heard, watching.updates);
                self.send(&node, StrongMessage::Check { id, heard, updates });
                self.timers.set(Timer::Watch(token), Millis(now_ms + CHECKED_MS));
            }
            Some(_) => self.watch_later(now_ms, token),
            None => self.begin_watch(now_ms, token),
        }
    }

    /// What came of it: nothing is on its way any more.
    pub(super) fn on_checked(&mut self, now_ms: u64, from: NodeKey, id: u64, told: u64) {
        let Some(token) = self.watch_ids.get(&id).copied() else { return };
        let Some(watching) = self.watching.get_mut(&token) else { return };
        if watching.served != Some((id, from)) {
            return;
        }
        watching.checking = false;
        if watching.heard < told {
            self.send(&from, StrongMessage::Unwatch { id });
            self.watch_later(now_ms, token);
        } else {
            self.timers.set(Timer::Watch(token), Millis(now_ms + CHECK_MS));
        }
    }

    /// A watcher says how far it has come. What it may be told is set right: a message that granted more may have
    /// been lost.
    pub(super) fn on_check(&mut self, from: NodeKey, id: u64, heard: u64, updates: u32) {
        let own = self.served_for.get(&(from, id)).copied();
        let Some((own, served)) = own.and_then(|own| Some((own, self.served.get_mut(&own)?))) else {
            let update = WatchUpdate::Lost { reason: "not served here any more".into() };
            self.send(&from, StrongMessage::Update { id, number: heard, update });
            return;
        };
        let told = served.told;
        if told == heard {
            served.updates = updates;
            self.to_serve.insert(own);
        }
        self.send(&from, StrongMessage::Checked { id, told });
    }

    fn watch_later(&mut self, now_ms: u64, token: Token) {
        let pause = AGAIN_MS + self.below(AGAIN_MS);
        let Some(watching) = self.watching.get_mut(&token) else { return };
        if let Some((id, _)) = watching.served.take() {
            self.watch_ids.remove(&id);
        }
        watching.attempts += 1;
        let since = *watching.lonely_since.get_or_insert(now_ms);
        if now_ms >= since + LOST_MS {
            self.watching.remove(&token);
            let update = WatchUpdate::Lost { reason: "no member of the keyspace answers".into() };
            self.reply(StrongOutput::Update { token, update });
        } else {
            self.timers.set(Timer::Watch(token), Millis(now_ms + pause));
        }
    }

    pub(super) fn watches_down(&mut self, now_ms: u64, peer: NodeKey) {
        let lost =
            self.watching.iter().filter(|(_, watching)| watching.served.is_some_and(|(_, at)| at == peer));
        for token in lost.map(|(token, _)| *token).collect::<Vec<_>>() {
            self.watch_later(now_ms, token);
        }
        let is_peers = |served: &Served| matches!(served.to, Watcher::Peer(to, _) if to == peer);
        let gone: Vec<u64> = self.served.iter().filter(|(_, it)| is_peers(it)).map(|(id, _)| *id).collect();
        for id in gone {
            self.unserve(id);
        }
    }

    pub(super) fn handle_more(&mut self, now_ms: u64, token: Token, updates: u32) {
        let Some(watching) = self.watching.get_mut(&token) else { return };
        watching.updates = watching.updates.saturating_add(updates);
        match watching.served {
            Some((id, node)) if node == self.me.id.0 => self.grant(id, updates),
            Some((id, node)) => self.send(&node, StrongMessage::More { id, updates }),
            None => self.begin_watch(now_ms, token),
        }
    }

    pub(super) fn handle_progress(&mut self, token: Token) {
        match self.watching.get(&token).and_then(|watching| watching.served) {
            Some((id, node)) if node == self.me.id.0 => self.request_progress(id),
            Some((id, node)) => self.send(&node, StrongMessage::Progress { id }),
            // Whoever is found to serve it says how far it is by and by.
            None => {}
        }
    }

    pub(super) fn on_progress(&mut self, from: NodeKey, id: u64) {
        if let Some(own) = self.served_for.get(&(from, id)).copied() {
            self.request_progress(own);
        }
    }

    fn request_progress(&mut self, id: u64) {
        let Some(served) = self.served.get(&id) else { return };
        if let Some(hosted) = self.groups.get_mut(&served.group) {
            hosted.group.machine().request_progress(id);
            self.to_serve.insert(id);
        }
    }

    pub(super) fn handle_unwatch(&mut self, token: Token) {
        self.timers.cancel(&Timer::Watch(token));
        let Some(watching) = self.watching.remove(&token) else { return };
        if let Some((id, _)) = watching.served {
            self.watch_ids.remove(&id);
        }
        match watching.served {
            Some((id, node)) if node == self.me.id.0 => self.unserve(id),
            Some((id, node)) => self.send(&node, StrongMessage::Unwatch { id }),
            None => {}
        }
    }

    /// A peer's update for a client here. One that came twice is told once; where one is missing the watch is
    /// begun again.
    pub(super) fn on_update(
        &mut self,
        now_ms: u64,
        from: NodeKey,
        id: u64,
        number: u64,
        update: WatchUpdate,
    ) {
        let token = self.watch_ids.get(&id).copied();
        let watching = token.and_then(|token| self.watching.get_mut(&token));
        let watching = watching.filter(|watching| watching.served == Some((id, from)));
        let (Some(token), Some(watching)) = (token, watching) else {
            self.send(&from, StrongMessage::Unwatch { id });
            return;
        };
        match number.cmp(&watching.heard) {
            Ordering::Less => {}
            Ordering::Equal => {
                watching.heard += 1;
                self.tell_watch(now_ms, token, update);
            }
            Ordering::Greater => {
                self.send(&from, StrongMessage::Unwatch { id });
                self.watch_later(now_ms, token);
            }
        }
    }

    fn tell_watch(&mut self, now_ms: u64, token: Token, update: WatchUpdate) {
        let Some(watching) = self.watching.get_mut(&token) else { return };
        let is_elsewhere = watching.served.is_some_and(|(_, node)| node != self.me.id.0);
        if is_elsewhere {
            self.timers.set(Timer::Watch(token), Millis(now_ms + CHECK_MS));
        } else {
            self.timers.cancel(&Timer::Watch(token));
        }
        (watching.lonely_since, watching.checking, watching.unanswered) = (None, false, 0);
        let mut is_news = true;
        match &update {
            WatchUpdate::Created { revision } => {
                is_news = !watching.was_created;
                watching.was_created = true;
                watching.go_on_after(*revision, watching.spec.from_revision == 0);
            }
            WatchUpdate::Events { revision, .. } | WatchUpdate::Progress { revision } => {
                watching.updates = watching.updates.saturating_sub(1);
                watching.go_on_after(*revision, true);
            }
            WatchUpdate::Compacted { .. } => {
                self.watching.remove(&token);
                self.timers.cancel(&Timer::Watch(token));
            }
            // The member is none any more, or has too much to do.
            WatchUpdate::Lost { .. } => {
                self.watch_later(now_ms, token);
                return;
            }
        }
        if is_news {
            self.reply(StrongOutput::Update { token, update });
        }
    }

    pub(super) fn on_watch(
        &mut self,
        now_ms: u64,
        from: NodeKey,
        id: u64,
        group: GroupId,
        watch: Watch,
        updates: u32,
    ) {
        // Asked twice: it is served.
        if self.served_for.contains_key(&(from, id)) {
            return;
        }
        let own = self.fresh();
        self.serve(now_ms, own, group, Watcher::Peer(from, id), watch, updates);
    }

    fn serve(&mut self, now_ms: u64, id: u64, group: GroupId, to: Watcher, spec: Watch, updates: u32) {
        let full = self.served.len() >= SERVED_MAX;
        let serves = |hosted: &&mut Hosted<E>| !full && hosted.group.is_informed();
        let Some(hosted) = self.groups.get_mut(&group).filter(serves) else {
            self.tell_watcher(now_ms, to, 0, WatchUpdate::Lost { reason: "not served here".into() });
            return;
        };
        if let Err(refusal) = hosted.group.machine().watch(id, spec) {
            self.tell_watcher(now_ms, to, 0, WatchUpdate::Lost { reason: refusal.to_string() });
            return;
        }
        if let Watcher::Peer(peer, theirs) = to {
            self.served_for.insert((peer, theirs), id);
        }
        self.served.insert(id, Served { group, to, updates, told: 0 });
        self.to_serve.insert(id);
    }

    pub(super) fn on_more(&mut self, from: NodeKey, id: u64, updates: u32) {
        if let Some(own) = self.served_for.get(&(from, id)).copied() {
            self.grant(own, updates);
        }
    }

    pub(super) fn on_unwatch(&mut self, from: NodeKey, id: u64) {
        if let Some(own) = self.served_for.get(&(from, id)).copied() {
            self.unserve(own);
        }
    }

    fn grant(&mut self, id: u64, updates: u32) {
        if let Some(served) = self.served.get_mut(&id) {
            served.updates = served.updates.saturating_add(updates);
            self.to_serve.insert(id);
        }
    }

    fn unserve(&mut self, id: u64) {
        let Some(served) = self.served.remove(&id) else { return };
        if let Watcher::Peer(peer, theirs) = served.to {
            self.served_for.remove(&(peer, theirs));
        }
        if let Some(hosted) = self.groups.get_mut(&served.group) {
            hosted.group.machine().unwatch(id);
        }
    }

    /// A group is gone from here: its watchers go elsewhere.
    pub(super) fn unserve_group(&mut self, now_ms: u64, group: &GroupId) {
        let gone: Vec<u64> =
            self.served.iter().filter(|(_, it)| it.group == *group).map(|(id, _)| *id).collect();
        for id in gone {
            let served = self.served.get(&id).map(|served| (served.to, served.told));
            self.unserve(id);
            if let Some((to, told)) = served {
                let update = WatchUpdate::Lost { reason: "not served here any more".into() };
                self.tell_watcher(now_ms, to, told, update);
            }
        }
    }

    /// Tells what there is to tell, as far as watchers have asked for more.
    pub(super) fn serve_watches(&mut self, now_ms: u64) {
        for hosted in self.groups.values_mut() {
            self.to_serve.extend(hosted.group.machine().take_ready());
        }
        for id in std::mem::take(&mut self.to_serve) {
            self.serve_watch(now_ms, id);
        }
    }

    fn serve_watch(&mut self, now_ms: u64, id: u64) {
        loop {
            let Some(served) = self.served.get_mut(&id).filter(|served| served.updates > 0) else { return };
            let Some(hosted) = self.groups.get_mut(&served.group) else { return };
            let update = match hosted.group.machine().poll_watch(id, UPDATE_BYTES) {
                Ok(None) => return,
                Ok(Some(update)) => update,
                Err(error) => WatchUpdate::Lost { reason: error.to_string() },
            };
            if !matches!(update, WatchUpdate::Created { .. }) {
                served.updates -= 1;
            }
            let (to, number) = (served.to, served.told);
            served.told += 1;
            if matches!(update, WatchUpdate::Compacted { .. } | WatchUpdate::Lost { .. }) {
                self.unserve(id);
            }
            self.tell_watcher(now_ms, to, number, update);
        }
    }

    fn tell_watcher(&mut self, now_ms: u64, to: Watcher, number: u64, update: WatchUpdate) {
        match to {
            Watcher::Here(token) => self.tell_watch(now_ms, token, update),
            Watcher::Peer(peer, id) => self.send(&peer, StrongMessage::Update { id, number, update }),
        }
    }
}

impl Watching {
    /// The revision up to which everything is told.
    fn go_on_after(&mut self, revision: Revision, all_told: bool) {
        if all_told {
            self.spec.from_revision = self.spec.from_revision.max(revision + 1);
        }
    }
}
