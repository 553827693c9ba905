//! What lies between the nodes: dials, streams, cuts.

use rand::RngExt;
use starling_core::Input;
use starling_proto::detector::PROGRESS_MS;
use starling_proto::{Message, NodeId, NodeRecord, wire};

use super::link::{CLASSES, Item, RTO_MIN_US, SLICE_BYTES, Sent, Wire, transfer_us};
use super::node::Waiting;
use super::{Event, World};

/// A dial that nobody answers is given up after this, microseconds: what the driver allows a connection
/// and its handshake.
const DIAL_TIMEOUT_US: u64 = 5_000_000;
/// A lost SYN is sent again after this, microseconds (RFC 6298, section 2.1).
const SYN_RTO_US: u64 = 1_000_000;
/// Most bytes that wait for a peer, by class: the driver's defaults.
const QUEUE_BYTES_MAX: [usize; CLASSES] = [256 << 10, 8 << 20, 4 << 20, 32 << 20];

/// A dial in progress.
pub(super) struct Dial {
    from: u32,
    /// Incarnation of the dialer: a later run does not hear of it.
    incarnation: u64,
    to: Option<u32>,
    /// As the caller named it.
    peer: Option<NodeId>,
    address: Option<String>,
    began_us: u64,
}

/// Nothing passes from the nodes of one set to those of the other.
pub(super) struct Cut {
    number: u32,
    from: Vec<bool>,
    to: Vec<bool>,
    both_ways: bool,
}

impl Cut {
    fn holds(&self, from: usize, to: usize) -> bool {
        let is = |set: &[bool], node: usize| set.get(node).copied().unwrap_or(false);
        (is(&self.from, from) && is(&self.to, to))
            || (self.both_ways && is(&self.from, to) && is(&self.to, from))
    }
}

impl World {
    /// Cuts the links between two sets of nodes; answers the number by which [`World::mend`] knows it.
    pub fn cut(&mut self, from: &[usize], to: &[usize], both_ways: bool) -> u32 {
        let set = |nodes: &[usize]| {
            let mut set = vec![false; self.nodes.len()];
            for &node in nodes {
                set[node] = true;
            }
            set
        };
        self.cuts_made += 1;
        let cut = Cut { number: self.cuts_made, from: set(from), to: set(to), both_ways };
        self.cuts.push(cut);
        self.cuts_made
    }

    /// Ends a cut, or (`None`) all of them. Streams that waited go on when their senders try again.
    pub fn mend(&mut self, number: Option<u32>) {
        self.cuts.retain(|cut| number.is_some_and(|number| number != cut.number));
        for slot in self.connections.slots() {
            for side in 0..2 {
                let Some(connection) = self.connections.get(slot) else { continue };
                let (generation, [a, b]) = (connection.generation, connection.ends);
                let (from, to) = if side == 0 { (a, b) } else { (b, a) };
                if cuts(&self.cuts, from as usize, to as usize) {
                    continue;
                }
                let wire = Wire {
                    now_us: self.now_us,
                    delay_us: self.delays.one_way_us(a as usize, b as usize),
                    links: &self.links,
                    is_cut: false,
                    queue_bytes_max: QUEUE_BYTES_MAX,
                };
                if let Some(at_us) = connection.sides[side].out.mend(&wire) {
                    self.queue.push(at_us, Event::Release { slot, generation, side: side as u8 });
                }
            }
        }
    }

    /// Everything from and to a node takes this much longer from now on.
    pub fn slow_down(&mut self, node: usize, by_us: u64) {
        self.delays.slow_down(node, by_us);
    }

    /// No node's links are slow any more.
    pub fn speed_up(&mut self) {
        self.delays.speed_up();
    }

    /// Whether a cut has not been mended.
    pub fn has_cut(&self, number: u32) -> bool {
        self.cuts.iter().any(|cut| cut.number == number)
    }

