//! The report of a measurement that is not a [`crate::Run`]: its own tables, and its figures with their targets.

use serde::Serialize;
use serde_json::{Value, json};

use crate::availability::Availability;
use crate::figures::availability;
use crate::format::number;
use crate::html::measurement;
use crate::model::{Bar, Limit};
use crate::stats::Summary;
use crate::table::{BARS, bar_row, table};
use crate::text::section;

/// The results of one measurement, once for people and once for programs.
#[derive(Debug)]
pub struct Report {
    title: String,
    values: Value,
    parts: Vec<String>,
    bars: Vec<Bar>,
    /// Those that a table of [`Report::side_by_side`] shows.
    compared: Vec<Bar>,
    curves: Vec<Curves>,
}

/// Curves that share a plot.
#[derive(Clone, Debug)]
pub struct Curves {
    /// What they show.
    pub title: String,
    /// Unit of the horizontal axis.
    pub x_unit: String,
    /// Unit of the vertical axis.
    pub y_unit: String,
    /// What is drawn.
    pub lines: Vec<Curve>,
}

/// One curve.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Its name.
    pub name: String,
    /// Its points by ascending x.
    pub points: Vec<(f64, f64)>,
}

/// One load that two systems were put under.
#[derive(Debug)]
pub struct SideBySide {
    /// Which.
    pub load: String,
    /// What the one did, and what the other did if it was there.
    pub did: [Option<String>; 2],
    /// How many times better the one was.
    pub ratio: Option<f64>,
    /// How many times better it has to be, if that is said.
    pub at_least: Option<f64>,
}

impl Report {
    /// Starts a report; `values` is what its JSON form shows under `results`.
    pub fn new(title: impl Into<String>, values: &impl Serialize) -> Self {
        let values = serde_json::to_value(values).unwrap_or_else(|e| json!({ "error": e.to_string() }));
        Self {
            title: title.into(),
            values,
            parts: Vec::new(),
            bars: Vec::new(),
            compared: Vec::new(),
            curves: Vec::new(),
        }
    }

    /// Adds a line of text.
    #[must_use]
    pub fn line(mut self, text: impl Into<String>) -> Self {
        self.parts.push(text.into());
        self
    }

