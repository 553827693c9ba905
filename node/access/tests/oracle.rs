//! `authorize` beside an oracle that carries each operation out on a small store in which every key exists, notes which keys
//! it touches and how, and asks for each of them whether one grant permits that.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use starling_access::{Grant, Operation, Rights, Verb, Verbs, authorize};
use starling_types::eventual::{self, Check, Op};
use starling_types::strong::{
    Compare, Delete, Fence, Keys, Operand, Put, Range, Read, Relation, Request, Txn, TxnOp, Write,
};

/// Bytes of prefixes and of the ends of ranges.
const SPAN_BYTES: [u8; 4] = [0, b'a', b'b', 0xff];
/// Bytes of keys: also those that follow the others, so that each gap between prefixes has a key.
const KEY_BYTES: [u8; 6] = [0, 1, b'a', b'b', b'c', 0xff];
const KEY_BYTES_MAX: usize = 4;
const KEYSPACES: [&str; 3] = ["jobs", "jobs-eu", "web"];
const OWNER: &str = "one";

type Key = Vec<u8>;

/// Every key of the store.
fn store() -> &'static [Key] {
    static STORE: std::sync::OnceLock<Vec<Key>> = std::sync::OnceLock::new();
    STORE.get_or_init(|| {
        let mut all: Vec<Key> = vec![vec![]];
        let mut longest = all.clone();
        for _ in 0..KEY_BYTES_MAX {
            longest =
                longest.iter().flat_map(|key| KEY_BYTES.map(|byte| [&key[..], &[byte]].concat())).collect();
            all.extend(longest.iter().cloned());
        }
        all.sort();
        all
    })
}

/// What carrying an operation out touches.
#[derive(Default)]
struct Touched {
    keys: BTreeSet<(Verb, Key)>,
    /// Verbs that are needed somewhere in the keyspace.
    anywhere: BTreeSet<Verb>,
    leases: BTreeSet<i64>,
}

impl Touched {
    fn touch(&mut self, verb: Verb, is_touched: impl Fn(&Key) -> bool) {
        self.anywhere.insert(verb);
        self.keys.extend(store().iter().filter(|key| is_touched(key)).map(|key| (verb, key.clone())));
    }

    fn keys(&mut self, verb: Verb, keys: &Keys) {
        self.touch(verb, |key| match keys {
            Keys::One(one) => key == one,
            Keys::Range { from, to } => key >= from && to.as_ref().is_none_or(|to| key < to),
        });
    }

    fn one(&mut self, verb: Verb, one: &Key) {
        // A long key need not be in the store.
        self.anywhere.insert(verb);
        self.keys.insert((verb, one.clone()));
    }

    fn lease(&mut self, id: i64) {
        self.leases.extend(Some(id).filter(|id| *id != 0));
    }

    fn put(&mut self, put: &Put) {
        self.one(Verb::Write, &put.key);
        if put.prev {
            self.one(Verb::Read, &put.key);
        }
        if let Some(id @ (i64::MIN..=-1 | 1..)) = put.lease {
            self.one(Verb::Lock, &put.key);
            self.lease(id);
        }
    }

    fn txn(&mut self, txn: &Txn) {
        txn.compare.iter().for_each(|compare| self.keys(Verb::Read, &compare.keys));
        for op in [&txn.then, &txn.otherwise].into_iter().flatten() {
            match op {
                TxnOp::Range(range) => self.keys(Verb::Read, &range.keys),
                TxnOp::Put(put) => self.put(put),
                TxnOp::Delete(delete) => self.delete(delete),
                TxnOp::Txn(txn) => self.txn(txn),
            }
        }
    }

    fn delete(&mut self, delete: &Delete) {
        self.keys(Verb::Delete, &delete.keys);
        if delete.prev {
            self.keys(Verb::Read, &delete.keys);
        }
    }

    fn request(&mut self, request: &Request) {
        match request {
            Request::Read(Read::Range(range)) => self.keys(Verb::Read, &range.keys),
            Request::Read(Read::Txn(txn)) | Request::Write(Write::Txn(txn)) => self.txn(txn),
            Request::Read(Read::Leases) => self.touch(Verb::Lock, |_| true),
            Request::Read(Read::Hash) => self.touch(Verb::Read, |_| true),
            Request::Write(Write::Put(put)) => self.put(put),
            Request::Write(Write::PutSequential { prefix, lease, .. }) => {
                self.touch(Verb::Write, |key| key.starts_with(prefix));
                self.one(Verb::Write, &[prefix, &b"00000000000000000007"[..]].concat());
                if *lease != 0 {
                    self.touch(Verb::Lock, |key| key.starts_with(prefix));
                    self.one(Verb::Lock, &[prefix, &b"00000000000000000007"[..]].concat());
                    self.lease(*lease);
                }
            }
            Request::Write(Write::Delete(delete)) => self.delete(delete),
            Request::Write(Write::PopFirst { keys }) => {
                self.delete(&Delete { keys: keys.clone(), prev: true });
            }
            Request::Write(Write::Compact { .. }) => self.touch(Verb::Admin, |_| true),
            Request::Write(Write::LeaseGrant { id, .. }) => {
                self.anywhere.insert(Verb::Lock);
                self.lease(*id);
            }
            Request::Write(Write::LeaseRevoke { id })
            | Request::KeepAlive { id }
            | Request::TimeToLive { id, .. } => {
                self.anywhere.insert(Verb::Lock);
                self.leases.insert(*id);
            }
        }
    }

