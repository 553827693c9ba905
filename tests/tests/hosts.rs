//! `testnet churn --hosts`: processes of several machines, each started, killed and wiped by an agent there. The machines are
//! network namespaces, and where these are not permitted, addresses of the loopback interface.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use starling_tests::churn::{FAULTS, SLOW_AND_CUT, begun, is_healed, sound_report};
use starling_tests::{testnet, wait_until, without_settings};
use tempfile::TempDir;

/// Machines, beside the one that measures.
const HOSTS: usize = 3;
/// What [`SCRIPT`] exits with where namespaces are not permitted.
const NOT_PERMITTED: i32 = 77;
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testnet/namespaces.sh");

/// Links of the machines alone, which need no relay.
const DIRECT: &str = r"
[links]
latency = { constant_ms = 0 }
jitter_ms = 0
";

/// Files of one run, its temporary ones among them.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("writable");
        path
    }

    /// `testnet churn` with these files, to be run by a command that takes one.
    fn churn(&self, within: &[&str], scenario: &str, hosts: &str) -> Command {
        let temporary = self.0.path().join("temporary");
        fs::create_dir_all(&temporary).expect("writable");
        let churn = testnet();
        let words: Vec<_> = within.iter().map(AsRef::as_ref).chain([churn.get_program()]).collect();
        let mut command = without_settings(words[0]);
        command.args(&words[1..]).args(churn.get_args());
        command.arg("churn").arg(self.write("scenario.toml", scenario));
        command.arg("--hosts").arg(self.write("hosts.toml", hosts));
        command.env("TMPDIR", temporary);
        command
    }

    /// What is left of the folders of agents.
    fn left(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.0.path().join("temporary")).expect("its temporary files");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }
}

/// The scenario over links of the machines alone.
fn direct() -> String {
    FAULTS.to_owned() + DIRECT
}

/// The words that start an agent.
fn agent(more: &[&str]) -> Vec<String> {
    let command = testnet();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| word.to_str().expect("a path of letters").to_owned());
    words.chain(["agent"].iter().chain(more).map(|word| (*word).to_owned())).collect()
}

/// Machines that are addresses of the loopback interface.
fn loopback(more: &[&str]) -> String {
    let host = |number: usize| {
        format!("[[host]]\naddress = \"127.0.0.{}\"\nagent = {:?}\n", number + 1, agent(more))
    };
    (1..=HOSTS).map(host).collect()
}

/// Machines that are network namespaces. Removed when dropped.
struct Namespaces {
    name: String,
    /// Their file.
    hosts: String,
}

impl Namespaces {
    /// None where they are not permitted.
    fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("starling-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let made = Command::new(SCRIPT).args(["up", &name, &HOSTS.to_string()]).args(agent(&[])).output();
        let made = made.expect("the script runs");
        let errors = String::from_utf8_lossy(&made.stderr);
        if made.status.code() == Some(NOT_PERMITTED) {
            eprintln!("nothing is tested: {errors}");
            return None;
        }
        let namespaces = Self { name, hosts: String::from_utf8(made.stdout).expect("text") };
        assert!(made.status.success(), "{errors}");
        Some(namespaces)
    }

    /// What runs a command where measurements are made.
    fn within(&self) -> [String; 4] {
        ["ip", "netns", "exec", &format!("{}-0", self.name)].map(ToOwned::to_owned)
    }

    /// Processes on all machines.
    fn pids(&self) -> String {
        let pids = |host: usize| {
            let shown = Command::new("ip").args(["netns", "pids", &format!("{}-{host}", self.name)]).output();
            String::from_utf8(shown.expect("ip runs").stdout).expect("numbers")
        };
        (0..=HOSTS).map(pids).collect()
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let _ = Command::new(SCRIPT).args(["down", &self.name, &HOSTS.to_string()]).status();
    }
}

