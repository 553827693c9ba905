//! The data set: records with a key and a value, from NDJSON or CSV.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};

/// The data set that is built in: see `testnet/data/README.md`.
const SERVICES: &str = include_str!("../data/services.ndjson");
/// The keyspace of the built-in data set.
pub const SERVICES_NAME: &str = "services";

/// Records by key. Of records with one key, the last one counts, as in the store.
pub type Records = BTreeMap<String, Vec<u8>>;

/// A named set of records.
#[derive(Clone, Debug)]
pub struct DataSet {
    /// The keyspace it is put into.
    pub keyspace: String,
    /// What it holds.
    pub records: Records,
}

impl DataSet {
    /// The one that comes with the program.
    pub fn built_in() -> Result<Self> {
        let records = parse_ndjson(Path::new("testnet/data/services.ndjson"), SERVICES, None)?;
        Ok(Self { keyspace: SERVICES_NAME.into(), records })
    }

    /// Reads a file: CSV if its name ends so, NDJSON otherwise. `key_field` names the field that is
    /// the key; without it, it is `key` if there is one, else the first column (CSV) or an error
    /// (NDJSON). A record that has nothing but `key` and `value` is stored as that value, any other
    /// one as JSON text with all its fields.
    pub fn read(path: &Path, key_field: Option<&str>) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let is_csv = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
        let records =
            if is_csv { parse_csv(path, &text, key_field)? } else { parse_ndjson(path, &text, key_field)? };
        if records.is_empty() {
            return Err(Error::Data {
                path: path.into(),
                record: 1,
                problem: "no record in this file".into(),
            });
        }
        Ok(Self { keyspace: keyspace_name(path), records })
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> u64 {
        self.records.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }
}

/// A valid keyspace name made of the file's: lower case, other characters become `-`.
fn keyspace_name(path: &Path) -> String {
    let stem = path.file_stem().map(|s| s.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(64).collect();
    if name.is_empty() { "data".into() } else { name }
}

fn parse_ndjson(path: &Path, text: &str, key_field: Option<&str>) -> Result<Records> {
    let mut records = Records::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let problem = |problem: String| Error::Data { path: path.into(), record: index + 1, problem };
        let record: Value = serde_json::from_str(line).map_err(|e| problem(format!("not JSON: {e}")))?;
        let field = key_field.unwrap_or("key");
        let key = record.get(field).map(text_of).ok_or_else(|| {
            problem(format!("no member \"{field}\"; name the member that is the key with --key-field"))
        })?;
        let value = match (&record, record.get("value")) {
            (Value::Object(members), Some(value)) if field == "key" && members.len() == 2 => text_of(value),
            _ => record.to_string(),
        };
        records.insert(key, value.into_bytes());
    }
    Ok(records)
}

fn parse_csv(path: &Path, text: &str, key_field: Option<&str>) -> Result<Records> {
    let problem = |record: usize, problem: String| Error::Data { path: path.into(), record, problem };
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let columns = reader.headers().map_err(|e| problem(1, e.to_string()))?.clone();
    let key_column = match key_field {
        Some(name) => columns.iter().position(|c| c == name).ok_or_else(|| {
            let known: Vec<&str> = columns.iter().collect();
            problem(1, format!("no column \"{name}\"; there are: {}", known.join(", ")))
        })?,
        None => columns.iter().position(|c| c == "key").unwrap_or(0),
    };
    let mut records = Records::new();
    for (index, row) in reader.records().enumerate() {
        let row = row.map_err(|e| problem(index + 2, e.to_string()))?;
        let key = row.get(key_column).unwrap_or_default().to_string();
        let value = match (columns.len(), columns.iter().position(|c| c == "value")) {
            (2, Some(column)) if column != key_column => row.get(column).unwrap_or_default().to_string(),
            _ => {
                let fields = columns.iter().zip(&row).map(|(name, field)| (name.to_string(), field.into()));
                Value::Object(fields.collect()).to_string()
            }
        };
        records.insert(key, value.into_bytes());
    }
    Ok(records)
}

/// Strings as they are, anything else as JSON text.
fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "cities and towns.csv";

    #[test]
    fn the_built_in_set_has_thousands_of_records_and_redis() {
        let set = DataSet::built_in().expect("built in");
        assert!(set.records.len() > 2000);
        let redis = set.records.get("6379/tcp").expect("an assigned port");
        assert!(String::from_utf8_lossy(redis).contains("\"redis\""));
    }

    #[test]
    fn ndjson_stores_the_value_alone_or_the_whole_record() {
        let parsed = parse_ndjson(
            Path::new(FILE),
            "{\"key\":\"a\",\"value\":\"x\"}\n\n{\"key\":\"b\",\"n\":1}\n",
            None,
        )
        .expect("valid");
        assert_eq!(parsed["a"], b"x");
        assert_eq!(parsed["b"], br#"{"key":"b","n":1}"#);
    }

    #[test]
    fn csv_takes_the_named_column_as_key() {
        let parsed =
            parse_csv(Path::new(FILE), "city,code\nOslo,NO\nBern,CH\n", Some("code")).expect("valid");
        assert_eq!(parsed["CH"], br#"{"city":"Bern","code":"CH"}"#);
        let pairs = parse_csv(Path::new(FILE), "key,value\na,1\n", None).expect("valid");
        assert_eq!(pairs["a"], b"1");
    }

    #[test]
    fn errors_name_the_record_and_what_to_do() {
        let error = parse_ndjson(Path::new(FILE), "{\"id\":1}", None).expect_err("no key");
        assert!(
            error.to_string().contains("record 1") && error.to_string().contains("--key-field"),
            "{error}"
        );
        let error = parse_csv(Path::new(FILE), "a,b\n1,2\n", Some("c")).expect_err("no such column");
        assert!(error.to_string().contains("a, b"), "{error}");
    }

    #[test]
    fn a_file_name_becomes_a_valid_keyspace() {
        assert_eq!(keyspace_name(Path::new("/tmp/Cities & Towns.csv")), "cities---towns");
    }
}
