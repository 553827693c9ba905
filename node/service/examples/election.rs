//! Leader election: of several candidates one leads, and when it leaves the next one does.

use std::error::Error;

use starling_api::Strong;
use starling_api::strong::CreateKeyspace;
use starling_client::{Keyspace, Turn};
use starling_service::{Config, Node};

/// Time without a keep-alive after which a leader has lost its leadership, milliseconds.
const TTL_MS: u64 = 5_000;

/// Leads once, and returns the token: every later leader has a greater one.
async fn lead<N>(keyspace: Keyspace<N>, name: &str) -> Result<u64, Box<dyn Error>>
where
    N: Strong + Clone + Send + Sync + 'static,
{
    let mut turn = Turn::wait(&keyspace, b"scheduler", name, TTL_MS).await?;
    let token = turn.place.token;
    tokio::select! {
        // What runs under the leadership stops when that is lost.
        lost = turn.lost() => return Err(format!("{name} was lost: {lost:?}").into()),
        () = async { println!("{name} leads with token {token}") } => {}
    }
    turn.release().await?;
    Ok(token)
}

/// Starts a node with a strong keyspace, and two candidates of one election.
///
/// # Errors
/// The node does not start, or refuses a request.
#[tokio::main(flavor = "current_thread")]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut config = Config::new(dir.path());
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
    let node = Node::start(config)?;
    let create = CreateKeyspace { name: "jobs".into(), voters: 1, on: Vec::new(), manual: false };
    node.handle().admin().create_keyspace(create).await?;

    let candidate = || Keyspace::new(node.handle().clone(), "jobs");
    let (first, second) = futures::join!(lead(candidate(), "anna"), lead(candidate(), "ben"));
    assert_ne!(first?, second?, "two leaders have two tokens");
    node.stop().await;
    Ok(())
}