/// The report of a run on all machines.
fn report(mut churn: Command) -> Value {
    let report = sound_report(&churn.args(["--output", "json"]).output().expect("it runs"));
    assert_eq!(report["clocks"].as_array().map(Vec::len), Some(HOSTS), "{}", report["clocks"]);
    report
}

fn errors_of(mut command: Command) -> String {
    let run = command.output().expect("it runs");
    assert!(!run.status.success());
    String::from_utf8_lossy(&run.stderr).into_owned()
}

#[test]
fn nothing_is_lost_on_machines_of_which_each_has_its_agent() {
    let folder = Folder::new();
    report(folder.churn(&[], &direct(), &loopback(&[])));
    assert!(folder.left().is_empty(), "left behind: {:?}", folder.left());
}

#[test]
fn nothing_is_lost_over_links_between_machines_that_are_slow_and_cut() {
    let Some(namespaces) = Namespaces::new() else { return };
    let folder = Folder::new();
    let within = namespaces.within();
    let within: Vec<&str> = within.iter().map(String::as_str).collect();
    let report = report(folder.churn(&within, &(FAULTS.to_owned() + SLOW_AND_CUT), &namespaces.hosts));
    assert!(is_healed(&report), "{}", report["healing"]);
    assert_eq!(namespaces.pids(), "", "left behind");
    assert!(folder.left().is_empty(), "left behind: {:?}", folder.left());
}

/// Processes whose command line names this folder.
fn processes_in(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().expect("a path of letters");
    let entries = fs::read_dir("/proc").expect("Linux").filter_map(Result::ok);
    let lines = entries.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(folder)).map(|line| line.replace('\0', " ")).collect()
}

#[tokio::test]
async fn agents_end_with_the_program_that_started_them_however_it_ends() {
    for signal in [Signal::INT, Signal::KILL] {
        let folder = Folder::new();
        let mut child = begun(folder.churn(&[], &direct(), &loopback(&[])));
        let temporary = folder.0.path().join("temporary");
        assert!(processes_in(&temporary).len() >= 6, "five nodes and the bootstrap node");
        kill_process(Pid::from_child(&child), signal).expect("it runs");
        assert!(!child.wait().expect("ours").success());
        if signal == Signal::INT {
            assert_eq!(processes_in(&temporary), [""; 0], "still there");
        }
        wait_until("no node is left", async || match processes_in(&temporary) {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        })
        .await;
    }
}

#[test]
fn an_agent_keeps_to_its_bounds() {
    let nodes = errors_of(Folder::new().churn(&[], &direct(), &loopback(&["--nodes-max", "1"])));
    assert!(nodes.contains("runs 1 nodes at most (--nodes-max)"), "{nodes}");
    let filling = direct().replace("[workload]", "[workload]\nvalue_bytes = 100000");
    let disk = errors_of(Folder::new().churn(&[], &filling, &loopback(&["--disk-mib-max", "1"])));
    assert!(disk.contains("use more than 1 MiB (--disk-mib-max)"), "{disk}");
}

#[test]
fn a_command_that_starts_no_agent_is_shown_with_what_it_said() {
    let hosts = "[[host]]\naddress = \"127.0.0.2\"\nagent = [\"echo\", \"Welcome\"]\n";
    let errors = errors_of(Folder::new().churn(&[], &direct(), hosts));
    assert!(errors.contains("host 127.0.0.2: `echo Welcome`") && errors.contains(": Welcome"), "{errors}");
    let missing = errors_of(Folder::new().churn(&[], &direct(), &hosts.replace("echo", "/nowhere/ssh")));
    assert!(missing.contains("/nowhere/ssh Welcome`: No such file"), "{missing}");
}

#[test]
fn slow_links_between_machines_need_the_address_of_the_relay() {
    let errors = errors_of(Folder::new().churn(&[], &(FAULTS.to_owned() + SLOW_AND_CUT), &loopback(&[])));
    assert!(errors.contains("relay = \"ADDRESS\""), "{errors}");
}
