//! Who is unhealthy, and the steps by which each is retired. Decided from facts alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use starling_api::strong::StrongInfo;

use crate::attach::REPLICA;
use crate::conformity::{Facts, NodeFacts, zones};

/// An unhealthy node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Patient {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
    /// Its place in the fleet, if it answers.
    #[serde(skip)]
    at: Option<usize>,
}

/// A healthy node that votes in the place of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Substitute {
    /// Its id.
    pub id: String,
    name: String,
}

/// A step of a retirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A healthy node votes in its place.
    Replace {
        /// In this keyspace.
        keyspace: String,
        /// That node.
        by: Substitute,
    },
    /// It hands its votes over, and leaves.
    Leave {
        /// Its place in the fleet.
        at: usize,
    },
    /// The authority revokes it.
    Revoke,
    /// It keeps its place, and why.
    Keep(String),
}

impl Step {
    /// The command that does the same, or why nothing is done.
    pub fn command(&self, patient: &Patient) -> String {
        match self {
            Self::Replace { keyspace, by } => {
                format!("starling keyspace voters replace {keyspace} {} {}", patient.name, by.name)
            }
            Self::Leave { .. } => format!("starling leave (on {})", patient.name),
            Self::Revoke => format!("starling member revoke {} --key FILE", patient.name),
            Self::Keep(reason) => reason.clone(),
        }
    }
}

/// The unhealthy nodes: those that answered neither at the beginning nor at the end, and those whose storage failed at both.
pub fn patients(facts: &Facts) -> Vec<Patient> {
    let silent = facts.silent_members().map(|node| Patient {
        id: node.id.clone(),
        name: node.name.clone(),
        why: "it does not answer".into(),
        at: None,
    });
    let full = facts.nodes.iter().filter(|node| has_failed(node)).map(|node| Patient {
        id: node.status.id.clone(),
        name: node.status.name.clone(),
        why: node.status.storage_error.clone().unwrap_or_default(),
        at: Some(node.at),
    });
    silent.chain(full).collect()
}

fn has_failed(node: &NodeFacts) -> bool {
    node.before.storage_error.is_some() && node.status.storage_error.is_some()
}

/// The place in the fleet of a healthy node, through which the network is changed.
pub fn healer(facts: &Facts) -> Option<usize> {
    facts.nodes.iter().find(|node| node.status.role == REPLICA && !has_failed(node)).map(|node| node.at)
}

/// The steps for each unhealthy node.
///
/// # Errors
/// No majority of the network looks healthy: it may be this machine that is cut off.
pub fn plan(facts: &Facts, patients: &[Patient], has_key: bool) -> Result<Vec<Vec<Step>>, String> {
    let is_patient = |id: &str| patients.iter().any(|patient| patient.id == id);
    let replicas = facts.crawl.nodes.iter().filter(|node| node.role == REPLICA && !is_patient(&node.id));
    let healthy: BTreeMap<&str, &str> = replicas.map(|node| (node.id.as_str(), node.name.as_str())).collect();
    if !patients.is_empty() && healthy.len() <= patients.len() {
        return Err(format!(
            "{} of {} nodes look unhealthy: nothing is retired, because this machine or the network between may be at fault",
            patients.len(),
            patients.len() + healthy.len()
        ));
    }
    let mut votes = Votes { facts, healthy, chosen: BTreeSet::new() };
    Ok(patients.iter().map(|patient| votes.steps(patient, &is_patient, has_key)).collect())
}

