//! Embeds a node in a program: no runtime, no logger and no signal handler is needed, and none is set up.

use std::error::Error;

use futures::executor::block_on;
use starling_service::{Config, Node};

/// Starts a node, writes, reads, and stops it.
///
/// # Errors
/// The node does not start, or refuses a request.
pub fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut config = Config::new(dir.path());
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
    let node = Node::start(config)?;
    println!("another node joins with {}", node.info().ticket.as_deref().unwrap_or_default());

    let site = node.handle().eventual("site")?;
    block_on(async {
        site.put("motto", "murmuration").await?;
        site.increment("visits", 41).await?;
        let visits = site.increment("visits", 1).await?;
        let motto = site.get(b"motto").await?.expect("it was written");
        println!("{} after {visits} visits", String::from_utf8_lossy(&motto.value));
        assert_eq!((visits, &motto.value[..]), (42, &b"murmuration"[..]));
        Ok::<(), starling_api::Error>(())
    })?;
    block_on(node.stop());
    Ok(())
}
