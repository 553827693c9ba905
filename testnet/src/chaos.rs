//! `testnet chaos`: faults by the names that they are known by, on processes or in virtual time, and how available the network
//! was to its users meanwhile.
//!
//! The names are those of Netflix's Simian Army (2011). Each is a scenario in testnet/scenarios.

use std::path::PathBuf;

use crate::error::Result;
use crate::{Common, churn, sim};

/// What to break.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Which scenario
    #[arg(value_enum, default_value_t = Name::Monkey)]
    name: Name,
    /// In virtual time instead of on processes
    #[arg(long)]
    simulated: bool,
    /// Run the nodes on the machines that this file names, as `churn` does
    #[arg(long, value_name = "FILE", conflicts_with = "simulated")]
    hosts: Option<PathBuf>,
    /// Write one page with tables and plots that opens without a network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    /// Random nodes are killed, and come back
    Monkey,
    /// A zone is killed
    Gorilla,
    /// A region is killed
    Kong,
    /// The links of some nodes become slow
    Latency,
    /// Regions are killed and stopped in turn under an application whose instances all serve; processes only
    ActiveActive,
    /// Regions are killed and stopped in turn under an application of which one instance serves; processes only
    ActivePassive,
}

impl Name {
    fn scenario(self) -> &'static str {
        match self {
            Self::Monkey => "chaos-monkey",
            Self::Gorilla => "chaos-gorilla",
            Self::Kong => "chaos-kong",
            Self::Latency => "chaos-latency",
            Self::ActiveActive => "chaos-active-active",
            Self::ActivePassive => "chaos-active-passive",
        }
    }
}

impl Options {
    /// Runs the scenario and prints its report.
    pub async fn run(&self, common: &Common) -> Result<()> {
        let scenario = self.name.scenario().to_owned();
        if self.simulated {
            return sim::Options::of(scenario, self.html.clone()).run(common);
        }
        churn::Options::of(scenario, self.hosts.clone(), self.html.clone()).run(common).await
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use starling_sim::scenario::Scenario;

    use super::*;

    #[test]
    fn every_name_is_a_scenario_with_users_whose_voters_survive_a_region() {
        for name in Name::value_variants() {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(format!("scenarios/{}.toml", name.scenario()));
            let scenario: Scenario = starling_sim::scenario::load(&path, &[]).expect("a scenario");
            assert!(scenario.users.is_some_and(|users| users.voters == 3), "{name:?}");
            let places: Vec<_> = (0..scenario.nodes).map(|replica| scenario.zone(replica)).collect();
            let voters = starling_sim::scenario::voters(&places, 3);
            let regions: std::collections::BTreeSet<_> =
                voters.iter().map(|voter| scenario.region(*voter)).collect();
            assert_eq!(regions.len(), 3, "the loss of a region leaves a majority of the voters");
            assert!(!scenario.step.is_empty() && churn::check(&scenario).is_ok(), "{name:?}");
            let is_failover = matches!(name, Name::ActiveActive | Name::ActivePassive);
            assert_eq!(
                scenario.app.is_some(),
                is_failover,
                "{name:?}: an application runs on processes only"
            );
        }
    }
}
