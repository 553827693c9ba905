//! Queues over a keyspace in memory, in virtual time.

mod common;

use std::time::Duration;

use common::{Memory, values};
use futures::future::join_all;
use starling_api::queue::{NewItem, Reserved, Rules, Standing};
use starling_api::strong::{Put, TxnOp};
use starling_api::{ErrorCode, escaped};
use starling_client::{Keyspace, Named, Queue, Taker, Under, new_request_id};
use tokio::time::{Instant, sleep};

fn queue(memory: &Memory) -> Queue<Memory> {
    Queue::new(Keyspace::new(memory.clone(), "work"), "jobs")
}

async fn push(queue: &Queue<Memory>, value: &str) {
    queue.push(NewItem::new(value), &Named::default()).await.expect("is pushed");
}

/// Reserves one item for ten seconds.
async fn reserve(taker: &mut Taker<Memory>) -> Option<Reserved> {
    taker.reserve(1, Under::New(10_000)).await.expect("is answered").1.pop()
}

async fn acknowledge(queue: &Queue<Memory>, item: &Reserved, effects: Vec<TxnOp>) -> Result<(), ErrorCode> {
    let done = queue.acknowledge(std::slice::from_ref(&item.receipt), effects, &Named::default()).await;
    done.map(drop).map_err(|failed| failed.error.code)
}

