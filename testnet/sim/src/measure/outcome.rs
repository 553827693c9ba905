//! What became of the writes, judged at the end.

use std::collections::BTreeSet;

use starling_kv::{Dot, MemoryEngine, Range, Store};

use super::NodeSet;
use super::writes::Superseded;
use crate::clients::KEYSPACE;
use crate::world::World;

/// Keys read at a time.
const PAGE_KEYS: usize = 1_000;

/// Verdicts on acknowledged writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// On some live replica and missing from another one.
    pub missing: u64,
    /// On no live replica though one that held it lives; or seen, and neither readable nor superseded by
    /// a write whose node had seen it.
    pub lost: u64,
    /// Deleted, and readable again.
    pub resurrected: u64,
    /// Whether all live replicas are equal.
    pub are_equal: bool,
}

/// The live replicas, one for each different state.
fn representatives(world: &World) -> Vec<&Store<MemoryEngine>> {
    let mut stores: Vec<&Store<MemoryEngine>> = Vec::new();
    for store in world.nodes.iter().filter_map(|node| node.store()) {
        if !stores.iter().any(|other| other.root().is_some() && other.root() == store.root()) {
            stores.push(store);
        }
    }
    stores
}

/// Whether all live replicas have the same root; not while any of them rebuilds its own.
pub(crate) fn are_equal(world: &World) -> bool {
    let mut roots = world.nodes.iter().filter_map(|node| node.store()).map(Store::root);
    roots.next().is_none_or(|first| first.is_some() && roots.all(|root| root == first))
}

impl Outcome {
    /// Judges every write.
    pub fn of(world: &World) -> Self {
        let stores = representatives(world);
        let readable: Vec<BTreeSet<Dot>> = stores.iter().map(|store| readable(store)).collect();
        let mut up = NodeSet::default();
        for (node, _) in world.nodes.iter().enumerate().filter(|(_, node)| node.store().is_some()) {
            up.insert(node);
        }
        let mut outcome = Self { are_equal: are_equal(world), ..Self::default() };
        for write in world.recorder.writes.writes().iter().filter(|write| write.is_acknowledged()) {
            let Some(dots) = write.dots else { continue };
            let showing = stores.iter().filter(|store| store.contains(&dots)).count();
            if showing == 0 {
                outcome.lost += u64::from(write.holders.meets(&up));
                continue;
            }
            outcome.missing += u64::from(showing < stores.len());
            let dot = Dot { actor: dots.actor, seq: dots.first };
            let reads = readable.iter().any(|readable| readable.contains(&dot));
            outcome.lost += u64::from(write.is_lasting() && write.superseded == Superseded::Not && !reads);
            outcome.resurrected +=
                u64::from(write.superseded == Superseded::ByDelete && outcome.are_equal && reads);
        }
        outcome
    }
}

/// The dots that reads of registers answer with, siblings too.
fn readable(store: &Store<MemoryEngine>) -> BTreeSet<Dot> {
    let reader = store.reader();
    let mut dots = BTreeSet::new();
    let mut range = Range::default();
    loop {
        // At the beginning of time nothing has expired.
        let page = reader.list(0, KEYSPACE, &range, PAGE_KEYS, 0).expect("a memory engine reads");
        let register =
            |(key, _): &(Vec<u8>, _)| reader.register(0, KEYSPACE, key).expect("a memory engine reads");
        for register in page.items.iter().filter_map(register) {
            dots.insert(register.dot);
            dots.extend(register.siblings.iter().map(|sibling| sibling.dot));
        }
        match page.next {
            Some(next) => range.after = Some(next),
            None => return dots,
        }
    }
}
