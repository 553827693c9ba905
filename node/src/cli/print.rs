//! Printing: tables, JSON, or raw bytes.

use std::borrow::Cow;
use std::io::{IsTerminal, Write, stderr, stdout};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use starling_api::{Blob, Data, escaped, is_obeyed};

use super::args::Output;
use super::failure::Failure;

/// Longest cell that widens the column of a table outside of a terminal, characters. An estimate: two terminals' width.
const COLUMN_CHARS_MAX: usize = 160;

/// What a command returns.
pub type Result = std::result::Result<(), Failure>;

/// Prints one line of text.
pub fn line(text: impl AsRef<str>) -> Result {
    raw_line(shown(text.as_ref()).as_bytes())
}

/// A text without what a terminal obeys, but with line feeds and tabs: names, labels and messages come from other machines.
/// What is left out is written as JSON writes it, so that JSON stays valid.
fn shown(text: &str) -> Cow<'_, str> {
    escaped_where(text, |c| is_obeyed(c) && !matches!(c, '\n' | '\t'))
}

/// A cell of a table, which is one line.
fn cell(text: &str) -> Cow<'_, str> {
    escaped_where(text, is_obeyed)
}

fn escaped_where(text: &str, is_escaped: impl Fn(char) -> bool + Copy) -> Cow<'_, str> {
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if is_escaped(c) { format!("\\u{:04x}", u32::from(c)) } else { c.into() };
    Cow::Owned(text.chars().map(escape).collect())
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
    let _ = writeln!(stderr().lock(), "{}", shown(text.as_ref()));
}

/// Prints a note about the result on standard error.
pub fn note(text: impl AsRef<str>) {
    stderr_line(format!("note: {}", text.as_ref()));
}

/// Prints a note for a person who waits at a terminal.
pub fn waiting(text: impl AsRef<str>) {
    if stderr().is_terminal() {
        note(text);
    }
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
    let rows = rows.into_iter().map(|row| row.map(|text| cell(&text).into_owned()));
    let mut table = Table::new();
    // A terminal may have no size, as behind a pseudo-terminal of a program.
    if !stdout().is_terminal() || table.width().is_none_or(|width| width == 0) {
        return lines(&columns(header, rows));
    }
    table.load_style(presets::NOTHING).set_header(header);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for row in rows {
        table.add_row(row);
    }
    line(table.trim_fmt())
}

/// Rows in columns under a header, one line each, whatever their length. A column is as wide as its widest cell of at most
/// [`COLUMN_CHARS_MAX`] characters.
fn columns<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Vec<String> {
    let rows: Vec<[String; N]> = [header.map(Into::into)].into_iter().chain(rows).collect();
    let chars = |row: &[String; N], at: usize| row[at].chars().count();
    let width =
        |at| rows.iter().map(|row| chars(row, at)).filter(|n| *n <= COLUMN_CHARS_MAX).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn lines(lines: &[String]) -> Result {
    lines.iter().try_for_each(line)
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

/// A number of things, `one` of which is called so.
pub fn count(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
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

/// A span of time that may be shorter than a second, as text.
pub fn duration(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { span(ms) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_printed() {
        let name = "anna\u{1b}[2J\u{9b}1A\r";
        assert_eq!(shown(name), r"anna\u001b[2J\u009b1A\u000d");
        assert_eq!(shown("two\n\tlines é"), "two\n\tlines é");
        assert_eq!(shown("مفتاح a\u{202e}b"), r"مفتاح a\u202eb", "what turns the line around");
        let json = serde_json::to_string(name).expect("serializes");
        assert_eq!(serde_json::from_str::<String>(&shown(&json)).expect("still JSON"), name);
        assert_eq!(cell("carl\nmallory  up"), r"carl\u000amallory  up", "a cell has one line");
    }

    #[test]
    fn a_row_of_a_table_is_one_line_whatever_its_length() {
        let long = "v".repeat(200_000);
        let rows = [["k".to_owned(), long.clone()], ["key".to_owned(), "w".to_owned()]];
        let lines = columns(["KEY", "VALUE"], rows);
        assert_eq!(lines, ["KEY  VALUE", &format!("k    {long}"), "key  w"]);
        let rows = [[long.clone(), "w".to_owned()]];
        assert_eq!(columns(["KEY", "VALUE"], rows)[0], "KEY  VALUE", "one long key widens no other row");
    }

    #[test]
    fn sizes_and_spans_read_well() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1_500), "1.5 kB");
        assert_eq!(size(2_000_000), "2.0 MB");
        assert_eq!(span(59_000), "59s");
        assert_eq!(span(61_000), "1m1s");
        assert_eq!(span(3_660_000), "1h1m");
        assert_eq!(span(90_000_000), "1d1h");
        assert_eq!(duration(999), "999 ms");
        assert_eq!(duration(245_999), "4m5s");
    }
}
