//! Requests drawn at random, to Starling and to etcd: both answer the same.

mod common;

use std::fmt::Debug;

use common::{PATIENCE, Server, etcd, starling};
use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, Error, GetOptions, LeaseGrantOptions, LeaseTimeToLiveOptions,
    PutOptions, SortOrder, SortTarget, Txn, TxnOp,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tonic::Code;

/// Requests of one run.
const REQUESTS: usize = 600;
/// No more than twelve: etcd sorts longer answers in an order that it does not promise.
const KEYS: [&str; 8] = ["a", "ab", "abc", "b", "b1", "c", "d", "\u{1}"];
const ENDS: [&str; 6] = ["", "\0", "b", "b2", "c", "zz"];

struct Draw {
    random: ChaCha8Rng,
    /// About where the keyspace is.
    revision: i64,
}

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.random.random_range(0..bound)
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn key(&mut self) -> &'static str {
        KEYS[self.below(KEYS.len())]
    }

    fn end(&mut self) -> &'static str {
        ENDS[self.below(ENDS.len())]
    }

    /// Mostly one that there was, sometimes one that there will be.
    fn revision(&mut self) -> i64 {
        let bound = usize::try_from(self.revision).expect("small") + 3;
        i64::try_from(self.below(bound)).expect("small")
    }

    fn value(&mut self) -> String {
        self.below(4).to_string()
    }

    /// `keep`: sometimes keep the value or the lease. Within a transaction etcd stops where that fails.
    fn put(&mut self, keep: bool) -> (&'static str, String, Option<PutOptions>) {
        let mut options = PutOptions::new();
        let mut value = self.value();
        if self.one_in(3) {
            options = options.with_prev_key();
        }
        if keep && self.one_in(8) {
            options = options.with_ignore_value();
            if !self.one_in(4) {
                value.clear();
            }
        }
        if keep && self.one_in(8) {
            options = options.with_ignore_lease();
        } else if self.one_in(4) {
            options = options.with_lease(i64::try_from(self.below(4)).expect("small"));
        }
        (self.key(), value, Some(options))
    }

    fn get(&mut self) -> (&'static str, Option<GetOptions>) {
        let mut options = GetOptions::new();
        if !self.one_in(4) {
            options = options.with_range(self.end());
        }
        if self.one_in(3) {
            options = options.with_limit(i64::try_from(self.below(5)).expect("small") - 1);
        }
        if self.one_in(3) {
            options = options.with_revision(self.revision());
        }
        if self.one_in(3) {
            use SortTarget::{Create, Key, Mod, Value, Version};
            let by = [Key, Version, Create, Mod, Value][self.below(5)];
            // Without an order etcd takes the first keys, and then sorts them.
            let order = [SortOrder::Ascend, SortOrder::Descend][self.below(2)];
            options = options.with_sort(by, order);
        }
        if self.one_in(8) {
            options = options.with_keys_only();
        }
        if self.one_in(8) {
            options = options.with_count_only();
        }
        if self.one_in(8) {
            options = options.with_serializable();
        }
        if self.one_in(6) {
            options = options.with_min_mod_revision(self.revision());
        }
        if self.one_in(6) {
            options = options.with_max_mod_revision(self.revision());
        }
        if self.one_in(6) {
            options = options.with_min_create_revision(self.revision());
        }
        if self.one_in(6) {
            options = options.with_max_create_revision(self.revision());
        }
        (self.key(), Some(options))
    }

    /// `open`: sometimes to the last key. Within a transaction etcd does not see that such a deletion
    /// meets a put.
    fn delete(&mut self, open: bool) -> (&'static str, Option<DeleteOptions>) {
        let mut options = DeleteOptions::new();
        let end = self.end();
        if (open || end != "\0") && self.one_in(3) {
            options = options.with_range(end);
        }
        if self.one_in(2) {
            options = options.with_prev_key();
        }
        (self.key(), Some(options))
    }

    fn compare(&mut self) -> Compare {
        use CompareOp::{Equal, Greater, Less, NotEqual};
        let is = [Equal, Greater, Less, NotEqual][self.below(4)];
        let number = self.revision() - 1;
        let key = self.key();
        let compare = match self.below(5) {
            0 => Compare::version(key, is, number % 4),
            1 => Compare::create_revision(key, is, number),
            2 => Compare::mod_revision(key, is, number),
            3 => Compare::value(key, is, self.value()),
            _ => Compare::lease(key, is, number % 4),
        };
        if self.one_in(3) { compare.with_range(self.end()) } else { compare }
    }

    fn txn(&mut self, depth: usize) -> Txn {
        let compare: Vec<_> = (0..self.below(3)).map(|_| self.compare()).collect();
        let mut branch = || -> Vec<_> {
            let ops = self.below(4);
            (0..ops).map(|_| self.op(depth)).collect()
        };
        let (then, otherwise) = (branch(), branch());
        Txn::new().when(compare).and_then(then).or_else(otherwise)
    }

    fn op(&mut self, depth: usize) -> TxnOp {
        match self.below(if depth < 2 { 7 } else { 6 }) {
            0..=2 => {
                let (key, value, options) = self.put(false);
                TxnOp::put(key, value, options)
            }
            // Further in, etcd does not see every deletion that meets a put.
            3 if depth == 0 => {
                let (key, options) = self.delete(false);
                TxnOp::delete(key, options)
            }
            3..=5 => {
                let (key, options) = self.get();
                TxnOp::get(key, options)
            }
            _ => TxnOp::txn(self.txn(depth + 1)),
        }
    }
}

