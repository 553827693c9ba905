//! Loading of settings: flags override the environment, which overrides the file, which overrides the default.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use starling_api::admin::Setting;
use starling_service::hide_tickets;
use thiserror::Error;
use toml::{Table, Value};

use super::kind::Kind;
use super::table::{Config, SETTINGS};

/// Name of the configuration file in the data directory.
pub const FILE_NAME: &str = "starling.toml";

/// Why a configuration cannot be used. Nothing has been started.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        reason: String,
    },
    /// The file is not TOML.
    #[error("{path} is not valid TOML: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        reason: String,
    },
    /// There is no such setting.
    #[error("{source_name} sets {key:?}, which does not exist{}", nearest(.key))]
    Unknown {
        /// The name.
        key: String,
        /// Who sets it.
        source_name: String,
    },
    /// The value does not fit.
    #[error("{source_name} sets {key} to {value}: {expected}")]
    Invalid {
        /// The setting.
        key: String,
        /// Who sets it.
        source_name: String,
        /// Its value.
        value: String,
        /// What was expected.
        expected: String,
    },
}

fn nearest(key: &str) -> String {
    let last = key.rsplit('.').next().unwrap_or(key);
    let similar = SETTINGS.iter().find(|row| row.key.contains(last) || last.contains(row.key));
    similar.map(|row| format!("; did you mean {:?}?", row.key)).unwrap_or_default()
}

/// A value given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The setting.
    pub key: String,
    /// The flag as typed, for messages.
    pub flag: String,
    /// Its value; the items of a list are separated by commas.
    pub value: String,
}

/// The sources of settings, and, after they are resolved, the source of each.
pub struct Layers {
    flags: Vec<Flag>,
    variables: BTreeMap<String, String>,
    file: BTreeMap<String, Value>,
    file_path: PathBuf,
    resolved: Vec<Setting>,
}

/// The effective configuration, and where each value came from.
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// One for each row of the table, in its order.
    pub settings: Vec<Setting>,
}

/// The variables of this program, of which the environment may hold others that are not text.
fn text_variables(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let named = variables.into_iter().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let ours = named.filter(|(name, _)| name.starts_with("STARLING_"));
    ours.map(|(name, value)| match value.into_string() {
        Ok(text) => Ok((name, text)),
        Err(value) => Err(ConfigError::Invalid {
            key: name,
            source_name: "environment".into(),
            value: value.to_string_lossy().into_owned(),
            expected: "expected text in UTF-8".into(),
        }),
    })
    .collect()
}

/// Reads file and environment. The file is `file` if given (then it must exist), else
/// [`FILE_NAME`] in the data directory if it exists.
pub fn load(
    file: Option<&Path>,
    flags: Vec<Flag>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, ConfigError> {
    if let Some(flag) = flags.iter().find(|flag| !SETTINGS.iter().any(|row| row.key == flag.key)) {
        return Err(ConfigError::Unknown {
            key: flag.key.clone(),
            source_name: format!("flag {}", flag.flag),
        });
    }
    let variables = text_variables(variables)?;
    let mut layers =
        Layers { flags, variables, file: BTreeMap::new(), file_path: PathBuf::new(), resolved: Vec::new() };
    layers.file_path = match file {
        Some(path) => path.to_owned(),
        None => Config::resolve(&mut layers)?.data_dir.join(FILE_NAME),
    };
    layers.resolved.clear();
    if file.is_some() || layers.file_path.exists() {
        layers.file = read_file(&layers.file_path)?;
    }
    let config = Config::resolve(&mut layers)?;
    Ok(Loaded { config, settings: layers.resolved })
}

fn read_file(path: &Path) -> Result<BTreeMap<String, Value>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| ConfigError::Unreadable { path: path.to_owned(), reason: e.to_string() })?;
    let table: Table = text
        .parse()
        .map_err(|e: toml::de::Error| ConfigError::Syntax { path: path.to_owned(), reason: e.to_string() })?;
    let mut values = BTreeMap::new();
    flatten("", table, &mut values);
    match values.keys().find(|key| !SETTINGS.iter().any(|row| row.key == key.as_str())) {
        Some(key) => {
            Err(ConfigError::Unknown { key: key.clone(), source_name: format!("file {}", path.display()) })
        }
        None => Ok(values),
    }
}

fn flatten(prefix: &str, table: Table, values: &mut BTreeMap<String, Value>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(inner) => flatten(&key, inner, values),
            value => drop(values.insert(key, value)),
        }
    }
}

