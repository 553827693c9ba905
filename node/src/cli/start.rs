//! `starling up`, `starling bootstrap` and `starling config`: from arguments to a configuration.

use std::path::PathBuf;

use starling_api::admin::Configuration;
use starling_service::Role;

use super::admin::show_config;
use super::args::{Global, NodeArgs, Output};
use super::failure::Failure;
use super::hidden;
use super::print::{self, Result};
use crate::config::{ConfigError, Flag, Loaded, load, reference};
use crate::process;

/// Runs a node until it is stopped.
pub fn up(args: &NodeArgs, global: &Global) -> Result {
    run(Role::Replica, args, global)
}

/// Runs a bootstrap seed until it is stopped.
pub fn bootstrap(args: &NodeArgs, global: &Global) -> Result {
    run(Role::Seed, args, global)
}

fn run(role: Role, args: &NodeArgs, global: &Global) -> Result {
    refuse_flags_of_clients(global)?;
    let mut flags = flags(args, global.api.as_deref())?;
    if let Err(error) = hidden::hide(&flags) {
        print::stderr_line(format!("warning: secrets stay visible in the list of processes: {error}"));
    }
    flags.extend(hidden::moved());
    let loaded = configuration(args, flags)?;
    process::run(role, loaded, args.exit_with_parent)
        .map_err(|error| Failure::failed(error.to_string(), error.hint()))
}

/// Refuses what commands show to nodes: whoever gives it to a node believes that it asks for it. Their variables may be set
/// for commands.
fn refuse_flags_of_clients(global: &Global) -> std::result::Result<(), Failure> {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.clone().into_os_string());
    for (flag, variable, value, setting) in [
        ("--token", "STARLING_API_TOKEN", global.token.clone().map(Into::into), "api.token"),
        ("--cacert", "STARLING_CACERT", path(&global.cacert), "tls.client_ca"),
        ("--cert", "STARLING_CERT", path(&global.cert), "tls.certificate"),
        ("--cert-key", "STARLING_CERT_KEY", path(&global.cert_key), "tls.key"),
    ] {
        if value.is_some() && value != std::env::var_os(variable) {
            let what = format!("{flag} is for commands that ask a node");
            return Err(Failure::usage(what, format!("a node has a setting:  --set {setting}=...")));
        }
    }
    Ok(())
}

/// Prints the configuration that `up` would use with these arguments.
pub fn config(args: &NodeArgs, as_reference: bool, global: &Global) -> Result {
    if as_reference {
        return print::raw(reference().as_bytes());
    }
    let settings = configuration(args, flags(args, global.api.as_deref())?)?.settings;
    show_config(&Configuration { settings }, global.output.unwrap_or(Output::Table))
}

fn configuration(args: &NodeArgs, flags: Vec<Flag>) -> std::result::Result<Loaded, Failure> {
    load(args.config.as_deref(), flags, std::env::vars_os()).map_err(|error: ConfigError| {
        Failure::usage(error.to_string(), "`starling config --reference` lists all settings")
    })
}

fn flags(args: &NodeArgs, api: Option<&str>) -> std::result::Result<Vec<Flag>, Failure> {
    let mut flags = Vec::new();
    let mut add = |flag: &str, key: &str, value: Option<String>| {
        if let Some(value) = value {
            flags.push(Flag { key: key.into(), flag: flag.into(), value });
        }
    };
    let list = |items: &[String]| (!items.is_empty()).then(|| items.join(","));
    add("--data-dir", "data_dir", args.data_dir.clone());
    add("--name", "name", args.name.clone());
    add("--label", "labels", list(&args.labels));
    add("--listen", "listen", list(&args.listen));
    add("--external", "external", list(&args.external));
    add("--join", "join", list(&args.join));
    add("--etcd", "etcd.listen", list(&args.etcd));
    add("--mdns", "mdns", args.mdns.then(|| "true".into()));
    add("--api", "api.listen", api.map(|api| api.trim_start_matches("http://").into()));
    add("--durability", "durability", args.durability.clone());
    add("--log", "log.filter", args.log.clone());
    for setting in &args.set {
        let Some((key, value)) = setting.split_once('=') else {
            return Err(Failure::usage(format!("--set {setting} has no value"), "write --set KEY=VALUE"));
        };
        add("--set", key, Some(value.into()));
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_settings() {
        let args = NodeArgs {
            join: vec!["a".into(), "b".into()],
            labels: vec!["zone=a".into(), "rack=7".into()],
            mdns: true,
            set: vec!["sync.interval_ms=5".into()],
            data_dir: Some("/nonexistent".into()),
            ..NodeArgs::default()
        };
        let load = |args: &NodeArgs, api| configuration(args, flags(args, api)?);
        let loaded = load(&args, Some("http://127.0.0.1:0")).expect("valid");
        assert_eq!(loaded.config.join, ["a", "b"]);
        assert_eq!(loaded.config.labels, ["zone=a", "rack=7"]);
        assert!(loaded.config.mdns);
        assert_eq!(loaded.config.api_listen, "127.0.0.1:0");
        assert_eq!(loaded.config.sync_interval_ms, 5);
        let wrong = NodeArgs { set: vec!["sync.interval_ms".into()], ..NodeArgs::default() };
        assert!(load(&wrong, None).is_err());
        let unknown = NodeArgs { set: vec!["sync.interval=5".into()], ..NodeArgs::default() };
        assert!(load(&unknown, None).is_err());
    }
}
