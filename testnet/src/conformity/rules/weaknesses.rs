//! Rules about settings that let strangers in.

use super::super::facts::Facts;
use super::{Checked, NOT_SHOWN, each};

pub fn authority(facts: &Facts) -> Checked {
    let Some(trust) = facts.trust() else { return Checked::Unknown("no node shows its authority".into()) };
    let finding = match (&trust.authority, trust.required) {
        (None, _) => {
            Some("the network has no authority: whoever has a ticket joins, for good: docs/members.md")
        }
        (Some(_), false) => Some("the authority does not require certificates: `starling authority require`"),
        (Some(_), true) => None,
    };
    Checked::Findings(finding.map(str::to_owned).into_iter().collect())
}

/// Whether an address is reached from this machine alone: loopback, or a unix socket.
pub fn is_local(address: &str) -> bool {
    let host = address.trim_matches('"').rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_matches(|c| c == '[' || c == ']' || c == '"');
    address.contains("unix:")
        || host == "off"
        || host.is_empty()
        || host == "localhost"
        || host == "::1"
        || host.starts_with("127.")
}

pub fn apis(facts: &Facts) -> Checked {
    if facts.nodes.iter().all(|node| node.settings.is_none()) {
        return Checked::Unknown(format!("no node shows its settings to this client: {NOT_SHOWN}"));
    }
    each(facts, |node| {
        let Some(settings) = &node.settings else { return Vec::new() };
        let value = |key: &str| settings.get(key).map_or("", String::as_str);
        let is_empty = |key: &str| ["", "\"\""].contains(&value(key));
        let mut findings = Vec::new();
        if !is_local(value("api.listen")) {
            if is_empty("api.token") && is_empty("tls.client_ca") {
                findings.push("its API is open to other machines without a token: api.token".to_owned());
            }
            if value("api.plaintext") == "true" {
                findings.push("its API serves other machines without TLS: api.plaintext".to_owned());
            }
        }
        findings
    })
}
