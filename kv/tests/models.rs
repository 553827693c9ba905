//! Starling's data types beside those of the `crdts` crate, operation by operation. Operations are
//! delivered in causal order, which that crate requires and Starling does not (`merge.rs`).

mod common;

use std::collections::BTreeSet;

use bytes::Bytes;
use common::*;
use crdts::{CmRDT, MVReg, Map, Orswot, PNCounter};
use proptest::prelude::*;
use starling_kv::{MemoryEngine, Op, Store};

/// What a client does to the one object under test.
#[derive(Clone, Copy, Debug)]
enum Act {
    Write(u8, u8),
    Remove(u8),
    Add(i64),
}

/// A client acts at a replica, or a replica receives the first operation it may receive of those
/// from `from` on.
#[derive(Clone, Copy, Debug)]
enum Event {
    Act { at: usize, act: Act },
    Deliver { to: usize, from: usize },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let act = prop_oneof![
        4 => (0u8..4, any::<u8>()).prop_map(|(field, value)| Act::Write(field, value)),
        2 => (0u8..4).prop_map(Act::Remove),
        2 => (-9i64..9).prop_map(Act::Add),
    ];
    let event = prop_oneof![
        1 => (0..REPLICAS, act).prop_map(|(at, act)| Event::Act { at, act }),
        2 => (0..REPLICAS, 0usize..60).prop_map(|(to, from)| Event::Deliver { to, from }),
    ];
    prop::collection::vec(event, 1..60)
}

/// A data type under test: ours is driven by [`Op`]s, theirs by its own.
trait Subject: Clone + Default {
    type Theirs: Clone;
    type Shown: PartialEq + std::fmt::Debug;

    /// The same act as our operation and as theirs; `None` if it is not of this type.
    fn act(&self, actor: u8, act: Act) -> Option<(Op, Self::Theirs)>;
    fn apply(&mut self, op: Self::Theirs);
    fn shown(&self) -> Self::Shown;
    fn ours(store: &Store<MemoryEngine>) -> Self::Shown;
}

/// An operation under way: its place in the order of creation stands for its name.
struct Told<T> {
    delta: Bytes,
    theirs: T,
    needs: BTreeSet<usize>,
}

fn run<S: Subject>(events: Vec<Event>) {
    let mut stores: Vec<_> = (0..REPLICAS as u8).map(fresh).collect();
    let mut models = vec![S::default(); REPLICAS];
    let mut known = vec![BTreeSet::new(); REPLICAS];
    let mut told: Vec<Told<S::Theirs>> = Vec::new();
    let finish = (0..REPLICAS).flat_map(|to| (0..60).map(move |_| Event::Deliver { to, from: 0 }));
    for event in events.into_iter().chain(finish) {
        let at = match event {
            Event::Act { at, act } => {
                let Some((op, theirs)) = models[at].act(at as u8, act) else { continue };
                let committed = commit(&mut stores[at], NOW, vec![write("k", op)]);
                assert!(committed.results[0].is_ok(), "{:?}", committed.results);
                let [(_, delta)] = &committed.rumors[..] else { panic!("one operation, one rumor") };
                models[at].apply(theirs.clone());
                told.push(Told { delta: delta.clone(), theirs, needs: known[at].clone() });
                known[at].insert(told.len() - 1);
                at
            }
            Event::Deliver { to, from } => {
                let may =
                    |&index: &usize| !known[to].contains(&index) && told[index].needs.is_subset(&known[to]);
                let Some(index) = (from..told.len()).find(may) else { continue };
                stores[to].join(NOW, &told[index].delta).expect("joins");
                models[to].apply(told[index].theirs.clone());
                known[to].insert(index);
                to
            }
        };
        assert_eq!(S::ours(&stores[at]), models[at].shown());
    }
    for store in &stores {
        assert_eq!(store.root(), stores[0].root(), "everything was delivered everywhere");
    }
}

fn element(field: u8) -> Bytes {
    Bytes::copy_from_slice(&[field])
}

#[derive(Clone, Default)]
struct Set(Orswot<u8, u8>);

impl Subject for Set {
    type Theirs = crdts::orswot::Op<u8, u8>;
    type Shown = BTreeSet<u8>;

    fn act(&self, actor: u8, act: Act) -> Option<(Op, Self::Theirs)> {
        match act {
            Act::Write(member, _) => {
                let op = self.0.add(member, self.0.read_ctx().derive_add_ctx(actor));
                Some((Op::SetAdd { members: vec![element(member)] }, op))
            }
            Act::Remove(member) => {
                let read = self.0.contains(&member);
                read.val.then(|| {
                    (
                        Op::SetRemove { members: vec![element(member)] },
                        self.0.rm(member, read.derive_rm_ctx()),
                    )
                })
            }
            Act::Add(_) => None,
        }
    }

