//! An application that runs on the nodes' machines, to measure how long another instance takes to take over.

use serde::{Deserialize, Serialize};

/// An application with instances in different zones. Processes only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Who serves.
    pub kind: AppKind,
    /// How many instances there are.
    #[serde(default = "three")]
    pub instances: usize,
    /// How long an instance may be silent before another one takes its place, milliseconds; active-passive only.
    #[serde(default = "two_seconds_ms")]
    pub ttl_ms: u64,
}

fn three() -> usize {
    3
}

fn two_seconds_ms() -> u64 {
    2_000
}

/// Who of an application's instances serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AppKind {
    /// All; a client goes on to another one where its own fails.
    ActiveActive,
    /// The first in a line of a strong keyspace; the others wait.
    ActivePassive,
}

impl AppKind {
    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::ActiveActive => "active-active",
            Self::ActivePassive => "active-passive",
        }
    }
}

impl App {
    /// What is wrong with the values, if anything is.
    pub(super) fn check(&self, nodes: usize, has_strong_users: bool) -> Result<(), String> {
        if !(2..=nodes).contains(&self.instances) {
            return Err("app.instances has to be 2 or more, and no more than there are nodes".into());
        }
        if !(500..=600_000).contains(&self.ttl_ms) {
            return Err("app.ttl_ms has to be 500 to 600,000 milliseconds".into());
        }
        if self.kind == AppKind::ActivePassive && !has_strong_users {
            return Err(
                "an active-passive app needs the strong keyspace of `[users]`: set voters there".into()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::scenario::parse;

    #[test]
    fn values_are_checked_and_a_lock_needs_a_strong_keyspace() {
        for (text, expected) in [
            ("kind = \"active_passive\"", "[users]"),
            ("kind = \"active_active\"\ninstances = 1", "app.instances"),
            ("kind = \"active_active\"\ninstances = 51", "app.instances"),
            ("kind = \"active_active\"\nttl_ms = 1", "app.ttl_ms"),
        ] {
            let error = parse("wrong", &format!("[app]\n{text}"), &[]).expect_err("it is wrong").to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(parse("right", "[app]\nkind = \"active_passive\"\n[users]", &[]).is_ok());
    }
}
