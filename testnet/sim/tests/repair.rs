//! How often nodes receive what they have already: after many of them were away, and in a burst.

use bytes::Bytes;
use starling_kv::{Batch, Op, Store, Write};
use starling_sim::Simulation;
use starling_sim::measure::{Reason, Receipt, Receipts, Sending};
use starling_sim::scenario;
use starling_sim::world::World;

/// Virtual time in which a network starts and its views become whole, microseconds: `warmup_s` of the scenarios here.
const WARMUP_US: u64 = 60_000_000;
/// Nodes of a network with bursts.
const NODES: usize = 16;

/// A network that counts what its nodes receive, after its warm-up.
fn warm(text: &str) -> Simulation {
    let scenario = scenario::parse("repair", text, &[]).unwrap_or_else(|error| panic!("{error}"));
    let mut simulation = Simulation::new(scenario).expect("no file is read");
    simulation.world.receipts = Some(Box::default());
    while simulation.world.now_us() < WARMUP_US && simulation.step() {}
    simulation
}

fn are_equal(world: &World) -> bool {
    let replicas = world.nodes.iter().filter(|node| node.is_replica());
    let mut roots = replicas.map(|node| node.store().and_then(Store::root));
    let first = roots.next().flatten();
    first.is_some() && roots.all(|root| root == first)
}

/// Lets time pass until all nodes are up and equal. Returns how long that took, milliseconds.
fn until_equal(world: &mut World) -> u64 {
    let began_us = world.now_us();
    while !are_equal(world) {
        assert!(world.now_us() < began_us + 60_000_000, "not equal after a minute");
        world.pass(5_000);
    }
    (world.now_us() - began_us) / 1000
}

fn write(world: &mut World, node: usize, keys: std::ops::Range<u32>) {
    let put = |n: u32| Write {
        keyspace: "default".into(),
        key: format!("key{n:012}").into_bytes(),
        op: Op::Put { value: Bytes::from(vec![n as u8; 100]) },
        ttl_ms: None,
        check: None,
    };
    let batch = Batch { writes: keys.map(put).collect() };
    let sending = Sending { at_us: world.now_us(), payload_bytes: 0, is_lasting: false };
    let number = world.recorder.writes.send(sending);
    assert!(world.write(node, vec![(number, batch)]));
}

/// Prints what was received, by reason, and returns the sum.
fn table(receipts: &Receipts, nodes: &[usize]) -> Receipt {
    let mut sum = Receipt::default();
    for reason in Reason::ALL {
        let of = receipts.of(nodes.iter().copied(), reason);
        println!(
            "{reason:>10?} {:>8} messages {:>9} bytes {:>9} repeated",
            of.messages, of.bytes, of.repeated
        );
        sum.bytes += of.bytes;
        sum.repeated += of.repeated;
    }
    sum
}

/// Nodes are restarted after missing 43 keys of 116 bytes each. Beside those they receive what views and comparisons take.
fn restarted(nodes: usize) -> f64 {
    let text = format!("nodes = {nodes}\nwarmup_s = 60\nmeasure_s = 1\n[workload]\nwrites_s = 4\n");
    let mut world = warm(&text).world;
    let away: Vec<usize> = (0..nodes).filter(|node| node % 4 == 1).collect();
    for node in &away {
        world.kill(*node);
    }
    for n in 0..43 {
        write(&mut world, n as usize * 4 % nodes, n..n + 1);
        world.pass(300_000);
    }
    for node in &away {
        world.start(*node);
        world.pass(20_000);
    }
    let took_ms = until_equal(&mut world);
    let missed = 43 * 116 * away.len() as u64;
    println!("{} of {nodes} restarted, {missed} bytes missed, equal after {took_ms} ms", away.len());
    let sum = table(world.receipts.as_ref().expect("it counts"), &away);
    sum.bytes as f64 / missed as f64
}

#[test]
fn restarted_nodes_receive_what_they_missed_about_once() {
    let (few, many) = (restarted(16), restarted(128));
    assert!(
        few < 2.0 && many < 3.0,
        "received / missed: {few:.2} with 4 of 16 restarted, {many:.2} with 32 of 128"
    );
}

/// 10,000 keys in 20 batches through some nodes in turn. Returns how many copies of each byte a node receives.
fn burst(world: &mut World, number: u32, through: usize) -> f64 {
    let all: Vec<usize> = (0..NODES).collect();
    let receipts = world.receipts.as_mut().expect("it counts");
    for node in &all {
        receipts.started(*node);
    }
    for batch in 0..20 {
        let first = number * 10_000 + batch * 500;
        write(world, batch as usize % through, first..first + 500);
        world.pass(10_000);
    }
    let took_ms = until_equal(world);
    println!("burst {number} through {through}, equal after {took_ms} ms");
    let sum = table(world.receipts.as_ref().expect("it counts"), &all);
    world.pass(2_000_000);
    sum.bytes as f64 / (sum.bytes - sum.repeated) as f64
}

/// At 1 MB/s a batch takes longer on its way through the network than an announcement waits before its rumor is grafted.
#[test]
fn a_burst_reaches_each_node_about_once() {
    let text = format!(
        "nodes = {NODES}\nwarmup_s = 60\nmeasure_s = 1\n[workload]\nwrites_s = 0\n[links]\nbandwidth_bytes_s = 1e6\n"
    );
    let mut world = warm(&text).world;
    // The first one finds all links eager.
    let copies = [burst(&mut world, 0, 1), burst(&mut world, 1, 1), burst(&mut world, 2, NODES)];
    assert!(copies[0] < 1.6 && copies[1] < 1.2 && copies[2] < 1.2, "copies: {copies:.2?}");
}
