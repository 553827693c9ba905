//! The entry of the log that ends a group.

mod common;

use starling_kv::MemoryEngine;
use starling_strong::api::{Options, Put, Request, Write};
use starling_strong::group::{ChangeError, Group, Input, Notice, Output};
use starling_strong::machine;

use common::member::{NODES, config};

/// Passes time until an output is there, and returns everything until then.
fn run(group: &mut Group<MemoryEngine>, now_ms: &mut u64, until: impl Fn(&Output) -> bool) -> Vec<Output> {
    let mut outputs = Vec::new();
    for _ in 0..1_000 {
        while let Some(output) = group.poll_output() {
            if let Output::Sync(number) = output {
                group.handle(*now_ms, Input::Synced(number));
            }
            outputs.push(output);
        }
        if outputs.iter().any(&until) {
            return outputs;
        }
        *now_ms = group.poll_timeout().expect("it has not stopped").max(*now_ms);
        group.handle(*now_ms, Input::Timeout);
    }
    panic!("it did not happen: {outputs:?}")
}

fn put(token: u64) -> Input {
    let put = Put { key: b"k".to_vec(), value: Some(b"v".to_vec()), lease: Some(0), prev: false };
    let options = Options { timeout_ms: 5_000, stale: false, id: None, fence: None };
    Input::Request { token, request: Request::Write(Write::Put(put)), options }
}

/// A group of one member that leads.
fn leader(engine: &MemoryEngine, now_ms: &mut u64) -> Group<MemoryEngine> {
    let group = Group::create(engine.clone(), config(1), &NODES[..1], [7; 32], 0);
    let mut group = group.expect("a memory engine opens");
    group.set_version(machine::VERSION_NEWEST);
    run(&mut group, now_ms, |output| matches!(output, Output::Notice(Notice::Leader { node: Some(_), .. })));
    group.handle(*now_ms, put(1));
    run(&mut group, now_ms, |output| matches!(output, Output::Answer { result: Ok(_), .. }));
    group
}

#[test]
fn nothing_behind_the_entry_is_applied_and_a_start_finds_it() {
    let (engine, mut now_ms) = (MemoryEngine::new(), 0);
    let mut group = leader(&engine, &mut now_ms);
    let is_dropped = |output: &Output| *output == Output::Dropped;
    group.step(now_ms, Input::Drop { token: 2 });
    group.step(now_ms, put(3));
    group.process_ready(now_ms);
    let outputs = run(&mut group, &mut now_ms, is_dropped);
    assert_eq!(outputs.last(), Some(&Output::Dropped), "behind everything else");
    assert!(outputs.contains(&Output::Changed { token: 2, result: Ok(()) }), "{outputs:?}");
    let is_answer = |output: &Output| matches!(output, Output::Answer { token: 3, .. });
    assert!(!outputs.iter().any(is_answer), "{outputs:?}");
    let applied = group.status(now_ms).applied_index;
    drop(group);
    // The process ended before it removed the replica.
    let opened = Group::open(engine, config(1), [7; 32], now_ms).expect("a memory engine opens");
    let mut group = opened.expect("it is there");
    run(&mut group, &mut now_ms, is_dropped);
    assert_eq!((group.is_dropped(), group.status(now_ms).applied_index), (true, applied));
}

#[test]
fn only_the_leader_drops() {
    let engine = MemoryEngine::new();
    let group = Group::create(engine, config(1), &NODES, [7; 32], 0);
    let mut group = group.expect("a memory engine opens");
    group.handle(0, Input::Drop { token: 2 });
    let refusal = Output::Changed { token: 2, result: Err(ChangeError::NotLeader) };
    run(&mut group, &mut 0, |output| *output == refusal);
}
