//! Rules about what should be the same on all nodes, or spread over zones.

use std::collections::{BTreeMap, BTreeSet};

use starling_api::strong::StrongInfo;

use super::super::facts::Facts;
use super::{Checked, each};
use crate::attach::REPLICA;
use crate::states::short;

/// Clocks may differ by this, milliseconds. An estimate: ten times what NTP keeps on a bad link, and far below the minute within
/// which nodes remove what has expired.
const CLOCKS_APART_MS: f64 = 500.0;

/// The names of nodes by what they have; a finding for each but the most frequent.
fn minorities(all: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in all {
        groups.entry(value).or_default().push(name);
    }
    let Some(most) = groups.iter().max_by_key(|(_, names)| names.len()).map(|(value, _)| value.clone())
    else {
        return Vec::new();
    };
    let others = groups.iter().filter(|(value, _)| **value != most);
    others.map(|(value, names)| format!("{}: {value}, most have {most}", names.join(", "))).collect()
}

pub fn version(facts: &Facts) -> Checked {
    let nodes = facts.crawl.nodes.iter();
    Checked::Findings(minorities(nodes.map(|node| (node.name.clone(), node.version.clone()))))
}

pub fn data_version(facts: &Facts) -> Checked {
    let old = facts.crawl.nodes.iter().filter_map(|node| {
        let abilities = node.abilities?;
        (abilities.data_in_force < abilities.data_newest).then(|| {
            format!(
                "{}: version {} is in force, and it can write {}: `starling upgrade`",
                node.name, abilities.data_in_force, abilities.data_newest
            )
        })
    });
    Checked::Findings(old.collect())
}

pub fn durability(facts: &Facts) -> Checked {
    let all = facts.nodes.iter().filter(|node| node.status.role == REPLICA);
    let mut findings =
        minorities(all.clone().map(|node| (node.status.name.clone(), node.status.durability.clone())));
    findings.extend(
        all.filter(|node| node.status.durability == "no")
            .map(|node| format!("{}: writes are not synced: durability = \"everysec\"", node.status.name)),
    );
    Checked::Findings(findings)
}

pub fn clocks(facts: &Facts) -> Checked {
    let known: Vec<(&str, (f64, f64))> =
        facts.nodes.iter().filter_map(|node| Some((node.status.name.as_str(), node.clock_ms?))).collect();
    if known.len() < 2 {
        return Checked::Unknown("it needs the APIs of two nodes or more".into());
    }
    let middle = starling_report::median(known.iter().map(|(_, (offset_ms, _))| *offset_ms));
    // What may be an error of the estimate is no finding.
    let off = known
        .iter()
        .filter(|(_, (offset_ms, error_ms))| (offset_ms - middle).abs() - error_ms > CLOCKS_APART_MS);
    let off = off.map(|(name, (offset_ms, error_ms))| {
        format!("{name}: {:.0} ms from the median, within {error_ms:.0} ms: run NTP", offset_ms - middle)
    });
    Checked::Findings(off.collect())
}

/// The zone of each node by name: region and zone together, as nodes place voters.
pub fn zones(facts: &Facts) -> BTreeMap<&str, String> {
    let zone = |labels: &BTreeMap<String, String>| {
        let parts: Vec<&str> =
            ["region", "zone"].iter().filter_map(|key| labels.get(*key).map(String::as_str)).collect();
        (!parts.is_empty()).then(|| parts.join("/"))
    };
    let replicas = facts.crawl.nodes.iter().filter(|node| node.role == REPLICA);
    replicas.filter_map(|node| Some((node.name.as_str(), zone(&node.labels)?))).collect()
}

pub fn voters(facts: &Facts) -> Checked {
    let zones = zones(facts);
    let there_are: BTreeSet<&String> = zones.values().collect();
    if there_are.len() < 2 {
        return Checked::Unknown("fewer than two zones are named by labels (zone=, region=)".into());
    }
    let crowded = |info: &StrongInfo| {
        let voters: Vec<&str> = info
            .members
            .iter()
            .filter(|member| member.role == "voter")
            .map(|member| member.name.as_str())
            .collect();
        let places: BTreeSet<&String> = voters.iter().filter_map(|voter| zones.get(voter)).collect();
        let possible = voters.len().min(there_are.len());
        (voters.len() > 1 && places.len() < possible).then(|| {
            format!(
                "{}: its {} voters ({}) are in {} of {} zones: `starling keyspace voters`",
                info.name,
                voters.len(),
                voters.join(", "),
                places.len(),
                there_are.len()
            )
        })
    };
    Checked::Findings(facts.strong.iter().filter_map(crowded).collect())
}

pub fn neighbours(facts: &Facts) -> Checked {
    let zones = zones(facts);
    if zones.values().collect::<BTreeSet<_>>().len() < 2 {
        return Checked::Unknown("fewer than two zones are named by labels (zone=, region=)".into());
    }
    each(facts, |node| {
        let Some(own) = zones.get(node.status.name.as_str()) else { return Vec::new() };
        let active: Vec<_> = node.peers.peers.iter().filter(|peer| peer.view == "active").collect();
        let elsewhere = |name: &str| zones.get(name).is_some_and(|zone| zone != own);
        let is_alone = !active.is_empty() && !active.iter().any(|peer| elsewhere(&peer.name));
        is_alone
            .then(|| format!("all {} neighbours are in its own zone {own}", active.len()))
            .into_iter()
            .collect()
    })
}

pub fn names(facts: &Facts) -> Checked {
    let mut ids: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in &facts.crawl.nodes {
        ids.entry(&node.name).or_default().push(short(&node.id));
    }
    let twice = ids.iter().filter(|(_, ids)| ids.len() > 1);
    Checked::Findings(twice.map(|(name, ids)| format!("{name} names {}", ids.join(" and "))).collect())
}
