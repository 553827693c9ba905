//! Failures of commands: a message, a hint and an exit code.

use std::process::ExitCode;

use rustix::process::Signal;
use serde::Serialize;
use starling_api::{Error, ErrorCode};
use starling_client::WriteFailed;

use super::args::Output;
use super::print;

/// Exit code: anything not named below.
const ERROR: u8 = 1;
/// Exit code: the command line is wrong (clap uses the same).
const USAGE: u8 = 2;
/// Exit code: there is no such key.
const NOT_FOUND: u8 = 3;
/// Exit code: the version check failed, or the key holds another type.
const CONFLICT: u8 = 4;
/// Exit code: a write may or may not have been applied.
const UNKNOWN: u8 = 6;
/// Exit code: the node cannot be reached, or is silent.
const UNREACHABLE: u8 = 5;
/// Exit code: a lock, a leadership, a session or a lease was lost.
const LOST: u8 = 7;
/// What shells add to a signal's number.
const SIGNALLED: u8 = 128;

/// The kind of a failure that is not printed.
const SILENT: &str = "silent";

/// Why a command failed.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// What kind, for programs: the API's codes, and "unreachable", "usage", "failed".
    pub error: String,
    /// What happened.
    pub message: String,
    /// What to do next.
    pub hint: String,
    #[serde(skip)]
    exit: u8,
}

impl Failure {
    /// Something on this machine went wrong.
    pub fn failed(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { error: "failed".into(), message: message.into(), hint: hint.into(), exit: ERROR }
    }

