//! `testnet churn`: a scenario with every kind of fault on real processes, and what is left of it when it
//! is interrupted.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use starling_api::admin::{RUN_FILE, RunFile};
use starling_tests::churn::{FAULTS, SLOW_AND_CUT, begun, is_healed, sound_report};
use starling_tests::testnet;

/// A step and a setting that name a release.
const OTHER_RELEASES: [&str; 2] = [
    "[[step]]\nat_s = 1\ndo = \"rolling_restart\"\nnodes = \"all\"\ngap_s = 1\nfor_s = 1\nrelease = \"previous\"\n",
    "[node]\nrelease = \"previous\"\n",
];

/// The scenario with every fault, as a file.
fn write_scenario(folder: &Path) -> PathBuf {
    let path = folder.join("everything.toml");
    fs::write(&path, FAULTS.to_owned() + SLOW_AND_CUT).expect("writable");
    path
}

#[test]
fn nothing_is_lost_and_nothing_comes_back_whatever_happens_to_the_processes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = testnet().arg("churn").arg(write_scenario(folder.path())).args(["--output", "json"]).output();
    let report = sound_report(&run.expect("it runs"));
    assert_eq!(report["source"]["kind"], "processes");
    assert!(is_healed(&report), "{}", report["healing"]);
}

#[test]
fn an_interrupted_run_leaves_no_process_behind() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let mut command = testnet();
    command.arg("churn").arg(write_scenario(folder.path())).arg("--dir").arg(&data);
    let mut child = begun(command);
    let pids: Vec<Pid> = fs::read_dir(&data)
        .expect("its data directories")
        .filter_map(|node| fs::read(node.ok()?.path().join(RUN_FILE)).ok())
        .filter_map(|file| Pid::from_raw(serde_json::from_slice::<RunFile>(&file).ok()?.pid.cast_signed()))
        .collect();
    assert_eq!(pids.len(), 6, "five nodes and the bootstrap node");
    let own = Pid::from_raw(child.id().cast_signed()).expect("it has a number");
    kill_process(own, Signal::INT).expect("it runs");
    assert!(!child.wait().expect("ours").success());
    let alive: Vec<&Pid> = pids.iter().filter(|pid| test_kill_process(**pid).is_ok()).collect();
    assert!(alive.is_empty(), "still there: {alive:?}");
}

#[test]
fn a_scenario_of_another_release_is_refused_instead_of_run_with_this_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("releases.toml");
    for release in OTHER_RELEASES {
        fs::write(&file, format!("about = \"Two releases.\"\nnodes = 3\n{release}")).expect("writable");
        let run = testnet().arg("churn").arg(&file).output().expect("it runs");
        let errors = String::from_utf8_lossy(&run.stderr);
        assert!(!run.status.success() && errors.contains("all processes run one program"), "{errors}");
    }
}
