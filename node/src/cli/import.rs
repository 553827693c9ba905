//! `starling import`: many writes from NDJSON or CSV, in batches, several in flight.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures::stream::{self, StreamExt};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value};
use starling_api::{Batch, Blob, Entry, Op, Write};

use super::Session;
use super::args::{ImportArgs, ImportFormat, Output};
use super::failure::Failure;
use super::print::{self, Result};

/// Writes in one request, at most.
const BATCH_WRITES: usize = 500;
/// A request is sent when its keys and values reach this, bytes.
const BATCH_BYTES: usize = 512 << 10;
/// Requests in flight: enough to keep the node busy while the next ones are read; a guess.
const IN_FLIGHT: usize = 4;

/// Writes of consecutive records.
#[derive(Default)]
struct Chunk {
    first: u64,
    records: u64,
    bytes: usize,
    writes: Vec<Write>,
}

impl Session {
    pub(super) async fn import(&self, args: ImportArgs) -> Result {
        let format = args.format.unwrap_or_else(|| format_of(&args.file));
        let started = Instant::now();
        let progress = progress_bar(&args.file);
        let input = progress.wrap_read(open(&args.file)?);
        let keyspace = self.keyspace_given.then(|| self.keyspace.clone());
        let reader = RecordReader::new(input, format, args.key_field, keyspace)?;
        let mut done =
            stream::iter(Chunks { reader, failed: false }).map(|chunk| self.send(chunk)).buffered(IN_FLIGHT);
        let mut records = 0;
        while let Some(sent) = done.next().await {
            records += sent.inspect_err(|_| progress.abandon())?;
        }
        progress.finish_and_clear();
        let seconds = started.elapsed().as_secs_f64();
        let rate = records as f64 / seconds.max(0.001);
        match self.output {
            Output::Json => print::json(&serde_json::json!({ "records": records, "seconds": seconds })),
            _ => print::line(format!("{records} records in {seconds:.2} s ({rate:.0} records/s)")),
        }
    }

    async fn send(&self, chunk: std::result::Result<Chunk, Failure>) -> std::result::Result<u64, Failure> {
        let chunk = chunk?;
        let batch = Batch { writes: chunk.writes };
        self.client.batch(&batch).await.map_err(|error| {
            let mut failure = Failure::from(error);
            let last = chunk.first + chunk.records - 1;
            failure.message =
                format!("records {} to {last} were not imported: {}", chunk.first, failure.message);
            failure
        })?;
        Ok(chunk.records)
    }
}

/// Records gathered into requests.
struct Chunks<R: Read> {
    reader: RecordReader<R>,
    failed: bool,
}

impl<R: Read> Iterator for Chunks<R> {
    type Item = std::result::Result<Chunk, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let mut chunk = Chunk { first: self.reader.count + 1, ..Chunk::default() };
        while chunk.writes.len() < BATCH_WRITES && chunk.bytes < BATCH_BYTES {
            match self.reader.next_record() {
                Ok(Some(writes)) => {
                    chunk.records += 1;
                    chunk.bytes += writes.iter().map(Write::payload_bytes).sum::<usize>();
                    chunk.writes.extend(writes);
                }
                Ok(None) => break,
                Err(failure) => {
                    self.failed = true;
                    return Some(Err(failure));
                }
            }
        }
        (chunk.records > 0).then_some(Ok(chunk))
    }
}

enum Source<R: Read> {
    Ndjson(BufReader<R>),
    Csv { reader: csv::Reader<R>, header: Vec<String>, plain: bool },
}

/// Turns records into writes.
struct RecordReader<R: Read> {
    source: Source<R>,
    key_field: Option<String>,
    /// Named on the command line: wins over the record's own.
    keyspace: Option<String>,
    /// Records read.
    count: u64,
}

impl<R: Read> RecordReader<R> {
    fn new(
        input: R,
        format: ImportFormat,
        key_field: Option<String>,
        keyspace: Option<String>,
    ) -> std::result::Result<Self, Failure> {
        let source = match format {
            ImportFormat::Ndjson => Source::Ndjson(BufReader::new(input)),
            ImportFormat::Csv => {
                let mut reader = csv::Reader::from_reader(input);
                let header = reader.headers().map_err(|e| malformed(0, &e.to_string()))?;
                let header: Vec<String> = header.iter().map(Into::into).collect();
                let plain = key_field.is_none() && header == ["key", "value"];
                Source::Csv { reader, header, plain }
            }
        };
        Ok(Self { source, key_field, keyspace, count: 0 })
    }

