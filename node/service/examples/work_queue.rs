//! A work queue: each item is popped once, in the order of priorities.

use std::error::Error;

use starling_api::escaped;
use starling_api::strong::CreateKeyspace;
use starling_client::{Keyspace, Named, Queue};
use starling_service::{Config, Handle, Node};

/// Items that are pushed.
const ITEMS: usize = 12;
/// Workers that share them.
const WORKERS: usize = 3;

/// Takes items until there is none left. Returns what it took.
async fn work(queue: Queue<Handle>) -> Result<Vec<String>, starling_api::Error> {
    let mut done = Vec::new();
    while let (_, Some(item)) = queue.pop(&Named::default()).await? {
        done.push(escaped(&item.value));
    }
    Ok(done)
}

/// Starts a node with a strong keyspace; every item is taken by exactly one worker.
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
        queue.push(Queue::<Handle>::PRIORITY, format!("image {n:02}"), &Named::default()).await?;
    }
    queue.push(0, "urgent", &Named::default()).await?;
    let first = queue.take().await?;
    assert_eq!(escaped(&first.value), "urgent");

    let workers = (0..WORKERS).map(|_| work(queue.clone()));
    let mut done = Vec::new();
    for taken in futures::future::join_all(workers).await {
        let taken = taken?;
        println!("a worker took {taken:?}");
        done.extend(taken);
    }
    done.sort();
    let pushed: Vec<String> = (0..ITEMS).map(|n| format!("image {n:02}")).collect();
    assert_eq!(done, pushed, "each item is taken once");
    assert!(queue.is_empty().await?);
    node.stop().await;
    Ok(())
}