#[tokio::test(start_paused = true)]
async fn an_item_comes_back_unless_it_is_acknowledged_or_touched_in_time() {
    let memory = Memory::new();
    let (queue, mut taker) = (queue(&memory), queue(&memory).taker());
    push(&queue, "letter").await;
    let first = reserve(&mut taker).await.expect("an item");
    memory.pass(9_000);
    assert_eq!(queue.touch(&first.receipt).await, Ok(10_000));
    memory.pass(9_000);
    assert!(reserve(&mut taker).await.is_none(), "it was touched");
    memory.pass(2_000);
    let again = reserve(&mut taker).await.expect("it came back");
    assert_eq!((again.value.escaped().as_str(), again.attempts), ("letter", 2));
    let effect = || vec![TxnOp::Put(Put::new("sent/1", "letter"))];
    assert_eq!(acknowledge(&queue, &first, effect()).await, Err(ErrorCode::Conflict));
    assert_eq!(queue.touch(&first.receipt).await.map_err(|error| error.code), Err(ErrorCode::Conflict));
    acknowledge(&queue, &again, effect()).await.expect("is acknowledged");
    assert_eq!(acknowledge(&queue, &again, effect()).await, Err(ErrorCode::Conflict));
    assert_eq!(values(&memory, "sent/").await, [(b"letter".to_vec(), 1)]);
    assert!(queue.stats().await.expect("counts").is_done());
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_acknowledged_as_a_whole_or_not_at_all() {
    let memory = Memory::new();
    let (queue, mut taker) = (queue(&memory), queue(&memory).taker());
    let items = ["a", "b", "c"].map(NewItem::new).to_vec();
    queue.push_all(items, &Named::default()).await.expect("are pushed");
    let (_, items) = taker.reserve(10, Under::New(10_000)).await.expect("are reserved");
    assert_eq!(items.iter().map(|it| it.value.escaped()).collect::<Vec<_>>(), ["a", "b", "c"]);
    let receipts: Vec<_> = items.iter().map(|it| it.receipt.clone()).collect();
    assert_eq!(queue.release(&receipts[1], 0, &Named::default()).await.expect("goes back"), Standing::Ready);
    let failed =
        queue.acknowledge(&receipts, Vec::new(), &Named::default()).await.expect_err("one is not held");
    assert!(failed.error.message.contains(&receipts[1].key.escaped()), "{}", failed.error.message);
    let stats = queue.stats().await.expect("counts");
    assert_eq!((stats.ready, stats.reserved), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn an_item_returned_too_often_is_a_dead_letter_and_one_that_nobody_returns_too() {
    let memory = Memory::new();
    let (queue, mut taker) = (queue(&memory), queue(&memory).taker());
    let rules = Rules { attempts: 2, ..Rules::default() };
    queue.set_rules(&rules, &Named::default()).await.expect("are set");
    push(&queue, "returned").await;
    push(&queue, "lost").await;
    let mut stands = Vec::new();
    for _ in 0..2 {
        let returned = reserve(&mut taker).await.expect("an item");
        assert_eq!(returned.value.escaped(), "returned");
        reserve(&mut taker).await.expect("the lost one");
        stands.push(queue.release(&returned.receipt, 1_000, &Named::default()).await.expect("goes back"));
        memory.pass(10_000);
    }
    assert_eq!(stands, [Standing::Delayed, Standing::Dead]);
    assert!(reserve(&mut taker).await.is_none());
    let listed = queue.list().await.expect("lists");
    assert!(listed.iter().all(|it| (it.standing, it.attempts) == (Standing::Dead, 2)), "{listed:?}");
    for dead in &listed {
        assert!(queue.revive(&dead.key, &Named::default()).await.expect("is answered"));
        assert!(!queue.revive(&dead.key, &Named::default()).await.expect("is answered"));
    }
    assert_eq!(reserve(&mut taker).await.expect("an item").value.escaped(), "returned");
}

#[tokio::test(start_paused = true)]
async fn an_empty_reservation_costs_no_entry_and_a_waiting_one_wakes_when_an_item_comes_back() {
    let memory = Memory::new();
    let (queue, mut taker) = (queue(&memory), queue(&memory).taker());
    let before = memory.entries();
    assert!(reserve(&mut taker).await.is_none());
    let soon = Some(Instant::now() + Duration::from_secs(5));
    assert!(taker.reserve_by(1, Under::New(10_000), soon).await.expect("is answered").is_empty());
    assert_eq!(memory.entries(), before);
    push(&queue, "letter").await;
    reserve(&mut taker).await.expect("an item");
    let waits = taker.reserve_by(1, Under::New(10_000), None);
    let ends = async {
        sleep(Duration::from_secs(3)).await;
        memory.pass(10_000);
    };
    let (items, ()) = tokio::join!(waits, ends);
    assert_eq!(items.expect("is reserved")[0].attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn a_pop_leaves_what_a_worker_has_and_repeats_its_answer_for_a_request_id() {
    let memory = Memory::new();
    let (queue, mut taker) = (queue(&memory), queue(&memory).taker());
    for value in ["reserved", "first", "second"] {
        push(&queue, value).await;
    }
    reserve(&mut taker).await.expect("an item");
    let how = Named { request_id: Some(new_request_id()), ..Named::default() };
    for _ in 0..2 {
        let popped = queue.taker().pop(&how).await.expect("is popped").1.expect("an item");
        assert_eq!(escaped(&popped.value), "first");
    }
    assert_eq!(escaped(&taker.take().await.expect("an item").value), "second");
    assert_eq!(taker.pop(&Named::default()).await.expect("is answered").1, None);
    let old = Named { request_id: Some(7), ..Named::default() };
    assert_eq!(taker.pop(&old).await.expect_err("is refused").error.code, ErrorCode::Conflict);
}

/// Works until the queue is done. Returns how often it was given an item.
async fn work(queue: Queue<Memory>, work_ms: f64) -> (u64, u64) {
    let (mut taker, mut reserved) = (queue.taker(), 0);
    loop {
        let Some(item) = reserve(&mut taker).await else {
            if queue.stats().await.expect("counts").is_done() {
                return (reserved, taker.collisions());
            }
            sleep(Duration::from_millis(1)).await;
            continue;
        };
        reserved += 1;
        sleep(Duration::from_secs_f64(work_ms / 1000.0 * rand::random::<f64>())).await;
        let done = TxnOp::Put(Put::new(format!("done/{}", item.value.escaped()), "1"));
        acknowledge(&queue, &item, vec![done]).await.expect("is acknowledged");
    }
}

/// Prints the table of docs/queues.md: `cargo test -p starling-client --test queue collide -- --nocapture`.
#[tokio::test(start_paused = true)]
async fn workers_that_collide_spread_out_and_do_each_item_once() {
    println!("workers  work, ms  items  collisions per reservation  entries per item");
    for (workers, work_ms) in [(1, 0.0), (16, 0.0), (64, 0.0), (16, 100.0), (64, 100.0)] {
        let memory = Memory::new();
        let queue = queue(&memory);
        let items = 1000_u32;
        for at in 0..items {
            push(&queue, &format!("{at:04}")).await;
        }
        let before = memory.entries();
        let done = join_all((0..workers).map(|_| work(queue.clone(), work_ms))).await;
        let reserved: u64 = done.iter().map(|(reserved, _)| reserved).sum();
        let collisions: u64 = done.iter().map(|(_, collisions)| collisions).sum();
        let marks = values(&memory, "done/").await;
        assert_eq!(marks.len(), items as usize);
        assert!(marks.iter().all(|(_, version)| *version == 1), "each effect is applied once");
        assert_eq!(reserved, u64::from(items), "nobody has lost a reservation");
        let per_item = |count: u64| count as f64 / f64::from(items);
        let entries = per_item(memory.entries() - before);
        let each = per_item(collisions);
        println!("{workers:7}  {work_ms:8}  {items:5}  {each:26.2}  {entries:16.2}");
        assert!(each < 2.0, "{each} collisions for each reservation");
    }
}
