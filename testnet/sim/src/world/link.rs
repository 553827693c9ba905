//! One direction of a connection: a reliable, ordered stream over a link that delays, loses, throttles
//! and stands still.
//!
//! What is lost under the stream is sent again, and what was sent after it waits for it: the stream's
//! order is kept. When the lost packet goes out again is TCP's rule (RFC 6298, RFC 5681): after three
//! further packets have been acknowledged, or when the retransmission timer runs out, which doubles each
//! time. QUIC (RFC 9002) behaves alike within a stream.
//!
//! Where bandwidth is limited, all classes share it. A message of an urgent class overtakes larger ones of other
//! classes, except for what is in the pipe already, and the receiver notices the bytes of a message before
//! it is complete.

use std::collections::VecDeque;

use rand::{Rng, RngExt};
use starling_proto::{Class, Message};

use crate::scenario::Links;

/// Least retransmission timeout, microseconds: Linux' `TCP_RTO_MIN`.
pub const RTO_MIN_US: u64 = 200_000;
/// Classes of messages, each with a queue of its own.
pub const CLASSES: usize = Class::ALL.len();
/// Payload bytes of a packet: an Ethernet frame less its headers.
const PACKET_BYTES: usize = 1_400;
/// Bytes that the driver hands over at a time (`SLICE_BYTES` of `p2p`): the receiver notices no smaller part.
pub const SLICE_BYTES: usize = 4 << 10;
/// Bytes under way that nothing overtakes: what the sending system holds (`UNSENT_BYTES_MAX` of `p2p`, and a slice), and
/// the buffer of a narrow path's modem (an estimate; they have from 32 KiB up to seconds of traffic).
const PIPE_BYTES_MAX: usize = 64 << 10;
/// Packets after a lost one whose acknowledgements have it sent again at once (RFC 5681, section 3.2).
const FOLLOWERS: u8 = 3;
/// An overtaken message comes later by up to so many times the delay of its link. A guess.
const REORDER_DELAYS: u64 = 2;

/// What travels.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly every item is a message")]
pub enum Item {
    /// A message and the bytes of its frame.
    Message(Message, u32),
    /// The sender has closed its end.
    End,
}

impl Item {
    pub fn bytes(&self) -> usize {
        match self {
            Self::Message(_, bytes) => *bytes as usize,
            Self::End => 40,
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Message(message, _) => message.class(),
            Self::End => Class::Control,
        }
    }
}

/// Time that a link of this rate takes for some bytes, microseconds.
pub fn transfer_us(bytes: usize, rate_bytes_s: f64) -> u64 {
    (bytes as f64 / rate_bytes_s * 1e6) as u64
}

/// The place of a class in the order in which what waits is sent.
fn rank(class: Class) -> usize {
    match class {
        Class::Control => 0,
        Class::Strong => 1,
        Class::Rumor => 2,
        Class::Sync => 3,
    }
}

/// What happened to an item that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It arrives then.
    Arrives(u64),
    /// It arrives then, and once more then.
    Twice(u64, u64),
    /// The stream stands still until then: ask [`Direction::release`].
    Held(u64),
    /// The stream stands still until the link is mended: ask [`Direction::mend`].
    Cut,
    /// It is gone.
    Gone,
    /// The queue of its class is full.
    Shed,
}

/// The state of one direction.
#[derive(Clone, Debug, Default)]
pub struct Direction {
    /// On its way, with the time of arrival; in order, except for what is overtaken.
    flying: VecDeque<(u64, Item)>,
    /// Waits for a lost packet, or for the end of a cut.
    held: VecDeque<Item>,
    /// When the first of those held was sent first.
    held_since_us: u64,
    /// When it is sent again; never while the link is cut.
    release_us: Option<u64>,
    followers: u8,
    backoff: u32,
    /// Arrival of the last item in order.
    arrived_us: u64,
    /// The same for each class, where bandwidth is limited and classes overtake each other.
    class_arrived_us: [u64; CLASSES],
    /// When the sender has put on the wire what waits, by [`rank`]. Urgent classes go first.
    busy_us: [u64; CLASSES],
    /// Bytes that wait, by class: of those held, or for bandwidth.
    waiting: [usize; CLASSES],
    departures: VecDeque<(u64, Class, usize)>,
    /// The next time it stands still: from, to.
    clog: Option<(u64, u64)>,
}

