//! Environment variables of commands.

use std::ffi::OsString;

use super::failure::Failure;
use super::print;
use crate::config::{Row, SETTINGS};

/// Variables of commands besides those of the settings.
const OF_COMMANDS: [&str; 8] = [
    "STARLING_API",
    "STARLING_API_TOKEN",
    "STARLING_CACERT",
    "STARLING_CERT",
    "STARLING_AUTHORITY_KEY",
    "STARLING_CERT_KEY",
    "STARLING_KEYSPACE",
    "STARLING_TIMEOUT",
];
/// Names the flags whose values `up` and `bootstrap` have moved to the environment, as `KEY=FLAG`, separated by commas.
pub const HIDDEN_FLAGS: &str = "STARLING_HIDDEN_FLAGS";
/// What `lock`, `elect` and `put --ephemeral` set for the commands that they run.
const OF_CHILDREN: [&str; 2] = ["STARLING_KEY", "STARLING_LEASE"];
const OF_CHILDREN_PREFIXES: [&str; 2] = ["STARLING_LOCK_", "STARLING_ELECTION_"];
/// Parts of the variables that Kubernetes sets in every container for a service of this name.
const OF_KUBERNETES: [&str; 2] = ["STARLING_SERVICE_", "STARLING_PORT"];

/// The value of a variable that is set and not empty.
///
/// # Errors
/// It is not text.
pub fn variable(name: &str) -> Result<Option<String>, Failure> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    let text = value.map(OsString::into_string);
    text.transpose().map_err(|value| {
        let what = format!("{name} is not text in UTF-8: {}", value.display());
        Failure::usage(what, "set it again, or unset it")
    })
}

/// Names on standard error each variable that looks like one of this program and has no effect.
pub fn warn_of_misspelt() {
    for (name, _) in std::env::vars_os() {
        if let Some(nearest) = name.to_str().and_then(misspelt) {
            print::stderr_line(format!("warning: {} has no effect; did you mean {nearest}?", name.display()));
        }
    }
}

/// The nearest variable, if this name is none.
fn misspelt(name: &str) -> Option<String> {
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let known = || SETTINGS.iter().map(Row::variable).chain(OF_COMMANDS.map(Into::into));
    let is_set_for = name == HIDDEN_FLAGS || OF_CHILDREN.contains(&name) || begins(&OF_CHILDREN_PREFIXES);
    let is_other = !name.starts_with("STARLING_") || begins(&OF_KUBERNETES);
    if is_other || is_set_for || known().any(|known| known == name) {
        return None;
    }
    // A setting without its section is far from it by the number of letters.
    let rest = name.trim_start_matches("STARLING");
    known().min_by_key(|known| (!known.ends_with(rest), distance(known, name)))
}

/// The number of characters to insert, remove or replace between two words (Levenshtein 1966).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_variable_has_a_nearest_one() {
        for (name, nearest) in [
            ("STARLING_KEYSPCE", "STARLING_KEYSPACE"),
            ("STARLING_DURABILTY", "STARLING_DURABILITY"),
            ("STARLING_DETECT_MS", "STARLING_DETECTOR_DETECT_MS"),
        ] {
            assert_eq!(misspelt(name).as_deref(), Some(nearest));
        }
        for other in ["STARLING_API", "STARLING_NAME", "STARLING_LOCK_TOKEN", "STARLING_SERVICE_HOST", "PATH"]
        {
            assert_eq!(misspelt(other), None, "{other}");
        }
    }

    #[test]
    fn the_distance_counts_changes() {
        assert_eq!([distance("", "ab"), distance("kitten", "sitting"), distance("a", "a")], [2, 3, 0]);
    }
}
