//! A load from the command line:
//! `load WORK CLIENTS CONNECTIONS SECONDS ENDPOINT[,ENDPOINT...] [PID,...]`
//! with WORK one of put, get, cas, cas-own, watch.

use std::error::Error;
use std::time::Duration;

use starling_load::{Plan, Work};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [work, clients, connections, seconds, endpoints, pids @ ..] = words.as_slice() else {
        return Err("usage: load WORK CLIENTS CONNECTIONS SECONDS ENDPOINTS [PIDS]".into());
    };
    let value_bytes = 100;
    let work = match work.as_str() {
        "put" => Work::Put { value_bytes, keys: 10_000 },
        "get" => Work::Get { value_bytes, keys: 10_000 },
        "cas" => Work::CompareAndSet { shared: true },
        "cas-own" => Work::CompareAndSet { shared: false },
        "watch" => Work::Watch { value_bytes },
        other => return Err(format!("no such work: {other}").into()),
    };
    let plan = Plan {
        endpoints: endpoints.split(',').map(str::parse).collect::<Result<_, _>>()?,
        clients: clients.parse()?,
        connections: connections.parse()?,
        warm_up: Duration::from_secs(1),
        duration: Duration::from_secs_f64(seconds.parse()?),
        work,
        servers: pids.iter().flat_map(|pids| pids.split(',')).map(str::parse).collect::<Result<_, _>>()?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{:#?}", runtime.block_on(starling_load::run(&plan))?);
    Ok(())
}
