//! The rules: one table, each rule with what has to be, whose task it was in the Simian Army, and its check.

mod differences;
mod health;
mod leftovers;
mod weaknesses;

#[cfg(test)]
mod tests;

pub use differences::zones;
use serde::Serialize;

use super::facts::{Facts, NodeFacts};

/// Whose task a rule was in the Simian Army.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Set {
    /// Nodes that differ from what all should be.
    Conformity,
    /// Nodes that are unhealthy.
    Doctor,
    /// What is left over.
    Janitor,
    /// Weak settings.
    Security,
}

impl Set {
    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conformity => "conformity",
            Self::Doctor => "doctor",
            Self::Janitor => "janitor",
            Self::Security => "security",
        }
    }
}

/// A rule.
pub struct Rule {
    /// What has to be.
    pub name: &'static str,
    /// Whose task it was.
    pub of: Set,
    /// Each case in which it is not, or why it could not be checked.
    pub check: fn(&Facts) -> Checked,
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The cases in which the rule is broken; none: it is kept.
    Findings(Vec<String>),
    /// It could not be checked, and why.
    Unknown(String),
}

/// All rules, in the order in which they are shown.
pub const RULES: [Rule; 23] = [
    Rule { name: "one version everywhere", of: Set::Conformity, check: differences::version },
    Rule {
        name: "the newest version of data is switched on",
        of: Set::Conformity,
        check: differences::data_version,
    },
    Rule { name: "one durability, and not \"no\"", of: Set::Conformity, check: differences::durability },
    Rule { name: "clocks within half a second", of: Set::Conformity, check: differences::clocks },
    Rule { name: "voters spread over zones", of: Set::Conformity, check: differences::voters },
    Rule { name: "neighbours in other zones", of: Set::Conformity, check: differences::neighbours },
    Rule { name: "names are unique", of: Set::Conformity, check: differences::names },
    Rule { name: "every API that was named answers", of: Set::Doctor, check: health::answers },
    Rule { name: "every node is ready", of: Set::Doctor, check: health::ready },
    Rule { name: "every node has peers", of: Set::Doctor, check: health::joined },
    Rule { name: "no node stands still", of: Set::Doctor, check: health::stalls },
    Rule { name: "replicas of strong keyspaces work", of: Set::Doctor, check: health::replicas },
    Rule { name: "voters are heard by their leaders", of: Set::Doctor, check: health::silent_voters },
    Rule { name: "one process per identity", of: Set::Doctor, check: health::identities },
    Rule { name: "stores are sound", of: Set::Doctor, check: health::stores },
    Rule {
        name: "no member is remembered that does not answer",
        of: Set::Janitor,
        check: leftovers::members,
    },
    Rule { name: "strong keyspaces have a majority", of: Set::Janitor, check: leftovers::groups },
    Rule { name: "voters are members of the network", of: Set::Janitor, check: leftovers::voters },
    Rule { name: "replicas are of their groups", of: Set::Janitor, check: leftovers::replicas },
    Rule { name: "no keyspace is left over", of: Set::Janitor, check: leftovers::keyspaces },
    Rule {
        name: "certificates are valid, and renewed in time",
        of: Set::Janitor,
        check: leftovers::certificates,
    },
    Rule { name: "nodes need a certificate", of: Set::Security, check: weaknesses::authority },
    Rule { name: "APIs are closed to strangers", of: Set::Security, check: weaknesses::apis },
];

/// Why something that only administrators are shown is not known.
const NOT_SHOWN: &str = "name unix:PATH of its socket, or its token";

fn each(facts: &Facts, find: impl Fn(&NodeFacts) -> Vec<String>) -> Checked {
    let named = |node: &NodeFacts| {
        let name = node.status.name.clone();
        find(node).into_iter().map(move |what| format!("{name}: {what}"))
    };
    Checked::Findings(facts.nodes.iter().flat_map(named).collect())
}