    /// Whether nothing passes from one node to the other.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        cuts(&self.cuts, from, to)
    }

    pub(super) fn dial(
        &mut self,
        from: usize,
        to: Option<usize>,
        peer: Option<NodeId>,
        address: Option<String>,
    ) {
        let to = to.filter(|&to| to < self.nodes.len() && to != from);
        let delay_us = to.map_or(1_000, |to| self.delays.one_way_us(from, to));
        let mut took_us = 3 * delay_us;
        for timeout_us in [SYN_RTO_US, RTO_MIN_US, RTO_MIN_US] {
            while self.links.loss > 0.0 && self.rng.random_bool(self.links.loss) {
                took_us += timeout_us.max(2 * delay_us);
            }
        }
        let dial = Dial {
            from: from as u32,
            incarnation: self.nodes[from].record.incarnation,
            to: to.map(|to| to as u32),
            peer,
            address,
            began_us: self.now_us,
        };
        let slot = self.free_dials.pop().unwrap_or_else(|| {
            self.dials.push(None);
            self.dials.len() as u32 - 1
        });
        self.dials[slot as usize] = Some(dial);
        self.queue.push(self.now_us + took_us, Event::Dialed { dial: slot });
    }

    pub(super) fn on_dialed(&mut self, slot: u32) {
        let Some(dial) = self.dials[slot as usize].take() else { return };
        let from = dial.from as usize;
        let lives = self.nodes[from].is_up() && self.nodes[from].record.incarnation == dial.incarnation;
        let deadline_us = dial.began_us + DIAL_TIMEOUT_US;
        let opens = self.nodes[from].exhausted_until_us <= self.now_us;
        if let Some(to) = dial.to.map(|to| to as usize).filter(|_| lives && opens) {
            let is_silent = self.is_cut(from, to) || self.is_cut(to, from) || self.nodes[to].is_off;
            // The system of a process without descriptors takes connections, and nobody answers.
            let accepts_us = self.nodes[to].stalled_until_us.max(self.nodes[to].exhausted_until_us);
            let answers_us = accepts_us.max(self.nodes[from].stalled_until_us);
            let again_us = if is_silent { deadline_us } else { answers_us.min(deadline_us) };
            if again_us > self.now_us {
                // Once more when the stall ends, or to give up.
                self.dials[slot as usize] = Some(dial);
                self.queue.push(again_us, Event::Dialed { dial: slot });
                return;
            }
            // No process connects to its own identity.
            let is_own = self.nodes[from].record.id == self.nodes[to].record.id;
            if !is_silent && answers_us <= self.now_us && self.nodes[to].is_up() && !is_own {
                self.free_dials.push(slot);
                self.trace.add(5, self.now_us, ((from as u64) << 32) | to as u64);
                self.connect(from, to, dial.address);
                return;
            }
        }
        self.free_dials.push(slot);
        if lives {
            self.give(from, Input::Unreachable { peer: dial.peer, address: dial.address });
        }
    }

    /// A connection stands, unless an older one between the same two processes does.
    fn connect(&mut self, from: usize, to: usize, address: Option<String>) {
        let mut tell = [true, true];
        if let Some(old) = self.slot_between(from, to).or_else(|| self.slot_between(to, from)) {
            let Some(told) = self.take_over(old, from, to) else { return };
            tell = told;
        }
        self.replace_link(from, to);
        self.replace_link(to, from);
        let incarnations = [from, to].map(|node| self.nodes[node].record.incarnation);
        let slot = self.connections.open([from as u32, to as u32], incarnations);
        self.nodes[from].connections.push((to as u32, slot));
        self.nodes[to].connections.push((from as u32, slot));
        let [ours, theirs] = [from, to].map(|node| self.nodes[node].record.clone());
        self.show(from, to);
        self.show(to, from);
        if tell[1] {
            self.connected(to, ours, None);
        }
        if tell[0] {
            self.connected(from, theirs, address);
        }
    }

    fn connected(&mut self, node: usize, peer: NodeRecord, dialed: Option<String>) {
        let input = Input::Connected { peer: peer.id, record: peer, from: None, dialed, certificate: None };
        self.give(node, input);
    }

    /// What becomes of an older connection: nothing (`None`) if both ends believe in it. Otherwise a new
    /// one takes its place; a node that still believed in the old one sees one link that goes on, or, if
    /// the peer has been restarted since, the end of a link. Answers whom to tell of the new one.
    fn take_over(&mut self, old: u32, from: usize, to: usize) -> Option<[bool; 2]> {
        let connection = self.connections.get(old)?;
        let sides = [from, to].map(|node| &connection.sides[connection.side_of(node)]);
        let open = sides.map(|side| side.is_open);
        let then = sides.map(|side| side.incarnation);
        let now = [from, to].map(|node| self.nodes[node].record.incarnation);
        if open == [true, true] && then == now {
            return None;
        }
        self.connections.close(old);
        self.forget(from, to);
        for (end, (node, other)) in [(from, to), (to, from)].into_iter().enumerate() {
            if open[end] && then[1 - end] != now[1 - end] {
                let peer = self.nodes[other].record.id;
                self.give(node, Input::Disconnected { peer });
            }
        }
        Some([0, 1].map(|end: usize| !open[end] || then[1 - end] != now[1 - end]))
    }

    /// The version of the protocol that two nodes speak with each other.
    pub(super) fn version_between(&self, a: usize, b: usize) -> u8 {
        let [ours, theirs] = [a, b].map(|node| self.nodes[node].release.software().protocol);
        ours.negotiate(theirs).expect("no scenario has nodes that cannot speak with each other").version
    }

    /// The message as it comes out at the other end of a wire.
    fn recoded(&self, from: usize, to: usize, message: &Message) -> Message {
        let version = self.version_between(from, to);
        let frame = wire::encode(message, version).expect("was sent in this version");
        wire::decode(message.class(), &frame).expect("what a node sends can be decoded")
    }

    fn slot_between(&self, a: usize, b: usize) -> Option<u32> {
        self.nodes[a].connections.iter().find(|(peer, _)| *peer as usize == b).map(|(_, slot)| *slot)
    }

    /// Queues a message on the connection to a peer; dropped if there is none.
    pub(super) fn send(&mut self, from: usize, peer: &NodeId, message: Message, bytes: u32) {
        let Some(slot) = self.slot_to(from, peer) else { return };
        let Some(connection) = self.connections.get(slot) else { return };
        let side = connection.side_of(from);
        if connection.sides[side].is_open {
            let class = message.class();
            if self.put(slot, side, Item::Message(message, bytes)) == Sent::Shed {
                self.give(from, Input::Shed { peer: *peer, class });
            }
        }
    }

    /// Puts an item on a stream and plans its arrival.
    pub(super) fn put(&mut self, slot: u32, side: usize, item: Item) -> Sent {
        let Some(connection) = self.connections.get(slot) else { return Sent::Gone };
        let (from, to) = (connection.ends[side] as usize, connection.ends[1 - side] as usize);
        let generation = connection.generation;
        let wire = Wire {
            now_us: self.now_us,
            delay_us: self.delays.one_way_us(from, to),
            links: &self.links,
            is_cut: cuts(&self.cuts, from, to),
            queue_bytes_max: QUEUE_BYTES_MAX,
        };
        let bytes = item.bytes();
        let sent = connection.sides[side].out.send(item, &wire, &mut self.rng);
        self.plan_arrival(slot, generation, side as u8, sent);
        if let Sent::Arrives(at_us) = sent {
            self.plan_progress(slot, generation, side as u8, bytes, at_us);
        }
        sent
    }

    /// The receiver notices the bytes of a message that takes long, as often as its driver reports them.
    fn plan_progress(&mut self, slot: u32, generation: u32, side: u8, bytes: usize, arrives_us: u64) {
        let rate = self.links.bandwidth_bytes_s;
        if rate <= 0.0 {
            return;
        }
        let step_us = (PROGRESS_MS * 1_000).max(transfer_us(SLICE_BYTES, rate));
        let mut at_us = arrives_us.saturating_sub(transfer_us(bytes, rate)).max(self.now_us) + step_us;
        while at_us < arrives_us {
            self.queue.push(at_us, Event::Progress { slot, generation, side });
            at_us += step_us;
        }
    }

    pub(super) fn on_progress(&mut self, slot: u32, generation: u32, side: usize) {
        let now_us = self.now_us;
        let Some(connection) = self.connections.current(slot, generation) else { return };
        let (from, to) = (connection.ends[side] as usize, connection.ends[1 - side] as usize);
        let hears = connection.sides[1 - side].is_open && !connection.sides[1 - side].is_gone;
        let stands = cuts(&self.cuts, from, to) || cuts(&self.cuts, to, from);
        if !hears || stands || self.nodes[to].stalled_until_us > now_us {
            return;
        }
        connection.sides[side].progress.note(now_us);
        let peer = self.nodes[from].record.id;
        self.give(to, Input::Progress { peer });
    }

    /// Whether bytes of a peer's large messages have been arriving at a node for a while.
    pub(super) fn carries_progress(&mut self, node: usize, peer: usize) -> bool {
        let now_us = self.now_us;
        let Some(connection) = self.slot_between(node, peer).and_then(|slot| self.connections.get(slot))
        else {
            return false;
        };
        let theirs = connection.side_of(peer);
        connection.sides[theirs].progress.is_sustained(now_us)
    }

    fn plan_arrival(&mut self, slot: u32, generation: u32, side: u8, sent: Sent) {
        let arrive = Event::Arrive { slot, generation, side };
        match sent {
            Sent::Arrives(at_us) => self.queue.push(at_us, arrive),
            Sent::Twice(first_us, second_us) => {
                self.queue.push(first_us, arrive);
                self.queue.push(second_us, arrive);
            }
            Sent::Held(at_us) => self.queue.push(at_us, Event::Release { slot, generation, side }),
            Sent::Cut | Sent::Gone | Sent::Shed => {}
        }
    }

    pub(super) fn on_release(&mut self, slot: u32, generation: u32, side: usize) {
        let Some(connection) = self.connections.current(slot, generation) else { return };
        let (from, to) = (connection.ends[side] as usize, connection.ends[1 - side] as usize);
        let wire = Wire {
            now_us: self.now_us,
            delay_us: self.delays.one_way_us(from, to),
            links: &self.links,
            is_cut: cuts(&self.cuts, from, to),
            queue_bytes_max: QUEUE_BYTES_MAX,
        };
        for sent in connection.sides[side].out.release(&wire, &mut self.rng) {
            self.plan_arrival(slot, generation, side as u8, sent);
        }
    }

    pub(super) fn on_arrival(&mut self, slot: u32, generation: u32, side: usize) {
        let Some(connection) = self.connections.current(slot, generation) else { return };
        let (from, to) = (connection.ends[side] as usize, connection.ends[1 - side] as usize);
        let Some(item) = connection.sides[side].out.receive(self.now_us) else { return };
        let there = &mut connection.sides[1 - side];
        if there.is_gone {
            // The machine answers for the process that is gone; one that is off answers nothing.
            if !self.nodes[to].is_off && !cuts(&self.cuts, to, from) {
                let at_us = self.now_us + self.delays.one_way_us(to, from);
                self.queue.push(at_us, Event::Reset { slot, generation, side: side as u8 });
            }
            return;
        }
        if !there.is_open {
            return;
        }
        match item {
            Item::End => {
                there.is_open = false;
                self.trace.add(4, self.now_us, ((from as u64) << 32) | to as u64);
                self.end_link(slot, from, to);
            }
            Item::Message(message, bytes) => {
                self.trace.add(
                    2,
                    self.now_us,
                    ((from as u64) << 40) | ((to as u64) << 16) | u64::from(bytes),
                );
                let message = if self.through_codec { self.recoded(from, to, &message) } else { message };
                let there = &mut self.nodes[to];
                if there.stalled_until_us > self.now_us {
                    there.backlog.push_back(Waiting::Message(from, Box::new(message)));
                } else {
                    self.give_message(to, from, message);
                }
            }
        }
    }

    pub(super) fn on_reset(&mut self, slot: u32, generation: u32, side: usize) {
        let Some(connection) = self.connections.current(slot, generation) else { return };
        let (node, other) = (connection.ends[side] as usize, connection.ends[1 - side] as usize);
        if std::mem::take(&mut connection.sides[side].is_open) {
            self.trace.add(3, self.now_us, node as u64);
            self.end_link(slot, other, node);
        }
    }

    /// `node` learns that its link to `other` has ended.
    fn end_link(&mut self, slot: u32, other: usize, node: usize) {
        self.forget_if_over(slot);
        let peer = self.nodes[other].record.id;
        self.give(node, Input::Disconnected { peer });
    }

    /// A node closes its end, after what it has sent.
    pub(super) fn close(&mut self, from: usize, peer: &NodeId) {
        if let Some(slot) = self.slot_to(from, peer) {
            self.close_slot(from, slot);
        }
    }

    /// Closes the node's end of a connection. Returns whether it was open.
    pub(super) fn close_slot(&mut self, from: usize, slot: u32) -> bool {
        let Some(connection) = self.connections.get(slot) else { return false };
        let side = connection.side_of(from);
        let was_open = std::mem::take(&mut connection.sides[side].is_open);
        if was_open {
            self.put(slot, side, Item::End);
            self.forget_if_over(slot);
        }
        was_open
    }

    /// Drops a connection that neither end believes in.
    pub(super) fn forget_if_over(&mut self, slot: u32) {
        let Some(connection) = self.connections.get(slot) else { return };
        if connection.sides.iter().any(|side| side.is_open) {
            return;
        }
        let [a, b] = connection.ends.map(|end| end as usize);
        self.connections.close(slot);
        self.forget(a, b);
    }

    fn forget(&mut self, a: usize, b: usize) {
        self.nodes[a].connections.retain(|(peer, _)| *peer as usize != b);
        self.nodes[b].connections.retain(|(peer, _)| *peer as usize != a);
    }
}

fn cuts(cuts: &[Cut], from: usize, to: usize) -> bool {
    cuts.iter().any(|cut| cut.holds(from, to))
}