/// The circumstances of one sending.
pub struct Wire<'w> {
    /// Now, microseconds.
    pub now_us: u64,
    /// Delay of the link, one way.
    pub delay_us: u64,
    /// How good the links are.
    pub links: &'w Links,
    /// Nothing passes.
    pub is_cut: bool,
    /// Most bytes that wait, by class.
    pub queue_bytes_max: [usize; CLASSES],
}

impl Wire<'_> {
    fn jitter_us(&self, rng: &mut impl Rng) -> u64 {
        let max = (self.links.jitter_ms * 1000.0) as u64;
        if max == 0 { 0 } else { rng.random_range(0..=max) }
    }

    fn rto_us(&self) -> u64 {
        RTO_MIN_US.max(2 * self.delay_us)
    }
}

/// How much later a message is complete because its last packets were lost, microseconds: an earlier loss is repaired while
/// the rest is sent.
fn tail_loss_us(item: &Item, wire: &Wire<'_>, rng: &mut impl Rng) -> u64 {
    let packets = item.bytes().div_ceil(PACKET_BYTES).clamp(1, usize::from(FOLLOWERS));
    let mut lost = 1.0 - (1.0 - wire.links.loss).powf(packets as f64);
    let (mut late_us, mut pause_us) = (0, wire.rto_us());
    while happens(lost, rng) {
        (late_us, pause_us, lost) = (late_us + pause_us, 2 * pause_us, wire.links.loss);
    }
    late_us
}

fn happens(share: f64, rng: &mut impl Rng) -> bool {
    share > 0.0 && rng.random_bool(share)
}

impl Direction {
    /// Sends. What is answered with a time has to be asked for then.
    pub fn send(&mut self, item: Item, wire: &Wire<'_>, rng: &mut impl Rng) -> Sent {
        let is_message = matches!(item, Item::Message(..));
        if is_message && happens(wire.links.drop, rng) {
            return Sent::Gone;
        }
        if wire.is_cut || !self.held.is_empty() {
            return self.hold(item, wire);
        }
        let Some(departs_us) = self.departs(&item, wire, rng) else { return Sent::Shed };
        if wire.links.bandwidth_bytes_s > 0.0 {
            let class = item.class() as usize;
            let late_us = tail_loss_us(&item, wire, rng);
            let arrives_us = departs_us + late_us + wire.delay_us + wire.jitter_us(rng);
            self.class_arrived_us[class] = self.class_arrived_us[class].max(arrives_us);
            return self.fly_late(self.class_arrived_us[class], item);
        }
        if wire.links.loss > 0.0 {
            let packets = item.bytes().div_ceil(PACKET_BYTES).max(1) as f64;
            if happens(1.0 - (1.0 - wire.links.loss).powf(packets), rng) {
                self.release_us = Some(departs_us + wire.rto_us());
                (self.followers, self.backoff) = (0, 1);
                return self.hold(item, wire);
            }
        }
        let arrives_us = departs_us + wire.delay_us + wire.jitter_us(rng);
        if is_message && happens(wire.links.reorder, rng) {
            let late_us = rng.random_range(0..=REORDER_DELAYS * wire.delay_us);
            return self.fly_late(arrives_us + late_us, item);
        }
        if is_message && happens(wire.links.duplicate, rng) {
            let (Sent::Arrives(first), Sent::Arrives(second)) =
                (self.fly(arrives_us, item.clone()), self.fly(arrives_us + wire.delay_us, item))
            else {
                unreachable!("what flies arrives");
            };
            return Sent::Twice(first, second);
        }
        self.fly(arrives_us, item)
    }

    /// What has arrived by now.
    pub fn receive(&mut self, now_us: u64) -> Option<Item> {
        let first = self.flying.iter().position(|(at, _)| *at <= now_us)?;
        self.flying.remove(first).map(|(_, item)| item)
    }

    /// The lost packet is sent again. Answers the arrivals, or when to ask again.
    pub fn release(&mut self, wire: &Wire<'_>, rng: &mut impl Rng) -> Vec<Sent> {
        if wire.is_cut || self.release_us.is_none_or(|at| at > wire.now_us) {
            return Vec::new();
        }
        if happens(wire.links.loss, rng) {
            self.backoff = (self.backoff + 1).min(9);
            let again_us = wire.now_us + (wire.rto_us() << (self.backoff - 1));
            self.release_us = Some(again_us);
            return vec![Sent::Held(again_us)];
        }
        self.release_us = None;
        self.waiting = [0; CLASSES];
        let arrives_us = wire.now_us + wire.delay_us + wire.jitter_us(rng);
        std::mem::take(&mut self.held).into_iter().map(|item| self.fly(arrives_us, item)).collect()
    }

