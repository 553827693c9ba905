//! Equal seeds give equal runs, in every process; the codec changes nothing.

use std::process::Command;

use starling_sim::Simulation;
use starling_sim::scenario::{self, Scenario};

/// Tells this program, started by itself, to run the scenario and say its trace.
const ROLE: &str = "STARLING_SIM_TEST_SEED";

/// A bit of everything that draws.
const SCENARIO: &str = r#"
nodes = 16
warmup_s = 10
measure_s = 30
[links]
jitter_ms = 5
loss = 0.05
drop = 0.01
duplicate = 0.01
reorder = 0.01
[workload]
writes_s = 20
mix = { put = 3, delete = 1, put_ttl = 1, incr = 1, set_add = 1, set_remove = 1 }
burst = { every_s = 7, writes = 20 }
[churn]
model = { poisson = { per_s = 0.2, away_s = 3 } }
away = { kill = 1, stop = 1, leave = 1 }
back = { restart = 1, wipe = 1 }
[[step]]
at_s = 5
do = "partition"
nodes = "30%"
for_s = 8
[[step]]
at_s = 8
do = "power_off"
nodes = "2"
for_s = 5
"#;

fn scenario(seed: u64) -> Scenario {
    let scenario = scenario::parse("determinism", SCENARIO, &[]).expect("the scenario is sound");
    Scenario { seed, ..scenario }
}

fn trace(seed: u64, through_codec: bool) -> String {
    let mut simulation = Simulation::new(scenario(seed)).expect("no file is read");
    if through_codec {
        simulation.world.pass_through_codec();
    }
    while simulation.step() {}
    simulation.world.trace()
}

/// The trace as another process finds it.
fn trace_elsewhere(seed: u64) -> String {
    let program = std::env::current_exe().expect("a test knows its program");
    let mut command = Command::new(program);
    command.args(["--exact", "equal_seeds_give_equal_traces_in_two_processes", "--nocapture"]);
    let output = command.env(ROLE, seed.to_string()).output().expect("the program runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let line = text.lines().find_map(|line| line.split_once("trace="));
    line.unwrap_or_else(|| panic!("no trace in\n{text}")).1.to_string()
}

#[test]
fn equal_seeds_give_equal_traces_in_two_processes() {
    if let Ok(seed) = std::env::var(ROLE) {
        println!("\ntrace={}", trace(seed.parse().expect("a number"), false));
        return;
    }
    let here = trace(1, false);
    assert_eq!(here, trace_elsewhere(1));
    assert_ne!(here, trace_elsewhere(2));
}

#[test]
fn the_wire_codec_changes_nothing() {
    assert_eq!(trace(3, false), trace(3, true));
}
