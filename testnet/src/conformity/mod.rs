//! `testnet conformity`, and the four sets of its rules by the names of the conformity, doctor, janitor and security monkeys of the
//! Simian Army (`testnet chaos NAME`): which nodes of a running network break stated rules. Nothing is written, and nothing is
//! retired: it says what it has found, and with which command it is mended.

mod facts;
mod rules;

use serde::Serialize;
use starling_report::Report;

use crate::Common;
use crate::attach::{Fleet, Targets};
use crate::error::{Error, Result};
use crate::progress::Phase;
pub use facts::{Facts, NodeFacts};
use rules::{Checked, RULES};
pub use rules::{Set, zones};

/// What to look at.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub targets: Targets,
    /// How long to observe: a node counts as silent if it answers neither at the beginning nor at the end
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub seconds: u64,
    /// Have each node check its store too, which reads all of its data
    #[arg(long)]
    pub stores: bool,
}

/// A rule with what its check came to.
#[derive(Debug, Serialize)]
pub struct Row {
    rule: &'static str,
    of: Set,
    /// "kept", "broken" or "unknown".
    pub state: &'static str,
    /// The cases in which it is broken, or why it could not be checked.
    findings: Vec<String>,
}

/// A running network, what its nodes stated, and what the rules came to.
pub struct Examined {
    /// The nodes that were named.
    pub fleet: Fleet,
    /// What they stated.
    pub facts: Facts,
    /// Each rule.
    pub rows: Vec<Row>,
}

impl Options {
    /// Checks the rules of a set, or all, and prints them.
    ///
    /// # Errors
    /// A rule is broken.
    pub async fn run(&self, common: &Common, set: Option<Set>) -> Result<()> {
        let examined = self.examine(set).await?;
        common.output.print(&examined.report(&examined.rows));
        examined.verdict()
    }

    /// Observes the network and checks the rules of a set, or all.
    pub async fn examine(&self, set: Option<Set>) -> Result<Examined> {
        let phase = Phase::begin(format!("observing the nodes for {} s", self.seconds), 0);
        let reached = self.targets.connect().await?;
        let fleet = Fleet::new(reached.nodes.clone());
        let facts = facts::collect(&fleet, &reached, self).await?;
        phase.done(format!("{} nodes asked, {} in the network", facts.nodes.len(), facts.crawl.nodes.len()));
        for (who, why) in &facts.silent {
            eprintln!("  no answer from {who}: {why}");
        }
        let rules = RULES.iter().filter(|rule| set.is_none_or(|set| rule.of == set));
        let rows = rules
            .map(|rule| {
                let (state, findings) = match (rule.check)(&facts) {
                    Checked::Findings(findings) if findings.is_empty() => ("kept", findings),
                    Checked::Findings(findings) => ("broken", findings),
                    Checked::Unknown(reason) => ("unknown", vec![reason]),
                };
                Row { rule: rule.name, of: rule.of, state, findings }
            })
            .collect();
        Ok(Examined { fleet, facts, rows })
    }
}

impl Examined {
    /// The rules as a table, and their findings; `values` is what JSON shows.
    pub fn report(&self, values: &impl Serialize) -> Report {
        report(&self.rows, values, self.facts.nodes.len(), self.facts.crawl.nodes.len())
    }

    /// # Errors
    /// A rule is broken.
    pub fn verdict(&self) -> Result<()> {
        match self.rows.iter().filter(|row| row.state == "broken").count() {
            0 => Ok(()),
            broken => Err(Error::Broken(format!("{broken} of {} rules are broken", self.rows.len()))),
        }
    }
}

fn report(rows: &[Row], values: &impl Serialize, asked: usize, nodes: usize) -> Report {
    let title = format!("Starling: rules over {asked} of {nodes} nodes");
    let table = rows.iter().map(|row| [row.rule.to_owned(), row.of.name().to_owned(), row.state.to_owned()]);
    let found = rows.iter().filter(|row| !row.findings.is_empty());
    let lines = found.map(|row| format!("{} ({}):\n  {}", row.rule, row.state, row.findings.join("\n  ")));
    lines.fold(Report::new(title, values).table(["rule", "of", "state"], table), Report::line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_names_every_rule_and_every_finding() {
        let row = |rule, state, findings: &[&str]| Row {
            rule,
            of: Set::Doctor,
            state,
            findings: findings.iter().map(|it| (*it).to_owned()).collect(),
        };
        let rows =
            [row("storage works", "broken", &["n1: full", "n2: full"]), row("names are unique", "kept", &[])];
        let report = report(&rows, &rows, 2, 3);
        let text = report.text();
        for part in ["2 of 3 nodes", "storage works", "names are unique", "n1: full\n  n2: full"] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        assert!(report.json().contains("\"state\":\"broken\""), "{}", report.json());
        assert!(report.json().contains("\"of\":\"doctor\""), "{}", report.json());
    }
}