/// Who may vote in the place of others.
struct Votes<'a> {
    facts: &'a Facts,
    /// Names of healthy replicas by id.
    healthy: BTreeMap<&'a str, &'a str>,
    /// Keyspaces and ids of nodes that are to vote there.
    chosen: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Votes<'a> {
    fn steps(&mut self, patient: &Patient, is_patient: &impl Fn(&str) -> bool, has_key: bool) -> Vec<Step> {
        let facts = self.facts;
        let votes = |info: &&StrongInfo| voters(info).any(|id| id == patient.id);
        let unknown =
            facts.strong_names().filter(|name| !facts.strong.iter().any(|info| info.name == **name));
        let mut steps: Vec<Step> = unknown
            .map(|name| Step::Keep(format!("{name}: no member answers, so it may vote there")))
            .collect();
        for info in facts.strong.iter().filter(votes) {
            let healthy = voters(info).filter(|id| !is_patient(id)).count();
            let all = voters(info).count();
            let keyspace = &info.name;
            if healthy * 2 <= all {
                steps.push(Step::Keep(format!(
                    "{keyspace}: {healthy} of its {all} voters are healthy, which is no majority: see `starling keyspace recover --help`"
                )));
            } else if patient.at.is_none() {
                steps.push(match self.substitute(info) {
                    Some(by) => Step::Replace { keyspace: keyspace.clone(), by },
                    None => Step::Keep(format!("{keyspace}: no healthy node is free to vote in its place")),
                });
            }
        }
        if steps.iter().any(|step| matches!(step, Step::Keep(_))) {
            return steps;
        }
        match patient.at {
            Some(at) => steps.push(Step::Leave { at }),
            None if facts.has_authority() && has_key => steps.push(Step::Revoke),
            None => {}
        }
        steps
    }

    /// A healthy node that does not vote in a keyspace, in a zone without a healthy voter of it if there is one.
    fn substitute(&mut self, info: &'a StrongInfo) -> Option<Substitute> {
        let zones = zones(self.facts);
        let zone = |name: &str| zones.get(name);
        let votes =
            |id: &str| voters(info).any(|voter| voter == id) || self.chosen.contains(&(&info.name, id));
        let (voting, free): (Vec<_>, Vec<_>) = self.healthy.iter().partition(|(id, _)| votes(id));
        let used: BTreeSet<_> = voting.iter().filter_map(|(_, name)| zone(name)).collect();
        let is_crowded = |name: &str| zone(name).is_some_and(|zone| used.contains(zone));
        let (id, name) = free.into_iter().min_by_key(|(_, name)| (is_crowded(name), **name))?;
        self.chosen.insert((&info.name, id));
        Some(Substitute { id: (*id).to_owned(), name: (*name).to_owned() })
    }
}

/// Ids of a keyspace's voters.
fn voters(info: &StrongInfo) -> impl Iterator<Item = &str> {
    info.members.iter().filter(|member| member.role == "voter").map(|member| member.id.as_str())
}

#[cfg(test)]
mod tests {
    use starling_api::admin::{Node, Nodes, Status, Unreachable};
    use starling_api::strong::StrongMember;
    use starling_api::trust::Trust;

    use super::*;

    /// Five nodes in the zones a, b, c, a, c, of which the first three vote; the named ones do not answer.
    fn facts(silent: &[&str]) -> Facts {
        let names = [("n1", "a"), ("n2", "b"), ("n3", "c"), ("n4", "a"), ("n5", "b")];
        let up = names.iter().filter(|(name, _)| !silent.contains(name));
        let node = |(name, zone): &(&str, &str)| Node {
            id: format!("id-{name}"),
            name: (*name).into(),
            role: REPLICA.into(),
            labels: BTreeMap::from([("zone".to_owned(), (*zone).to_owned())]),
            ..Node::default()
        };
        let asked = |(at, (name, _)): (usize, &(&str, &str))| NodeFacts {
            at,
            status: Status {
                id: format!("id-{name}"),
                name: (*name).into(),
                role: REPLICA.into(),
                ..Status::default()
            },
            ..NodeFacts::default()
        };
        let unreachable = |name: &&str| Unreachable {
            id: format!("id-{name}"),
            name: (*name).into(),
            ..Unreachable::default()
        };
        let voter = |(name, _): &(&str, &str)| StrongMember {
            id: format!("id-{name}"),
            name: (*name).into(),
            role: "voter".into(),
            ..StrongMember::default()
        };
        Facts {
            nodes: up.clone().enumerate().map(asked).collect(),
            crawl: Nodes {
                nodes: up.map(node).collect(),
                unreachable: silent.iter().map(unreachable).collect(),
                ..Nodes::default()
            },
            strong: vec![StrongInfo {
                name: "orders".into(),
                members: names[..3].iter().map(voter).collect(),
                ..StrongInfo::default()
            }],
            ..Facts::default()
        }
    }

