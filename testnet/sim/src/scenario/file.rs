//! Reading scenario files, with single values set from the command line.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use starling_proto::view::ACTIVE_RANGE;
use toml::{Table, Value};

use super::users::ZONES_MAX;
use super::{Action, ChurnModel, Latency, Scenario, Selection};

/// Why a scenario cannot be run. Each says where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not TOML, or says something that a scenario does not have.
    #[error("{0}")]
    Malformed(String),
    /// What is set from outside does not fit.
    #[error("--set {path}={value}: {reason}")]
    Set {
        /// The path given.
        path: String,
        /// The value given.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// The values do not make sense.
    #[error("scenario {name}: {reason}")]
    Invalid {
        /// The scenario's name.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

/// Reads a scenario and sets single values of it, each a path (`links.loss`, `step.0.at_s`) and a TOML
/// value; a value that is not TOML is taken as a string. Files that the scenario names are looked for
/// beside it.
pub fn load(path: &Path, set: &[(String, String)]) -> Result<Scenario, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::Unreadable { path: path.to_path_buf(), error })?;
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut scenario = parse(&name, &text, set)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    if let Latency::Matrix { file } = &mut scenario.links.latency {
        *file = folder.join(&file);
    }
    if let ChurnModel::Trace { file } = &mut scenario.churn.model {
        *file = folder.join(&file);
    }
    Ok(scenario)
}

/// [`load`] for a text in memory. `name` stands in the messages, and names a scenario that has no name.
pub fn parse(name: &str, text: &str, set: &[(String, String)]) -> Result<Scenario, Error> {
    let mut scenario: Scenario = read_with(name, text, set)?;
    if scenario.name.is_empty() {
        name.clone_into(&mut scenario.name);
    }
    check(&scenario).map_err(|reason| Error::Invalid { name: scenario.name.clone(), reason })?;
    Ok(scenario)
}

/// Reads a TOML text, of which single values are set from outside; see [`load`].
pub(crate) fn read_with<T: DeserializeOwned>(
    name: &str,
    text: &str,
    set: &[(String, String)],
) -> Result<T, Error> {
    let malformed = |error: toml::de::Error| Error::Malformed(format!("scenario {name}: {error}"));
    // Before anything is set, for messages with line and column.
    let _: T = toml::from_str(text).map_err(malformed)?;
    let mut root: Table = toml::from_str(text).map_err(malformed)?;
    for (path, value) in set {
        set_value(&mut root, path, value).map_err(|reason| Error::Set {
            path: path.clone(),
            value: value.clone(),
            reason,
        })?;
    }
    T::deserialize(root).map_err(|error| {
        let set: Vec<String> = set.iter().map(|(path, value)| format!("--set {path}={value}")).collect();
        Error::Malformed(format!("scenario {name} with {}: {error}", set.join(" ")))
    })
}

fn set_value(root: &mut Table, path: &str, text: &str) -> Result<(), String> {
    let literal: Result<Table, _> = toml::from_str(&format!("value = {text}"));
    let value = literal.ok().and_then(|mut table| table.remove("value"));
    let value = value.unwrap_or_else(|| Value::String(text.to_string()));
    let mut parts = path.split('.').peekable();
    let first = parts.next().filter(|part| !part.is_empty()).ok_or("name a value, as in links.loss=0.05")?;
    let mut place = root.entry(first).or_insert_with(|| Value::Table(Table::new()));
    for part in parts {
        place = match place {
            Value::Table(table) => table.entry(part).or_insert_with(|| Value::Table(Table::new())),
            Value::Array(items) => {
                let count = items.len();
                let index = part.parse::<usize>().ok().filter(|&index| index < count);
                let index = index.ok_or_else(|| format!("{part} is not one of the {count} entries"))?;
                &mut items[index]
            }
            _ => return Err(format!("nothing lies under a single value at {part}")),
        };
    }
    *place = value;
    Ok(())
}

/// What types alone do not say.
fn check(scenario: &Scenario) -> Result<(), String> {
    let positive = |what: &str, value: f64| {
        (value.is_finite() && value >= 0.0).then_some(()).ok_or(format!("{what} has to be 0 or more"))
    };
    positive("warmup_s", scenario.warmup_s)?;
    positive("measure_s", scenario.measure_s)?;
    positive("settle_s", scenario.settle_s)?;
    if scenario.nodes == 0 {
        return Err("nodes has to be 1 or more".into());
    }
    if !ACTIVE_RANGE.contains(&scenario.node.active) {
        return Err(format!("node.active has to be {} to {}", ACTIVE_RANGE.start(), ACTIVE_RANGE.end()));
    }
    scenario.links.check()?;
    scenario.workload.check()?;
    scenario.churn.check()?;
    if scenario.zones > ZONES_MAX || (scenario.zones > 0 && scenario.regions.is_empty()) {
        return Err(format!("zones are parts of regions: at most {ZONES_MAX}, and 0 without `regions`"));
    }
    if let Some(users) = &scenario.users {
        users.check(scenario.nodes)?;
    }
    if let Some(app) = &scenario.app {
        app.check(scenario.nodes, scenario.users.is_some_and(|users| users.voters > 0))?;
    }
    if let Some(strong) = &scenario.strong {
        strong.check(scenario.nodes)?;
    }
    for (index, step) in scenario.step.iter().enumerate() {
        step.check().map_err(|reason| format!("step {index} ({}): {reason}", step.action.name()))?;
        if matches!(step.action, Action::Rivals { .. }) && scenario.strong.is_none() {
            return Err(format!("step {index}: rivals are strong keyspaces; set one under `[strong]`"));
        }
        for selection in selections(&step.action) {
            check_place(scenario, selection).map_err(|reason| format!("step {index}: {reason}"))?;
            if selection.is_of_strong() && scenario.strong.is_none() {
                return Err(format!("step {index}: there is no strong keyspace; set it under `[strong]`"));
            }
        }
    }
    Ok(())
}

fn check_place(scenario: &Scenario, selection: &Selection) -> Result<(), String> {
    match selection {
        Selection::Region(region) if !scenario.regions.contains(region) => {
            Err(format!("there is no region {region}; name it under `regions`"))
        }
        Selection::Zone(zone) if !scenario.zone_names().contains(zone) => {
            Err(format!("there is no zone {zone}; zones are named after `regions`: eu-a"))
        }
        Selection::AnyRegion if scenario.regions.is_empty() => Err("there are no regions".into()),
        Selection::AnyZone if scenario.zones == 0 => {
            Err("there are no zones; say how many under `zones`".into())
        }
        _ => Ok(()),
    }
}

fn selections(action: &Action) -> Vec<&Selection> {
    match action {
        Action::Partition { nodes, to, .. } => std::iter::once(nodes).chain(to).collect(),
        Action::Kill { nodes, .. }
        | Action::PowerOff { nodes, .. }
        | Action::Wipe { nodes, .. }
        | Action::Leave { nodes, .. }
        | Action::Restart { nodes }
        | Action::Stall { nodes, .. }
        | Action::Exhaust { nodes, .. }
        | Action::Revoke { nodes, .. }
        | Action::Skew { nodes, .. }
        | Action::Drift { nodes, .. }
        | Action::Clone { nodes, .. }
        | Action::Rivals { nodes, .. }
        | Action::Delay { nodes, .. }
        | Action::RollingRestart { nodes, .. } => vec![nodes],
        Action::Heal
        | Action::Join { .. }
        | Action::Links { .. }
        | Action::ReplaceVoter
        | Action::TransferLeader
        | Action::Forge => Vec::new(),
    }
}
