//! The door before a keyspace in memory, to be measured or played with: `memory [ADDRESS]`.

mod backend;

use std::error::Error;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2379".into());
    let door = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let keyspace = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (calls, taken) = mpsc::channel(4096);
    // As in a node: who keeps the keyspace has a thread of its own.
    let keeper = std::thread::spawn(move || keyspace.block_on(backend::Backend::run(taken)));
    let (_stop, stop) = watch::channel(false);
    door.block_on(async {
        let listener = TcpListener::bind(&address).await?;
        println!("{}", listener.local_addr()?);
        starling_etcd::serve(listener, backend::KEYSPACE.into(), calls, stop).await
    })?;
    keeper.join().map_err(|_| "the keyspace has failed".into())
}
