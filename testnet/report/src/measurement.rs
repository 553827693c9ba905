//! The report of one measurement that is no [`crate::Run`]: its own tables, and its bars.

use serde::Serialize;
use serde_json::{Value, json};

use crate::model::{Bar, Limit};
use crate::stats::Summary;
use crate::table::{BARS, bar_row, table};

/// The results of one measurement, once for people and once for programs.
#[derive(Debug)]
pub struct Report {
    title: String,
    values: Value,
    parts: Vec<String>,
    bars: Vec<Bar>,
}

impl Report {
    /// Starts a report; `values` is what its JSON form shows under `results`.
    pub fn new(title: impl Into<String>, values: &impl Serialize) -> Self {
        let values = serde_json::to_value(values).unwrap_or_else(|e| json!({ "error": e.to_string() }));
        Self { title: title.into(), values, parts: Vec::new(), bars: Vec::new() }
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

    /// States a figure beside the bar that it must not exceed.
    #[must_use]
    pub fn bar(mut self, figure: impl Into<String>, measured: f64, unit: &str, at_most: f64) -> Self {
        self.bars.push(Bar::new(figure, measured, unit, Limit::AtMost(at_most)));
        self
    }

    /// The form for programs: `title`, `results` and `bars`.
    pub fn json(&self) -> String {
        json!({ "title": self.title, "results": self.values, "bars": self.bars }).to_string()
    }

    /// The form for people.
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
    fn durations_are_shown_in_milliseconds() {
        let summary = Summary::of(&[Duration::from_micros(1234)]);
        let text = Report::new("t", &()).summaries("phase", [("write", summary)]).text();
        assert!(text.contains("p99 ms") && text.contains("1.2"), "{text}");
    }
}
