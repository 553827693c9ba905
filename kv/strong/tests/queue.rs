//! Queues over the state machine: the recipe's requests, one by one. A lease that a test revokes is one that has ended.

mod common;

use common::{apply, command, fresh};
use starling_kv::MemoryEngine;
use starling_strong::api::queue::{BATCH_MAX, NewItem, Order, Pushed, QueueStats, Receipt, Reserved, Rules};
use starling_strong::api::*;
use starling_strong::machine::{Machine, Room};
use starling_strong::queue::*;

/// A queue with the clients' side of it.
struct Queue {
    machine: Machine<MemoryEngine>,
    keys: QueueKeys,
    hints: Hints,
    pushes: u64,
    /// Rows that the last search has visited.
    visited: usize,
}

impl Queue {
    fn new(rules: Rules) -> Self {
        let (machine, keys) = (fresh(), QueueKeys::new("q"));
        let mut queue = Self { machine, keys, hints: Hints::default(), pushes: 0, visited: 0 };
        let rules = serde_json::to_vec(&rules).expect("JSON");
        queue.write(Write::Put(Put::new(queue.keys.rules(), rules)));
        queue
    }

    fn write(&mut self, write: Write) -> Answer {
        apply(&mut self.machine, command(write)).expect("is applied")
    }

    fn lease(&mut self) -> LeaseId {
        match self.write(Write::LeaseGrant { id: 0, ttl_ms: 1000 }).body {
            Body::LeaseGranted { id, .. } => id,
            other => panic!("{other:?}"),
        }
    }

    fn end(&mut self, lease: LeaseId) {
        self.write(Write::LeaseRevoke { id: lease });
    }

    fn plain(&mut self, value: &str) -> Vec<u8> {
        let prefix = self.keys.sequential(1000);
        match self.write(Write::PutSequential { prefix, value: value.into(), lease: 0 }).body {
            Body::Sequential { key } => key,
            other => panic!("{other:?}"),
        }
    }

    fn push(&mut self, item: NewItem, hold: LeaseId, memory: LeaseId) -> Pushed {
        self.pushes += 1;
        let unique = format!("{:08x}", self.pushes);
        let (rules, revision) = (self.stats().rules, self.machine.revision());
        let pushing = Pushing { rules, revision, unique: &unique, now_ms: self.pushes, hold, memory };
        let (key, txn) = push(&self.keys, item, pushing);
        pushed(key, self.write(Write::Txn(txn)).body).expect("fits")
    }

    fn read(&self, txn: Txn, room: &mut Room) -> Answer {
        self.machine.read_within(&Read::Txn(txn), room).expect("reads").expect("is answered")
    }

    fn stats(&self) -> QueueStats {
        counted(self.read(count(&self.keys), &mut { Room::ALL }).body).expect("fits")
    }

    fn search(&mut self, wanted: usize) -> Findings {
        let mut search = Search::new(self.keys.clone(), self.hints.clone(), wanted, None);
        let mut room = Room::ALL;
        let findings = loop {
            let answer = self.read(search.read(), &mut room);
            if let Some(findings) = search.step(answer.revision, answer.body).expect("fits") {
                break findings;
            }
        };
        self.visited = room.used().rows;
        self.hints = search.into_hints();
        findings
    }

    fn claim(&mut self, items: Vec<Free>, lease: LeaseId) -> Option<Vec<Reserved>> {
        let rules = self.stats().rules;
        let answer = self.write(Write::Txn(claim(&self.keys, &rules, &items, lease, None)));
        let made = claimed(&self.keys, items, lease, answer.revision, answer.body).expect("fits")?;
        Some(made.into_iter().map(|(reserved, _)| reserved).collect())
    }

    /// Reserves the next items.
    fn reserve(&mut self, max: usize, lease: LeaseId) -> Vec<Reserved> {
        let mut free = self.search(max).free;
        free.truncate(max);
        if free.is_empty() { Vec::new() } else { self.claim(free, lease).expect("nobody is faster") }
    }

    fn next(&mut self, lease: LeaseId) -> String {
        let reserved = self.reserve(1, lease);
        reserved.first().map_or_else(String::new, |one| one.value.escaped())
    }

    fn succeeds(&mut self, txn: Txn) -> bool {
        matches!(self.write(Write::Txn(txn)).body, Body::Txn { succeeded: true, .. })
    }

    fn acknowledge(&mut self, receipt: &Receipt, effects: Vec<TxnOp>) -> bool {
        self.succeeds(acknowledge(&self.keys, std::slice::from_ref(receipt), effects))
    }

    fn stored(&self, key: &[u8]) -> Stored {
        let answer = self.read(stored_read(&self.keys, key), &mut { Room::ALL });
        stored(answer.body).expect("fits").1.expect("it is there")
    }

    fn counts(&self) -> (u64, u64, u64, u64) {
        let QueueStats { ready, reserved, delayed, dead, .. } = self.stats();
        (ready, reserved, delayed, dead)
    }
}

