//! Labels that an operator gives a node: `zone=a`, `region=eu-west`. They are signed with its record.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use thiserror::Error;

/// Most labels of one node.
pub const LABELS_MAX: usize = 8;
/// Longest key of a label, bytes.
pub const LABEL_KEY_BYTES_MAX: usize = 32;
/// Longest value of a label, bytes.
pub const LABEL_VALUE_BYTES_MAX: usize = 64;

/// Labels by key. Peers display them and may prefer nodes by them, but do not trust them more than a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Labels(BTreeMap<String, String>);

/// A zone: a part of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Zone<'a> {
    region: Option<&'a str>,
    zone: Option<&'a str>,
}

/// Why a text is not a label, or not one more label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LabelError {
    /// There is no `=` in it.
    #[error("a label is KEY=VALUE, as in zone=a")]
    NotALabel,
    /// The key or the value is empty, too long, or has a character that labels do not have.
    #[error(
        "a label's key has 1 to {LABEL_KEY_BYTES_MAX} and its value 1 to {LABEL_VALUE_BYTES_MAX} of the characters a-z, 0-9, `_`, `.` and `-`"
    )]
    Characters,
    /// The node has a label of this key.
    #[error("a node has one label of each key")]
    Twice,
    /// The node has enough labels.
    #[error("a node has at most {LABELS_MAX} labels")]
    TooMany,
}

impl Labels {
    /// Keys and values, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The zone that `region` and `zone` name together, if there is one of them. Operators give one zone to nodes that fail
    /// together.
    pub fn zone(&self) -> Option<Zone<'_>> {
        let [region, zone] = ["region", "zone"].map(|key| self.get(key));
        (region.is_some() || zone.is_some()).then_some(Zone { region, zone })
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether number, sizes and characters are within bounds.
    pub fn is_bounded(&self) -> bool {
        self.0.len() <= LABELS_MAX && self.0.iter().all(|(key, value)| is_label(key, value))
    }

    /// Adds a label, `KEY=VALUE`. Changes nothing on failure.
    pub fn add(&mut self, text: &str) -> Result<(), LabelError> {
        let (key, value) = text.split_once('=').ok_or(LabelError::NotALabel)?;
        if !is_label(key, value) {
            return Err(LabelError::Characters);
        }
        if self.0.contains_key(key) {
            return Err(LabelError::Twice);
        }
        if self.0.len() == LABELS_MAX {
            return Err(LabelError::TooMany);
        }
        self.0.insert(key.to_owned(), value.to_owned());
        Ok(())
    }
}

fn is_label(key: &str, value: &str) -> bool {
    let is = |text: &str, max| {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b);
        (1..=max).contains(&text.len()) && text.bytes().all(legal)
    };
    is(key, LABEL_KEY_BYTES_MAX) && is(value, LABEL_VALUE_BYTES_MAX)
}

/// Reads what [`fmt::Display`] writes: labels separated by commas.
impl FromStr for Labels {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let mut labels = Self::default();
        for label in text.split(',').map(str::trim).filter(|label| !label.is_empty()) {
            labels.add(label)?;
        }
        Ok(labels)
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (key, value)) in self.iter().enumerate() {
            write!(f, "{}{key}={value}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_written_and_bounded() {
        let labels: Labels = "zone=a, region=eu-west.1".parse().expect("labels");
        assert_eq!(labels.to_string(), "region=eu-west.1,zone=a");
        assert_eq!((labels.get("zone"), labels.get("rack")), (Some("a"), None));
        let parse = |text: &str| text.parse::<Labels>().map(drop);
        assert_eq!(parse(""), Ok(()));
        assert_eq!(parse("zone"), Err(LabelError::NotALabel));
        assert_eq!(parse("zone=a,zone=b"), Err(LabelError::Twice));
        for wrong in ["zone=", "=a", "Zone=a", "zone=a b", "zone=a=b", "zone=ä"] {
            assert_eq!(parse(wrong), Err(LabelError::Characters), "{wrong}");
        }
        assert_eq!(parse(&format!("{}=a", "k".repeat(33))), Err(LabelError::Characters));
        assert_eq!(parse(&format!("k={}", "v".repeat(65))), Err(LabelError::Characters));
        let many = |count| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        assert_eq!(parse(&many(LABELS_MAX)), Ok(()));
        assert_eq!(parse(&many(LABELS_MAX + 1)), Err(LabelError::TooMany));
    }

    #[test]
    fn what_a_peer_sends_out_of_bounds_shows() {
        let of = |key: &str, value: &str| Labels(BTreeMap::from([(key.to_owned(), value.to_owned())]));
        assert!(of("zone", "a").is_bounded());
        for (key, value) in [("", "a"), ("zone", ""), ("zone", "\u{1b}[2J"), ("ZONE", "a")] {
            assert!(!of(key, value).is_bounded(), "{key}={value}");
        }
        let many = (0..9).map(|n| (format!("k{n}"), "v".to_owned()));
        assert!(!Labels(many.collect()).is_bounded());
    }
}
