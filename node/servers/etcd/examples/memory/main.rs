//! The etcd server over a keyspace in memory, for measurements and experiments: `memory [ADDRESS]`.

mod backend;

use std::error::Error;

use starling_listener::{Reach, Socket, Stop};
use starling_service::StrongKeyspace;
use tokio::sync::mpsc;

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2379".into());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let keyspace = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (calls, taken) = mpsc::channel(4096);
    // As in a node: who keeps the keyspace has a thread of its own.
    let keeper = std::thread::spawn(move || keyspace.block_on(backend::Backend::run(taken)));
    let (_stop, stop) = Stop::channel();
    let socket = Socket::bind(&address, Reach::Loopback)?;
    println!("{}", socket.address());
    runtime.block_on(async {
        starling_etcd::serve(socket, StrongKeyspace::new(backend::KEYSPACE, backend::NODE, calls), None, stop)
            .await
    })?;
    keeper.join().map_err(|_| "the keyspace has failed".into())
}
