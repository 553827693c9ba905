//! What nodes want done, and what is noted of it.

use starling_core::{Input, Notice, Output};
use starling_proto::message::{RumorMessage, SyncMessage};
use starling_proto::{Message, NodeId, wire};

use super::node::index_at;
use super::{Event, FIND_CONTACTS_US, World};
use crate::measure::{Arrival, Kind};

impl World {
    /// Gives a message to a node that handles things, and notes what its store has joined.
    pub(super) fn give_message(&mut self, index: usize, from: usize, message: Message) {
        let peer = self.nodes[from].record.id;
        let arrival = arrival(&message);
        if let Some(mut receipts) = self.receipts.take() {
            let version = self.version_between(from, index);
            let bytes = wire::encoded_len(&message, version).unwrap_or_default() as u64;
            receipts.received(index, &message, bytes, self.nodes[index].store());
            self.receipts = Some(receipts);
        }
        let seen = self.witness.as_mut().map(|witness| {
            witness.delivered(from, index, &message, self.now_us);
            message.clone()
        });
        // What comes after the node has closed the link goes unheard.
        let is_heard = self.nodes[index].core.as_ref().is_some_and(|core| core.is_linked(&peer));
        self.give(index, Input::Message { peer, message });
        if let (Some(witness), Some(message), Some(store)) =
            (&mut self.witness, seen.filter(|_| is_heard), self.nodes[index].store())
        {
            witness.handled(index, &message, store, self.now_us);
        }
        if let (Some(arrival), Some(store)) = (arrival, self.nodes[index].store()) {
            self.recorder.arrived(index, &arrival, store, self.now_us);
        }
    }

    /// Does what a node wants done.
    pub(super) fn carry_out(&mut self, index: usize) {
        while let Some(output) = self.nodes[index].core.as_mut().and_then(|core| core.poll_output()) {
            match output {
                Output::Dial(record) => {
                    let to = record.addresses.first().and_then(|address| index_at(address));
                    self.dial(index, to, Some(record.id), None);
                }
                Output::DialAddress(address) => {
                    let to = index_at(&address);
                    self.dial(index, to, None, Some(address));
                }
                Output::Send { to, message } => self.send_to_all(index, &to, &message),
                Output::Close { peer, .. } => self.close(index, &peer),
                Output::Written { token, result } => {
                    if let Some(witness) = &mut self.witness {
                        witness.answered(token as u32, result.is_ok());
                    }
                    if let Some(store) = self.nodes[index].store() {
                        self.recorder.written(index, token as u32, result.is_ok(), store, self.now_us);
                    }
                }
                Output::Remember(records) => self.nodes[index].remembered = records,
                Output::Trust(trust) => self.nodes[index].trust = trust,
                Output::NeedContacts => {
                    self.queue.push(self.now_us + FIND_CONTACTS_US, Event::Contacts { node: index as u32 });
                }
                Output::Notice(notice) => self.on_notice(index, &notice),
                Output::Sync(number) => self.sync(index, number),
                Output::Strong(output) => self.on_strong_output(index, output),
                // No client here asks for these, no peer here misbehaves, and no certificates are required.
                Output::Changed(_)
                | Output::Crawled { .. }
                | Output::Misbehaved { .. }
                | Output::Renew(_)
                | Output::Certified(_) => {}
            }
        }
        self.schedule(index);
    }

    fn send_to_all(&mut self, from: usize, to: &[NodeId], message: &Message) {
        let mut sizes: Vec<(u8, Option<usize>)> = Vec::new();
        for peer in to {
            let version = self.version_between(from, self.process_of(peer));
            let known = sizes.iter().find(|(known, _)| *known == version).map(|(_, size)| *size);
            let size = known.unwrap_or_else(|| {
                let size = wire::encoded_len(message, version);
                sizes.push((version, size));
                size
            });
            // A version without the message leaves it unsaid, as the driver does.
            let Some(bytes) = size else { continue };
            self.recorder.sent(Kind::of(message), 1, bytes as u64);
            self.send(from, peer, message.clone(), bytes as u32);
        }
    }

    fn on_notice(&mut self, index: usize, notice: &Notice) {
        match notice {
            Notice::Strong { keyspace, notice } => self.on_strong_notice(index, keyspace, notice),
            // The next start is later than that of the other process.
            Notice::IdentityConflict { incarnation } => {
                let last = &mut self.nodes[index].last_start;
                *last = (*last).max(*incarnation);
            }
            Notice::NeighborDown(peer, _) => {
                let other = self.process_of(peer);
                self.recorder.gave_up(index, other, self.now_us);
            }
            Notice::Suspected { peer, .. } => {
                let other = self.process_of(peer);
                let node = &self.nodes[other];
                let runs = node.is_up() && node.stalled_until_us <= self.now_us;
                let reachable = !self.is_cut(index, other) && !self.is_cut(other, index);
                if runs && reachable {
                    self.recorder.wrongly_suspected();
                    let carries_progress = self.carries_progress(index, other);
                    if let Some(witness) = &mut self.witness {
                        witness.suspected(index, other, carries_progress, self.now_us);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The dots that a message brings, if it brings any.
fn arrival(message: &Message) -> Option<Arrival> {
    match message {
        Message::Rumor(RumorMessage::Full { id, hops, payload }) => {
            Some(Arrival::Rumor { range: *id, hops: *hops, delta: payload.0.clone() })
        }
        Message::Sync(SyncMessage::Delta { delta, .. } | SyncMessage::Push { delta, .. })
            if !delta.0.is_empty() =>
        {
            Some(Arrival::Repair { delta: delta.0.clone() })
        }
        _ => None,
    }
}