#[test]
fn the_item_of_a_worker_that_dies_is_free_again_and_its_effects_are_applied_once() {
    let mut queue = Queue::new(Rules::default());
    queue.plain("letter");
    let (first, second) = (queue.lease(), queue.lease());
    let [lost] = queue.reserve(1, first).try_into().expect("one");
    assert_eq!((lost.value.escaped().as_str(), lost.attempts), ("letter", 1));
    assert_eq!(queue.next(second), "", "another worker has it");
    queue.end(first);
    let [again] = queue.reserve(1, second).try_into().expect("one");
    assert_eq!(again.attempts, 2);
    let effect = || vec![TxnOp::Put(Put::new("sent", "letter"))];
    assert!(!queue.acknowledge(&lost.receipt, effect()), "the reservation has ended");
    assert!(queue.acknowledge(&again.receipt, effect()));
    assert!(!queue.acknowledge(&again.receipt, effect()), "an item is acknowledged once");
    let sent = queue.machine.read(&Read::Range(Range::of(Keys::One(b"sent".to_vec()))));
    let Body::Range(found) = sent.expect("reads").expect("is answered").body else { panic!("a range") };
    assert_eq!(found.kvs[0].version, 1);
    assert_eq!(queue.counts(), (0, 0, 0, 0));
}

#[test]
fn an_item_goes_to_one_of_two_workers_that_found_it_at_once() {
    let mut queue = Queue::new(Rules::default());
    queue.plain("a");
    let (one, two) = (queue.lease(), queue.lease());
    let found = queue.search(1).free;
    assert!(queue.claim(found.clone(), one).is_some());
    assert!(queue.claim(found.clone(), two).is_none());
    // Nor does a search that is older than a reservation that has ended meanwhile count as one attempt.
    queue.end(one);
    assert!(queue.claim(found, two).is_none());
    assert_eq!(queue.reserve(1, two)[0].attempts, 2);
}

#[test]
fn items_behind_more_claims_than_a_page_shows_are_found() {
    let mut queue = Queue::new(Rules::default());
    for at in 0..200 {
        queue.plain(&format!("{at:03}"));
    }
    let lease = queue.lease();
    for at in 0..5 {
        let taken = queue.reserve(BATCH_MAX, lease);
        assert_eq!(taken[0].value.escaped(), format!("{:03}", at * BATCH_MAX));
    }
    let values: Vec<String> = queue.reserve(BATCH_MAX, lease).iter().map(|it| it.value.escaped()).collect();
    assert_eq!(values, (160..192).map(|at| format!("{at:03}")).collect::<Vec<_>>());
    assert_eq!(queue.counts(), (8, 192, 0, 0));
    queue.end(lease);
    assert_eq!(queue.counts(), (200, 0, 0, 0));
    assert_eq!(queue.search(1).free[0].about.attempts, 1);
}

#[test]
fn a_long_queue_is_counted_once_for_every_window() {
    let mut queue = Queue::new(Rules::default());
    for at in 0..2000 {
        queue.plain(&format!("{at:04}"));
    }
    let lease = queue.lease();
    queue.search(1);
    assert!(queue.visited >= 2000, "a keyspace counts what it reads: {}", queue.visited);
    let mut counted = 0;
    for at in 0..1000 {
        let [one] = queue.reserve(1, lease).try_into().expect("one");
        assert_eq!(one.value.escaped(), format!("{at:04}"));
        counted += usize::from(queue.visited >= 1000);
        assert!(queue.acknowledge(&one.receipt, Vec::new()));
    }
    assert!(counted <= 1000 / 60, "{counted} of 1000 searches have read the whole queue");
    // An item that is first by its priority is seen at once.
    queue.push(NewItem { priority: 1, ..NewItem::new("urgent") }, 0, 0);
    assert_eq!(queue.next(lease), "urgent");
}

#[test]
fn a_delay_ends_with_its_lease_and_the_item_keeps_its_priority_and_attempts() {
    let mut queue = Queue::new(Rules::default());
    let (worker, hold, pause) = (queue.lease(), queue.lease(), queue.lease());
    queue.push(NewItem { priority: 5, delay_ms: 1000, ..NewItem::new("later") }, hold, 0);
    assert_eq!((queue.next(worker).as_str(), queue.counts()), ("", (0, 0, 1, 0)));
    queue.end(hold);
    queue.plain("ordinary");
    let [later] = queue.reserve(1, worker).try_into().expect("one");
    assert_eq!((later.value.escaped().as_str(), later.priority), ("later", 5));
    let stored = queue.stored(&later.receipt.key.0);
    let txn = postpone(&queue.keys, &later.receipt, stored, 9_000, pause).expect("an item");
    assert!(queue.succeeds(txn));
    assert_eq!(queue.counts(), (1, 0, 1, 0));
    assert!(!queue.acknowledge(&later.receipt, Vec::new()), "it was given back");
    queue.end(pause);
    let [again] = queue.reserve(1, worker).try_into().expect("one");
    assert_eq!((again.value.escaped().as_str(), again.attempts, again.priority), ("later", 2, 5));
    assert!(queue.acknowledge(&again.receipt, Vec::new()));
    assert_eq!(queue.counts(), (1, 0, 0, 0));
}