    fn next_record(&mut self) -> std::result::Result<Option<Vec<Write>>, Failure> {
        let number = self.count + 1;
        let writes = match &mut self.source {
            Source::Ndjson(lines) => loop {
                let mut line = String::new();
                if lines.read_line(&mut line).map_err(|e| malformed(number, &e.to_string()))? == 0 {
                    return Ok(None);
                }
                let line = line.trim();
                if !line.is_empty() {
                    break ndjson_record(line, self.key_field.as_deref(), self.keyspace.as_deref());
                }
            },
            Source::Csv { reader, header, plain } => {
                let mut record = csv::StringRecord::new();
                if !reader.read_record(&mut record).map_err(|e| malformed(number, &e.to_string()))? {
                    return Ok(None);
                }
                csv_record(&record, header, *plain, self.key_field.as_deref(), self.keyspace.as_deref())
            }
        };
        self.count = number;
        writes.map(Some).map_err(|reason| malformed(number, &reason))
    }
}

fn malformed(record: u64, reason: &str) -> Failure {
    let hint = "NDJSON wants {\"key\": ..., \"value\": ...} on each line, CSV a header line; --key-field names \
                the field that holds the key (earlier records may have been imported; importing again is safe \
                for all but counters)";
    Failure::failed(format!("record {record}: {reason}"), hint)
}

type Writes = std::result::Result<Vec<Write>, String>;

fn put(keyspace: Option<&str>, key: Blob, value: Vec<u8>) -> Vec<Write> {
    let keyspace = keyspace.unwrap_or(starling_api::DEFAULT_KEYSPACE);
    vec![Write::new(keyspace, key.0, Op::Put { value: value.into() })]
}

/// The key in a field: text as it is, numbers in digits.
fn key_in(record: &Map<String, Value>, field: &str) -> std::result::Result<Blob, String> {
    match record.get(field) {
        Some(Value::String(text)) => Ok(text.as_str().into()),
        Some(Value::Number(number)) => Ok(number.to_string().into()),
        Some(_) => Err(format!("the field {field:?} holds neither text nor a number")),
        None => Err(format!("there is no field {field:?}")),
    }
}

fn ndjson_record(line: &str, key_field: Option<&str>, keyspace: Option<&str>) -> Writes {
    let record: Map<String, Value> = serde_json::from_str(line).map_err(|e| e.to_string())?;
    if let Some(field) = key_field {
        return Ok(put(keyspace, key_in(&record, field)?, line.as_bytes().to_vec()));
    }
    if record.contains_key("type") && record.contains_key("keyspace") {
        let entry: Entry = serde_json::from_value(Value::Object(record)).map_err(|e| e.to_string())?;
        return Ok(exported_record(entry, keyspace, wall_ms()));
    }
    let key = key_in(&record, "key")?;
    let value = match record.get("value") {
        Some(Value::String(text)) => text.as_bytes().to_vec(),
        Some(other) => other.to_string().into_bytes(),
        None => return Err("there is no field \"value\"".into()),
    };
    Ok(put(keyspace.or(record.get("keyspace").and_then(Value::as_str)), key, value))
}

/// What `export` wrote; what has expired since is left out. Of siblings the shown one is imported.
fn exported_record(entry: Entry, keyspace: Option<&str>, wall_ms: u64) -> Vec<Write> {
    let (op, expires_at_ms) = entry.data.restore();
    let ttl_ms = expires_at_ms.map(|at| at.saturating_sub(wall_ms));
    if ttl_ms == Some(0) {
        return Vec::new();
    }
    let keyspace = keyspace.map_or(entry.keyspace, Into::into);
    vec![Write { keyspace, key: entry.key.0, op, ttl_ms, check: None }]
}

