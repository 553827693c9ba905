//! 64 writer threads, each waiting for its answer before it writes again, and one thread that owns
//! the store and commits all waiting writes: a node's group commit, including its threads.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use starling_kv::{Batch, Error};
use starling_rocks::RocksEngine;
use tempfile::TempDir;

use super::{NOW, Subject, measure, put, rocks};

const WRITERS: usize = 64;
const WRITES: usize = 300_000;

type Request = (Batch, SyncSender<()>);

pub fn run() -> Result<(), Error> {
    let dir = TempDir::new().expect("a directory");
    let engine = rocks(&dir)?;
    let mut subject = Subject::open(engine.clone())?;
    let (requests, incoming) = sync_channel::<Request>(WRITERS);
    let mut commits = 0u64;
    let measured = std::thread::scope(|scope| {
        let (ended, end) = sync_channel::<()>(1);
        scope.spawn(move || every_second(&engine, &end));
        for writer in 0..WRITERS {
            let requests = requests.clone();
            scope.spawn(move || write(writer, &requests));
        }
        drop(requests);
        let measured = measure(WRITES, || {
            while let Ok(first) = incoming.recv() {
                let (batches, replies): (Vec<_>, Vec<_>) =
                    std::iter::once(first).chain(incoming.try_iter()).unzip();
                subject.store.commit(NOW, batches)?;
                commits += 1;
                for reply in replies {
                    reply.send(()).expect("the writer waits");
                }
            }
            Ok(())
        });
        drop(ended);
        measured
    })?;
    println!(
        "{:<44} {:>10.0} {:>9.2}   ({:.1} writes per commit)",
        "put 100 B, new keys, 64 threads, everysec",
        measured.per_second,
        measured.cpu_us,
        WRITES as f64 / commits as f64
    );
    Ok(())
}

fn write(writer: usize, requests: &SyncSender<Request>) {
    let (reply, answers) = sync_channel(1);
    for n in (writer..WRITES).step_by(WRITERS) {
        requests.send((Batch { writes: vec![put(n)] }, reply.clone())).expect("the store is there");
        answers.recv().expect("an answer comes");
    }
}

fn every_second(engine: &RocksEngine, end: &std::sync::mpsc::Receiver<()>) {
    while end.recv_timeout(Duration::from_secs(1)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        engine.sync().expect("the disk works");
    }
}
