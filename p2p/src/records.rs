//! Verification of the signatures in messages: of records, certificates and statements.

use std::collections::HashSet;

use starling_proto::{
    Message, NodeRecord,
    message::{CrawlMessage, TrustMessage, ViewMessage},
    trust::Signed,
};

use crate::{identity::verify_signed, verify_record};

/// Verified records remembered in each of two generations, at most: a few times the passive views of a node and its
/// neighbours, 32 bytes each. A guess.
const GENERATION_MAX: usize = 2048;

/// A cache of records and statements whose signature was verified. The same few hundred arrive repeatedly, and a
/// verification costs fifty times a hash.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    young: HashSet<[u8; 32]>,
    old: HashSet<[u8; 32]>,
}

impl Verified {
    /// Whether everything signed in the message is signed by the key that it names.
    pub(crate) fn check(&mut self, message: &Message) -> bool {
        match message {
            Message::Trust(TrustMessage::Statements(statements)) => statements
                .iter()
                .all(|it| self.check_once(&it.signing_bytes(), &it.signature, || verify_signed(it))),
            Message::Trust(TrustMessage::Renewed(certificate)) => verify_signed(certificate),
            message => records(message).all(|record| self.check_record(record)),
        }
    }

    fn check_record(&mut self, record: &NodeRecord) -> bool {
        self.check_once(&record.signing_bytes(), &record.signature, || verify_record(record))
    }

    fn check_once(&mut self, signed: &[u8], signature: &[u8], verify: impl FnOnce() -> bool) -> bool {
        let mut hasher = blake3::Hasher::new();
        // A valid signature has a fixed length, so the two parts cannot be confused, and each kind of signed bytes begins
        // with a separator of its own.
        hasher.update(signed).update(signature);
        let hash = *hasher.finalize().as_bytes();
        if self.young.contains(&hash) {
            return true;
        }
        if !self.old.contains(&hash) && !verify() {
            return false;
        }
        if self.young.len() == GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash);
        true
    }
}

fn records(message: &Message) -> Box<dyn Iterator<Item = &NodeRecord> + '_> {
    match message {
        Message::View(ViewMessage::ForwardJoin { joiner, .. }) => Box::new(std::iter::once(joiner)),
        Message::View(ViewMessage::Shuffle { origin, sample, .. }) => {
            Box::new(std::iter::once(origin).chain(sample))
        }
        Message::View(ViewMessage::ShuffleReply { sample } | ViewMessage::ProbeReply { sample }) => {
            Box::new(sample.iter())
        }
        Message::Crawl(CrawlMessage::Description(description)) => {
            Box::new(std::iter::once(&description.record).chain(&description.known))
        }
        Message::View(
            ViewMessage::Join
            | ViewMessage::Neighbor { .. }
            | ViewMessage::NeighborReply { .. }
            | ViewMessage::Disconnect
            | ViewMessage::Probe,
        )
        | Message::Heartbeat(_)
        | Message::Rumor(_)
        | Message::Sync(_)
        // Their records are only dialed and not passed on, and the dialed node proves its identity.
        | Message::Strong(_)
        | Message::Trust(_)
        | Message::Crawl(CrawlMessage::Describe) => Box::new(std::iter::empty()),
    }
}

#[cfg(test)]
mod tests {
    use starling_proto::{NodeId, Role, wire};

    use super::*;
    use crate::Identity;

    fn record(identity: &Identity) -> NodeRecord {
        let mut record = NodeRecord {
            name: "n".into(),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
            ..NodeRecord::new(NodeId([0; 32]), 1, Role::Replica)
        };
        identity.sign(&mut record);
        record
    }

    #[test]
    fn a_forged_record_is_found_wherever_it_hides_and_again() {
        let good = record(&Identity::generate());
        let mut forged = good.clone();
        forged.addresses[0] = "/ip4/127.0.0.1/tcp/2".into();
        let sample = vec![good.clone(), forged.clone()];
        let mut verified = Verified::default();
        for _ in 0..2 {
            assert!(verified.check(&Message::View(ViewMessage::ProbeReply { sample: vec![good.clone()] })));
            assert!(!verified.check(&Message::View(ViewMessage::ProbeReply { sample: sample.clone() })));
            assert!(!verified.check(&Message::View(ViewMessage::ShuffleReply { sample: sample.clone() })));
            let joiner = forged.clone();
            assert!(!verified.check(&Message::View(ViewMessage::ForwardJoin { joiner, ttl: 1 })));
            let shuffle = ViewMessage::Shuffle { origin: good.clone(), ttl: 1, sample: sample.clone() };
            assert!(!verified.check(&Message::View(shuffle)));
        }
    }

    /// A node of this version relays the record of a later one with its signature intact.
    #[test]
    fn the_record_of_a_later_node_is_passed_on_with_its_signature_intact() {
        let identity = Identity::generate();
        let mut later = NodeRecord { more: b"a later field".to_vec(), ..record(&identity) };
        later.labels = "zone=a".parse().expect("a label");
        identity.sign(&mut later);
        let message = Message::View(ViewMessage::ProbeReply { sample: vec![later] });
        let frame = wire::encode(&message, wire::Protocol::CURRENT.min).expect("has the kind");
        let relayed = wire::decode(message.class(), &frame).expect("can be decoded");
        assert!(Verified::default().check(&relayed));
        let Message::View(ViewMessage::ProbeReply { mut sample }) = relayed else { panic!() };
        sample[0].more.clear();
        let stripped = Message::View(ViewMessage::ProbeReply { sample });
        assert!(!Verified::default().check(&stripped), "what is added is signed");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut verified = Verified::default();
        let identity = Identity::generate();
        for revision in 0..=2 * GENERATION_MAX as u32 {
            let mut record = record(&identity);
            record.revision = revision;
            identity.sign(&mut record);
            assert!(verified.check_record(&record));
        }
        assert!(verified.young.len() + verified.old.len() <= 2 * GENERATION_MAX);
    }
}
