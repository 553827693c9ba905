//! `starling import`: many writes from NDJSON or CSV, in groups. A record that is refused is named, and nothing behind it
//! is sent.

pub mod args;
mod csv;
mod missing;
mod records;
mod send;
mod sizes;

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Session;
use super::args::Output;
use super::failure::Failure;
use super::print::{self, Result};
use args::{ImportArgs, ImportFormat};
use records::{Bad, Form};
use send::Importer;

impl Session {
    pub(super) async fn import(&self, args: ImportArgs) -> Result {
        let format = args.format.unwrap_or_else(|| format_of(&args.file));
        if args.delimiter.is_some() && format != ImportFormat::Csv {
            return Err(Failure::usage("--delimiter is for CSV", "add --format csv"));
        }
        let form = Form {
            delimiter: (format == ImportFormat::Csv).then(|| args.delimiter.unwrap_or(b',')),
            key_field: args.key_field.clone(),
            keyspace: self.keyspace_given.then(|| self.keyspace.clone()),
        };
        let started = Instant::now();
        let progress = progress_bar(&args.file);
        let input = progress.wrap_read(open(&args.file)?);
        let mut records = records::open(input, form).map_err(|bad| named("the header", &bad))?;
        let mut importer = Importer::new(self, &args);
        let mut number = 0;
        while let Some(record) = records.next_record() {
            number += 1;
            let ended = match record {
                Err(bad) if !bad.is_fatal && number < args.from => Ok(()),
                Ok(_) if number < args.from => Ok(()),
                Ok((line, item)) => importer.add(number, line, item).await,
                Err(bad) => importer.bad_record(number, &bad).await,
            };
            if let Err(failure) = ended {
                progress.abandon();
                return Err(failure);
            }
        }
        let done = importer.finish().await.inspect_err(|_| progress.abandon())?;
        progress.finish_and_clear();
        let seconds = started.elapsed().as_secs_f64();
        let rate = done.records as f64 / seconds.max(0.001);
        let records = print::count(done.records, "record");
        let left = if args.only_missing {
            format!("; {} left out whose keys exist", done.existing)
        } else {
            String::new()
        };
        match self.output {
            Output::Json => print::json(&serde_json::json!({
                "records": done.records, "existing": done.existing, "skipped": done.skipped, "seconds": seconds
            }))?,
            _ if args.dry_run => {
                let skipped = match done.skipped {
                    0 => String::new(),
                    skipped => {
                        format!(" with --skip-bad, which leaves out {}", print::count(skipped, "record"))
                    }
                };
                print::line(format!("{records} can be imported{skipped}{left}; nothing was written"))?;
            }
            _ => print::line(format!("{records} in {seconds:.2} s ({rate:.0} records/s){left}"))?,
        }
        done.result(&args)
    }
}

/// The failure of a record.
fn named(place: &str, bad: &Bad) -> Failure {
    let hint = if bad.hint.is_empty() { "correct it" } else { &bad.hint };
    Failure::failed(format!("{place}: {} (line {})", bad.reason, bad.line), hint)
}

fn format_of(file: &Path) -> ImportFormat {
    if file.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) {
        ImportFormat::Csv
    } else {
        ImportFormat::Ndjson
    }
}

fn open(file: &Path) -> std::result::Result<Box<dyn Read>, Failure> {
    if file == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    match File::open(file) {
        Ok(opened) => Ok(Box::new(opened)),
        Err(e) => {
            let what = format!("cannot read {}: {e}", file.display());
            Err(Failure::usage(what, "name a readable file, or - for standard input"))
        }
    }
}

/// Shown on a terminal only.
fn progress_bar(file: &Path) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bytes = std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file).map(|m| m.len());
    let template = if bytes.is_some() {
        "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}"
    } else {
        "{spinner} {bytes} {bytes_per_sec}"
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(bytes, ProgressDrawTarget::stderr()).with_style(style)
}
