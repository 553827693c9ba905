//! The examples run to completion.

#[path = "../examples/configuration.rs"]
mod configuration;
#[path = "../examples/election.rs"]
mod election;
#[path = "../examples/embed.rs"]
mod embed;
#[path = "../examples/presence.rs"]
mod presence;
#[path = "../examples/work_queue.rs"]
mod work_queue;

#[test]
fn embed_runs() {
    embed::main().expect("runs");
}

#[test]
fn configuration_runs() {
    configuration::main().expect("runs");
}

#[test]
fn election_runs() {
    election::main().expect("runs");
}

#[test]
fn presence_runs() {
    presence::main().expect("runs");
}

#[test]
fn work_queue_runs() {
    work_queue::main().expect("runs");
}