    fn eventual(&mut self, write: &eventual::Write) {
        match &write.op {
            Op::Delete => self.one(Verb::Delete, &write.key),
            Op::DeletePrefix => self.touch(Verb::Delete, |key| key.starts_with(&write.key)),
            Op::Incr { .. } | Op::Max { .. } | Op::Min { .. } => {
                self.one(Verb::Write, &write.key);
                self.one(Verb::Read, &write.key);
            }
            _ => self.one(Verb::Write, &write.key),
        }
        if matches!(write.check, Some(Check::Absent | Check::Version(_))) {
            self.one(Verb::Read, &write.key);
        }
    }

    /// Whether each single touch is permitted by one grant.
    fn is_permitted(&self, grants: &[Model], keyspace: &str, mine: &[i64]) -> bool {
        let may = |verb: Verb, key: Option<&Key>| {
            grants.iter().any(|grant| {
                grant.is_on(keyspace)
                    && grant.verbs.contains(&verb)
                    && key.is_none_or(|key| key.starts_with(&grant.prefix))
            })
        };
        self.anywhere.iter().all(|verb| may(*verb, None))
            && self.keys.iter().all(|(verb, key)| may(*verb, Some(key)))
            && self.leases.iter().all(|lease| mine.contains(lease))
    }
}

#[derive(Clone, Debug)]
struct Model {
    verbs: Vec<Verb>,
    keyspace: String,
    prefix: Vec<u8>,
}

impl Model {
    fn is_on(&self, keyspace: &str) -> bool {
        match self.keyspace.strip_suffix('*') {
            Some(stem) => keyspace.starts_with(stem),
            None => keyspace == self.keyspace,
        }
    }

    fn grant(&self) -> Grant {
        let verbs: Verbs = self.verbs.iter().copied().collect();
        Grant::new(verbs, &self.keyspace, &self.prefix).expect("within bounds")
    }
}

fn models() -> impl Strategy<Value = Vec<Model>> {
    let keyspace = prop_oneof![
        4 => select(KEYSPACES.to_vec()).prop_map(String::from),
        1 => select(vec!["*", "jobs*", "jobs-*", "w*"]).prop_map(String::from),
    ];
    let verbs = prop_oneof![
        3 => vec(select(Verb::ALL.to_vec()), 0..4),
        2 => Just(Verb::ALL.to_vec()),
    ];
    let grant = (verbs, keyspace, vec(select(SPAN_BYTES.to_vec()), 0..3));
    let grant = grant.prop_map(|(verbs, keyspace, prefix)| {
        let is_whole = verbs.contains(&Verb::Admin);
        Model { verbs, keyspace, prefix: if is_whole { Vec::new() } else { prefix } }
    });
    vec(grant, 0..8)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(select(SPAN_BYTES.to_vec()), 0..4)
}

fn keys() -> impl Strategy<Value = Keys> {
    prop_oneof![
        bytes().prop_map(Keys::One),
        (bytes(), proptest::option::of(bytes())).prop_map(|(from, to)| Keys::Range { from, to }),
        bytes().prop_map(Keys::prefix),
    ]
}

/// The lease of nobody, one of the caller's, another one's.
fn leases() -> [i64; 3] {
    [0, own_lease(), 77]
}

fn own_lease() -> i64 {
    let mut request = Request::Write(Write::LeaseGrant { id: 0, ttl_ms: 1 });
    Rights { grants: Vec::new(), owner: Some(OWNER.into()) }.choose_lease(&mut request, || 5);
    match request {
        Request::Write(Write::LeaseGrant { id, .. }) => id,
        other => panic!("{other:?}"),
    }
}

fn put() -> impl Strategy<Value = Put> {
    let lease = proptest::option::of(select(leases().to_vec()));
    (bytes(), any::<bool>(), lease, any::<bool>()).prop_map(|(key, has_value, lease, prev)| Put {
        key,
        value: has_value.then(Vec::new),
        lease,
        prev,
    })
}

fn delete() -> impl Strategy<Value = Delete> {
    (keys(), any::<bool>()).prop_map(|(keys, prev)| Delete { keys, prev })
}