    /// The arguments make no sense.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { error: "usage".into(), message: message.into(), hint: hint.into(), exit: USAGE }
    }

    /// There is no such thing.
    pub fn not_found(what: &str) -> Self {
        let hint = "`starling ls` lists keys; -k names another keyspace".into();
        Self { error: "not_found".into(), message: format!("not found: {what}"), hint, exit: NOT_FOUND }
    }

    /// No key has this keyspace.
    pub fn no_keyspace(name: &str) -> Self {
        let hint = "`starling keyspaces` lists them; a keyspace exists while it holds a key".into();
        let message = format!("there is no keyspace {name:?}");
        Self { error: "not_found".into(), message, hint, exit: NOT_FOUND }
    }

    /// The condition of a write did not hold; nothing was changed.
    pub fn conflict(key: &str) -> Self {
        let hint = "read it again, and write with the version that it has now".into();
        let message = format!("{key} has another version than the write expects: nothing was changed");
        Self { error: "version_mismatch".into(), message, hint, exit: CONFLICT }
    }

    /// There is nothing of what was asked for.
    pub fn nothing(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { error: "not_found".into(), message: message.into(), hint: hint.into(), exit: NOT_FOUND }
    }

    /// Another client holds it.
    pub fn held(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { error: "held".into(), message: message.into(), hint: hint.into(), exit: CONFLICT }
    }

    /// The node, or the keyspace behind it, did not answer in time.
    pub fn unreachable(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { error: "unreachable".into(), message: message.into(), hint: hint.into(), exit: UNREACHABLE }
    }

    /// Whether the node, or the keyspace behind it, did not answer in time.
    pub fn is_unreachable(&self) -> bool {
        self.exit == UNREACHABLE
    }

    /// What was held was lost.
    pub fn lost(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { error: "lost".into(), message: message.into(), hint: hint.into(), exit: LOST }
    }

    /// Something on this machine went wrong, which has an exit code of its own.
    pub fn exits(exit: u8, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit, ..Self::failed(message, hint) }
    }

    /// A child process has ended with this code, and has printed its own message.
    pub fn silent(exit: u8) -> Self {
        Self { error: SILENT.into(), exit, ..Self::failed("", "") }
    }

    /// A signal asked to end.
    pub fn signalled(signal: Signal) -> Self {
        Self::silent(SIGNALLED.saturating_add(u8::try_from(signal.as_raw()).unwrap_or(0)))
    }

    /// Says that a write may have been applied.
    #[must_use]
    pub fn maybe_applied(mut self) -> Self {
        self.exit = UNKNOWN;
        self.hint = "the write may or may not have been applied: look before you repeat the command".into();
        self
    }

    /// Adds the request id of a write that may have been applied.
    #[must_use]
    pub fn of_unknown_outcome(mut self, request_id: u128) -> Self {
        self = self.maybe_applied();
        self.hint = format!(
            "the write may or may not have been applied; the same command with --request-id {request_id:032x} \
             applies it if it was not, and never twice"
        );
        self
    }

    /// Whether a retry may succeed a moment later.
    pub fn is_passing(&self) -> bool {
        matches!(
            self.error.as_str(),
            "unreachable" | "no_majority" | "timeout" | "outcome_unknown" | "not_ready"
        )
    }

    /// Whether the keyspace is of the other kind; nothing was done.
    pub fn is_other_keyspace(&self) -> bool {
        self.error == "other_keyspace"
    }

    /// Whether the reader of the output is gone, so that nothing is printed.
    pub fn is_broken_pipe(&self) -> bool {
        self.error == "broken_pipe"
    }

    /// Prints it to standard error and gives the exit code.
    pub fn report(&self, output: Option<Output>) -> ExitCode {
        if self.error == SILENT {
            return ExitCode::from(self.exit);
        }
        if output == Some(Output::Json) {
            print::stderr_line(serde_json::to_string(self).expect("strings serialize"));
        } else {
            print::stderr_line(format!("error: {}", self.message));
            if !self.hint.is_empty() {
                print::stderr_line(format!("  try: {}", self.hint));
            }
        }
        ExitCode::from(self.exit)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.code {
            ErrorCode::Unreachable => UNREACHABLE,
            ErrorCode::Unsendable => USAGE,
            ErrorCode::NotFound | ErrorCode::NoSuchKeyspace => NOT_FOUND,
            ErrorCode::VersionMismatch
            | ErrorCode::TypeMismatch
            | ErrorCode::OtherKeyspace
            | ErrorCode::Ambiguous
            | ErrorCode::Conflict => CONFLICT,
            ErrorCode::OutcomeUnknown => UNKNOWN,
            _ => ERROR,
        };
        let name = match error.code {
            ErrorCode::Unreachable => "unreachable".into(),
            ErrorCode::Unsendable => "usage".into(),
            ErrorCode::NotUnderstood => "failed".into(),
            code => {
                let name = serde_json::to_value(code).ok();
                name.and_then(|name| name.as_str().map(Into::into)).unwrap_or_default()
            }
        };
        Self { error: name, message: error.message, hint: error.hint, exit }
    }
}

impl From<WriteFailed> for Failure {
    fn from(failed: WriteFailed) -> Self {
        let failure = Self::from(failed.error);
        match failed.maybe_applied {
            Some(request_id) => failure.of_unknown_outcome(request_id),
            None => failure,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let mut failure = Self::failed(error.to_string(), "check where the output goes");
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            failure.error = "broken_pipe".into();
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn exit(code: ErrorCode) -> u8 {
        Failure::from(Error::new(code, "m", "h")).exit
    }

    #[test]
    fn exit_codes_mean_what_the_help_says() {
        assert_eq!(exit(ErrorCode::NotFound), 3);
        assert_eq!(exit(ErrorCode::NoSuchKeyspace), 3);
        assert_eq!(exit(ErrorCode::VersionMismatch), 4);
        assert_eq!(exit(ErrorCode::TypeMismatch), 4);
        assert_eq!(exit(ErrorCode::StorageFull), 1);
        assert_eq!(Failure::from(Error::unreachable("u", "r")).exit, 5);
        assert_eq!(Failure::usage("", "").exit, 2);
    }

    #[test]
    fn a_refusal_keeps_the_apis_code_and_hint() {
        let failure = Failure::from(Error::new(ErrorCode::StorageFull, "m", "h"));
        assert_eq!((failure.error.as_str(), failure.hint.as_str()), ("storage_full", "h"));
    }
}
