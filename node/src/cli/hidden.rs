//! Secrets on the command line of a node, which every user of the machine can read for as long as it runs: the process
//! runs its program again with them in the environment, which only its own user can read.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use starling_service::hide_tickets;

use super::environment::HIDDEN_FLAGS;
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
    command.envs(secret.iter().map(|(row, flag)| (row.variable(), &flag.value)));
    let names: Vec<String> = secret.iter().map(|(row, flag)| format!("{}={}", row.key, flag.flag)).collect();
    command.env(HIDDEN_FLAGS, names.join(","));
    Err(command.exec())
}

/// The flags that [`hide`] has moved to the environment.
pub fn moved() -> Vec<Flag> {
    let names = std::env::var(HIDDEN_FLAGS).unwrap_or_default();
    moved_from(&names, |variable| std::env::var(variable).ok())
}

/// The flags of these names, `KEY=FLAG` each, with their values among the variables.
fn moved_from(names: &str, value_of: impl Fn(&str) -> Option<String>) -> Vec<Flag> {
    let flag = |name: &str| {
        let (key, flag) = name.split_once('=')?;
        let row = SETTINGS.iter().find(|row| row.key == key)?;
        Some(Flag { key: key.into(), flag: flag.into(), value: value_of(&row.variable())? })
    };
    names.split(',').filter_map(flag).collect()
}

/// The settings for which flags give secrets or join tickets, each with its flag: of several the last counts.
fn secret_settings(flags: &[Flag]) -> Vec<(&'static Row, &Flag)> {
    let given = |row: &'static Row| {
        let of_row = || flags.iter().filter(|flag| flag.key == row.key);
        let is_secret = of_row().any(|flag| row.secret || hide_tickets(&flag.value) != flag.value);
        Some((row, of_row().next_back()?)).filter(|_| is_secret)
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
        let found: Vec<_> = secret_settings(&flags).into_iter().map(|(row, flag)| (row.key, flag)).collect();
        assert_eq!(found, [("join", &flags[0]), ("api.token", &flags[1])]);
    }

    #[test]
    fn a_hidden_flag_keeps_its_name() {
        let value_of = |variable: &str| (variable != "STARLING_NAME").then(|| format!("the {variable}"));
        let moved = moved_from("join=--join,api.token=--set,name=--name,other=--other,", value_of);
        let expected = |key: &str, flag: &str, value: &str| Flag {
            key: key.into(),
            flag: flag.into(),
            value: value.into(),
        };
        assert_eq!(
            moved,
            [
                expected("join", "--join", "the STARLING_JOIN"),
                expected("api.token", "--set", "the STARLING_API_TOKEN")
            ]
        );
        assert!(moved_from("", value_of).is_empty());
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
