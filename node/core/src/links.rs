//! The table of links. The protocol machines only name the receiver of a message; this table dials if there is no
//! link yet, keeps the message meanwhile, and closes unused links.

use std::collections::BTreeMap;

use starling_proto::trust::Certificate;
use starling_proto::{Message, Millis, NodeId, NodeRecord};

use crate::Output;

/// Dials in progress, at most. With more, or with too many that peers have caused, a message to an unconnected node is
/// dropped and the node is reported as unreachable: every protocol that sends one retries.
const DIALS_MAX: usize = 64;
/// Dials in a row to nodes that peers have named for the views, at most. A guess: the ends of walks while many nodes join.
const NAMED_DIALS_MAX: u32 = 64;
/// Time after which one such dial more is allowed, milliseconds. A guess: far more often than shuffles are answered and
/// walks end at one node, and not often enough to scan addresses through a node.
const NAMED_DIAL_EVERY_MS: u64 = 125;
/// Messages that wait for one dial, at most; the oldest is dropped.
const WAITING_MAX: usize = 8;
/// Time without a message after which a link outside the active view is closed, milliseconds.
/// A guess: longer than any exchange's round trips, short enough to keep tables small.
pub const TRANSIENT_IDLE_MS: u64 = 5_000;

struct Link {
    record: NodeRecord,
    certificate: Option<Certificate>,
    used: Millis,
}

/// The table.
#[derive(Default)]
pub struct Links {
    connected: BTreeMap<NodeId, Link>,
    dialing: BTreeMap<NodeId, Vec<Message>>,
    named: NamedDials,
}

/// The dials that peers cause by naming nodes: a shuffle or a walk can name any address.
#[derive(Default)]
struct NamedDials {
    /// Since the last refill.
    count: u32,
    refilled: Millis,
}

impl NamedDials {
    /// Whether another one is allowed now; it counts.
    fn take(&mut self, now: Millis) -> bool {
        let refills = (now - self.refilled) / NAMED_DIAL_EVERY_MS;
        self.count = self.count.saturating_sub(u32::try_from(refills).unwrap_or(u32::MAX));
        self.refilled = self.refilled + refills * NAMED_DIAL_EVERY_MS;
        let is_allowed = self.count < NAMED_DIALS_MAX;
        self.count += u32::from(is_allowed);
        is_allowed
    }
}

impl Links {
    /// The record of a connected peer.
    pub fn record(&self, peer: &NodeId) -> Option<&NodeRecord> {
        self.connected.get(peer).map(|link| &link.record)
    }

    /// Connected peers.
    pub fn peers(&self) -> impl Iterator<Item = (&NodeId, &NodeRecord)> {
        self.connected.iter().map(|(id, link)| (id, &link.record))
    }

    /// Number of connected peers.
    pub fn len(&self) -> usize {
        self.connected.len()
    }

    /// Dials in progress, and messages that wait for them.
    pub fn dials(&self) -> (usize, usize) {
        (self.dialing.len(), self.dialing.values().map(Vec::len).sum())
    }

    /// Records that a link is used. Returns whether there is one.
    pub fn touch(&mut self, now: Millis, peer: &NodeId) -> bool {
        self.connected.get_mut(peer).map(|link| link.used = now).is_some()
    }

    /// Sends a message over the link, or dials first. `None` while a dial is in progress. Fails if too many dials are.
    pub fn send_or_dial(
        &mut self,
        now: Millis,
        record: &NodeRecord,
        message: Message,
    ) -> Result<Option<Output>, TooManyDials> {
        if self.touch(now, &record.id) {
            return Ok(Some(Output::Send { to: vec![record.id], message }));
        }
        if let Some(waiting) = self.dialing.get_mut(&record.id) {
            if waiting.len() == WAITING_MAX {
                waiting.remove(0);
            }
            waiting.push(message);
            return Ok(None);
        }
        let is_named = matches!(message, Message::View(_));
        if self.dialing.len() == DIALS_MAX || is_named && !self.named.take(now) {
            return Err(TooManyDials);
        }
        self.dialing.insert(record.id, vec![message]);
        Ok(Some(Output::Dial(record.clone())))
    }

    /// Connected peers with their certificates.
    pub fn certificates(&self) -> impl Iterator<Item = (&NodeRecord, Option<&Certificate>)> {
        self.connected.values().map(|link| (&link.record, link.certificate.as_ref()))
    }

    /// Replaces the certificate of a connected peer.
    pub fn renewed(&mut self, peer: &NodeId, certificate: Certificate) {
        if let Some(link) = self.connected.get_mut(peer) {
            link.certificate = Some(certificate);
        }
    }

    /// Adds a link, and returns the messages that waited for it.
    pub fn up(&mut self, now: Millis, record: NodeRecord, certificate: Option<Certificate>) -> Vec<Message> {
        let id = record.id;
        self.connected.insert(id, Link { record, certificate, used: now });
        self.dialing.remove(&id).unwrap_or_default()
    }

    /// Removes a link. Returns whether it was known.
    pub fn down(&mut self, peer: &NodeId) -> bool {
        self.connected.remove(peer).is_some()
    }

    /// Handles a failed dial: drops the messages that waited for it.
    pub fn unreachable(&mut self, peer: &NodeId) {
        self.dialing.remove(peer);
    }

    /// The links that `keep` rejects and that were not used lately.
    pub fn idle(&self, now: Millis, keep: impl Fn(&NodeId) -> bool) -> Vec<NodeId> {
        let unused = |link: &Link| now - link.used >= TRANSIENT_IDLE_MS;
        self.connected.iter().filter(|(id, link)| unused(link) && !keep(id)).map(|(id, _)| *id).collect()
    }

    /// Whether there is a link that `keep` rejects, so that [`Links::idle`] has to be called again.
    pub fn has_transient(&self, keep: impl Fn(&NodeId) -> bool) -> bool {
        self.connected.keys().any(|id| !keep(id))
    }
}

/// The error of a message that was dropped because [`DIALS_MAX`] dials are in progress, or too many were caused by peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyDials;

#[cfg(test)]
mod tests {
    use starling_proto::Role;
    use starling_proto::message::ViewMessage;

    use super::*;

    fn node(n: u64) -> NodeRecord {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        NodeRecord::new(NodeId(id), 1, Role::Replica)
    }

    /// A peer that names a thousand nodes a second for a minute.
    #[test]
    fn peers_cause_a_bounded_number_of_dials() {
        let mut links = Links::default();
        let mut dials = 0;
        for n in 0..60_000 {
            let reply = Message::View(ViewMessage::ShuffleReply { sample: Vec::new() });
            if let Ok(Some(Output::Dial(record))) = links.send_or_dial(Millis(n), &node(n), reply) {
                links.unreachable(&record.id);
                dials += 1;
            }
        }
        assert_eq!(dials, u64::from(NAMED_DIALS_MAX) + 59_999 / NAMED_DIAL_EVERY_MS);
        let mut is_allowed =
            |ms| links.send_or_dial(Millis(ms), &node(1), Message::View(ViewMessage::Probe)).is_ok();
        assert!(!is_allowed(59_999) && is_allowed(60_000), "one more each {NAMED_DIAL_EVERY_MS} ms");
    }
}
