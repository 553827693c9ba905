//! Messages on their way to other nodes: all messages of one instant to one node share a frame.
//!
//! A message to this node itself is never encoded: it waits in a queue of its own, and is handled by
//! [`super::Strong`] as a message from a peer. So no part has to distinguish members on this node from others.

use std::collections::{BTreeMap, VecDeque};

use starling_proto::message::Payload;
use starling_strong::group::{GroupId, GroupMessage};
use starling_strong::members::NodeKey;

use super::message::{StrongMessage, encode_frames, split};

/// Messages by receiver.
pub struct Outbox {
    me: NodeKey,
    messages: BTreeMap<NodeKey, Vec<StrongMessage>>,
    /// Messages between members of groups; they follow the others in a frame.
    bundles: BTreeMap<NodeKey, Vec<(GroupId, GroupMessage)>>,
    local: VecDeque<StrongMessage>,
}

impl Outbox {
    /// An empty outbox of this node.
    pub fn new(me: NodeKey) -> Self {
        Self { me, messages: BTreeMap::new(), bundles: BTreeMap::new(), local: VecDeque::new() }
    }

    /// Queues a message.
    pub fn push(&mut self, to: &NodeKey, message: StrongMessage) {
        if *to == self.me {
            self.local.push_back(message);
        } else {
            self.messages.entry(*to).or_default().push(message);
        }
    }

    /// Queues a message between members of a group.
    pub fn push_group(&mut self, to: NodeKey, group: GroupId, message: GroupMessage) {
        self.bundles.entry(to).or_default().push((group, message));
    }

    /// The next message of this node to itself.
    pub fn pop_local(&mut self) -> Option<StrongMessage> {
        self.local.pop_front()
    }

    /// Takes everything that is queued for other nodes, in frames.
    pub fn take_frames(&mut self) -> impl Iterator<Item = (NodeKey, Vec<Payload>)> + use<> {
        for (to, bundle) in std::mem::take(&mut self.bundles) {
            let parts = split(bundle).into_iter().map(StrongMessage::Groups);
            self.messages.entry(to).or_default().extend(parts);
        }
        std::mem::take(&mut self.messages).into_iter().map(|(to, messages)| (to, encode_frames(&messages)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::decode_frame;
    use super::*;

    #[test]
    fn one_frame_per_node_and_none_to_itself() {
        let mut outbox = Outbox::new([1; 32]);
        outbox.push(&[1; 32], StrongMessage::Unwatch { id: 1 });
        outbox.push(&[2; 32], StrongMessage::Unwatch { id: 2 });
        outbox.push(&[2; 32], StrongMessage::Unwatch { id: 3 });
        let frames: Vec<_> = outbox.take_frames().collect();
        assert_eq!(frames.len(), 1);
        let (to, frames) = &frames[0];
        assert_eq!((to, frames.len()), (&[2; 32], 1));
        let sent = vec![StrongMessage::Unwatch { id: 2 }, StrongMessage::Unwatch { id: 3 }];
        assert_eq!(decode_frame(&frames[0]).map(|frame| frame.messages), Ok(sent));
        assert_eq!(outbox.pop_local(), Some(StrongMessage::Unwatch { id: 1 }));
        assert_eq!(outbox.pop_local(), None);
        assert_eq!(outbox.take_frames().count(), 0);
    }
}
