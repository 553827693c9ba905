//! A work queue: workers reserve items and acknowledge them together with what they write, in the order of priorities.

use std::error::Error;

use starling_api::escaped;
use starling_api::queue::NewItem;
use starling_api::strong::{CreateKeyspace, Put, TxnOp};
use starling_client::{Keyspace, Named, Queue, Under};
use starling_service::{Config, Handle, Node};

/// Items that are pushed.
const ITEMS: usize = 12;
/// Workers that share them.
const WORKERS: usize = 3;

/// How long an item is reserved, milliseconds.
const RESERVED_MS: u64 = 10_000;

/// Does items until there is none left. Returns what it did.
async fn work(queue: Queue<Handle>) -> Result<Vec<String>, starling_api::Error> {
    let (mut taker, mut done) = (queue.taker(), Vec::new());
    while let Some(item) = taker.reserve(1, Under::New(RESERVED_MS)).await?.1.pop() {
        let name = item.value.escaped();
        // Written once, however often the work was begun.
        let thumbnail = TxnOp::Put(Put::new(format!("thumbnail of {name}"), "small"));
        queue.acknowledge(&[item.receipt], vec![thumbnail], &Named::default()).await?;
        done.push(name);
    }
    Ok(done)
}

/// Starts a node with a strong keyspace; every item is done by exactly one worker.
///
/// # Errors
/// The node does not start, or refuses a request.
#[tokio::main(flavor = "current_thread")]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut config = Config::new(dir.path());
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
    let node = Node::start(config)?;
    let create = CreateKeyspace { name: "work".into(), voters: 1, on: Vec::new(), manual: false };
    node.handle().admin().create_keyspace(create).await?;

    let queue = Queue::new(Keyspace::new(node.handle().clone(), "work"), "thumbnails");
    for n in 0..ITEMS {
        queue.push(NewItem::new(format!("image {n:02}")), &Named::default()).await?;
    }
    queue.push(NewItem { priority: 0, ..NewItem::new("urgent") }, &Named::default()).await?;
    let first = queue.taker().take().await?;
    assert_eq!(escaped(&first.value), "urgent");

    let workers = (0..WORKERS).map(|_| work(queue.clone()));
    let mut done = Vec::new();
    for taken in futures::future::join_all(workers).await {
        let taken = taken?;
        println!("a worker did {taken:?}");
        done.extend(taken);
    }
    done.sort();
    let pushed: Vec<String> = (0..ITEMS).map(|n| format!("image {n:02}")).collect();
    assert_eq!(done, pushed, "each item is done once");
    assert!(queue.stats().await?.is_done());
    node.stop().await;
    Ok(())
}