#[test]
fn a_short_delay_behind_many_long_ones_is_seen_when_it_ends() {
    let mut queue = Queue::new(Rules::default());
    let long = queue.lease();
    for at in 0..300 {
        queue.push(NewItem { delay_ms: 1000 + at, ..NewItem::new("long") }, long, 0);
    }
    let (worker, short) = (queue.lease(), queue.lease());
    queue.push(NewItem { delay_ms: 90_000, ..NewItem::new("short") }, short, 0);
    assert_eq!(queue.next(worker), "");
    queue.end(short);
    assert_eq!(queue.next(worker), "short");
}

#[test]
fn an_item_that_was_reserved_too_often_is_found_apart_and_can_be_revived() {
    let mut queue = Queue::new(Rules { attempts: 2, ..Rules::default() });
    queue.plain("poison");
    queue.plain("good");
    for _ in 0..2 {
        let lease = queue.lease();
        assert_eq!(queue.next(lease), "poison");
        queue.end(lease);
    }
    let found = queue.search(1);
    assert_eq!((found.free.len(), found.spent.len()), (1, 1));
    let stored = queue.stored(&found.spent[0].key);
    let txn = bury(&queue.keys, Guard::Free(&found.spent[0]), stored).expect("an item");
    assert!(queue.succeeds(txn.clone()));
    assert!(!queue.succeeds(txn), "it has moved");
    assert_eq!(queue.counts(), (1, 0, 0, 1));
    let all = queue.machine.read(&Read::Range(Range::of(Keys::prefix(queue.keys.prefix()))));
    let Body::Range(all) = all.expect("reads").expect("is answered").body else { panic!("a range") };
    let listed = list(&queue.keys, &all.kvs);
    let dead: Vec<_> = listed.iter().filter(|it| it.standing == queue::Standing::Dead).collect();
    assert_eq!((listed.len(), dead.len(), dead[0].attempts), (2, 1, 2));
    let stored = queue.stored(&dead[0].key.0);
    let rules = queue.stats().rules;
    let txn = revive(&queue.keys, &rules, &dead[0].key.0, stored).expect("an item");
    assert!(queue.succeeds(txn));
    let lease = queue.lease();
    let [first] = queue.reserve(1, lease).try_into().expect("one");
    assert_eq!((first.value.escaped().as_str(), first.attempts), ("poison", 1), "in its former place");
}

#[test]
fn an_id_keeps_a_second_item_out_as_long_as_it_is_remembered() {
    let mut queue = Queue::new(Rules::default());
    let memory = queue.lease();
    let item = || NewItem { unique: Some("mail 7".into()), ..NewItem::new("x") };
    let first = queue.push(item(), 0, memory);
    assert_eq!(queue.push(item(), 0, memory), Pushed { duplicate: true, ..first.clone() });
    let worker = queue.lease();
    let [one] = queue.reserve(1, worker).try_into().expect("one");
    assert_eq!(one.receipt.key, first.key);
    assert!(queue.acknowledge(&one.receipt, Vec::new()));
    assert!(queue.push(item(), 0, memory).duplicate, "it is done, and still known");
    queue.end(memory);
    let memory = queue.lease();
    assert!(!queue.push(item(), 0, memory).duplicate);
}

#[test]
fn a_tenant_with_few_items_waits_for_no_tenant_with_many() {
    let mut queue = Queue::new(Rules { order: Order::Tenants, ..Rules::default() });
    let of = |tenant: &str| NewItem { tenant: tenant.into(), ..NewItem::new(tenant) };
    for _ in 0..600 {
        queue.push(of("ann"), 0, 0);
    }
    for tenant in ["bob", "bob", "eve"] {
        queue.push(of(tenant), 0, 0);
    }
    queue.plain("nobody's");
    let lease = queue.lease();
    let order: Vec<String> = (0..8).map(|_| queue.next(lease)).collect();
    assert_eq!(order, ["nobody's", "ann", "bob", "eve", "ann", "bob", "ann", "ann"]);
}

#[test]
fn a_client_that_pops_as_before_takes_what_is_pushed_now_and_the_other_way_round() {
    let mut queue = Queue::new(Rules::default());
    queue.push(NewItem { cost_ms: 7, ..NewItem::new("new") }, 0, 0);
    queue.plain("old");
    let keys = Keys::Range { from: b"q/0".to_vec(), to: Some(b"q/:".to_vec()) };
    let popped = queue.write(Write::PopFirst { keys });
    let Body::Popped { first: Some(first) } = popped.body else { panic!("an item") };
    assert_eq!(first.value, b"new");
    let item = queue.search(1).free.remove(0);
    assert!(queue.succeeds(pop(&queue.keys, &item, None, b"")));
    assert_eq!(queue.counts(), (0, 0, 0, 0));
}
