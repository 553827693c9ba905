//! Faults do in the world what they do outside: who is told, what is lost, what comes back.

use starling_report::Run;
use starling_sim::Simulation;
use starling_sim::scenario;

/// Runs twelve nodes through some steps.
fn run(more: &str, steps: &str) -> Run {
    let text = format!("nodes = 12\nwarmup_s = 20\nmeasure_s = 40\n{more}\n{steps}");
    let scenario = scenario::parse("faults", &text, &[]).unwrap_or_else(|error| panic!("{error}"));
    Simulation::new(scenario).expect("no file is read").run(|_| ())
}

fn step(at_s: u32, what: &str) -> String {
    format!("[[step]]\nat_s = {at_s}\n{what}\n")
}

/// All writes go through the first node.
const ONE_WRITER: &str = "[workload]\nwriters = 1\nwrites_s = 20";

#[test]
fn a_killed_process_is_noticed_by_its_reset_and_a_dead_machine_by_its_silence() {
    let killed = run("", &step(10, "do = \"kill\"\nnodes = \"node:3\"")).detection.noticed;
    // A reset takes one delay: at most 50 ms and jitter.
    assert!(killed.count == 1 && killed.max_ms < 60.0, "{killed:?}");
    let off = run("", &step(10, "do = \"power_off\"\nnodes = \"node:3\"")).detection;
    assert!(off.noticed.count == 1 && (1_500.0..3_100.0).contains(&off.noticed.max_ms), "{off:?}");
    assert_eq!(off.false_positives, 0);
}

#[test]
fn a_stall_below_the_detection_time_costs_nobody_a_neighbour() {
    let run = run("", &step(10, "do = \"stall\"\nnodes = \"node:3\"\nfor_s = 1"));
    assert_eq!((run.detection.noticed.count, run.detection.false_positives), (0, 0));
    assert_eq!((run.writes.missing, run.writes.lost), (0, 0));
}

#[test]
fn clients_of_a_node_that_is_down_are_refused() {
    let run = run(ONE_WRITER, &step(10, "do = \"kill\"\nnodes = \"node:0\"\nfor_s = 10"));
    // About 200 of 1,000 writes; a Poisson process varies by sqrt(200) = 14.
    assert!((200 - 60..200 + 60).contains(&run.writes.failed), "{:?}", run.writes);
    assert_eq!(run.writes.sent, run.writes.acknowledged + run.writes.failed);
    assert_eq!((run.writes.missing, run.writes.lost), (0, 0));
}

#[test]
fn what_a_cut_off_node_acknowledged_survives_its_restart() {
    let steps = step(5, "do = \"partition\"\nnodes = \"node:0\"\nfor_s = 20")
        + &step(15, "do = \"kill\"\nnodes = \"node:0\"\nfor_s = 5");
    let run = run(ONE_WRITER, &steps);
    assert_eq!((run.writes.missing, run.writes.lost), (0, 0));
    let cut = run.healing.iter().find(|healing| healing.what.contains("cut off")).expect("it heals");
    assert!(cut.equal_ms.is_some(), "{cut:?}");
}

#[test]
fn power_loss_takes_only_what_was_not_synced_and_reached_nobody() {
    // Cut off, so that nobody else has what the node acknowledges; then the power fails.
    let steps = step(5, "do = \"partition\"\nnodes = \"node:0\"\nfor_s = 15")
        + &step(10, "do = \"power_off\"\nnodes = \"node:0\"\nfor_s = 3");
    let run = run(ONE_WRITER, &steps);
    assert_eq!((run.writes.missing, run.writes.lost, run.writes.resurrected), (0, 0, 0));
    assert!(run.healing.last().expect("the end is watched").equal_ms.is_some());
}

#[test]
fn new_nodes_catch_up_with_what_was_written_before_them() {
    let run = run("", &step(10, "do = \"join\"\ncount = 30"));
    let joined = run.healing.iter().find(|healing| healing.what.contains("joined")).expect("it is watched");
    assert!(joined.one_component_ms.is_some() && joined.equal_ms.is_some(), "{joined:?}");
    assert_eq!(run.views.degrees.iter().sum::<usize>(), 42);
}

/// What the halves have to tell each other takes 15 seconds of a link, and signs of life go over the same one.
#[test]
fn narrow_links_carry_sessions_and_signs_of_life() {
    let narrow =
        "[links]\nbandwidth_bytes_s = 20000\n[workload]\nwrites_s = 16\nkeys = 1000\nvalue_bytes = 1000";
    let run = run(narrow, &step(1, "do = \"partition\"\nnodes = \"50%\"\nfor_s = 38"));
    let healed = run.healing.last().expect("the end is watched");
    assert!(healed.equal_ms.is_some(), "{healed:?}");
    assert_eq!(run.detection.false_positives, 0);
}

#[test]
fn traffic_has_a_point_for_every_measured_second() {
    let run = run("", "");
    let bytes = run.series.iter().find(|series| series.name.starts_with("bytes")).expect("it is recorded");
    let seconds = bytes.points.iter().filter(|(at_s, _)| (1.0..=40.0).contains(at_s)).count();
    assert_eq!(seconds, 40, "{:?}", bytes.points);
    assert!(bytes.points.iter().all(|(_, rate)| rate.is_finite() && *rate > 0.0), "{:?}", bytes.points);
}
