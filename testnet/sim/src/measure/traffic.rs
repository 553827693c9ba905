//! Bytes and messages, by class.

use starling_proto::Message;
use starling_proto::message::RumorMessage;
use starling_report::{ClassTraffic, Traffic};

/// Classes of messages in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Membership.
    View,
    /// Liveness.
    Heartbeat,
    /// Rumors in full.
    Rumor,
    /// Their names.
    Announce,
    /// Requests for them.
    Graft,
    /// Loss of interest.
    Prune,
    /// Upkeep of the broadcast tree.
    Beacon,
    /// Anti-entropy.
    Sync,
    /// Crawls.
    Crawl,
    /// Strong keyspaces.
    Strong,
    /// Credentials.
    Trust,
}

impl Kind {
    const NAMES: [&str; 11] = [
        "view",
        "heartbeat",
        "rumor",
        "announce",
        "graft",
        "prune",
        "beacon",
        "sync",
        "crawl",
        "strong",
        "trust",
    ];

    /// The class of a message.
    pub fn of(message: &Message) -> Self {
        match message {
            Message::View(_) => Self::View,
            Message::Heartbeat(_) => Self::Heartbeat,
            Message::Rumor(RumorMessage::Full { .. }) => Self::Rumor,
            Message::Rumor(RumorMessage::Announce { .. }) => Self::Announce,
            Message::Rumor(RumorMessage::Graft { .. } | RumorMessage::Rejoin { .. }) => Self::Graft,
            Message::Rumor(RumorMessage::Prune) => Self::Prune,
            Message::Rumor(_) => Self::Beacon,
            Message::Sync(_) => Self::Sync,
            Message::Crawl(_) => Self::Crawl,
            Message::Strong(_) => Self::Strong,
            Message::Trust(_) => Self::Trust,
        }
    }
}

/// Counters of what was sent.
#[derive(Debug, Default)]
pub struct Counts {
    classes: [(u64, u64); Kind::NAMES.len()],
}

impl Counts {
    pub(super) fn sent(&mut self, kind: Kind, copies: u64, bytes: u64) {
        let (messages, sum) = &mut self.classes[kind as usize];
        *messages += copies;
        *sum += copies * bytes;
    }

    /// All bytes until now.
    pub fn bytes(&self) -> u64 {
        self.classes.iter().map(|(_, bytes)| bytes).sum()
    }

    /// The report's part. `payload_bytes` were delivered, first copies only.
    pub fn report(&self, payload_bytes: u64, node_seconds: f64) -> Traffic {
        let classes = Kind::NAMES.iter().zip(self.classes);
        let classes = classes.filter(|(_, (messages, _))| *messages > 0);
        Traffic {
            classes: classes
                .map(|(class, (messages, bytes))| ClassTraffic { class: (*class).into(), messages, bytes })
                .collect(),
            overhead: if payload_bytes == 0 { 0.0 } else { self.bytes() as f64 / payload_bytes as f64 },
            bytes_per_node_s: if node_seconds > 0.0 { self.bytes() as f64 / node_seconds } else { 0.0 },
        }
    }
}
