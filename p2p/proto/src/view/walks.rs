//! Walks through the active views: joins and shuffles.

use rand::seq::{IteratorRandom, SliceRandom};

use super::links::AskKind;
use super::repair::jittered;
use super::{Timer, Views};
use crate::message::ViewMessage;
use crate::{Millis, NodeId, NodeRecord};

impl Views {
    /// Makes the joiner a neighbour, and starts one walk with its record per other neighbour.
    pub(super) fn on_join(&mut self, now: Millis, from: &NodeRecord) {
        if !self.on_neighbor(now, from.clone(), AskKind::Join) {
            return;
        }
        self.last_joiner = Some(from.id);
        let sample = self.sample(&from.id);
        self.send(from.clone(), ViewMessage::ShuffleReply { sample });
        let ttl = self.config.join_hops;
        let others: Vec<_> = self.active.values().filter(|peer| peer.id != from.id).cloned().collect();
        for peer in others {
            self.send(peer, ViewMessage::ForwardJoin { joiner: from.clone(), ttl });
        }
    }

    /// Handles a joiner's walk. With `ttl` 0 it is not a walk: the sender has evicted this node for the joiner, and
    /// hands the one to the other.
    pub(super) fn on_forward_join(&mut self, now: Millis, from: &NodeRecord, joiner: NodeRecord, ttl: u8) {
        if joiner.id == self.me.id {
            return;
        }
        self.passive.forgive(&joiner.id);
        if ttl == 0 {
            if self.active.len() + self.asked.len() < self.config.active_max {
                self.ask(now, joiner, AskKind::Low);
            } else {
                self.learn(now, vec![joiner]);
            }
            return;
        }
        self.correct_stranger(from);
        if ttl == self.config.join_hops_passive {
            self.learn(now, vec![joiner.clone()]);
        }
        match self.next_hop(ttl, &from.id, &joiner.id) {
            Some(next) => self.send(next, ViewMessage::ForwardJoin { joiner, ttl: ttl - 1 }),
            None => self.ask(now, joiner, AskKind::Walk),
        }
    }

    /// Where a walk with `ttl` hops left goes; `None` if it ends here.
    fn next_hop(&mut self, ttl: u8, from: &NodeId, about: &NodeId) -> Option<NodeRecord> {
        if ttl <= 1 {
            return None;
        }
        let others = self.active.values().filter(|peer| peer.id != *from && peer.id != *about);
        others.choose(&mut self.rng).cloned()
    }

    /// Returns to frequent shuffles, because the views nearby have changed.
    pub(super) fn hurry_shuffle(&mut self, now: Millis) {
        self.shuffle_interval_ms = self.config.shuffle_first_ms;
        let wait = jittered(self.shuffle_interval_ms, &mut self.rng);
        self.timers.set_earlier(Timer::Shuffle, now + wait);
    }

    /// Sends a sample of the views on a walk (paper, section 4.4).
    pub(super) fn shuffle(&mut self, now: Millis) {
        let Some(next) = self.active.values().choose(&mut self.rng).cloned() else { return };
        self.shuffle_interval_ms = (2 * self.shuffle_interval_ms).min(self.config.shuffle_ms);
        let wait = jittered(self.shuffle_interval_ms, &mut self.rng);
        self.timers.set(Timer::Shuffle, now + wait);
        self.counters.shuffles += 1;
        self.diversify(now);
        let sample = self.sample(&next.id);
        self.passive.set_shuffled(sample.iter().map(|record| record.id).collect());
        let (origin, ttl) = (self.me.clone(), self.config.shuffle_hops);
        self.send(next, ViewMessage::Shuffle { origin, ttl, sample });
    }

    pub(super) fn on_shuffle(
        &mut self,
        now: Millis,
        from: &NodeRecord,
        origin: NodeRecord,
        ttl: u8,
        mut sample: Vec<NodeRecord>,
    ) {
        self.correct_stranger(from);
        if origin.id == self.me.id {
            return;
        }
        if let Some(next) = self.next_hop(ttl, &from.id, &origin.id) {
            return self.send(next, ViewMessage::Shuffle { origin, ttl: ttl - 1, sample });
        }
        let size = (sample.len() + 1).min(self.config.shuffle_active + self.config.shuffle_passive + 1);
        let reply: Vec<_> =
            self.passive.iter().filter(|peer| peer.id != origin.id).sample(&mut self.rng, size);
        let reply: Vec<NodeRecord> = reply.into_iter().cloned().collect();
        self.passive.set_shuffled(reply.iter().map(|record| record.id).collect());
        self.send(origin.clone(), ViewMessage::ShuffleReply { sample: reply });
        sample.push(origin);
        self.learn(now, sample);
    }

    /// Some of the neighbours and some of the passive view, in random order, without `except`.
    pub(super) fn sample(&mut self, except: &NodeId) -> Vec<NodeRecord> {
        let Self { active, passive, config, rng, .. } = self;
        let mut sample = active.values().filter(|p| p.id != *except).sample(rng, config.shuffle_active);
        sample.extend(passive.iter().filter(|p| p.id != *except).sample(rng, config.shuffle_passive));
        sample.shuffle(rng);
        sample.into_iter().cloned().collect()
    }
}
