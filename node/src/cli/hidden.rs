//! Secrets on the command line of a node, which every user of the machine can read for as long as it runs: the process
//! runs its program again with them in the environment, which only its own user can read.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use starling_service::hide_tickets;

use crate::config::{Flag, Row, SETTINGS};

/// Replaces the process by one without secrets among its arguments, if there are any; returns only if it cannot.
pub fn hide(flags: &[Flag]) -> io::Result<()> {
    let secret = secret_settings(flags);
    if secret.is_empty() {
        return Ok(());
    }
    let mut given = std::env::args_os();
    let program = given.next().unwrap_or_else(|| "starling".into());
    let keys: Vec<&str> = secret.iter().map(|(row, _)| row.key).collect();
    let mut command = Command::new(std::env::current_exe()?);
    command.arg0(program).args(without(&keys, given));
    command.envs(secret.iter().map(|(row, value)| (row.variable(), value)));
    Err(command.exec())
}

/// The settings for which flags give secrets or join tickets, with their values: of several flags the last counts.
fn secret_settings(flags: &[Flag]) -> Vec<(&'static Row, &str)> {
    let given = |row: &'static Row| {
        let of_row = || flags.iter().filter(|flag| flag.key == row.key);
        let is_secret = of_row().any(|flag| row.secret || hide_tickets(&flag.value) != flag.value);
        Some((row, &*of_row().next_back()?.value)).filter(|_| is_secret)
    };
    SETTINGS.iter().filter_map(given).collect()
}

/// The arguments without those that give these settings.
fn without(keys: &[&str], args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let is_join = keys.contains(&"join");
    let gives = |setting: &OsStr| {
        let setting = setting.to_string_lossy();
        setting.split_once('=').is_some_and(|(key, _)| keys.contains(&key))
    };
    let mut left = Vec::new();
    let mut args = args.peekable();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        let next_gives = args.peek().is_some_and(|next| gives(next));
        if is_join && text == "--join" || text == "--set" && next_gives {
            drop(args.next());
        } else if is_join && text.starts_with("--join=")
            || text.strip_prefix("--set=").is_some_and(|setting| gives(OsStr::new(setting)))
        {
            // It is left out.
        } else {
            left.push(arg);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(key: &str, value: &str) -> Flag {
        Flag { key: key.into(), flag: format!("--{key}"), value: value.into() }
    }

    #[test]
    fn only_secrets_are_hidden() {
        let harmless = [flag("join", "db.example.org,10.0.0.1:7400"), flag("name", "anna")];
        assert!(secret_settings(&harmless).is_empty());
        let flags =
            [flag("join", "10.0.0.1:7400,starling1abc"), flag("api.token", "x"), flag("name", "anna")];
        let found: Vec<_> =
            secret_settings(&flags).into_iter().map(|(row, value)| (row.key, value)).collect();
        assert_eq!(found, [("join", "10.0.0.1:7400,starling1abc"), ("api.token", "x")]);
    }

    #[test]
    fn every_spelling_of_a_secret_is_left_out() {
        let args = "up --join starling1a --name join --join=starling1b --set join=starling1c --set sync.interval_ms=5 \
                    --set=api.token=x --set name=api.token=y --mdns";
        let left = without(&["join", "api.token"], args.split_whitespace().map(Into::into));
        let left: Vec<_> = left.iter().map(|arg| arg.to_string_lossy()).collect();
        assert_eq!(left.join(" "), "up --name join --set sync.interval_ms=5 --set name=api.token=y --mdns");
    }
}
