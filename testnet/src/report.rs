//! Results, once for people and once for programs.

use std::io::Write;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use serde::Serialize;
use serde_json::{Value, json};

use crate::stats::Summary;

/// Lines around the head and below the last row, and no others.
const STYLE: TableStyle = TableStyle::new()
    .top_border(LineStyle::none().fill('─').junction('─'))
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .bottom_border(LineStyle::none().fill('─').junction('─'));

/// How results are printed on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// One JSON object.
    Json,
}

/// The results of one run.
#[derive(Debug)]
pub struct Report {
    title: String,
    values: Value,
    parts: Vec<String>,
    bars: Vec<Bar>,
}

/// A figure with the bar it has to stay under.
#[derive(Clone, Debug, Serialize)]
struct Bar {
    figure: String,
    measured: f64,
    at_most: f64,
    unit: &'static str,
    met: bool,
}

impl Report {
    /// Starts a report; `values` is what `--output json` shows under `results`.
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
        let mut table = Table::new();
        table.load_style(STYLE).set_header(header).add_rows(rows);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        self.parts.push(table.to_string());
        self
    }

    /// Adds a table of durations.
    #[must_use]
    pub fn summaries(self, what: &str, rows: impl IntoIterator<Item = (&'static str, Summary)>) -> Self {
        let rows = rows.into_iter().map(|(name, s)| {
            let ms = [s.p50_ms, s.p90_ms, s.p99_ms, s.max_ms].map(|v| format!("{v:.1}"));
            let [p50, p90, p99, max] = ms;
            [name.to_string(), s.count.to_string(), p50, p90, p99, max]
        });
        self.table([what, "n", "p50 ms", "p90 ms", "p99 ms", "max ms"], rows)
    }

    /// States a figure beside the bar that it must not exceed.
    #[must_use]
    pub fn bar(mut self, figure: impl Into<String>, measured: f64, unit: &'static str, at_most: f64) -> Self {
        self.bars.push(Bar { figure: figure.into(), measured, at_most, unit, met: measured <= at_most });
        self
    }

    /// Prints it. A closed standard output is not an error of the measurement.
    pub fn print(self, output: Output) {
        let text = match output {
            Output::Json => {
                json!({ "title": self.title, "results": self.values, "bars": self.bars }).to_string()
            }
            Output::Table => self.text(),
        };
        let mut stdout = std::io::stdout().lock();
        let _ = writeln!(stdout, "{text}");
    }

    fn text(mut self) -> String {
        let bars = std::mem::take(&mut self.bars);
        if !bars.is_empty() {
            let rows: Vec<[String; 4]> = bars.iter().map(Bar::row).collect();
            self = self.table(["figure", "measured", "bar", "met"], rows);
        }
        let underline = "=".repeat(self.title.chars().count());
        format!("\n{}\n{underline}\n{}", self.title, self.parts.join("\n\n"))
    }
}

impl Bar {
    fn row(&self) -> [String; 4] {
        let show = |value: f64| format!("{} {}", number(value), self.unit);
        let met = if self.met { "yes" } else { "NO" };
        [self.figure.clone(), show(self.measured), format!("<= {}", show(self.at_most)), met.into()]
    }
}

/// Two decimals for small numbers, none for large ones.
pub fn number(value: f64) -> String {
    if value.abs() < 10.0 {
        format!("{value:.2}")
    } else if value.abs() < 1000.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// Bytes as people read them, powers of 1000.
pub fn bytes(count: u64) -> String {
    let value = count as f64;
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{} kB", number(value / 1e3)),
        1_000_000..1_000_000_000 => format!("{} MB", number(value / 1e6)),
        _ => format!("{} GB", number(value / 1e9)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_missed_bar_says_no_in_the_table_and_false_in_json() {
        let report =
            || Report::new("Idle", &json!({ "nodes": 64 })).bar("bytes/s per node", 812.0, "B/s", 800.0);
        let text = report().text();
        assert!(text.contains("812.0 B/s") && text.contains("<= 800.0 B/s") && text.contains("NO"), "{text}");
        assert!(!report().bars[0].met);
    }

    #[test]
    fn durations_are_shown_in_milliseconds() {
        let summary = Summary::of(&[Duration::from_micros(1234)]);
        let text = Report::new("t", &()).summaries("phase", [("write", summary)]).text();
        assert!(text.contains("p99 ms") && text.contains("1.2"), "{text}");
    }

    #[test]
    fn bytes_are_scaled() {
        assert_eq!([bytes(999), bytes(15_600), bytes(2_500_000)], ["999 B", "15.6 kB", "2.50 MB"]);
    }
}
