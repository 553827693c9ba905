//! `testnet report`: results that were written earlier, shown again or side by side; and how every
//! subcommand shows its results.

use std::io::Write;
use std::path::{Path, PathBuf};

use starling_report::{Report, Run};

use crate::error::{Error, Result};

/// How results are printed on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// JSON, for programs and for `testnet report`.
    Json,
}

impl Output {
    /// Prints the report of one measurement.
    pub fn print(self, report: &Report) {
        put(&match self {
            Self::Table => report.text(),
            Self::Json => report.json(),
        });
    }

    /// Prints runs, and writes them as a page where that was asked for.
    pub fn print_runs(self, runs: &[Run], page: Option<&Path>) -> Result<()> {
        put(&match self {
            Self::Table => starling_report::text(runs),
            Self::Json => starling_report::json(runs),
        });
        let Some(path) = page else { return Ok(()) };
        std::fs::write(path, starling_report::html(runs)).map_err(Error::io(path))?;
        eprintln!("the page is {}", path.display());
        Ok(())
    }
}

/// A closed standard output is not an error of the measurement.
fn put(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// What to show.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Results as `--output json` writes them; the others are compared with the first one
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write one page with tables and plots that opens without a network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Options {
    /// Reads the files and shows their runs.
    pub fn run(&self, output: Output) -> Result<()> {
        let mut runs = Vec::new();
        for file in &self.files {
            runs.extend(starling_report::read(file).map_err(Error::Results)?);
        }
        output.print_runs(&runs, self.html.as_deref())
    }
}
