//! Commands of the built binary, and what came of them.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;
use serde_json::Value;

/// The binary: `STARLING_BINARY`, or the one that was built beside this test.
pub(crate) fn binary() -> PathBuf {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join("starling"));
    let found = std::env::var_os("STARLING_BINARY").map(PathBuf::from).or_else(beside);
    let found = found.unwrap_or_else(|| "starling".into());
    assert!(
        found.is_file(),
        "{} does not exist: run `cargo build --release -p starling` first, or set STARLING_BINARY",
        found.display()
    );
    found
}

/// `testnet`, as it was built beside this test.
pub fn testnet() -> Command {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join("testnet"));
    let found = beside().filter(|path| path.is_file());
    let mut command = without_settings(found.expect("run `cargo build --release -p starling-testnet` first"));
    command.arg("--binary").arg(binary());
    command
}

/// A command without the Starling settings of the environment.
pub fn without_settings(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("STARLING_")) {
        command.env_remove(name);
    }
    command
}

/// `starling`, to be run as the test likes.
pub fn command() -> Command {
    without_settings(binary())
}

/// What came of a command.
#[derive(Debug)]
pub struct Answer {
    /// The command line, for messages.
    pub line: String,
    /// Exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

/// Runs `starling` with these arguments and this standard input. Panics if the command panicked.
pub fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>, input: &[u8]) -> Answer {
    let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
    let mut child = command()
        .args(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // A command that has failed already does not read its input.
    let _ = child.stdin.take().expect("piped").write_all(input);
    let output = child.wait_with_output().expect("the command ends");
    let shown: String = format!("starling {}", args.join(OsStr::new(" ")).to_string_lossy());
    let answer = Answer {
        line: shown.chars().take(200).collect(),
        code: output.status.code().unwrap_or(-1),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert!(!answer.stderr.contains("panicked at"), "{answer:?}");
    answer
}

impl Answer {
    /// Panics unless this is the exit code. A failure must say what happened and what to do next.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "`{}` said {:?} {:?}", self.line, self.text(), self.stderr);
        if code != 0 {
            let said = serde_json::from_str::<Value>(&self.stderr).map_or_else(
                |_| self.stderr.starts_with("error: ") && self.stderr.trim_end().lines().count() >= 2,
                |error| !error["message"].is_null() && !error["hint"].is_null() && !error["error"].is_null(),
            );
            assert!(said, "`{}` does not say what to do: {:?}", self.line, self.stderr);
        }
        self
    }

    /// Panics unless this is the exit code of a failure that notes precede on standard error.
    #[track_caller]
    pub fn exits_noted(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "`{}` said {:?} {:?}", self.line, self.text(), self.stderr);
        let said = self.stderr.lines().any(|line| line.starts_with("error: "));
        assert!(
            said && self.stderr.contains("  try: "),
            "`{}` does not say what to do: {:?}",
            self.line,
            self.stderr
        );
        self
    }

    /// Its output without the last line feed. Panics unless the command succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        self.exits(0);
        self.text()
    }

    /// Its output as JSON. Panics unless the command succeeded.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(self) -> T {
        self.exits(0);
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|e| panic!("`{}` printed no such JSON ({e}): {:?}", self.line, self.text()))
    }

    /// The `error` field of the JSON that a failed command with `--output json` wrote.
    #[track_caller]
    pub fn error(&self) -> String {
        let error: Value = serde_json::from_str(&self.stderr)
            .unwrap_or_else(|e| panic!("`{}` reports no JSON ({e}): {:?}", self.line, self.stderr));
        error["error"].as_str().unwrap_or_default().to_owned()
    }

    /// Panics unless standard error holds this text.
    #[track_caller]
    pub fn says(&self, text: &str) {
        assert!(self.stderr.contains(text), "`{}` does not say {text:?}: {:?}", self.line, self.stderr);
    }

    /// Its output without the last line feed, whether it succeeded or not.
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.stdout);
        text.strip_suffix('\n').unwrap_or(&text).to_owned()
    }
}
