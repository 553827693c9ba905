//! `testnet chaos`: a network broken by the names that faults are known by, on processes or in virtual time, and how available it
//! was to its users meanwhile; and a running network examined, by the names of those who look after it.
//!
//! The names are those of Netflix's Simian Army (2011). Each fault is a scenario in testnet/scenarios, each examination a set of
//! the rules of `testnet conformity`.

use std::path::PathBuf;

use crate::conformity::{self, Set};
use crate::error::Result;
use crate::{Common, churn, doctor, sim};

/// What to do.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    name: Option<Name>,
    /// Without a name.
    #[command(flatten)]
    run: Run,
}

/// How to run a scenario.
#[derive(Debug, clap::Args)]
struct Run {
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

/// What is broken, or examined.
#[derive(Debug, clap::Subcommand)]
enum Name {
    /// Random nodes are killed, and come back: what runs without a name
    Monkey(Run),
    /// A zone is killed, then another one
    Gorilla(Run),
    /// A region is killed
    Kong(Run),
    /// The links of some nodes become slow
    Latency(Run),
    /// Regions are killed and stopped in turn under an application whose instances all serve; processes only
    ActiveActive(Run),
    /// Regions are killed and stopped in turn under an application of which one instance serves; processes only
    ActivePassive(Run),
    /// Find the unhealthy nodes of a running network, and retire them if asked to
    Doctor(doctor::Options),
    /// Find what is left over in a running network: members that do not answer, orphaned groups, certificates near their end
    Janitor(conformity::Options),
    /// Find the nodes of a running network that differ: version, durability, clock, voters and neighbours in one zone
    Conformity(conformity::Options),
    /// Find weak settings of a running network
    Security(conformity::Options),
}

impl Options {
    /// Runs the scenario or the examination, and prints its report.
    pub async fn run(&self, common: &Common) -> Result<()> {
        let (scenario, run) = match &self.name {
            None => ("chaos-monkey", &self.run),
            Some(Name::Monkey(run)) => ("chaos-monkey", run),
            Some(Name::Gorilla(run)) => ("chaos-gorilla", run),
            Some(Name::Kong(run)) => ("chaos-kong", run),
            Some(Name::Latency(run)) => ("chaos-latency", run),
            Some(Name::ActiveActive(run)) => ("chaos-active-active", run),
            Some(Name::ActivePassive(run)) => ("chaos-active-passive", run),
            Some(Name::Doctor(options)) => return options.run(common).await,
            Some(Name::Janitor(options)) => return options.run(common, Some(Set::Janitor)).await,
            Some(Name::Conformity(options)) => return options.run(common, Some(Set::Conformity)).await,
            Some(Name::Security(options)) => return options.run(common, Some(Set::Security)).await,
        };
        let (scenario, html) = (scenario.to_owned(), run.html.clone());
        if run.simulated {
            return sim::Options::of(scenario, html).run(common);
        }
        churn::Options::of(scenario, run.hosts.clone(), html).run(common).await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use clap::Parser;
    use starling_sim::scenario::{load, voters};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn options_of_a_run_stand_behind_its_name_or_without_one() {
        let parse =
            |words: &[&str]| Line::try_parse_from([&["chaos"], words].concat()).map(|line| line.options);
        let nameless = parse(&["--simulated", "--html", "page"]).expect("monkey").run;
        assert!(nameless.simulated && nameless.html.is_some());
        let named = parse(&["kong", "--simulated"]).expect("kong").name;
        assert!(matches!(named, Some(Name::Kong(Run { simulated: true, .. }))), "{named:?}");
        assert!(parse(&["--simulated", "kong"]).is_err(), "it would run processes");
    }

    #[test]
    fn every_scenario_has_users_whose_voters_survive_a_region() {
        for name in ["monkey", "gorilla", "kong", "latency", "active-active", "active-passive"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
            let scenario = load(&folder.join(format!("chaos-{name}.toml")), &[]).expect("a scenario");
            assert!(scenario.users.is_some_and(|users| users.voters == 3), "{name}");
            let places: Vec<_> = (0..scenario.nodes).map(|replica| scenario.zone(replica)).collect();
            let voters = voters(&places, 3);
            let regions: BTreeSet<_> = voters.iter().map(|voter| scenario.region(*voter)).collect();
            assert_eq!(regions.len(), 3, "the loss of a region leaves a majority of the voters");
            assert!(!scenario.step.is_empty() && churn::check(&scenario).is_ok(), "{name}");
            assert_eq!(scenario.app.is_some(), name.contains("active"), "{name}");
        }
    }
}
