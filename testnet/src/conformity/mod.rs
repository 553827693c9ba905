//! `testnet conformity`: which nodes of a running network break stated rules, as the conformity, doctor, janitor and security
//! monkeys of the Simian Army looked for them. Nothing is written, and nothing is retired: it says what it has found.

mod facts;
mod rules;

use serde::Serialize;
use starling_report::Report;

use crate::Common;
use crate::attach::{Fleet, Reached, Targets};
use crate::error::{Error, Result};
use crate::progress::Phase;
use facts::collect;
use rules::{Checked, RULES};

/// What to look at.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    targets: Targets,
}

/// A rule with what its check came to.
#[derive(Debug, Serialize)]
struct Row {
    rule: &'static str,
    of: &'static str,
    /// "kept", "broken" or "unknown".
    state: &'static str,
    /// The cases in which it is broken, or why it could not be checked.
    findings: Vec<String>,
}

impl Options {
    /// Checks all rules and prints them.
    ///
    /// # Errors
    /// A rule is broken.
    pub async fn run(&self, common: &Common) -> Result<()> {
        let phase = Phase::begin("asking the nodes", 0);
        let Reached { nodes, silent } = self.targets.connect().await?;
        let fleet = Fleet::new(nodes);
        let facts = collect(&fleet).await?;
        phase.done(format!("{} nodes asked, {} in the network", facts.nodes.len(), facts.crawl.nodes.len()));
        for (address, reason) in &silent {
            eprintln!("  no answer from {address}: {reason}");
        }
        let rows: Vec<Row> = RULES
            .iter()
            .map(|rule| {
                let (state, findings) = match (rule.check)(&facts) {
                    Checked::Findings(findings) if findings.is_empty() => ("kept", findings),
                    Checked::Findings(findings) => ("broken", findings),
                    Checked::Unknown(reason) => ("unknown", vec![reason]),
                };
                Row { rule: rule.name, of: rule.of, state, findings }
            })
            .collect();
        common.output.print(&report(&rows, facts.nodes.len(), facts.crawl.nodes.len()));
        let broken = rows.iter().filter(|row| row.state == "broken").count();
        if broken > 0 {
            return Err(Error::Broken(format!("{broken} of {} rules are broken", rows.len())));
        }
        Ok(())
    }
}

fn report(rows: &[Row], asked: usize, nodes: usize) -> Report {
    let title = format!("Starling: rules over {asked} of {nodes} nodes");
    let table = rows.iter().map(|row| [row.rule.to_owned(), row.of.to_owned(), row.state.to_owned()]);
    let found = rows.iter().filter(|row| !row.findings.is_empty());
    let lines = found.map(|row| format!("{} ({}):\n  {}", row.rule, row.state, row.findings.join("\n  ")));
    lines.fold(Report::new(title, &rows).table(["rule", "of", "state"], table), Report::line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_names_every_rule_and_every_finding() {
        let row = |rule, state, findings: &[&str]| Row {
            rule,
            of: "doctor",
            state,
            findings: findings.iter().map(|it| (*it).to_owned()).collect(),
        };
        let rows =
            [row("storage works", "broken", &["n1: full", "n2: full"]), row("names are unique", "kept", &[])];
        let report = report(&rows, 2, 3);
        let text = report.text();
        for part in ["2 of 3 nodes", "storage works", "names are unique", "n1: full\n  n2: full"] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        assert!(report.json().contains("\"state\":\"broken\""), "{}", report.json());
    }
}
