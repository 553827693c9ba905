//! Who is connected. The protocol machines only say "send this to that node"; this table dials when
//! there is no link yet, holds the message meanwhile, and closes links that nobody uses.

use std::collections::BTreeMap;

use starling_proto::{Message, Millis, NodeId, NodeRecord};

use crate::Output;

/// Most dials in progress. Beyond it a message to an unconnected node is dropped and reported as
/// unreachable: every protocol that sends one has a retry of its own.
const DIALS_MAX: usize = 64;
/// Most messages waiting for one dial; the oldest gives way.
const WAITING_MAX: usize = 8;
/// A link outside the active view is closed after so long without a message, milliseconds.
/// A guess: longer than any exchange's round trips, short enough to keep tables small.
pub const TRANSIENT_IDLE_MS: u64 = 5_000;

struct Link {
    record: NodeRecord,
    used: Millis,
}

/// The table.
#[derive(Default)]
pub struct Links {
    connected: BTreeMap<NodeId, Link>,
    dialing: BTreeMap<NodeId, Vec<Message>>,
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

    /// Notes that a link is used; whether there is one.
    pub fn touch(&mut self, now: Millis, peer: &NodeId) -> bool {
        self.connected.get_mut(peer).map(|link| link.used = now).is_some()
    }

    /// Sends over the link, or dials and sends then. `None`: nothing to do yet (a dial is in
    /// progress), or, when `Err`, too many are.
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
        if self.dialing.len() == DIALS_MAX {
            return Err(TooManyDials);
        }
        self.dialing.insert(record.id, vec![message]);
        Ok(Some(Output::Dial(record.clone())))
    }

    /// A link is up; returns what waited for it.
    pub fn up(&mut self, now: Millis, record: NodeRecord) -> Vec<Message> {
        let id = record.id;
        self.connected.insert(id, Link { record, used: now });
        self.dialing.remove(&id).unwrap_or_default()
    }

    /// A link is gone; whether it was known.
    pub fn down(&mut self, peer: &NodeId) -> bool {
        self.connected.remove(peer).is_some()
    }

    /// A dial failed; what waited for it is dropped.
    pub fn unreachable(&mut self, peer: &NodeId) {
        self.dialing.remove(peer);
    }

    /// Links that `keep` does not want and that nothing used lately.
    pub fn idle(&self, now: Millis, keep: impl Fn(&NodeId) -> bool) -> Vec<NodeId> {
        let unused = |link: &Link| now - link.used >= TRANSIENT_IDLE_MS;
        self.connected.iter().filter(|(id, link)| unused(link) && !keep(id)).map(|(id, _)| *id).collect()
    }

    /// Whether any link is outside `keep`: then [`Links::idle`] is worth asking later.
    pub fn has_transient(&self, keep: impl Fn(&NodeId) -> bool) -> bool {
        self.connected.keys().any(|id| !keep(id))
    }
}

/// [`DIALS_MAX`] dials are in progress; the message was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyDials;