    fn apply(&mut self, op: Self::Theirs) {
        self.0.apply(op);
    }

    fn shown(&self) -> BTreeSet<u8> {
        self.0.iter().map(|member| *member.val).collect()
    }

    fn ours(store: &Store<MemoryEngine>) -> BTreeSet<u8> {
        let members = store.reader().set_members(NOW, "default", b"k", None, 100).expect("reads");
        members.items.iter().map(|member| member[0]).collect()
    }
}

#[derive(Clone, Default)]
struct Register(MVReg<u8, u8>);

impl Subject for Register {
    type Theirs = crdts::mvreg::Op<u8, u8>;
    type Shown = Vec<u8>;

    fn act(&self, actor: u8, act: Act) -> Option<(Op, Self::Theirs)> {
        let Act::Write(_, value) = act else { return None };
        Some((
            Op::Put { value: element(value) },
            self.0.write(value, self.0.read_ctx().derive_add_ctx(actor)),
        ))
    }

    fn apply(&mut self, op: Self::Theirs) {
        self.0.apply(op);
    }

    fn shown(&self) -> Vec<u8> {
        let mut values = self.0.read().val;
        values.sort_unstable();
        values
    }

    fn ours(store: &Store<MemoryEngine>) -> Vec<u8> {
        let read = store.reader().register(NOW, "default", b"k").expect("reads");
        values(read.as_ref())
    }
}

fn values(read: Option<&starling_kv::Register>) -> Vec<u8> {
    let siblings = read.iter().flat_map(|read| &read.siblings).map(|sibling| sibling.value[0]);
    let mut values: Vec<u8> = read.iter().map(|read| read.value[0]).chain(siblings).collect();
    values.sort_unstable();
    values
}

#[derive(Clone, Default)]
struct Counter(PNCounter<u8>);

impl Subject for Counter {
    type Theirs = crdts::pncounter::Op<u8>;
    type Shown = String;

    fn act(&self, actor: u8, act: Act) -> Option<(Op, Self::Theirs)> {
        let Act::Add(by) = act else { return None };
        let steps = by.unsigned_abs();
        let op = if by < 0 { self.0.dec_many(actor, steps) } else { self.0.inc_many(actor, steps) };
        Some((Op::Incr { by }, op))
    }

    fn apply(&mut self, op: Self::Theirs) {
        self.0.apply(op);
    }

    fn shown(&self) -> String {
        self.0.read().to_string()
    }

    fn ours(store: &Store<MemoryEngine>) -> String {
        store.reader().counter(NOW, "default", b"k").expect("reads").unwrap_or(0).to_string()
    }
}

#[derive(Clone, Default)]
struct Fields(Map<u8, MVReg<u8, u8>, u8>);

impl Subject for Fields {
    type Theirs = crdts::map::Op<u8, MVReg<u8, u8>, u8>;
    /// Names only: under a removal, the model's nested registers keep values whose write the
    /// removal had seen. Values are compared by [`Register`], which every field of ours is.
    type Shown = BTreeSet<u8>;

    fn act(&self, actor: u8, act: Act) -> Option<(Op, Self::Theirs)> {
        match act {
            Act::Write(name, value) => {
                let ctx = self.0.read_ctx().derive_add_ctx(actor);
                let op = self.0.update(name, ctx, |register, ctx| register.write(value, ctx));
                Some((
                    Op::MapPut { fields: vec![starling_kv::Field::new(element(name), element(value))] },
                    op,
                ))
            }
            Act::Remove(name) => {
                let read = self.0.get(&name);
                read.val.is_some().then(|| {
                    (Op::MapDelete { names: vec![element(name)] }, self.0.rm(name, read.derive_rm_ctx()))
                })
            }
            Act::Add(_) => None,
        }
    }

    fn apply(&mut self, op: Self::Theirs) {
        self.0.apply(op);
    }

    fn shown(&self) -> BTreeSet<u8> {
        self.0.keys().map(|name| *name.val).collect()
    }

    fn ours(store: &Store<MemoryEngine>) -> BTreeSet<u8> {
        let fields = store.reader().map_entries(NOW, "default", b"k", None, 100).expect("reads");
        fields.items.iter().map(|(name, _)| name[0]).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn sets_are_orswots(events in events()) {
        run::<Set>(events);
    }

    #[test]
    fn registers_are_mvregs(events in events()) {
        run::<Register>(events);
    }

    #[test]
    fn counters_are_pncounters(events in events()) {
        run::<Counter>(events);
    }

    #[test]
    fn maps_are_maps(events in events()) {
        run::<Fields>(events);
    }
}
