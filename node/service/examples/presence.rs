//! Presence: every member writes a key that expires, and lists the keys of all members.

use std::collections::BTreeSet;
use std::error::Error;

use starling_api::{Batch, Eventual, Op, Range, Write};
use starling_service::{Config, Node};

const KEYSPACE: &str = "presence";
/// A member that has not said so for this long is away, milliseconds.
const TTL_MS: u64 = 30_000;

/// Says that a member is there; to be repeated well before the time is over.
async fn announce(node: &impl Eventual, member: &str) -> Result<(), starling_api::Error> {
    let put = Op::Put { value: member.to_owned().into() };
    let write = Write { ttl_ms: Some(TTL_MS), ..Write::new(KEYSPACE, member, put) };
    node.batch(Batch { writes: vec![write] }).await.map(drop)
}

/// The members that are there, as this node sees it.
async fn present(node: &impl Eventual) -> Result<BTreeSet<String>, starling_api::Error> {
    let listing = node.list(KEYSPACE, &Range::default()).await?;
    Ok(listing.keys.into_iter().map(|info| info.key.escaped()).collect())
}

/// Starts two nodes with a member each, and waits until both see each other.
///
/// # Errors
/// A node does not start, or refuses a request.
#[tokio::main(flavor = "current_thread")]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut config = Config::new(dir.path().join("anna"));
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
    let anna = Node::start(config.clone())?;
    config.data_dir = dir.path().join("ben");
    config.join = anna.info().ticket.clone().into_iter().collect();
    let ben = Node::start(config)?;

    announce(anna.handle(), "anna").await?;
    announce(ben.handle(), "ben").await?;
    let both = BTreeSet::from(["anna".to_owned(), "ben".to_owned()]);
    for node in [&anna, &ben] {
        let keyspace = node.handle().eventual(KEYSPACE)?;
        let mut watch = keyspace.watch("")?;
        while present(node.handle()).await? != both {
            watch.next().await.ok_or("the node has stopped")?;
        }
        println!("{}: {both:?}", node.info().name);
    }
    futures::join!(anna.stop(), ben.stop());
    Ok(())
}