    /// The link is not cut any more: when the sender tries again. It has been doubling its pauses since
    /// the first packet that was not acknowledged.
    pub fn mend(&mut self, wire: &Wire<'_>) -> Option<u64> {
        if self.held.is_empty() {
            return None;
        }
        let (mut pause_us, mut at_us) = (wire.rto_us(), self.held_since_us + wire.rto_us());
        while at_us < wire.now_us {
            pause_us = (2 * pause_us).min(120_000_000);
            at_us += pause_us;
        }
        (self.release_us, self.backoff) = (Some(at_us), 1);
        Some(at_us)
    }

    /// Forgets everything that is under way: an end is gone.
    pub fn clear(&mut self) {
        *self = Self { arrived_us: self.arrived_us, ..Self::default() };
    }

    fn hold(&mut self, item: Item, wire: &Wire<'_>) -> Sent {
        let class = item.class() as usize;
        if self.held.is_empty() {
            self.held_since_us = wire.now_us;
            self.waiting = [0; CLASSES];
            self.departures.clear();
        }
        if self.waiting[class] > 0 && self.waiting[class] + item.bytes() > wire.queue_bytes_max[class] {
            return Sent::Shed;
        }
        self.waiting[class] += item.bytes();
        let packets = item.bytes().div_ceil(PACKET_BYTES);
        let is_first = self.held.is_empty();
        self.held.push_back(item);
        if wire.is_cut {
            self.release_us = None;
            return Sent::Cut;
        }
        if !is_first {
            self.followers = self.followers.saturating_add(packets.min(FOLLOWERS as usize) as u8);
            if self.followers >= FOLLOWERS && self.backoff == 1 {
                let acknowledged_us = wire.now_us + 2 * wire.delay_us;
                self.release_us = self.release_us.map(|at| at.min(acknowledged_us));
                self.backoff = 2;
            }
        }
        self.release_us.map_or(Sent::Cut, Sent::Held)
    }

    /// When the last byte is on the wire; `None` if the queue is full.
    fn departs(&mut self, item: &Item, wire: &Wire<'_>, rng: &mut impl Rng) -> Option<u64> {
        let mut departs_us = wire.now_us;
        let rate = wire.links.bandwidth_bytes_s;
        if rate > 0.0 {
            let (class, bytes) = (item.class(), item.bytes());
            while let Some(&(_, class, bytes)) = self.departures.front().filter(|(at, ..)| *at <= wire.now_us)
            {
                self.departures.pop_front();
                self.waiting[class as usize] -= bytes;
            }
            let waiting = self.waiting[class as usize];
            if waiting > 0 && waiting + bytes > wire.queue_bytes_max[class as usize] {
                return None;
            }
            let takes_us = transfer_us(bytes, rate);
            let rank = rank(class);
            let begins_us = self.busy_us[rank].max(wire.now_us);
            let others_us = self.busy_us[CLASSES - 1].saturating_sub(begins_us);
            departs_us = begins_us + takes_us + others_us.min(transfer_us(PIPE_BYTES_MAX, rate));
            for busy in &mut self.busy_us[rank..] {
                *busy = (*busy).max(wire.now_us) + takes_us;
            }
            self.waiting[class as usize] += bytes;
            let at = self.departures.partition_point(|(at, ..)| *at <= departs_us);
            self.departures.insert(at, (departs_us, class, bytes));
        }
        if let Some(clog) = wire.links.clog {
            let mut draw = |after: u64| {
                let pause_us = -(1.0 - rng.random::<f64>()).ln() * clog.every_s * 1e6;
                let from = after + pause_us as u64;
                (from, from + (rng.random_range(clog.ms[0]..=clog.ms[1]) * 1000.0) as u64)
            };
            let mut next = self.clog.unwrap_or_else(|| draw(departs_us));
            while next.1 < departs_us {
                next = draw(next.1);
            }
            self.clog = Some(next);
            if next.0 <= departs_us {
                departs_us = next.1;
            }
        }
        Some(departs_us)
    }

    fn fly(&mut self, at_us: u64, item: Item) -> Sent {
        self.arrived_us = self.arrived_us.max(at_us);
        self.flying.push_back((self.arrived_us, item));
        Sent::Arrives(self.arrived_us)
    }