fn txn() -> impl Strategy<Value = Txn> {
    let compare =
        || vec(keys().prop_map(|keys| Compare { keys, is: Relation::Equal, to: Operand::Version(1) }), 0..2);
    let leaf = prop_oneof![
        keys().prop_map(|keys| TxnOp::Range(Range::of(keys))),
        put().prop_map(TxnOp::Put),
        delete().prop_map(TxnOp::Delete),
    ];
    let ops = leaf.prop_recursive(3, 6, 2, move |op| {
        (compare(), vec(op.clone(), 0..2), vec(op, 0..2))
            .prop_map(|(compare, then, otherwise)| TxnOp::Txn(Txn { compare, then, otherwise }))
    });
    (compare(), vec(ops.clone(), 0..3), vec(ops, 0..3)).prop_map(|(compare, then, otherwise)| Txn {
        compare,
        then,
        otherwise,
    })
}

fn request() -> impl Strategy<Value = Request> {
    let lease = || select(leases().to_vec());
    prop_oneof![
        keys().prop_map(|keys| Request::Read(Read::Range(Range::of(keys)))),
        txn().prop_map(Request::txn),
        Just(Request::Read(Read::Leases)),
        Just(Request::Read(Read::Hash)),
        put().prop_map(|put| Request::Write(Write::Put(put))),
        (bytes(), lease()).prop_map(|(prefix, lease)| Request::Write(Write::PutSequential {
            prefix,
            value: Vec::new(),
            lease
        })),
        delete().prop_map(|delete| Request::Write(Write::Delete(delete))),
        keys().prop_map(|keys| Request::Write(Write::PopFirst { keys })),
        Just(Request::Write(Write::Compact { revision: 3 })),
        lease().prop_map(|id| Request::Write(Write::LeaseGrant { id, ttl_ms: 1000 })),
        lease().prop_map(|id| Request::Write(Write::LeaseRevoke { id })),
        lease().prop_map(|id| Request::KeepAlive { id }),
        lease().prop_map(|id| Request::TimeToLive { id, keys: true }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        Just(Op::Put { value: "v".into() }),
        Just(Op::Delete),
        Just(Op::DeletePrefix),
        Just(Op::Incr { by: 1 }),
        Just(Op::SetAdd { members: vec!["m".into()] }),
        Just(Op::SetRemove { members: vec!["m".into()] }),
        Just(Op::MapPut { fields: Vec::new() }),
        Just(Op::MapDelete { names: Vec::new() }),
        Just(Op::Flag { enabled: true }),
        Just(Op::Max { value: 1 }),
        Just(Op::Min { value: 1 }),
    ]
}

/// What is asked for.
#[derive(Clone, Debug)]
enum Asked {
    Read(Keys),
    Watch(Keys),
    Write(Op, Vec<u8>, Option<Check>),
    Request(Request, Option<Fence>),
    Discover,
    Manage,
}

fn asked() -> impl Strategy<Value = Asked> {
    let check = proptest::option::of(select(vec![Check::Absent, Check::Concurrent]));
    let fence = proptest::option::weighted(0.2, bytes().prop_map(|lock| Fence { lock, token: 3 }));
    prop_oneof![
        keys().prop_map(Asked::Read),
        keys().prop_map(Asked::Watch),
        (op(), bytes(), check).prop_map(|(op, key, check)| Asked::Write(op, key, check)),
        (request(), fence).prop_map(|(request, fence)| Asked::Request(request, fence)),
        Just(Asked::Discover),
        Just(Asked::Manage),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_decision_is_that_of_each_key_by_itself(
        models in models(), keyspace in select(KEYSPACES.to_vec()), asked in asked(), has_owner in any::<bool>(),
    ) {
        let owner = has_owner.then(|| OWNER.to_owned());
        let rights = Rights { grants: models.iter().map(Model::grant).collect(), owner };
        let mine = if has_owner { vec![own_lease()] } else { leases().to_vec() };
        let mut touched = Touched::default();
        let write;
        let operation = match &asked {
            Asked::Read(keys) => {
                touched.keys(Verb::Read, keys);
                Operation::Read { keyspace, keys }
            }
            Asked::Watch(keys) => {
                touched.keys(Verb::Watch, keys);
                Operation::Watch { keyspace, keys }
            }
            Asked::Write(op, key, check) => {
                write = eventual::Write { check: *check, ..eventual::Write::new(keyspace, key.clone(), op.clone()) };
                touched.eventual(&write);
                Operation::Write(&write)
            }
            Asked::Request(request, fence) => {
                touched.request(request);
                if let Some(fence) = fence {
                    touched.touch(Verb::Read, |key| key.starts_with(&fence.lock));
                }
                Operation::Request { keyspace, request, fence: fence.as_ref() }
            }
            Asked::Discover => Operation::Discover { keyspace },
            Asked::Manage => {
                touched.touch(Verb::Admin, |_| true);
                Operation::Manage { keyspace }
            }
        };
        let decided = authorize(&rights, &operation);
        let permitted = match asked {
            Asked::Discover => models.iter().any(|model| model.is_on(keyspace)),
            _ => touched.is_permitted(&models, keyspace, &mine),
        };
        prop_assert_eq!(decided.is_ok(), permitted, "{:?}", decided);
    }
}
