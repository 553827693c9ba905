//! Runs as JSON, written and read again.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::model::{Run, SCHEMA};

/// Why a file holds no runs.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no JSON, or its JSON is no run.
    #[error(
        "{path} is no result of a run: {problem}\n  write one with  testnet sim SCENARIO --output json > {path}"
    )]
    NoRun {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Another version wrote it.
    #[error("{path} has schema {found}, this program reads schema {SCHEMA}: run the command in it again")]
    Schema {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u64,
    },
}

/// The JSON form: an object for one run, an array for any other number.
pub fn json(runs: &[Run]) -> String {
    let text = match runs {
        [run] => serde_json::to_string_pretty(run),
        runs => serde_json::to_string_pretty(runs),
    };
    text.expect("a run has only text keys, and serde_json writes every number")
}

/// Reads the runs of a file that [`json`] wrote.
pub fn read(path: &Path) -> Result<Vec<Run>, ReadError> {
    let text = std::fs::read_to_string(path).map_err(|source| ReadError::Io { path: path.into(), source })?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Vec<Run>, ReadError> {
    let wrong = |problem: String| ReadError::NoRun { path: path.into(), problem };
    let value: Value = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let values = match value {
        Value::Array(values) => values,
        value => vec![value],
    };
    if values.is_empty() {
        return Err(wrong("it is an empty list".into()));
    }
    values
        .into_iter()
        .map(|value| {
            let Some(found) = value.get("schema").and_then(Value::as_u64) else {
                return Err(wrong("it has no number called `schema`".into()));
            };
            if found != u64::from(SCHEMA) {
                return Err(ReadError::Schema { path: path.into(), found });
            }
            Run::deserialize(value).map_err(|error| wrong(error.to_string()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::example::example;

    fn parsed(text: &str) -> Result<Vec<Run>, String> {
        parse(Path::new("r.json"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_is_read_again() {
        let one = vec![example("churn", 1)];
        let two = vec![example("churn", 1), example("calm", 2)];
        assert!(parsed(&json(&one)) == Ok(one));
        assert!(parsed(&json(&two)) == Ok(two));
    }

    #[test]
    fn errors_say_what_is_wrong_and_what_to_do() {
        for (text, expected) in [
            ("nonsense", "is no result of a run: expected"),
            ("[]", "empty list"),
            ("{\"nodes\": 3}", "no number called `schema`"),
            ("{\"schema\": 99}", "has schema 99, this program reads schema 1"),
            ("{\"schema\": 1}", "missing field `scenario`"),
        ] {
            let error = parsed(text).expect_err("not a run");
            assert!(error.contains(expected), "{error}");
        }
        let missing = read(Path::new("/nowhere/r.json")).expect_err("no such file").to_string();
        assert!(missing.starts_with("/nowhere/r.json: "), "{missing}");
    }
}
