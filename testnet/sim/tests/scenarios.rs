//! Every scenario that comes with Starling: it can be read, and on a small network nothing is lost and
//! everything converges.

use std::path::{Path, PathBuf};

use starling_report::Run;
use starling_sim::Simulation;
use starling_sim::scenario::{self, Scenario};

/// Nodes of the small networks.
const NODES: usize = 20;

fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("../scenarios").expect("the scenarios' folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    files.sort();
    files
}

/// Runs a scenario small, and says how it went.
fn run(file: &Path) -> Run {
    let set = [("nodes".to_string(), NODES.to_string())];
    let mut scenario = scenario::load(file, &set).unwrap_or_else(|error| panic!("{error}"));
    scenario.workload.writers = scenario.workload.writers.min(NODES);
    Simulation::new(scenario).unwrap_or_else(|error| panic!("{error}")).run(|_| ())
}

#[test]
fn every_scenario_converges_and_loses_nothing() {
    let files = files();
    assert!(files.len() >= 12, "{files:?}");
    for file in files {
        let run = run(&file);
        let name = &run.scenario;
        assert!(run.writes.acknowledged > 0, "{name}: nothing was written");
        let bad = (run.writes.missing, run.writes.lost, run.writes.resurrected);
        assert_eq!(bad, (0, 0, 0), "{name}: missing, lost, resurrected");
        assert_eq!(run.views.components, 1, "{name}");
        let last = run.healing.last().expect("the end is watched");
        assert!(last.equal_ms.is_some(), "{name}: replicas are not equal at the end");
        assert!(run.convergence.nodes_all.count > 0, "{name}: no write was followed");
    }
}

fn refusal(text: &str, set: &[(&str, &str)]) -> String {
    let set: Vec<(String, String)> = set.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    scenario::parse("test", text, &set).expect_err("it is wrong").to_string()
}

#[test]
fn what_is_wrong_is_named() {
    let unknown = refusal("nodes = 5\n[links]\nlos = 0.1", &[]);
    assert!(unknown.contains("los") && unknown.contains("line 3"), "{unknown}");
    let set = refusal("nodes = 5", &[("links.los", "0.1")]);
    assert!(set.contains("links.los=0.1") && set.contains("unknown field"), "{set}");
    let step = refusal("[[step]]\nat_s = 1\ndo = \"heal\"\nnodes = \"all\"", &[]);
    assert!(step.contains("`nodes` means nothing"), "{step}");
    let nodes = refusal("[[step]]\nat_s = 1\ndo = \"kill\"\nnodes = \"most\"", &[]);
    assert!(nodes.contains("names no nodes"), "{nodes}");
    let region = refusal("[[step]]\nat_s = 1\ndo = \"kill\"\nnodes = \"region:eu\"", &[]);
    assert!(region.contains("there is no region eu"), "{region}");
    let loss = refusal("[links]\nloss = 2", &[]);
    assert!(loss.contains("links.loss is a share"), "{loss}");
    let index = refusal("[[step]]\nat_s = 1\ndo = \"heal\"", &[("step.1.at_s", "3")]);
    assert!(index.contains("not one of the 1 entries"), "{index}");
}

#[test]
fn values_are_set_by_path() {
    let text = "nodes = 5\n[[step]]\nat_s = 1\ndo = \"heal\"";
    let set = [("links.loss", "0.25"), ("step.0.at_s", "7"), ("about", "as told")];
    let set = set.map(|(path, value)| (path.to_string(), value.to_string()));
    let scenario: Scenario = scenario::parse("test", text, &set).expect("it is sound");
    assert_eq!((scenario.links.loss, scenario.step[0].at_s), (0.25, 7.0));
    assert_eq!((scenario.about.as_str(), scenario.name.as_str()), ("as told", "test"));
}