/// A text that says the same for the same answer.
fn told(answer: Result<impl Debug, Error>) -> String {
    match answer {
        Ok(answer) => common::scrub(&format!("{answer:?}")),
        Err(Error::GRpcStatus(status)) => format!("{:?}: {}", status.code(), status.message()),
        Err(error) => format!("{error:?}"),
    }
}

fn is_refusal(code: Code) -> bool {
    matches!(code, Code::InvalidArgument | Code::OutOfRange | Code::NotFound)
}

/// Asks for something; both draws make it the same.
async fn ask(client: &mut Client, draw: &mut Draw) -> (String, String) {
    let lease = i64::try_from(draw.below(3)).expect("small") + 1;
    match draw.below(20) {
        0..=5 => {
            let (key, value, options) = draw.put(true);
            let asked = format!("put {key:?} {value:?} {options:?}");
            (asked, told(client.put(key, value, options).await))
        }
        6..=10 => {
            let (key, options) = draw.get();
            (format!("get {key:?} {options:?}"), told(client.get(key, options).await))
        }
        11 | 12 => {
            let (key, options) = draw.delete(true);
            (format!("delete {key:?} {options:?}"), told(client.delete(key, options).await))
        }
        13..=16 => {
            let txn = draw.txn(0);
            let asked = format!("{txn:?}");
            match client.txn(txn).await {
                // Of several things that are wrong with it, each server names another one first.
                Err(Error::GRpcStatus(status)) if is_refusal(status.code()) => (asked, "refused".into()),
                answer => (asked, told(answer)),
            }
        }
        17 => {
            let options = Some(LeaseGrantOptions::new().with_id(lease));
            (format!("grant {lease}"), told(client.lease_grant(600, options).await))
        }
        18 if draw.one_in(2) => (format!("revoke {lease}"), told(client.lease_revoke(lease).await)),
        18 => {
            let options = Some(LeaseTimeToLiveOptions::new().with_keys());
            let left = client.lease_time_to_live(lease, options).await.map(|left| {
                // etcd names them in no order.
                let mut keys = left.keys().to_vec();
                keys.sort();
                (left.id(), left.granted_ttl(), keys)
            });
            (format!("time left of {lease}"), told(left))
        }
        _ => {
            let revision = draw.revision() / 2 + 1;
            (format!("compact {revision}"), told(client.compact(revision, None).await))
        }
    }
}

async fn connect(server: &Server) -> Client {
    Client::connect([&server.endpoint], None).await.expect("connects")
}

#[test]
fn starling_answers_as_etcd_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for seed in 0..4 {
        let Some(etcd) = etcd() else {
            println!("etcd is not installed (Debian: etcd-server): skipped");
            return;
        };
        let starling = starling();
        runtime.block_on(async {
            let (mut ours, mut theirs) = (connect(&starling).await, connect(&etcd).await);
            let draw = || Draw { random: ChaCha8Rng::seed_from_u64(seed), revision: 1 };
            let (mut our_draw, mut their_draw) = (draw(), draw());
            for number in 0..REQUESTS {
                let both =
                    async { (ask(&mut ours, &mut our_draw).await, ask(&mut theirs, &mut their_draw).await) };
                let ((asked, our), (_, their)) =
                    tokio::time::timeout(PATIENCE, both).await.expect("both answer");
                assert_eq!(our, their, "to request {number} of seed {seed}: {asked}");
                for draw in [&mut our_draw, &mut their_draw] {
                    draw.revision = 1 + i64::try_from(number).expect("small") / 3;
                }
            }
        });
    }
}
