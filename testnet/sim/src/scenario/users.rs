//! Clients that are only there to see how available the network is.

use serde::{Deserialize, Serialize};

/// Most zones of a region: they are named by letters.
pub const ZONES_MAX: usize = 26;

/// Users do one operation after the other, puts and gets in turn, each within its time. Each belongs to a replica, its home. Of
/// each kind there are so many: of an eventual keyspace and of a strong one, those that go to their home only, and those that go
/// to other nodes where it fails.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Users {
    /// Users of each kind. Their homes are spread over the replicas.
    pub count: usize,
    /// Voters of the strong keyspace, in zones as different as there are: 1, 3, 5 or 7; 0: there is none.
    pub voters: u8,
    /// Between two operations of a user, milliseconds.
    pub pause_ms: f64,
    /// An operation that is not answered within this time has failed, milliseconds.
    pub patience_ms: f64,
}

impl Default for Users {
    fn default() -> Self {
        Self { count: 4, voters: 3, pause_ms: 50.0, patience_ms: 2_000.0 }
    }
}

impl Users {
    /// What is wrong with the values, if anything is.
    pub(super) fn check(&self, nodes: usize) -> Result<(), String> {
        if self.count == 0 || self.count > nodes {
            return Err("users.count has to be 1 or more, and no more than there are nodes".into());
        }
        if ![0, 1, 3, 5, 7].contains(&self.voters) || usize::from(self.voters) > nodes {
            return Err("users.voters has to be 0, 1, 3, 5 or 7, and no more than there are nodes".into());
        }
        for (name, ms) in [("pause_ms", self.pause_ms), ("patience_ms", self.patience_ms)] {
            if !(1.0..=600_000.0).contains(&ms) {
                return Err(format!("users.{name} has to be 1 to 600,000 milliseconds, not {ms}"));
            }
        }
        Ok(())
    }
}

/// The replicas that vote: one of each zone in turn, or of each region where there are no zones, from the first replica on.
pub fn voters(places: &[Option<String>], count: usize) -> Vec<usize> {
    apart((0..places.len()).collect(), places, count)
}

/// The homes of users: in as many zones as possible, from the last replica on, so that few of them are voters.
pub fn homes(places: &[Option<String>], count: usize) -> Vec<usize> {
    apart((0..places.len()).rev().collect(), places, count)
}

/// So many of these replicas, in as many places as possible, the first ones of each place.
fn apart(mut left: Vec<usize>, places: &[Option<String>], count: usize) -> Vec<usize> {
    let mut chosen: Vec<usize> = Vec::new();
    while chosen.len() < count && !left.is_empty() {
        let used =
            |replica: &usize| chosen.iter().filter(|other| places[**other] == places[*replica]).count();
        let Some(at) = (0..left.len()).min_by_key(|at| used(&left[*at])) else { break };
        chosen.push(left.remove(at));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Scenario, parse};

    #[test]
    fn replicas_are_dealt_to_regions_and_their_zones() {
        let regions = ["eu", "us"].map(String::from).to_vec();
        let scenario = Scenario { regions, zones: 2, nodes: 8, ..Scenario::default() };
        let zones: Vec<String> = (0..5).filter_map(|replica| scenario.zone(replica)).collect();
        assert_eq!(zones, ["eu-a", "us-a", "eu-b", "us-b", "eu-a"]);
        assert_eq!(scenario.zone_names(), ["eu-a", "eu-b", "us-a", "us-b"]);
        assert_eq!(Scenario { zones: 0, ..scenario }.zone(0), None);
    }

    #[test]
    fn voters_are_in_as_many_zones_as_there_are() {
        let places = ["a", "a", "b", "b", "c"].map(|zone| Some(zone.to_owned()));
        assert_eq!(voters(&places, 3), [0, 2, 4]);
        assert_eq!(voters(&places, 5), [0, 2, 4, 1, 3]);
        assert_eq!(voters(&[None, None, None], 3), [0, 1, 2]);
    }

    #[test]
    fn homes_are_spread_and_values_are_checked() {
        let places = ["a", "b", "c", "a", "b", "c"].map(|zone| Some(zone.to_owned()));
        assert_eq!((homes(&places, 4), voters(&places, 3)), (vec![5, 4, 3, 2], vec![0, 1, 2]));
        for (text, expected) in [
            ("[users]\ncount = 0", "users.count"),
            ("[users]\nvoters = 2", "users.voters"),
            ("[users]\npause_ms = 0", "users.pause_ms"),
            ("zones = 27\nregions = [\"eu\"]", "zones"),
            ("zones = 2", "zones"),
            ("[[step]]\nat_s = 1\ndo = \"kill\"\nnodes = \"zone:eu-a\"", "no zone eu-a"),
            ("[[step]]\nat_s = 1\ndo = \"kill\"\nnodes = \"region:any\"", "no regions"),
        ] {
            let error = parse("wrong", text, &[]).expect_err("it is wrong").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