fn csv_record(
    record: &csv::StringRecord,
    header: &[String],
    plain: bool,
    key_field: Option<&str>,
    keyspace: Option<&str>,
) -> Writes {
    if plain {
        return Ok(put(keyspace, record[0].into(), record[1].as_bytes().to_vec()));
    }
    let fields = header.iter().cloned().zip(record.iter().map(|value| Value::String(value.into())));
    let object: Map<String, Value> = fields.collect();
    let key = key_in(&object, key_field.unwrap_or("key"))?;
    Ok(put(keyspace, key, Value::Object(object).to_string().into_bytes()))
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
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

#[cfg(test)]
mod tests {
    use super::*;
    use starling_api::{Count, Counter, Data, Register, SetPage};

    fn read(
        text: &str,
        format: ImportFormat,
        key_field: Option<&str>,
    ) -> std::result::Result<Vec<Write>, Failure> {
        let mut reader = RecordReader::new(text.as_bytes(), format, key_field.map(Into::into), None)?;
        let mut writes = Vec::new();
        while let Some(record) = reader.next_record()? {
            writes.extend(record);
        }
        Ok(writes)
    }

    fn puts(writes: &[Write]) -> Vec<(String, String)> {
        let value = |write: &Write| match &write.op {
            Op::Put { value } => Blob::from(&value[..]).escaped(),
            other => format!("{other:?}"),
        };
        writes.iter().map(|write| (Blob::from(&write.key[..]).escaped(), value(write))).collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.into(), value.into())
    }

    #[test]
    fn ndjson_takes_text_and_any_json_as_value() {
        let text = "{\"key\":\"a\",\"value\":\"x\"}\n\n{\"key\":7,\"value\":{\"n\":1}}\n";
        let writes = read(text, ImportFormat::Ndjson, None).expect("valid");
        assert_eq!(puts(&writes), [pair("a", "x"), pair("7", "{\"n\":1}")]);
    }

    #[test]
    fn a_key_field_makes_the_whole_record_the_value() {
        let line = "{\"code\":\"CH\",\"name\":\"Switzerland\"}";
        let writes = read(line, ImportFormat::Ndjson, Some("code")).expect("valid");
        assert_eq!(puts(&writes), [pair("CH", line)]);
        let writes = read("code,name\nCH,Switzerland\n", ImportFormat::Csv, Some("code")).expect("valid");
        assert_eq!(puts(&writes), [pair("CH", line)]);
        let writes = read("key,value\na,\"x,y\"\n", ImportFormat::Csv, None).expect("valid");
        assert_eq!(puts(&writes), [pair("a", "x,y")]);
    }

    #[test]
    fn mistakes_name_their_record() {
        for (text, format) in [
            ("{\"key\":\"a\",\"value\":1}\nnonsense", ImportFormat::Ndjson),
            ("{\"key\":\"a\",\"value\":1}\n{\"key\":\"b\"}", ImportFormat::Ndjson),
            ("key,value\na,b\nc", ImportFormat::Csv),
        ] {
            let failure = read(text, format, None).expect_err("malformed");
            assert!(failure.message.starts_with("record 2: "), "{}", failure.message);
        }
    }

    #[test]
    fn what_export_writes_is_read_back() {
        let entry =
            |data: Data| Entry { keyspace: "k".into(), key: vec![0xff].into(), data, also: Vec::new() };
        let members = vec![Blob::from("m"), Blob(vec![0xfe])];
        let register =
            Register { value: vec![0, 0xff].into(), expires_at_ms: Some(u64::MAX), ..Register::default() };
        for (data, operation) in [
            (Data::Counter(Counter { value: Count(-3) }), Op::Incr { by: -3 }),
            (
                Data::Set(SetPage { members: members.clone(), next: None }),
                Op::SetAdd { members: members.into_iter().map(|member| member.0.into()).collect() },
            ),
            (Data::Register(register), Op::Put { value: vec![0, 0xff].into() }),
        ] {
            let line = serde_json::to_string(&entry(data)).expect("serializes");
            let writes = read(&line, ImportFormat::Ndjson, None).expect("valid");
            assert_eq!(writes.len(), 1);
            assert_eq!((writes[0].keyspace.as_str(), &writes[0].key), ("k", &vec![0xff]));
            assert_eq!(writes[0].op, operation);
        }
        let expired = Register { expires_at_ms: Some(5), ..Register::default() };
        assert!(exported_record(entry(Data::Register(expired)), None, 5).is_empty());
    }

    #[test]
    fn chunks_are_bounded_by_writes_and_bytes() {
        let big = format!("{{\"key\":\"a\",\"value\":\"{}\"}}\n", "x".repeat(BATCH_BYTES / 2));
        let small = "{\"key\":\"a\",\"value\":1}\n".repeat(BATCH_WRITES + 1);
        for (text, sizes) in [(big.repeat(3), vec![2, 1]), (small, vec![500, 1])] {
            let reader = RecordReader::new(text.as_bytes(), ImportFormat::Ndjson, None, None).expect("opens");
            let found: Vec<u64> =
                Chunks { reader, failed: false }.map(|chunk| chunk.expect("valid").records).collect();
            assert_eq!(found, sizes);
        }
    }
}
