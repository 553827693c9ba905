//! Clients: what they write, where, and when.

use bytes::Bytes;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use starling_kv::{Batch, Op, Write};

use crate::measure::Sending;
use crate::scenario::{Keys, Workload};
use crate::varied;
use crate::world::World;

/// Everything is written into one keyspace.
pub const KEYSPACE: &str = "default";
/// Elements that a set may hold.
const ELEMENTS: u64 = 16;

/// What clients do, in the order of [`crate::scenario::Mix::weights`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Put,
    Delete,
    PutTtl,
    Incr,
    SetAdd,
    SetRemove,
    Varied,
}

/// Clients of one scenario.
pub struct Clients {
    workload: Workload,
    rng: ChaCha8Rng,
    /// Ascending sums of the operations' weights.
    kinds: Vec<(f64, Kind)>,
    /// Ascending sums of the keys' weights, unless all weigh alike.
    keys: Vec<f64>,
    /// Replicas at the beginning: those that take writes are among the first of them.
    writers: usize,
    written: u64,
}

fn sums(weights: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut sum = 0.0;
    weights
        .into_iter()
        .map(|weight| {
            sum += weight;
            sum
        })
        .collect()
}

/// The place of a number from 0 to below 1 among ascending sums.
fn place(sums: &[f64], unit: f64) -> usize {
    let total = sums.last().copied().unwrap_or(0.0);
    sums.partition_point(|sum| *sum <= unit * total).min(sums.len() - 1)
}

impl Clients {
    /// Clients of a network of so many replicas.
    pub fn new(workload: &Workload, replicas: usize, rng: ChaCha8Rng) -> Self {
        let kinds = [Kind::Put, Kind::Delete, Kind::PutTtl, Kind::Incr, Kind::SetAdd, Kind::SetRemove];
        let kinds = kinds.into_iter().chain([Kind::Varied]);
        let keys = match workload.pick {
            Keys::Uniform => Vec::new(),
            Keys::Zipf(exponent) => sums((1..=workload.keys).map(|rank| (rank as f64).powf(-exponent))),
            Keys::Hot(share) => {
                let others = (workload.keys - 1).max(1) as f64;
                sums((0..workload.keys).map(|key| if key == 0 { share } else { (1.0 - share) / others }))
            }
        };
        Self {
            kinds: sums(workload.mix.weights().into_iter().chain([workload.mix.varied]))
                .into_iter()
                .zip(kinds)
                .collect(),
            keys,
            writers: if workload.writers == 0 { replicas } else { workload.writers.min(replicas) },
            workload: workload.clone(),
            rng,
            written: 0,
        }
    }

    /// Time until the next write, microseconds; `None` if there is none.
    pub fn pause_us(&mut self) -> Option<u64> {
        let pause_s = -(1.0 - self.rng.random::<f64>()).ln() / self.workload.writes_s;
        (self.workload.writes_s > 0.0).then_some((pause_s * 1e6) as u64)
    }

    /// One write through a node that takes writes; it fails if that node is down.
    pub fn write(&mut self, world: &mut World) {
        let node = self.rng.random_range(0..self.writers);
        let unit = self.rng.random::<f64>();
        let weights: Vec<f64> = self.kinds.iter().map(|(sum, _)| *sum).collect();
        let kind = self.kinds[place(&weights, unit)].1;
        let one = if kind == Kind::Varied { self.varied(node, world) } else { self.one(kind, world) };
        self.send(world, node, vec![one]);
    }

    /// A burst of new values through one node.
    pub fn burst(&mut self, world: &mut World) {
        let node = self.rng.random_range(0..self.writers);
        let writes = self.workload.burst.map_or(0, |burst| burst.writes);
        let group = (0..writes).map(|_| self.one(Kind::Put, world)).collect();
        self.send(world, node, group);
    }

    fn send(&mut self, world: &mut World, node: usize, group: Vec<(u32, Batch)>) {
        let second = world.second_process(node).filter(|_| self.rng.random_bool(0.5));
        let node = second.unwrap_or(node);
        let numbers: Vec<u32> = group.iter().map(|(number, _)| *number).collect();
        if !world.write(node, group) {
            for number in numbers {
                world.recorder.writes.fail(number);
            }
        }
    }

    /// One write and its number.
    fn one(&mut self, kind: Kind, world: &mut World) -> (u32, Batch) {
        let key = match self.keys.as_slice() {
            [] => self.rng.random_range(0..self.workload.keys),
            sums => place(sums, self.rng.random()) as u64,
        };
        let element = Bytes::from(format!("e{}", self.rng.random_range(0..ELEMENTS)));
        self.written += 1;
        let (prefix, op) = match kind {
            Kind::Put => ("r", Op::Put { value: self.value() }),
            Kind::Delete => ("r", Op::Delete),
            Kind::PutTtl => ("t", Op::Put { value: self.value() }),
            Kind::Incr => ("c", Op::Incr { by: 1 }),
            Kind::SetAdd => ("s", Op::SetAdd { members: vec![element] }),
            Kind::SetRemove | Kind::Varied => ("s", Op::SetRemove { members: vec![element] }),
        };
        let key = format!("{prefix}{key}").into_bytes();
        let value_bytes = match &op {
            Op::Put { value } => value.len(),
            Op::SetAdd { members: elements } => elements.iter().map(Bytes::len).sum(),
            Op::Incr { .. } => size_of::<i64>(),
            _ => 0,
        };
        let sending = Sending {
            at_us: world.now_us(),
            payload_bytes: (key.len() + value_bytes) as u32,
            is_lasting: kind == Kind::Put,
        };
        let number = world.recorder.writes.send(sending);
        let ttl_ms = (kind == Kind::PutTtl).then_some((self.workload.ttl_s * 1000.0) as u64);
        let write = Write { keyspace: KEYSPACE.into(), key, op, ttl_ms, check: None };
        (number, Batch { writes: vec![write] })
    }

    /// Something less usual, and its number.
    fn varied(&mut self, node: usize, world: &mut World) -> (u32, Batch) {
        self.written += 1;
        let value = self.value();
        let writes = varied::draw(&mut self.rng, self.workload.keys, &value, world.nodes[node].store());
        let payload_bytes = writes.iter().map(|write| write.key.len()).sum::<usize>() as u32;
        let number =
            world.recorder.writes.send(Sending { at_us: world.now_us(), payload_bytes, is_lasting: false });
        (number, Batch { writes })
    }

    /// A value that no other write has.
    fn value(&self) -> Bytes {
        let mut value = format!("{:x}.", self.written).into_bytes();
        value.resize(self.workload.value_bytes.max(value.len()), b'.');
        value.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_drawn_by_weight() {
        let sums = sums([1.0, 0.0, 3.0]);
        assert_eq!([0.0, 0.24, 0.26, 0.99].map(|unit| place(&sums, unit)), [0, 0, 2, 2]);
        let zipf = super::sums((1..=100u32).map(|rank| f64::from(rank).powf(-1.0)));
        // The first of 100 keys has the share 1 / H(100) = 1 / 5.187.
        assert_eq!(place(&zipf, 0.19), 0);
        assert_eq!(place(&zipf, 0.20), 1);
    }
}
