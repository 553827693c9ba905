//! Printing: tables, JSON, or raw bytes.

use std::io::{IsTerminal, Write, stderr, stdout};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use starling_api::{Blob, Data, escaped};

use super::args::Output;
use super::failure::Failure;

/// What a command returns.
pub type Result = std::result::Result<(), Failure>;

/// Prints one line of text.
pub fn line(text: impl AsRef<str>) -> Result {
    raw_line(text.as_ref().as_bytes())
}

/// Prints bytes and a line feed.
pub fn raw_line(bytes: &[u8]) -> Result {
    let mut out = stdout().lock();
    out.write_all(bytes)?;
    out.write_all(b"\n")?;
    Ok(())
}

/// Prints exactly these bytes.
pub fn raw(bytes: &[u8]) -> Result {
    let mut out = stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

/// Prints a line on standard error, which may be full or closed: the command goes on.
pub fn stderr_line(text: impl AsRef<str>) {
    let _ = writeln!(stderr().lock(), "{}", text.as_ref());
}

/// Prints a note about the result on standard error.
pub fn note(text: impl AsRef<str>) {
    stderr_line(format!("note: {}", text.as_ref()));
}

/// Prints one JSON document on one line.
pub fn json(value: &impl Serialize) -> Result {
    line(serde_json::to_string(value).expect("the API's types serialize"))
}

/// Prints one value: escaped in a table, exact as raw bytes.
pub fn value(output: Output, value: &[u8]) -> Result {
    match output {
        Output::Raw => raw(value),
        _ => line(escaped(value)),
    }
}

/// Prints rows in columns under a header.
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Result {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    if stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for row in rows {
        table.add_row(row);
    }
    line(table.trim_fmt())
}

/// Prints names and values, one pair a line.
pub fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> Result {
    let pairs: Vec<_> = pairs.into_iter().collect();
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs.iter().try_for_each(|(name, value)| line(format!("{name:width$}  {value}").trim_end()))
}

/// What a key holds on one line.
pub fn summary(data: &Data) -> String {
    match data {
        Data::Register(register) => register.value.escaped(),
        Data::Flag(flag) => if flag.enabled { "on" } else { "off" }.into(),
        Data::Set(page) => {
            let more = if page.next.is_some() { ", ..." } else { "" };
            let members: Vec<_> = page.members.iter().map(Blob::escaped).collect();
            format!("{{{}{more}}}", members.join(", "))
        }
        Data::Map(page) => {
            let more = if page.next.is_some() { ", ..." } else { "" };
            let fields: Vec<_> =
                page.fields.iter().map(|f| format!("{}: {}", f.name.escaped(), f.value.escaped())).collect();
            format!("{{{}{more}}}", fields.join(", "))
        }
        number => number.raw().unwrap_or_default().escaped(),
    }
}

/// A number of bytes as text.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A span of time as text.
pub fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_read_well() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1_500), "1.5 kB");
        assert_eq!(size(2_000_000), "2.0 MB");
        assert_eq!(span(59_000), "59s");
        assert_eq!(span(61_000), "1m1s");
        assert_eq!(span(3_660_000), "1h1m");
        assert_eq!(span(90_000_000), "1d1h");
    }
}
