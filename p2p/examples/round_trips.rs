//! Measures what a message costs between two drivers over loopback, each on a runtime of one thread
//! as in the daemon: `cargo run --release -p starling-p2p --example round_trips`.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use starling_p2p::{Driver, DriverConfig, Event, Identity, Limits, Network, TrustConfig};
use starling_proto::{
    ActorId, Message, NodeRecord, Role,
    message::{Payload, RumorId, RumorMessage},
    wire::Protocol,
};

const MEASURE: Duration = Duration::from_secs(3);
const PAYLOAD_BYTES: usize = 100;

fn config(listen: &str) -> DriverConfig {
    let identity = Identity::generate();
    let record = NodeRecord::new(identity.node_id(), 1, Role::Replica);
    let network = Network { id: [1; 16], secrets: vec![[1; 32].into()] };
    let (protocol, limits) = (Protocol::CURRENT, Limits::default());
    DriverConfig {
        identity,
        listen: vec![listen.to_owned()],
        protocol,
        network,
        record,
        trust: TrustConfig::default(),
        limits,
    }
}

fn rumor(n: u64) -> Message {
    let id = RumorId { actor: ActorId([1; 16]), first: n, last: n };
    Message::Rumor(RumorMessage::Full { id, hops: 0, payload: Payload(vec![n as u8; PAYLOAD_BYTES].into()) })
}

fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work);
}

async fn echo(listen: &str, address: mpsc::Sender<String>) {
    let mut driver = Driver::start(config(listen)).await.expect("starts");
    address.send(driver.listen_addresses().remove(0)).expect("is awaited");
    loop {
        match driver.next_event().await {
            Event::Message { peer, message } => driver.send(&[peer], &message),
            Event::Disconnected { .. } => return,
            _ => {}
        }
    }
}

async fn measure(listen: &str, address: &str, in_flight: u64) {
    let mut driver = Driver::start(config(listen)).await.expect("starts");
    driver.dial_address(address);
    let peer = loop {
        if let Event::Connected { peer, .. } = driver.next_event().await {
            break peer;
        }
    };
    let (start, mut sent, mut times) = (Instant::now(), 0, Vec::new());
    let mut departures = vec![start; in_flight as usize];
    while start.elapsed() < MEASURE {
        while sent < in_flight + times.len() as u64 {
            departures[(sent % in_flight) as usize] = Instant::now();
            sent += 1;
            driver.send(&[peer], &rumor(sent));
        }
        if let Event::Message { .. } = driver.next_event().await {
            times.push(departures[(times.len() as u64 % in_flight) as usize].elapsed());
        }
    }
    times.sort_unstable();
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!(
        "{listen:32} in flight {in_flight:3}: {rate:9.0} round trips/s, p50 {:?}, p99 {:?}",
        at(50),
        at(99)
    );
}

fn main() {
    for listen in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"] {
        for in_flight in [1, 64] {
            let (sender, receiver) = mpsc::channel();
            std::thread::scope(|scope| {
                scope.spawn(|| run(echo(listen, sender)));
                let address = receiver.recv().expect("starts");
                run(measure(listen, &address, in_flight));
            });
        }
    }
}
