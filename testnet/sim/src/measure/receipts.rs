//! What each node has received since its process started: bytes by the reason for which they were sent, and how many of
//! them brought dots that its store had already.

use starling_kv::{DotRange, MemoryEngine, Store, delta};
use starling_proto::Message;
use starling_proto::message::{RumorMessage, SyncMessage};

/// Why a message was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A rumor in full: pushed, grafted, or missed by a node that rejoined the tree.
    Rumor,
    /// The answer of a session that the receiver began.
    Fetched,
    /// The push of a session that the sender began.
    Pushed,
    /// Anything else in sessions.
    Compared,
    /// Everything else.
    Other,
}

/// Received for one reason.
#[derive(Clone, Copy, Debug, Default)]
pub struct Receipt {
    /// Messages.
    pub messages: u64,
    /// Bytes of messages.
    pub bytes: u64,
    /// Of these, the bytes of dots that the receiver had already.
    pub repeated: u64,
}

/// Receipts of every node.
#[derive(Debug, Default)]
pub struct Receipts {
    nodes: Vec<[Receipt; Reason::ALL.len()]>,
}

impl Reason {
    /// Each of them.
    pub const ALL: [Self; 5] = [Self::Rumor, Self::Fetched, Self::Pushed, Self::Compared, Self::Other];

    /// With the delta that the message carries, if any.
    fn of(message: &Message) -> (Self, Option<&[u8]>) {
        match message {
            Message::Rumor(RumorMessage::Full { payload, .. }) => (Self::Rumor, Some(&payload.0)),
            Message::Sync(SyncMessage::Delta { delta, .. }) => (Self::Fetched, Some(&delta.0)),
            Message::Sync(SyncMessage::Push { delta, .. }) => (Self::Pushed, Some(&delta.0)),
            Message::Sync(_) => (Self::Compared, None),
            _ => (Self::Other, None),
        }
    }
}

impl Receipts {
    /// The process of a node has started.
    pub fn started(&mut self, node: usize) {
        if self.nodes.len() <= node {
            self.nodes.resize(node + 1, Default::default());
        }
        self.nodes[node] = Default::default();
    }

    /// A node is about to handle a message.
    pub(crate) fn received(
        &mut self,
        node: usize,
        message: &Message,
        bytes: u64,
        store: Option<&Store<MemoryEngine>>,
    ) {
        let (reason, payload) = Reason::of(message);
        let receipt = &mut self.nodes[node][reason as usize];
        receipt.messages += 1;
        receipt.bytes += bytes;
        if let (Some(payload), Some(store)) = (payload.filter(|payload| !payload.is_empty()), store) {
            receipt.repeated += (bytes as f64 * repeated(payload, store)) as u64;
        }
    }

    /// What these nodes have received for one reason.
    pub fn of(&self, nodes: impl IntoIterator<Item = usize>, reason: Reason) -> Receipt {
        nodes.into_iter().map(|node| self.nodes[node][reason as usize]).fold(
            Receipt::default(),
            |sum, next| Receipt {
                messages: sum.messages + next.messages,
                bytes: sum.bytes + next.bytes,
                repeated: sum.repeated + next.repeated,
            },
        )
    }
}

/// The share of a delta's dots that the store has seen.
fn repeated(payload: &[u8], store: &Store<MemoryEngine>) -> f64 {
    let Ok(delta) = delta::decode(payload) else { return 0.0 };
    let (mut seen, mut all) = (0_u32, 0_u32);
    for section in &delta.actors {
        for &(first, last) in section.claimed.spans() {
            for seq in first..=last {
                seen += u32::from(store.contains(&DotRange { actor: section.actor, first: seq, last: seq }));
                all += 1;
            }
        }
    }
    f64::from(seen) / f64::from(all.max(1))
}