    /// Adds a table. The first column is text, the others are numbers.
    #[must_use]
    pub fn table<const N: usize>(
        mut self,
        header: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> Self {
        self.parts.push(table(header.map(str::to_string), rows));
        self
    }

    /// Adds a table of durations.
    #[must_use]
    pub fn summaries(self, what: &str, rows: impl IntoIterator<Item = (&'static str, Summary)>) -> Self {
        let rows = rows.into_iter().map(|(name, s)| {
            let [p50, p90, p99, max] = [s.p50_ms, s.p90_ms, s.p99_ms, s.max_ms].map(|v| format!("{v:.1}"));
            [name.to_string(), s.count.to_string(), p50, p90, p99, max]
        });
        self.table([what, "n", "p50 ms", "p90 ms", "p99 ms", "max ms"], rows)
    }

    /// Adds a table of how available each kind of operation was, if there were any.
    #[must_use]
    pub fn availability(mut self, kinds: &[Availability]) -> Self {
        if !kinds.is_empty() {
            self.parts.push(section(&availability(kinds)));
        }
        self
    }

    /// Adds a figure with the target that it should not exceed.
    #[must_use]
    pub fn bar(mut self, figure: impl Into<String>, measured: f64, unit: &str, at_most: f64) -> Self {
        self.bars.push(Bar::new(figure, measured, unit, Limit::AtMost(at_most)));
        self
    }

    /// Adds a table of two systems under the same loads, with the targets for their ratios.
    #[must_use]
    pub fn side_by_side(mut self, names: [&str; 2], rows: impl IntoIterator<Item = SideBySide>) -> Self {
        let mut lines = Vec::new();
        for row in rows {
            let bar = row.ratio.zip(row.at_least).map(|(ratio, least)| {
                let figure = format!("{}: {} / {}", row.load, names[0], names[1]);
                Bar::new(figure, ratio, "x", Limit::AtLeast(least))
            });
            let judged = bar.as_ref().map(|bar| {
                let [.., least, met] = bar_row(bar);
                format!("{least}: {met}")
            });
            self.compared.extend(bar);
            let absent = || "-".to_string();
            let [one, other] = row.did.map(|did| did.unwrap_or_else(absent));
            let ratio = row.ratio.map_or_else(absent, |ratio| format!("{} x", number(ratio)));
            lines.push([row.load, one, other, ratio, judged.unwrap_or_default()]);
        }
        self.table(["load", names[0], names[1], "ratio", "target"], lines)
    }

    /// Adds a plot. Only the page shows it.
    #[must_use]
    pub fn curves(mut self, curves: Curves) -> Self {
        self.curves.push(curves);
        self
    }

    /// The report as one page with its plots, which opens without a network.
    pub fn html(&self) -> String {
        measurement(&self.title, &self.curves, &self.text())
    }

    /// The report as JSON: `title`, `results` and `bars`.
    pub fn json(&self) -> String {
        let bars: Vec<_> = self.compared.iter().chain(&self.bars).collect();
        json!({ "title": self.title, "results": self.values, "bars": bars }).to_string()
    }

    /// The report as text.
    pub fn text(&self) -> String {
        let underline = "=".repeat(self.title.chars().count());
        let bars =
            (!self.bars.is_empty()).then(|| table(BARS.map(str::to_string), self.bars.iter().map(bar_row)));
        let parts: Vec<&str> = self.parts.iter().chain(&bars).map(String::as_str).collect();
        format!("\n{}\n{underline}\n{}", self.title, parts.join("\n\n"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_missed_bar_says_no_in_the_table_and_false_in_json() {
        let report = Report::new("Idle", &json!({ "nodes": 64 })).bar("bytes/s", 812.0, "B/s", 800.0);
        let text = report.text();
        assert!(text.contains("812.0 B/s") && text.contains("<= 800.0 B/s") && text.contains("NO"), "{text}");
        let json = report.json();
        assert!(json.contains("\"at_most\":800.0") && json.contains("\"met\":false"), "{json}");
    }

    #[test]
    fn a_comparison_states_its_bar_once() {
        let row = |at_least| SideBySide {
            load: "put".into(),
            did: [Some("12/s".into()), Some("6/s".into())],
            ratio: Some(2.0),
            at_least,
        };
        let alone = SideBySide { did: [Some("7/s".into()), None], ratio: None, ..row(Some(5.0)) };
        let report = Report::new("t", &()).side_by_side(["a", "b"], [row(Some(5.0)), row(None), alone]);
        let (text, json) = (report.text(), report.json());
        assert!(text.contains("2.00 x") && text.matches("NO").count() == 1, "{text}");
        assert!(json.contains("\"put: a / b\"") && json.matches("at_least").count() == 1, "{json}");
    }

    #[test]
    fn the_page_has_the_curves_and_the_text_escaped() {
        let line = |name: &str| Curve { name: name.into(), points: vec![(10.0, 1.0), (1000.0, 3000.0)] };
        let curves = Curves {
            title: "messages".into(),
            x_unit: "nodes".into(),
            y_unit: "1/s".into(),
            lines: vec![line("a ring"), line("to all")],
        };
        let page = Report::new("<Detectors>", &()).line("1 < 2").curves(curves).html();
        for part in ["&lt;Detectors&gt;", "1 &lt; 2", "<svg", "a ring", "to all", "messages"] {
            assert!(page.contains(part), "{part} is missing: {page}");
        }
        assert!(!page.contains("<Detectors>"));
        assert!(!Report::new("no plot", &()).html().contains("<svg"));
    }

    #[test]
    fn availability_is_a_table_unless_nothing_was_counted() {
        let mut all = crate::Availabilities::default();
        all.note(1, "put", [0, 1_000_000], false);
        all.note(1, "put", [1_000_000, 4_000_000], true);
        let text = Report::new("t", &()).availability(&all.report()).text();
        assert!(text.contains("Availability") && text.contains("0.0 %") && text.contains("4.00"), "{text}");
        assert!(!Report::new("t", &()).availability(&[]).text().contains("Availability"));
    }

    #[test]
    fn durations_are_shown_in_milliseconds() {
        let summary = Summary::of(&[Duration::from_micros(1234)]);
        let text = Report::new("t", &()).summaries("phase", [("write", summary)]).text();
        assert!(text.contains("p99 ms") && text.contains("1.2"), "{text}");
    }
}
