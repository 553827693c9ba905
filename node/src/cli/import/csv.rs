//! CSV (RFC 4180), read strictly: no record is ever swallowed by a quote that nothing closes. (The crate `csv` reads such
//! a field up to the end of the file and reports no error.)

use std::io::{BufRead, Read};

use super::records::{Bad, RECORD_BYTES_MAX, read_line};

/// Reads records of one input.
pub struct Csv<R> {
    input: R,
    delimiter: u8,
    /// Lines read.
    pub lines: u64,
}

/// The place of the next byte within a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Plain,
    Quoted,
    /// Behind a quote within a quoted field: the end of the field, or the first half of an escaped quote.
    Closed,
}

impl<R: BufRead> Csv<R> {
    pub fn new(input: R, delimiter: u8) -> Self {
        Self { input, delimiter, lines: 0 }
    }

    /// The fields of the next record; `None` at the end. Empty lines are skipped. After an error reading goes on at the
    /// next line.
    pub fn next_record(&mut self) -> Result<Option<Vec<String>>, Bad> {
        let mut record = Partial::default();
        let mut line = Vec::new();
        let mut first_line = self.lines + 1;
        loop {
            line.clear();
            if !read_line(&mut self.input, &mut line).map_err(|reason| Bad::fatal(first_line, reason))? {
                return match record.state {
                    State::Quoted => Err(Bad::fatal(
                        first_line,
                        "a quote opens here, and nothing closes it up to the end of the file",
                    )
                    .with_hint("close the quote; a quote within a quoted field is written twice")),
                    _ => Ok(None),
                };
            }
            self.lines += 1;
            if record.state == State::Start && record.is_empty() && line.trim_ascii().is_empty() {
                first_line = self.lines + 1;
                continue;
            }
            record.bytes += line.len();
            if record.bytes > RECORD_BYTES_MAX {
                let reason =
                    format!("a record is longer than {RECORD_BYTES_MAX} bytes: a quote may not be closed");
                return Err(Bad::fatal(first_line, reason));
            }
            let done =
                record.add_line(&line, self.delimiter).map_err(|reason| Bad::new(first_line, reason))?;
            if done {
                return record.fields().map(Some).map_err(|reason| Bad::new(first_line, reason));
            }
        }
    }
}

/// A record in progress.
struct Partial {
    done: Vec<Vec<u8>>,
    field: Vec<u8>,
    state: State,
    bytes: usize,
}

impl Default for Partial {
    fn default() -> Self {
        Self { done: Vec::new(), field: Vec::new(), state: State::Start, bytes: 0 }
    }
}

impl Partial {
    fn is_empty(&self) -> bool {
        self.done.is_empty() && self.field.is_empty()
    }

    /// Adds a line with its end. Returns whether the record ends with it.
    fn add_line(&mut self, line: &[u8], delimiter: u8) -> Result<bool, String> {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        for &byte in text {
            self.state = match (self.state, byte) {
                (State::Start, b'"') => State::Quoted,
                (State::Quoted, b'"') => State::Closed,
                (State::Start | State::Plain | State::Closed, byte) if byte == delimiter => {
                    self.done.push(std::mem::take(&mut self.field));
                    State::Start
                }
                (State::Closed, other) if other != b'"' => {
                    let field = self.done.len() + 1;
                    return Err(format!("in field {field} text follows the closing quote"));
                }
                (State::Start | State::Plain, _) => {
                    self.field.push(byte);
                    State::Plain
                }
                (State::Quoted | State::Closed, _) => {
                    self.field.push(byte);
                    State::Quoted
                }
            };
        }
        if self.state == State::Quoted {
            self.field.extend_from_slice(&line[text.len()..]);
            return Ok(false);
        }
        self.done.push(std::mem::take(&mut self.field));
        Ok(true)
    }

    fn fields(self) -> Result<Vec<String>, String> {
        let text = |(at, field): (usize, Vec<u8>)| {
            String::from_utf8(field).map_err(|_| format!("field {} is not UTF-8", at + 1))
        };
        self.done.into_iter().enumerate().map(text).collect()
    }
}

/// A reader without the byte order mark that it may begin with.
pub fn without_bom<R: BufRead>(mut input: R) -> std::io::Result<impl BufRead> {
    const MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
    let mut start = Vec::with_capacity(MARK.len());
    (&mut input).take(MARK.len() as u64).read_to_end(&mut start)?;
    if start == MARK {
        start.clear();
    }
    Ok(std::io::Cursor::new(start).chain(input))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &[u8]) -> Vec<Result<Vec<String>, Bad>> {
        let mut csv = Csv::new(text, b',');
        std::iter::from_fn(|| csv.next_record().transpose()).collect()
    }

    proptest! {
        #[test]
        fn quoted_fields_are_read_as_they_were_written(rows in proptest::collection::vec(
            proptest::collection::vec("[a,\"\r\n ü]{0,6}", 1..4), 0..5,
        )) {
            let quoted = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
            let line = |row: &Vec<String>| row.iter().map(quoted).collect::<Vec<_>>().join(",") + "\r\n";
            let text: String = rows.iter().map(line).collect();
            let found: Vec<Vec<String>> = read(text.as_bytes()).into_iter().map(|r| r.expect("valid")).collect();
            prop_assert_eq!(found, rows);
        }
    }

    #[test]
    fn what_is_not_closed_or_goes_on_is_refused_where_it_begins() {
        let found = read(b"a,b\n1,2\n3,\"four\n5,6\n7,8\n");
        assert_eq!(found.len(), 3);
        let bad = found[2].as_ref().expect_err("nothing closes the quote");
        assert!(bad.is_fatal && bad.line == 3, "{bad:?}");
        let found = read(b"a,b\n\n1,\"x\ny\" z\nlast,one\n5,6\" pipe");
        assert_eq!(found[1].as_ref().expect_err("text after a quote").line, 3);
        assert_eq!(found[2], Ok(vec!["last".into(), "one".into()]));
        assert_eq!(found[3], Ok(vec!["5".into(), "6\" pipe".into()]));
        assert!(read(b"a\n\xff\n")[1].is_err());
    }
}