    /// Others may overtake it.
    fn fly_late(&mut self, at_us: u64, item: Item) -> Sent {
        self.flying.push_back((at_us, item));
        Sent::Arrives(at_us)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use starling_proto::message::Heartbeat;

    use super::*;

    const DELAY_US: u64 = 20_000;

    fn wire(now_us: u64, links: &Links) -> Wire<'_> {
        Wire { now_us, delay_us: DELAY_US, links, is_cut: false, queue_bytes_max: [1 << 20; CLASSES] }
    }

    /// With room for ten messages.
    fn short(now_us: u64, links: &Links) -> Wire<'_> {
        Wire { queue_bytes_max: [1_000; CLASSES], ..wire(now_us, links) }
    }

    /// The n-th message; the number travels as its clock.
    fn message(n: u64) -> Item {
        Item::Message(Message::Heartbeat(Heartbeat::Ping { wall_ms: n }), 100)
    }

    /// Sends one message every so many microseconds, lets everything arrive, and answers the numbers with
    /// the times they took, in order of arrival.
    fn run(links: &Links, count: u64, every_us: u64) -> Vec<(u64, u64)> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut direction = Direction::default();
        // Times at which something arrives (true), or the stream may go on.
        let mut due: Vec<(u64, bool)> = Vec::new();
        let mut taken = Vec::new();
        let note = |due: &mut Vec<(u64, bool)>, sent: Sent| match sent {
            Sent::Arrives(at) => due.push((at, true)),
            Sent::Twice(first, second) => due.extend([(first, true), (second, true)]),
            Sent::Held(at) => due.push((at, false)),
            Sent::Cut | Sent::Gone | Sent::Shed => {}
        };
        for now in (0..count).map(|n| n * every_us).chain([u64::MAX / 4]) {
            loop {
                due.sort_unstable();
                let Some(&(at, is_arrival)) = due.first().filter(|(at, _)| *at <= now) else { break };
                due.remove(0);
                if is_arrival {
                    let Some(Item::Message(Message::Heartbeat(Heartbeat::Ping { wall_ms }), _)) =
                        direction.receive(at)
                    else {
                        panic!("something arrives");
                    };
                    taken.push((wall_ms, at - wall_ms * every_us));
                } else {
                    for sent in direction.release(&wire(at, links), &mut rng) {
                        note(&mut due, sent);
                    }
                }
            }
            if now < u64::MAX / 4 {
                let sent = direction.send(message(now / every_us), &wire(now, links), &mut rng);
                note(&mut due, sent);
            }
        }
        taken
    }

    fn links() -> Links {
        Links { jitter_ms: 0.0, ..Links::default() }
    }

    fn is_in_order(arrived: &[(u64, u64)]) -> bool {
        arrived.windows(2).all(|pair| pair[0].0 <= pair[1].0)
    }

    #[test]
    fn a_perfect_link_delays_and_nothing_else() {
        let arrived = run(&links(), 50, 1_000);
        assert!(arrived.iter().zip(0..).all(|(arrived, n)| *arrived == (n, DELAY_US)));
    }

    #[test]
    fn jitter_keeps_the_order_and_its_bound() {
        let arrived = run(&Links { jitter_ms: 30.0, ..links() }, 500, 1_000);
        assert!(is_in_order(&arrived) && arrived.len() == 500);
        assert!(arrived.iter().all(|(_, took)| (DELAY_US..=DELAY_US + 30_000).contains(took)));
        assert!(arrived.iter().any(|(_, took)| *took > DELAY_US + 20_000));
    }

    #[test]
    fn loss_under_the_stream_only_delays() {
        let lossy = Links { loss: 0.1, ..links() };
        let arrived = run(&lossy, 2_000, 300_000);
        assert!(is_in_order(&arrived) && arrived.len() == 2_000);
        // Sparse messages wait for the timer: about one in ten is late, by the timeout at least.
        let late = arrived.iter().filter(|(_, took)| *took > DELAY_US).count();
        // Four standard deviations of a binomial: 4 * sqrt(2,000 * 0.1 * 0.9) = 54; a message behind a
        // twice lost one is late too, which adds about 2 %.
        assert!((200 - 54..200 + 54 + 40).contains(&late), "{late}");
        assert!(
            arrived.iter().all(|(_, took)| *took == DELAY_US || *took >= RTO_MIN_US - 300_000 % RTO_MIN_US)
        );
    }

    #[test]
    fn followers_have_a_lost_packet_sent_again_before_the_timer() {
        let lossy = Links { loss: 0.02, ..links() };
        let dense = run(&lossy, 2_000, 1_000);
        assert!(is_in_order(&dense) && dense.len() == 2_000);
        let first_late = dense.iter().find(|(_, took)| *took > DELAY_US).expect("some are lost");
        // Three packets a millisecond apart, their acknowledgement, and the way.
        assert_eq!(first_late.1, 3_000 + 3 * DELAY_US);
    }

    #[test]
    fn dropped_messages_are_gone_and_doubled_ones_come_twice() {
        let arrived = run(&Links { drop: 0.25, ..links() }, 4_000, 1_000);
        // Standard deviation sqrt(4,000 * 0.25 * 0.75) = 27.
        assert!((3_000 - 110..3_000 + 110).contains(&arrived.len()), "{}", arrived.len());
        let arrived = run(&Links { duplicate: 0.25, ..links() }, 4_000, 1_000);
        assert!((5_000 - 110..5_000 + 110).contains(&arrived.len()), "{}", arrived.len());
    }

    #[test]
    fn reordered_messages_are_overtaken() {
        let arrived = run(&Links { reorder: 0.2, ..links() }, 500, 1_000);
        assert!(arrived.len() == 500 && !is_in_order(&arrived));
    }

    #[test]
    fn bandwidth_spaces_messages_and_a_full_queue_sheds() {
        // 100 bytes take a millisecond; the queue holds ten frames beside none sent.
        let narrow = Links { bandwidth_bytes_s: 100_000.0, ..links() };
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut direction = Direction::default();
        let sent: Vec<Sent> =
            (0..12).map(|n| direction.send(message(n), &short(0, &narrow), &mut rng)).collect();
        let expected = (1..=10).map(|n| Sent::Arrives(n * 1_000 + DELAY_US));
        assert_eq!(sent[..10], expected.collect::<Vec<_>>());
        assert_eq!(sent[10..], [Sent::Shed, Sent::Shed]);
        let later = direction.send(message(12), &short(5_000, &narrow), &mut rng);
        assert_eq!(later, Sent::Arrives(11_000 + DELAY_US), "five have left");
    }

    #[test]
    fn a_small_message_overtakes_a_large_one_but_for_what_is_in_the_pipe() {
        let narrow = Links { bandwidth_bytes_s: 64_000.0, ..links() };
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut direction = Direction::default();
        let large = Message::Sync(starling_proto::message::SyncMessage::Close { session: 1 });
        let large = direction.send(Item::Message(large, 1 << 20), &wire(0, &narrow), &mut rng);
        let small = direction.send(message(1), &wire(0, &narrow), &mut rng);
        assert_eq!(large, Sent::Arrives(transfer_us(1 << 20, 64_000.0) + DELAY_US));
        assert_eq!(small, Sent::Arrives(transfer_us(100 + PIPE_BYTES_MAX, 64_000.0) + DELAY_US));
    }

    #[test]
    fn clogs_stop_a_link_for_their_share_of_the_time() {
        let clog = crate::scenario::Clog { every_s: 1.0, ms: [1_000.0, 1_000.0] };
        let arrived = run(&Links { clog: Some(clog), ..links() }, 20_000, 10_000);
        assert!(is_in_order(&arrived) && arrived.len() == 20_000);
        // A second of clog for every second free, on average: a renewal process of about 100 cycles, whose
        // share varies by about 0.5 * sqrt(1 / 100) / 2.
        let late = arrived.iter().filter(|(_, took)| *took > DELAY_US).count() as f64 / 20_000.0;
        assert!((late - 0.5).abs() < 4.0 * 0.025, "{late}");
    }

    #[test]
    fn a_cut_holds_back_within_bounds_and_goes_on_when_tcp_tries_again() {
        let links = links();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut direction = Direction::default();
        let cut = |now_us| Wire { is_cut: true, ..short(now_us, &links) };
        let sent: Vec<Sent> = (0..11).map(|n| direction.send(message(n), &cut(0), &mut rng)).collect();
        assert!(sent[..10].iter().all(|sent| *sent == Sent::Cut) && sent[10] == Sent::Shed);
        // Tries after 0.2, 0.6, 1.4, 3.0 s: mended at 1.5 s, the stream goes on at 3.0 s.
        let at_us = direction.mend(&wire(1_500_000, &links)).expect("something waits");
        assert_eq!(at_us, 3_000_000);
        assert!(direction.release(&wire(2_000_000, &links), &mut rng).is_empty(), "too early");
        let released = direction.release(&wire(at_us, &links), &mut rng);
        assert_eq!(released, vec![Sent::Arrives(at_us + DELAY_US); 10]);
    }
}
