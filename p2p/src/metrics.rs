//! Counters of a driver, and of each link.

use std::sync::atomic::{AtomicU64, Ordering};

use starling_proto::Class;

/// A number that only increases.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Its value since the start.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Frames of one class in one direction.
#[derive(Debug, Default)]
pub struct Flow {
    /// The number of frames.
    pub frames: Counter,
    /// Their bytes, lengths included; what encryption and transport add is not counted.
    pub bytes: Counter,
}

impl Flow {
    pub(crate) fn count(&self, bytes: usize) {
        self.frames.add(1);
        self.bytes.add(bytes as u64);
    }
}

/// Frames in both directions, by class in the order of [`Class::ALL`].
#[derive(Debug, Default)]
pub struct Traffic {
    sent: [Flow; 4],
    received: [Flow; 4],
}

impl Traffic {
    /// Frames handed to the transport.
    pub fn sent(&self, class: Class) -> &Flow {
        &self.sent[class as usize]
    }

    /// Frames received, valid or not.
    pub fn received(&self, class: Class) -> &Flow {
        &self.received[class as usize]
    }
}

/// Everything a driver counts since its start.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Frames of all links.
    pub traffic: Traffic,
    /// Messages dropped because their queue was full, by class.
    shed: [Counter; 4],
    /// Frames of a kind, or of a version of a kind, that this node does not know, skipped, by class.
    unknown: [Counter; 4],
    /// Messages not sent because the peer's version of the protocol does not have them.
    pub unspoken: Counter,
    /// Frames that are not a message: invalid length, body, bounds or class.
    pub malformed: Counter,
    /// Frames whose checksum does not match.
    pub bad_checksum: Counter,
    /// Messages dropped because a record in them is not signed by its node.
    pub bad_record: Counter,
    /// Handshakes in which one side did not admit the other one: no valid certificate, or revoked.
    pub not_admitted: Counter,
    /// Handshakes that ended because the peer has none of this node's secrets.
    pub wrong_secret: Counter,
    /// Handshakes that ended because the peer belongs to another network.
    pub wrong_network: Counter,
    /// Handshakes that ended because the peer speaks none of this node's versions.
    pub wrong_version: Counter,
    /// Handshakes that failed otherwise: cut short, too slow, malformed.
    pub failed_handshake: Counter,
    /// Connections rejected: too many, or the peer is banned.
    pub refused: Counter,
    /// Peers disconnected for misbehaviour.
    pub banned: Counter,
    /// Links that came up.
    pub connected: Counter,
    /// Links that went down.
    pub disconnected: Counter,
    /// Dials that failed.
    pub unreachable: Counter,
}

impl Metrics {
    /// Messages dropped because the queue of this class was full.
    pub fn shed(&self, class: Class) -> &Counter {
        &self.shed[class as usize]
    }

    /// Frames of this class that were skipped: a later version of the protocol has them.
    pub fn unknown(&self, class: Class) -> &Counter {
        &self.unknown[class as usize]
    }
}
