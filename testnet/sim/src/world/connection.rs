//! Connections between nodes: a pair of streams, and what each end knows.

use super::link::Direction;

/// A connection. Side 0 dialed.
#[derive(Debug)]
pub(super) struct Connection {
    /// The nodes at its ends.
    pub ends: [u32; 2],
    /// Tells this connection from others that had the slot before.
    pub generation: u32,
    pub sides: [Side; 2],
}

#[derive(Debug, Default)]
pub(super) struct Side {
    /// The node here believes that the connection stands.
    pub is_open: bool,
    /// The process that held this end is gone.
    pub is_gone: bool,
    /// When that process had started: the record's incarnation.
    pub incarnation: u64,
    /// What goes out from here.
    pub out: Direction,
    /// Bytes from here that the other end notices before their message is complete.
    pub progress: Progress,
}

/// The last stretch of time in which bytes of large messages arrived without a pause.
#[derive(Debug, Default)]
pub(super) struct Progress {
    since_us: u64,
    last_us: u64,
}

impl Progress {
    /// Longest pause within a stretch, microseconds: two slices at 64 kbit/s, and a lost packet.
    const PAUSE_US: u64 = 1_500_000;
    /// How long a stretch has to be for a suspicion to be wrong, microseconds: more than one pause.
    const SUSTAINED_US: u64 = 2_000_000;

    /// Bytes have arrived.
    pub fn note(&mut self, now_us: u64) {
        if now_us - self.last_us > Self::PAUSE_US {
            self.since_us = now_us;
        }
        self.last_us = now_us;
    }

    /// Whether bytes have arrived until now, for long enough.
    pub fn is_sustained(&self, now_us: u64) -> bool {
        now_us - self.last_us <= Self::PAUSE_US && self.last_us - self.since_us >= Self::SUSTAINED_US
    }
}

/// All connections, in slots that are used again.
#[derive(Debug, Default)]
pub(super) struct Connections {
    slots: Vec<Option<Connection>>,
    free: Vec<u32>,
    generations: u32,
}

impl Connections {
    pub fn open(&mut self, ends: [u32; 2], incarnations: [u64; 2]) -> u32 {
        self.generations += 1;
        let side = |incarnation| Side { is_open: true, incarnation, ..Side::default() };
        let connection = Connection { ends, generation: self.generations, sides: incarnations.map(side) };
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(connection);
            return slot;
        }
        self.slots.push(Some(connection));
        self.slots.len() as u32 - 1
    }

    pub fn get(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// The connection of an event, unless another one has the slot by now.
    pub fn current(&mut self, slot: u32, generation: u32) -> Option<&mut Connection> {
        self.get(slot).filter(|connection| connection.generation == generation)
    }

    pub fn close(&mut self, slot: u32) -> Option<Connection> {
        let connection = self.slots.get_mut(slot as usize)?.take();
        self.free.extend(connection.as_ref().map(|_| slot));
        connection
    }

    /// Every slot in use.
    pub fn slots(&self) -> Vec<u32> {
        (0..).zip(&self.slots).filter(|(_, slot)| slot.is_some()).map(|(index, _)| index).collect()
    }
}

impl Connection {
    /// Which side a node is on.
    pub fn side_of(&self, node: usize) -> usize {
        usize::from(self.ends[0] as usize != node)
    }
}
