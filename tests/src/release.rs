//! The pinned release: `tests/release` names its version and commit, and its binary is built from that commit once
//! per build directory.
//!
//! Cargo compiles it into the build directory of this test, so that the two programs share every crate that is not of
//! this workspace, `RocksDB` among them, unless the releases lock other versions of these. The crates of the workspace
//! have the same package ids in both; a wrapper around rustc, which cargo uses for members of a workspace only and
//! hashes into their file names, keeps those of one program from replacing those of the other.

use std::env::{current_exe, var_os, vars_os};
use std::fs::{copy, create_dir_all, rename};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::without_settings;

const PIN: &str = include_str!("../release");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Prefixes of variables that cargo sets for a test. Build scripts would see them change, and run again.
const OF_THIS_TEST: [&str; 7] = [
    "CARGO_BIN_",
    "CARGO_CRATE_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PRIMARY_",
    "CARGO_TARGET_TMPDIR",
    "OUT_DIR",
];

/// The version and the commit of the pinned release.
fn pin() -> (&'static str, &'static str) {
    let named = |name| PIN.lines().find_map(|line| line.strip_prefix(name)).expect("tests/release names it");
    (named("version "), named("commit "))
}

/// The binary of the pinned release, which is built first if this build directory does not have it. `None`, and a
/// message, where the sources have come without their history.
pub(crate) fn pinned() -> Option<PathBuf> {
    let (version, commit) = pin();
    let target = current_exe().ok().and_then(|exe| Some(exe.ancestors().nth(3)?.to_owned()));
    let target = target.expect("cargo puts a test into a folder of the build directory");
    let folder = target.join("releases").join(commit);
    let binary = folder.join("starling");
    if binary.is_file() {
        return Some(binary);
    }
    if let Some(reason) = missing(commit) {
        say(&format!(
            "THE PINNED RELEASE WAS NOT TESTED: {reason}. In a clone with git, run  git fetch origin {commit}"
        ));
        return None;
    }
    create_dir_all(&folder).expect("a folder of the build directory");
    // A test that is killed, or another one that builds the same, leaves no half of a binary.
    let work = tempfile::tempdir_in(&folder).expect("a folder of the build directory");
    export(commit, &work.path().join("source"));
    say(&format!("building release {version} (commit {commit}) in {}, once", folder.display()));
    let built = build(&work.path().join("source"), &target, &work.path().join("target"));
    let shown = without_settings(&built).arg("--version").output().expect("the binary runs").stdout;
    let shown = String::from_utf8_lossy(&shown).trim().to_owned();
    assert!(
        shown.ends_with(&format!(" {version}")),
        "tests/release names {version}, and {commit} is {shown:?}"
    );
    // Cargo links what it shows in one folder to what it keeps in another.
    let whole = work.path().join("starling");
    copy(built, &whole).and_then(|_| rename(whole, &binary)).expect("a folder of the build directory");
    Some(binary)
}

/// Prints a line that the test harness does not capture.
fn say(line: &str) {
    // Without standard error nobody reads it.
    let _ = writeln!(std::io::stderr(), "==> {line}");
}

fn git() -> Command {
    let mut command = Command::new("git");
    command.args(["-C", ROOT]);
    command
}

/// Why there is no such commit, where that is in order: an archive of the sources and a shallow clone have none.
fn missing(commit: &str) -> Option<&'static str> {
    let Ok(found) = git().args(["cat-file", "-e", &format!("{commit}^{{commit}}")]).output() else {
        return Some("there is no git");
    };
    if found.status.success() {
        return None;
    }
    let shallow = git().args(["rev-parse", "--is-shallow-repository"]).output().expect("git runs");
    assert!(
        shallow.stdout.trim_ascii() != b"false",
        "tests/release names the commit {commit}, which this repository does not have"
    );
    Some("these sources have come without their history")
}

/// Writes the sources of a commit into a new folder.
fn export(commit: &str, folder: &Path) {
    create_dir_all(folder).expect("a folder of ours");
    let mut archive = git().args(["archive", commit]).stdout(Stdio::piped()).spawn().expect("git runs");
    let sources = archive.stdout.take().expect("piped");
    let unpacked = Command::new("tar")
        .args(["-x", "-f", "-"])
        .current_dir(folder)
        .stdin(sources)
        .status()
        .expect("tar runs");
    let archived = archive.wait().expect("our child");
    assert!(archived.success() && unpacked.success(), "git archive: {archived}, tar: {unpacked}");
}

/// Compiles `starling` from these sources and returns the binary. `shared` is the build directory of this test,
/// `target` gets what is built in the end.
fn build(sources: &Path, shared: &Path, target: &Path) -> PathBuf {
    let mut cargo = without_settings(var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let is_of_this_test = |name: &str| OF_THIS_TEST.iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in vars_os().filter(|(name, _)| is_of_this_test(&name.to_string_lossy())) {
        cargo.env_remove(name);
    }
    // The same packages and features as in `./tests/run`: others would compile RocksDB again.
    cargo.args(["build", "--release", "--locked", "--workspace", "--all-features", "--bin", "starling"]);
    // Before 1.91 cargo knows no build directory apart from the target directory, and compiles everything.
    cargo.env("CARGO_TARGET_DIR", target).env("CARGO_BUILD_BUILD_DIR", shared);
    // `env` runs what it is given. A compiler cache would take it for the compiler.
    cargo.env("RUSTC_WORKSPACE_WRAPPER", "env").env("RUSTC_WRAPPER", "");
    let status = cargo.current_dir(sources).status().expect("cargo runs");
    assert!(status.success(), "building the pinned release: {status}");
    target.join("release").join("starling")
}
