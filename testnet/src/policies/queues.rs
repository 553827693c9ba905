//! Orders of a work queue, beside theory.

use starling_report::Report;
use starling_sim::Threads;
use starling_sim::policies::Estimate;
use starling_sim::policies::queues::{RULES, Scenario, Summary, measure};

use super::show;
use crate::Common;
use crate::error::{Error, Result};

/// What to simulate.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// One scenario, by name [default: all]
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Runs of each order in each scenario, with seeds from --seed on
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
}

impl Options {
    /// Measures the orders.
    pub fn run(&self, common: &Common, threads: &Threads) -> Result<Report> {
        let all = Scenario::named();
        let names: Vec<&str> = all.iter().map(|scenario| scenario.name).collect();
        let names = names.join(", ");
        let is_chosen = |it: &Scenario| self.scenario.as_deref().is_none_or(|name| name == it.name);
        let chosen: Vec<Scenario> = all.into_iter().filter(is_chosen).collect();
        if chosen.is_empty() {
            return Err(Error::Unsupported(format!("there is no such scenario: {names}")));
        }
        let measured: Vec<(Scenario, Vec<(&str, Summary)>)> = chosen
            .into_iter()
            .map(|scenario| {
                let summaries = RULES
                    .map(|(name, rules)| (name, measure(threads, &scenario, &rules, self.runs, common.seed)));
                (scenario, summaries.to_vec())
            })
            .collect();
        let values = serde_json::json!(
            measured
                .iter()
                .map(|(scenario, summaries)| serde_json::json!({
                    "scenario": scenario,
                    "orders": summaries.iter().map(|(name, summary)| serde_json::json!({
                        "order": name, "summary": summary,
                    })).collect::<Vec<_>>(),
                }))
                .collect::<Vec<_>>()
        );
        let mut report = Report::new("Orders of a work queue".to_owned(), &values);
        for (scenario, summaries) in &measured {
            let workers = scenario.speeds.len() as f64;
            report = report.line(format!("{}: {}", scenario.name, scenario.about));
            report = report.table(COLUMNS, summaries.iter().map(|(name, summary)| row(name, summary)));
            if scenario.name == "identical" {
                let graham = 4.0 / 3.0 - 1.0 / (3.0 * workers);
                report = report.line(format!(
                    "Longest first ends at most {graham:.3} times later than the best schedule (Graham 1969), and any order \
                     at most {:.3} times (Graham 1966).",
                    2.0 - 1.0 / workers
                ));
            }
        }
        Ok(report.line(LEGEND))
    }
}

const COLUMNS: [&str; 8] =
    ["", "makespan, s", "over bound", "mean wait, s", "theory, s", "of few, s", "longest, s", "utilisation"];
const LEGEND: &str = "Means over the runs, with standard errors; costs are 1 s on average. `over bound`: the makespan over what no\n\
     schedule can fall below. `of few`: the mean wait of the tenant `few`. `theory`: the mean wait of these costs where\n\
     items are there at once; M/M/1 and M/M/m in the order of arrival; Phipps 1956 for the shortest first.";

fn row(name: &str, summary: &Summary) -> [String; 8] {
    let theory =
        summary.theory_s.map_or_else(|| "-".into(), |theory: Estimate| format!("{:.2}", theory.mean));
    [
        name.into(),
        show(summary.makespan_s),
        show(summary.over_bound),
        show(summary.wait_s),
        theory,
        show(summary.few_wait_s),
        show(summary.longest_s),
        show(summary.utilisation),
    ]
}
