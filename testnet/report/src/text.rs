//! Runs on a terminal.

use crate::compare::{Compared, compare, header, labels};
use crate::figures::{Row, Section, sections};
use crate::format::{seconds, thousands};
use crate::model::{Run, Source};
use crate::table::{BARS, bar_row, table};
use crate::verdict::Verdict;

/// The form for a terminal: one run as tables, several side by side with the ratio of each to the
/// first. No runs are an empty text.
pub fn text(runs: &[Run]) -> String {
    match runs {
        [] => String::new(),
        [run] => one(run),
        runs => several(runs),
    }
}

fn one(run: &Run) -> String {
    let title = format!("Starling: {}", run.scenario);
    let mut parts = vec![format!("\n{title}\n{}\n{}", "=".repeat(title.chars().count()), head(run))];
    parts.extend(sections(run).iter().map(section));
    parts.extend(bars(run));
    parts.join("\n\n")
}

/// Verdict first, then what was run and how to run it again.
fn head(run: &Run) -> String {
    let verdict = Verdict::of(run);
    let mut lines = vec![format!("{}: {}", verdict.word(), verdict.text)];
    lines.push(setting(run));
    lines.extend([&run.about, &settings(run)].into_iter().filter(|line| !line.is_empty()).cloned());
    lines.extend(run.limits.iter().map(|limit| format!("note: {limit}")));
    if !run.command.is_empty() {
        lines.push(format!("again with: {}", run.command));
    }
    lines.join("\n")
}

/// How large, for how long, and where.
pub fn setting(run: &Run) -> String {
    let nodes = thousands(run.nodes as u64);
    let measured = seconds(run.measured_ms);
    match &run.source {
        Source::Unknown => format!("{nodes} nodes, {measured} measured"),
        Source::Simulated { seed, trace } => {
            format!(
                "{nodes} nodes simulated, {measured} of virtual time measured, seed {seed}, trace {trace}"
            )
        }
        Source::Processes => {
            // A run on other machines has the clock of each.
            let machines = match run.clocks.len() {
                0 => "one machine".into(),
                count => format!("{count} machines"),
            };
            format!("{nodes} real processes on {machines}, {measured} measured")
        }
        Source::Attached { asked } => {
            format!("{asked} of {nodes} nodes of a running network asked, {measured} measured")
        }
    }
}

/// What was set, in one line.
pub fn settings(run: &Run) -> String {
    let shown = run.settings.iter().map(|(name, value)| format!("{name}: {value}"));
    shown.collect::<Vec<_>>().join("; ")
}

/// A section as a table; it has at least one row.
pub fn section(section: &Section) -> String {
    let columns = section.rows[0].cells.iter().map(|(column, _)| (*column).to_string());
    let head = std::iter::once(section.title.to_string()).chain(columns);
    let cells = |row: &Row| {
        let values: Vec<String> = row.cells.iter().map(|(_, value)| value.show()).collect();
        std::iter::once(row.name.clone()).chain(values)
    };
    table(head, section.rows.iter().map(cells))
}

fn bars(run: &Run) -> Option<String> {
    (!run.bars.is_empty()).then(|| table(BARS.map(str::to_string), run.bars.iter().map(bar_row)))
}

fn several(runs: &[Run]) -> String {
    let labels = labels(runs);
    let title = format!("Starling: {} runs", runs.len());
    let mut parts = vec![format!("\n{title}\n{}", "=".repeat(title.chars().count()))];
    for (label, run) in labels.iter().zip(runs) {
        parts.push(format!("{label} ({})\n{}", run.scenario, head(run)));
    }
    for comparison in compare(runs) {
        let mut head = header(&labels);
        head[0] = comparison.title.to_string();
        parts.push(table(head, comparison.rows.iter().map(Compared::cells)));
    }
    for (label, run) in labels.iter().zip(runs) {
        parts.extend(bars(run).map(|bars| format!("targets of {label}\n{bars}")));
    }
    parts.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Clock;
    use crate::model::example::example;

    #[test]
    fn the_verdict_comes_first_and_every_part_follows() {
        let text = text(&[example("churn", 1)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1..3], ["Starling: churn", "==============="]);
        assert!(
            lines[3].starts_with("BAD: all 1,000 acknowledged writes on every live node"),
            "{}",
            lines[3]
        );
        for part in
            ["Convergence", "Writes", "RMR", "announce", "clustering", "false positives", "split into 2"]
        {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        assert!(
            text.contains("not by the end") && text.contains("ns per event") && text.contains("<= 0.050")
        );
        assert!(lines.iter().all(|line| line.chars().count() <= 132), "{text}");
    }

    #[test]
    fn parts_that_were_not_measured_are_left_out() {
        let text = text(&[Run::default()]);
        assert!(
            !text.contains("Convergence") && !text.contains("Dissemination") && !text.contains("Healing")
        );
        assert!(text.contains("no write was acknowledged"), "{text}");
    }

    #[test]
    fn a_run_on_other_machines_says_how_many_they_are() {
        let run = |clocks| Run { source: Source::Processes, nodes: 5, clocks, ..Run::default() };
        assert!(setting(&run(Vec::new())).starts_with("5 real processes on one machine,"));
        assert!(setting(&run(vec![Clock::default(); 2])).starts_with("5 real processes on 2 machines,"));
    }

    #[test]
    fn several_runs_share_their_tables() {
        let text = text(&[example("churn", 1), example("churn", 2)]);
        assert!(text.contains("seed 1") && text.contains("seed 2") && text.contains("x2.00"), "{text}");
        assert_eq!(text.matches("readable on every node: p50 ms").count(), 1);
    }
}
