//! Shared configuration: one node writes it, another one watches it.

use std::error::Error;

use futures::StreamExt;
use starling_api::{Data, Eventual, WatchEvent};
use starling_service::{Config, Node};

const KEYSPACE: &str = "configuration";

/// Follows a setting until it has a value. Works the same over a `starling_client::Client`.
async fn follow(node: &impl Eventual, key: &str, wanted: &str) -> Result<(), starling_api::Error> {
    let mut events = node.watch(KEYSPACE, key.as_bytes()).await?;
    // The watch stands: what it reports and what is there now miss no change.
    let now = node.entry(KEYSPACE, key.as_bytes()).await?.map(|entry| entry.data);
    let is_wanted = |data: &Data| matches!(data, Data::Register(it) if it.value.0 == wanted.as_bytes());
    if now.as_ref().is_some_and(is_wanted) {
        return Ok(());
    }
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Put(entry) if is_wanted(&entry.data) => return Ok(()),
            WatchEvent::Lagged { hint } => println!("changes were left out: {hint}"),
            event => println!("{event:?}"),
        }
    }
    Err(starling_api::Error::invalid("the watch has ended", "watch again"))
}

/// Starts two nodes; a setting written through the first one reaches the second one.
///
/// # Errors
/// A node does not start, or refuses a request.
#[tokio::main(flavor = "current_thread")]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut config = Config::new(dir.path().join("writer"));
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
    let writer = Node::start(config.clone())?;
    config.data_dir = dir.path().join("reader");
    config.join = writer.info().ticket.clone().into_iter().collect();
    let reader = Node::start(config)?;

    let (node, settings) = (reader.handle(), writer.handle());
    let (followed, written) = futures::join!(follow(node, "log.level", "debug"), async {
        settings.put(KEYSPACE, "log.level", "info").await?;
        settings.put(KEYSPACE, "log.level", "debug").await
    });
    written?;
    followed?;
    println!("the other node has the setting");
    futures::join!(reader.stop(), writer.stop());
    Ok(())
}