impl Layers {
    /// The effective value of `key`: of several flags the last counts.
    pub(super) fn take<K: Kind>(
        &mut self,
        key: &'static str,
        default: impl FnOnce() -> K,
    ) -> Result<K, ConfigError> {
        let row = SETTINGS.iter().find(|row| row.key == key).expect("the table names its own keys");
        let invalid = |source_name: String, value: String, expected: String| ConfigError::Invalid {
            key: key.into(),
            source_name,
            value,
            expected,
        };
        let variable = row.variable();
        let (value, source) = if let Some(flag) = self.flags.iter().rev().find(|flag| flag.key == key) {
            let source = format!("flag {}", flag.flag);
            let value =
                K::from_text(&flag.value).map_err(|e| invalid(source.clone(), flag.value.clone(), e))?;
            (value, source)
        } else if let Some(text) = self.variables.get(&variable) {
            let source = format!("environment {variable}");
            (K::from_text(text).map_err(|e| invalid(source.clone(), text.clone(), e))?, source)
        } else if let Some(value) = self.file.get(key) {
            let source = format!("file {}", self.file_path.display());
            (K::from_toml(value).map_err(|e| invalid(source.clone(), value.to_string(), e))?, source)
        } else {
            (default(), "default".into())
        };
        let shown = match value.show() {
            _ if row.secret && source != "default" => "\"***\"".into(),
            shown => hide_tickets(&shown),
        };
        self.resolved.push(Setting { key: key.into(), value: shown, source });
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn flag(key: &str, value: &str) -> Flag {
        Flag { key: key.into(), flag: format!("--{key}"), value: value.into() }
    }

    fn variable(name: &str, value: &str) -> (OsString, OsString) {
        (name.into(), value.into())
    }

    fn source(loaded: &Loaded, key: &str) -> String {
        loaded.settings.iter().find(|s| s.key == key).expect("every key is listed").source.clone()
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(FILE_NAME);
        std::fs::write(&path, text).expect("writes");
        (dir, path)
    }

    #[test]
    fn flags_beat_environment_beats_file_beats_default() {
        let (_dir, path) = file("name = \"of-file\"\n[detector]\ndetect_ms = 1\n[sync]\ninterval_ms = 2\n");
        let variables =
            [variable("STARLING_NAME", "of-env"), variable("STARLING_DETECTOR_DETECT_MS", "10_000")];
        let loaded = load(Some(&path), vec![flag("name", "of-flag")], variables).expect("valid");
        assert_eq!(loaded.config.name, "of-flag");
        assert_eq!(loaded.config.detect_ms, 10_000);
        assert_eq!(loaded.config.sync_interval_ms, 2);
        assert_eq!(loaded.config.active_view, 6);
        assert_eq!(source(&loaded, "name"), "flag --name");
        assert_eq!(source(&loaded, "detector.detect_ms"), "environment STARLING_DETECTOR_DETECT_MS");
        assert_eq!(source(&loaded, "sync.interval_ms"), format!("file {}", path.display()));
        assert_eq!(source(&loaded, "gossip.active_view"), "default");
        assert_eq!(loaded.settings.len(), SETTINGS.len());
    }

    #[test]
    fn a_variable_that_is_not_text_is_named_if_it_is_ours() {
        let not_text = || OsString::from_vec(vec![0xff]);
        load(None, Vec::new(), [("LS_COLORS".into(), not_text()), (not_text(), not_text())])
            .expect("not ours");
        let error = load(None, Vec::new(), [("STARLING_NAME".into(), not_text())]).err().expect("not text");
        assert!(error.to_string().contains("STARLING_NAME"), "{error}");
    }

    #[test]
    fn the_file_of_the_data_directory_is_found() {
        let (dir, _path) = file("listen = [\"/ip4/127.0.0.1/tcp/0\"]\napi.token = \"hush\"\n");
        let data_dir = dir.path().display().to_string();
        let loaded = load(None, vec![flag("data_dir", &data_dir)], []).expect("valid");
        assert_eq!(loaded.config.listen, ["/ip4/127.0.0.1/tcp/0"]);
        assert_eq!(loaded.config.api_token.as_deref(), Some("hush"));
        assert!(!format!("{:?}", loaded.settings).contains("hush"), "a secret is shown");
        let loaded = load(None, vec![flag("join", "10.0.0.1:7400,starling1abc")], []).expect("valid");
        let joins = loaded.settings.iter().find(|s| s.key == "join").expect("every key is listed");
        assert_eq!(joins.value, r#"["10.0.0.1:7400", "starling1***"]"#);
    }

    #[test]
    fn mistakes_name_their_place() {
        let (_dir, path) = file("detect_ms = 5\n");
        let error = load(Some(&path), Vec::new(), []).err().expect("unknown key").to_string();
        assert!(
            error.contains("starling.toml") && error.contains("did you mean \"detector.detect_ms\""),
            "{error}"
        );
        let error = load(None, Vec::new(), [variable("STARLING_MDNS", "perhaps")]).err().expect("not a bool");
        assert_eq!(
            error.to_string(),
            "environment STARLING_MDNS sets mdns to perhaps: expected true or false"
        );
        let error =
            load(None, vec![flag("durability", "often")], []).err().expect("no such level").to_string();
        assert!(error.contains("always, everysec or no"), "{error}");
        let (_dir, path) = file("name = 7\n");
        assert!(matches!(load(Some(&path), Vec::new(), []), Err(ConfigError::Invalid { .. })));
        let (_dir, path) = file("name =\n");
        assert!(matches!(load(Some(&path), Vec::new(), []), Err(ConfigError::Syntax { .. })));
        assert!(matches!(
            load(Some(Path::new("/nonexistent")), vec![], []),
            Err(ConfigError::Unreadable { .. })
        ));
    }

    #[test]
    fn every_default_shown_is_the_default_used() {
        let loaded = load(None, vec![flag("data_dir", "/nonexistent")], []).expect("defaults");
        for (row, setting) in SETTINGS.iter().zip(&loaded.settings) {
            assert_eq!(row.key, setting.key);
            if !["data_dir", "name"].contains(&row.key) {
                assert_eq!((row.default)(), setting.value, "{}", row.key);
            }
        }
    }
}
