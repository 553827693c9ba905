//! Rules about what is left over, each with the command that cleans it up.

use std::collections::BTreeSet;

use starling_api::admin::{Unreachable, time_of};
use starling_api::strong::{Leaderless, StrongInfo, StrongMember};

use super::super::facts::Facts;
use super::{Checked, each};
use crate::states::short;

/// What probes of `testnet attach` are written to.
const PROBES: &str = "testnet-attach-";
/// What is between the name of a keyspace that lost its name to another one, and the digits of its group.
const ASIDE: &str = ".aside-";

/// Members that other nodes remember, and that answer at neither end of the time of observation.
pub fn members(facts: &Facts) -> Checked {
    let clean = if facts.has_authority() {
        "or `starling member revoke` it"
    } else {
        "or leave it: nodes probe it now and then, and forget it for younger ones"
    };
    let line = |node: &Unreachable| {
        let address = node.addresses.first().map_or("", String::as_str);
        format!("{} ({}) at {address} does not answer: start it, {clean}", node.name, short(&node.id))
    };
    Checked::Findings(facts.silent_members().map(line).collect())
}

/// Orphaned groups: those without a majority, and names of which no member answers.
pub fn groups(facts: &Facts) -> Checked {
    let of_nodes = facts.nodes.iter().flat_map(|node| node.status.leaderless.clone());
    let of_members = facts.strong.iter().filter_map(StrongInfo::leaderless);
    let mut orphaned: Vec<Leaderless> = of_nodes.chain(of_members).collect();
    let is_known = |name: &String| {
        facts
            .strong
            .iter()
            .map(|info| &info.name)
            .chain(orphaned.iter().map(|it| &it.keyspace))
            .any(|it| it == name)
    };
    let unknown: Vec<String> = facts.strong_names().filter(|name| !is_known(name)).cloned().collect();
    orphaned.sort_by(|a, b| (&a.keyspace, b.for_ms).cmp(&(&b.keyspace, a.for_ms)));
    orphaned.dedup_by(|a, b| a.keyspace == b.keyspace);
    let recover = |name: &str| format!("start its voters, or `starling keyspace recover {name} --help`");
    let orphaned = orphaned.iter().map(|it| format!("{it}: {}", recover(&it.keyspace)));
    let unknown = unknown.iter().map(|name| format!("keyspace {name}: no member answers: {}", recover(name)));
    Checked::Findings(orphaned.chain(unknown).collect())
}

/// Voters whose nodes are revoked or no longer known: they never vote again.
pub fn voters(facts: &Facts) -> Checked {
    let present = facts.crawl.nodes.iter().map(|node| node.id.as_str());
    let silent = facts.silent_members().map(|node| node.id.as_str());
    let known: BTreeSet<&str> = present.chain(silent).collect();
    let gone = |info: &StrongInfo| {
        let is_gone =
            |it: &&StrongMember| it.role == "voter" && (it.revoked || !known.contains(it.id.as_str()));
        let line = |it: &StrongMember| {
            let why = if it.revoked { "is revoked" } else { "is no member of the network any more" };
            format!(
                "{}: voter {} {why}: `starling keyspace voters replace {} {} OTHER`",
                info.name, it.name, info.name, it.name
            )
        };
        info.members.iter().filter(is_gone).map(line).collect::<Vec<_>>()
    };
    Checked::Findings(facts.strong.iter().flat_map(gone).collect())
}

/// Replicas that their groups no longer list.
pub fn replicas(facts: &Facts) -> Checked {
    each(facts, |node| {
        let kept = node.status.kept_replicas.iter().map(|kept| {
            let more = if kept.may_have_more { ", and may have writes that it lacks" } else { "" };
            format!(
                "a replica that {} removed {} h ago is kept{more}: `starling keyspace discard {}` there deletes it",
                kept.keyspace,
                kept.age_ms / 3_600_000,
                kept.keyspace
            )
        });
        kept.collect()
    })
}

/// Keyspaces that lost their name to another one, and those of measurements.
pub fn keyspaces(facts: &Facts) -> Checked {
    let names = facts.keyspaces.keys();
    let aside = names.clone().filter(|name| name.contains(ASIDE));
    let aside = aside.map(|name| {
        format!("{name}: it lost its name to another one: copy what is needed, and `starling keyspace drop {name}`")
    });
    let probes = names.filter(|name| name.starts_with(PROBES));
    let probes = probes.map(|name| {
        format!("{name}: probes of a measurement; they expire unprompted, `starling del -k {name} --prefix ''` deletes them")
    });
    Checked::Findings(aside.chain(probes).collect())
}

/// Certificates that have expired, and those that should have been renewed for a while, as far as nodes show when they began.
pub fn certificates(facts: &Facts) -> Checked {
    let renew = "start an issuer; `starling authority show` names them";
    let standings =
        facts.crawl.nodes.iter().filter_map(|node| Some((node, node.standing.as_ref()?.not_after_ms?)));
    let expired = standings.filter(|(_, not_after_ms)| *not_after_ms <= facts.now_ms);
    let expired = expired
        .map(|(node, not_after_ms)| format!("{}: it expired {}: {renew}", node.name, time_of(not_after_ms)));
    let late = facts.nodes.iter().filter_map(|node| {
        let certificate = node.trust.as_ref()?.certificate.as_ref()?;
        let is_late = certificate.is_late(facts.now_ms) && facts.now_ms < certificate.not_after_ms;
        let end = time_of(certificate.not_after_ms);
        is_late
            .then(|| format!("{}: it expires {end}, and no issuer has renewed it: {renew}", node.status.name))
    });
    Checked::Findings(expired.chain(late).collect())
}
