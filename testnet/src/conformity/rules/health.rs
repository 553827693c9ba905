//! Rules about the health of nodes.

use starling_api::admin::Finding;

use super::super::facts::Facts;
use super::{Checked, NOT_SHOWN, each};
use crate::attach::REPLICA;

/// The nodes that were named answer at both ends of the time of observation.
pub fn answers(facts: &Facts) -> Checked {
    Checked::Findings(facts.silent.iter().map(|(who, why)| format!("{who}: {why}")).collect())
}

/// Nodes say themselves that they are ready: that their storage works and that they know a peer.
pub fn ready(facts: &Facts) -> Checked {
    each(facts, |node| node.not_ready.iter().cloned().collect())
}

/// A process that stands still makes all that it hears and answers late. Nodes count the times that they noticed it.
pub fn stalls(facts: &Facts) -> Checked {
    each(facts, |node| {
        let stalls = node.stalls();
        (stalls > 0)
            .then(|| format!("it stood still {stalls} times: look at the machine's load and disk"))
            .into_iter()
            .collect()
    })
}

/// Replicas that are closed or impaired.
pub fn replicas(facts: &Facts) -> Checked {
    each(facts, |node| {
        let closed = node.status.closed_replicas.iter().map(ToString::to_string);
        let impaired = node.status.impaired_replicas.iter().map(ToString::to_string);
        closed.chain(impaired).collect()
    })
}

/// Voters that have sent their leader nothing for some seconds, as the leader's node says.
pub fn silent_voters(facts: &Facts) -> Checked {
    each(facts, |node| node.status.silent_voters.iter().map(ToString::to_string).collect())
}

/// Two processes of one identity: a data directory or a machine was copied.
pub fn identities(facts: &Facts) -> Checked {
    each(facts, |node| {
        let status = &node.status;
        status
            .identity_conflict
            .iter()
            .cloned()
            .chain(status.doubled_peers.iter().map(ToString::to_string))
            .collect()
    })
}

/// Replicas have neighbours, unless they are alone.
pub fn joined(facts: &Facts) -> Checked {
    let is_alone = facts.crawl.nodes.len() == 1 && facts.crawl.unreachable.is_empty();
    each(facts, |node| {
        let has_none = node.status.role == REPLICA && node.status.active == 0 && !is_alone;
        has_none.then(|| "no neighbour".to_owned()).into_iter().collect()
    })
}

/// What `starling doctor` finds on each node.
pub fn stores(facts: &Facts) -> Checked {
    if !facts.nodes.iter().any(|node| node.doctor.is_some()) {
        return Checked::Unknown(format!("it reads all data: ask for it with --stores; {NOT_SHOWN}"));
    }
    let line = |finding: &Finding| format!("{}: {}", finding.what, finding.hint);
    each(facts, |node| node.doctor.iter().flat_map(|doctor| doctor.findings.iter().map(line)).collect())
}