    fn commands(facts: &Facts, has_key: bool) -> Result<Vec<String>, String> {
        let patients = patients(facts);
        let steps = plan(facts, &patients, has_key)?;
        let each = patients.iter().zip(&steps);
        Ok(each.flat_map(|(patient, steps)| steps.iter().map(|step| step.command(patient))).collect())
    }

    #[test]
    fn nobody_is_retired_from_a_healthy_network() {
        assert_eq!(commands(&facts(&[]), true), Ok(Vec::new()));
    }

    #[test]
    fn the_vote_of_a_silent_node_goes_to_one_in_a_zone_without_a_voter_and_the_authority_revokes_it() {
        let mut facts = facts(&["n2"]);
        let replace = "starling keyspace voters replace orders n2 n5";
        assert_eq!(commands(&facts, true), Ok(vec![replace.to_owned()]), "n4 is in the zone of n1");
        let trust = Trust { authority: Some("key".into()), ..Trust::default() };
        facts.nodes[0].trust = Some(trust);
        assert_eq!(commands(&facts, false), Ok(vec![replace.to_owned()]));
        let revoke = "starling member revoke n2 --key FILE";
        assert_eq!(commands(&facts, true), Ok(vec![replace.to_owned(), revoke.to_owned()]));
        facts.nodes[0].trust.as_mut().expect("set above").revoked.push("id-n2".into());
        assert_eq!(commands(&facts, true), Ok(Vec::new()), "it is retired");
    }

    #[test]
    fn a_node_whose_disk_is_full_for_the_whole_time_leaves() {
        let mut facts = facts(&[]);
        facts.nodes[2].status.storage_error = Some("no space".into());
        assert_eq!(commands(&facts, true), Ok(Vec::new()), "it was not full at the beginning");
        facts.nodes[2].before.storage_error = Some("no space".into());
        assert_eq!(commands(&facts, true), Ok(vec!["starling leave (on n3)".to_owned()]));
    }

    #[test]
    fn a_group_without_a_healthy_majority_is_not_changed() {
        let mut facts = facts(&["n1", "n2"]);
        facts.nodes[0].trust = Some(Trust { authority: Some("key".into()), ..Trust::default() });
        let commands = commands(&facts, true).expect("most nodes are healthy");
        assert_eq!(commands.len(), 2);
        assert!(commands.iter().all(|it| it.contains("1 of its 3 voters are healthy")), "{commands:?}");
    }

    #[test]
    fn nothing_is_retired_where_most_nodes_look_unhealthy() {
        let refused = commands(&facts(&["n1", "n4", "n5"]), true).expect_err("three of five");
        assert!(refused.contains("3 of 5"), "{refused}");
    }

    #[test]
    fn two_votes_in_one_keyspace_go_to_two_nodes() {
        let mut facts = facts(&["n1", "n2"]);
        let more = ["n4", "n5"]
            .map(|name| StrongMember { id: format!("id-{name}"), ..facts.strong[0].members[0].clone() });
        facts.strong[0].members.extend(more);
        facts.crawl.nodes.extend([6, 7].map(|n| Node {
            id: format!("id-n{n}"),
            name: format!("n{n}"),
            role: REPLICA.into(),
            ..Node::default()
        }));
        let expected = [("n1", "n6"), ("n2", "n7")];
        let expected =
            expected.map(|(gone, by)| format!("starling keyspace voters replace orders {gone} {by}"));
        assert_eq!(commands(&facts, false), Ok(expected.to_vec()));
    }

    #[test]
    fn a_node_stays_where_it_may_vote_in_a_keyspace_that_does_not_answer() {
        let mut facts = facts(&["n4"]);
        facts.keyspaces = BTreeMap::from([("orders".to_owned(), true), ("bills".to_owned(), true)]);
        let commands = commands(&facts, true).expect("most nodes are healthy");
        assert_eq!(commands, ["bills: no member answers, so it may vote there"]);
    }
}
