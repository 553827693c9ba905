//! Several runs side by side: the same figures in one row, and how each stands to the first.

use crate::figures::{Section, Value, sections};
use crate::format::number;
use crate::model::{Run, Source};

/// Figures of one subject over several runs.
#[derive(Debug)]
pub struct Comparison {
    /// The section's heading.
    pub title: &'static str,
    /// What its figures mean.
    pub about: &'static str,
    /// The rows.
    pub rows: Vec<Compared>,
}

/// One figure over several runs.
#[derive(Debug)]
pub struct Compared {
    /// Its name: row and column of the section.
    pub name: String,
    /// One for each run; none: that run has no such figure.
    pub values: Vec<Option<Value>>,
}

/// Columns left out where runs are compared: of a sample the middle and the end say enough, and of
/// traffic what a node has of it per second, whatever the network's size.
const LEFT_OUT: [&str; 5] = ["n", "p90 ms", "messages", "bytes", "share"];

/// Compares runs, in the order of the sections and of their figures' first appearance.
pub fn compare(runs: &[Run]) -> Vec<Comparison> {
    let mut comparisons: Vec<Comparison> = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        for Section { title, about, rows } in sections(run) {
            let at = comparisons.iter().position(|c| c.title == title).unwrap_or_else(|| {
                comparisons.push(Comparison { title, about, rows: Vec::new() });
                comparisons.len() - 1
            });
            for row in rows {
                for (column, value) in row.cells.into_iter().filter(|(column, _)| !LEFT_OUT.contains(column))
                {
                    let name =
                        if row.name.is_empty() { column.into() } else { format!("{}: {column}", row.name) };
                    comparisons[at].put(name, index, runs.len(), value);
                }
            }
        }
    }
    comparisons
}

impl Comparison {
    /// Rows of one name fill in turn, so that two faults of one name stay two rows.
    fn put(&mut self, name: String, run: usize, runs: usize, value: Value) {
        let free = |row: &&mut Compared| row.name == name && row.values[run].is_none();
        if let Some(row) = self.rows.iter_mut().find(free) {
            row.values[run] = Some(value);
            return;
        }
        let mut values = vec![None; runs];
        values[run] = Some(value);
        self.rows.push(Compared { name, values });
    }
}

impl Compared {
    /// The cells of its row: name, then value and ratio for each run (no ratio for the first).
    pub fn cells(&self) -> Vec<String> {
        let shown = |value: &Option<Value>| value.as_ref().map_or("-".into(), Value::show);
        let mut cells = vec![self.name.clone(), shown(&self.values[0])];
        for value in &self.values[1..] {
            cells.extend([shown(value), ratio(value.as_ref(), self.values[0].as_ref())]);
        }
        cells
    }
}

fn ratio(value: Option<&Value>, first: Option<&Value>) -> String {
    match (value.and_then(Value::number), first.and_then(Value::number)) {
        (Some(value), Some(first)) if value.total_cmp(&first).is_eq() => "=".into(),
        (Some(value), Some(first)) if first != 0.0 => format!("x{}", number(value / first)),
        _ => String::new(),
    }
}

/// The head of the table for [`Compared::cells`].
pub fn header(labels: &[String]) -> Vec<String> {
    let mut header = vec![String::new(), labels[0].clone()];
    for label in &labels[1..] {
        header.extend([label.clone(), "ratio".into()]);
    }
    header
}

/// A short name for each run: what tells it from the others.
pub fn labels(runs: &[Run]) -> Vec<String> {
    let parts: Vec<[String; 4]> = runs.iter().map(parts).collect();
    let differs = |part: &usize| parts.iter().any(|other| other[*part] != parts[0][*part]);
    let telling: Vec<usize> = (0..4).filter(differs).collect();
    let label = |own: &[String; 4]| {
        let shown = telling.iter().map(|part| own[*part].as_str()).filter(|part| !part.is_empty());
        shown.collect::<Vec<_>>().join(", ")
    };
    let labels: Vec<String> = parts.iter().map(label).collect();
    let number = |(index, label): (usize, &String)| {
        let twins = labels.iter().filter(|other| *other == label).count();
        if twins > 1 { format!("{label} #{}", index + 1).trim_start().to_string() } else { label.clone() }
    };
    labels.iter().enumerate().map(number).collect()
}

fn parts(run: &Run) -> [String; 4] {
    let (kind, seed) = match &run.source {
        Source::Unknown => ("unknown source", String::new()),
        Source::Simulated { seed, .. } => ("simulated", format!("seed {seed}")),
        Source::Processes => ("processes", String::new()),
        Source::Attached { asked } => ("attached", format!("{asked} nodes asked")),
    };
    [run.scenario.clone(), kind.into(), format!("{} nodes", run.nodes), seed]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Healing;
    use crate::model::example::example;

    #[test]
    fn labels_name_what_differs_and_are_never_equal() {
        let mut real = example("churn", 1);
        real.source = Source::Processes;
        let sim = example("churn", 1);
        assert_eq!(labels(&[sim.clone(), real]), ["simulated, seed 1", "processes"]);
        assert_eq!(labels(&[sim.clone(), example("churn", 2)]), ["seed 1", "seed 2"]);
        assert_eq!(labels(&[sim.clone(), sim.clone()]), ["#1", "#2"]);
        assert_eq!(labels(&[sim]), [""]);
    }

    #[test]
    fn each_figure_is_one_row_with_the_ratio_to_the_first() {
        let runs = [example("churn", 1), example("churn", 2)];
        let all = compare(&runs);
        let row = |title: &str, name: &str| -> Vec<String> {
            let section = all.iter().find(|c| c.title == title).expect("section");
            section.rows.iter().find(|row| row.name == name).expect("row").cells()
        };
        assert_eq!(row("Dissemination", "RMR"), ["RMR", "0.040", "0.080", "x2.00"]);
        assert_eq!(row("Writes", "lost"), ["lost", "0", "0", "="]);
        assert_eq!(row("Convergence", "readable on every node: p50 ms")[1..], ["100.0", "200.0", "x2.00"]);
    }

    #[test]
    fn a_figure_that_one_run_lacks_has_a_gap_and_repeated_faults_stay_apart() {
        let (first, mut second) = (example("churn", 1), example("churn", 1));
        second.cost = None;
        second.healing.push(Healing { equal_ms: Some(7), ..second.healing[0].clone() });
        let all = compare(&[first, second]);
        let cost = all.iter().find(|c| c.title.starts_with("Cost")).expect("cost");
        assert_eq!(cost.rows[0].cells()[2..], ["-", ""]);
        let healing = all.iter().find(|c| c.title == "Healing").expect("healing");
        let equal: Vec<_> = healing.rows.iter().filter(|r| r.name == "split into 2: equal after").collect();
        assert_eq!(equal.len(), 2);
        assert_eq!(equal[1].cells()[1..], ["-", "7 ms", ""]);
    }
}
