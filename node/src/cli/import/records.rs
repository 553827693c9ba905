//! The records of an input, and what each stands for.

use std::fmt;
use std::io::{BufRead, BufReader, Read};

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use starling_api::{Blob, Check, DEFAULT_KEYSPACE, Data, Entry, Op, Write};
use starling_service::wall_ms;

use super::super::coordinate::args::parse_lease;
use super::super::export::{Exported, STRONG_TYPES};
use super::csv::{Csv, without_bom};

/// Longest record, bytes: the largest value in base64 and a whole page of siblings fit. An estimate.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// Why a record is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// The line where it begins, from 1.
    pub line: u64,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub hint: String,
    /// Whether nothing behind it can be read.
    pub is_fatal: bool,
}

impl Bad {
    pub fn new(line: u64, reason: impl Into<String>) -> Self {
        Self { line, reason: reason.into(), hint: String::new(), is_fatal: false }
    }

    pub fn fatal(line: u64, reason: impl Into<String>) -> Self {
        Self { is_fatal: true, ..Self::new(line, reason) }
    }

    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }
}

/// What a record stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Writes to an eventual keyspace, or puts to a strong one. Empty: what was exported has expired since.
    Writes(Vec<Write>),
    /// A key of a strong keyspace.
    Key(StrongKey),
    /// A lease of a strong keyspace.
    Lease {
        /// The keyspace.
        keyspace: String,
        /// Its id.
        id: i64,
        /// How long it lasts, milliseconds.
        ttl_ms: u64,
    },
}

/// A key of a strong keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrongKey {
    pub keyspace: String,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// 0: none.
    pub lease: i64,
    /// Whether the keyspace chose the end of the key, and is to choose it again.
    pub sequential: bool,
}

/// How records are to be read.
#[derive(Clone, Debug, Default)]
pub struct Form {
    /// CSV with this delimiter; `None`: NDJSON.
    pub delimiter: Option<u8>,
    /// The field that holds the key.
    pub key_field: Option<String>,
    /// Named on the command line: wins over the record's own.
    pub keyspace: Option<String>,
}

enum Source<R> {
    Ndjson { lines: R, read: u64 },
    Csv { csv: Csv<R>, header: Vec<String> },
}

/// Reads the records of an input.
pub struct Records<R> {
    source: Source<R>,
    form: Form,
}

impl<R: BufRead> Records<R> {
    /// Reads the header, if there is one.
    pub fn of(input: R, form: Form) -> Result<Self, Bad> {
        let Some(delimiter) = form.delimiter else {
            return Ok(Self { source: Source::Ndjson { lines: input, read: 0 }, form });
        };
        let mut csv = Csv::new(input, delimiter);
        let header = csv.next_record()?.unwrap_or_default();
        let wanted = form.key_field.as_deref().unwrap_or("key");
        for (at, name) in header.iter().enumerate() {
            if header[..at].contains(name) {
                let reason = format!("the header names the column {name:?} twice");
                return Err(Bad::fatal(1, reason).with_hint("give each column a name of its own"));
            }
        }
        if !header.is_empty() && !header.iter().any(|name| name == wanted) {
            let reason = format!("the header has no column {wanted:?}: it is {}", header.join(", "));
            let hint = "--key-field names the column that holds the key; --delimiter what separates columns";
            return Err(Bad::fatal(1, reason).with_hint(hint));
        }
        Ok(Self { source: Source::Csv { csv, header }, form })
    }

    /// The next record and the line where it begins; `None` at the end.
    pub fn next_record(&mut self) -> Option<Result<(u64, Item), Bad>> {
        match &mut self.source {
            Source::Ndjson { lines, read } => {
                let mut line = Vec::new();
                loop {
                    line.clear();
                    match read_line(lines, &mut line) {
                        Err(reason) => return Some(Err(Bad::fatal(*read + 1, reason))),
                        Ok(false) => return None,
                        Ok(true) => *read += 1,
                    }
                    if !line.trim_ascii().is_empty() {
                        let item = ndjson(&line, &self.form);
                        return Some(match item {
                            Ok(item) => Ok((*read, item)),
                            Err((reason, hint)) => Err(Bad::new(*read, reason).with_hint(hint)),
                        });
                    }
                }
            }
            Source::Csv { csv, header } => {
                let line = csv.lines + 1;
                match csv.next_record() {
                    Err(bad) => Some(Err(bad)),
                    Ok(None) => None,
                    Ok(Some(record)) => Some(
                        csv_item(record, header, &self.form)
                            .map_or_else(|reason| Err(Bad::new(line, reason)), |item| Ok((line, item))),
                    ),
                }
            }
        }
    }
}

/// The records of a file or a stream.
pub fn open<R: Read>(input: R, form: Form) -> Result<Records<impl BufRead>, Bad> {
    let input = without_bom(BufReader::new(input)).map_err(|error| Bad::fatal(1, error.to_string()))?;
    Records::of(input, form)
}

/// Adds the next line with its end to `line`. Returns whether there was one.
pub fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool, String> {
    let read = input.take(RECORD_BYTES_MAX as u64 + 1).read_until(b'\n', line).map_err(|e| e.to_string())?;
    if read > RECORD_BYTES_MAX {
        return Err(format!("a line is longer than {RECORD_BYTES_MAX} bytes"));
    }
    Ok(read > 0)
}

/// The fields of a JSON object in their order, each as it is written.
struct Fields<'l>(Vec<(String, &'l RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AllFields;
        impl<'de> Visitor<'de> for AllFields {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields<'de>, M::Error> {
                let mut fields: Vec<(String, &RawValue)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(AllFields)
    }
}

impl<'l> Fields<'l> {
    /// The field of this name as JSON text. A name that is there twice is refused: one of the two would be lost.
    fn get(&self, name: &str) -> Result<Option<&'l str>, String> {
        let mut found = self.0.iter().filter(|(found, _)| found == name).map(|(_, value)| value.get());
        let first = found.next();
        if found.next().is_some() {
            return Err(format!("the field {name:?} is there twice"));
        }
        Ok(first)
    }

    /// The key in a field: text as it is, numbers in the digits that are written there.
    fn key(&self, name: &str) -> Result<Vec<u8>, String> {
        let raw = self.get(name)?.ok_or_else(|| format!("there is no field {name:?}"))?;
        match raw.as_bytes()[0] {
            b'"' => serde_json::from_str::<String>(raw).map(String::into_bytes).map_err(|e| e.to_string()),
            b'-' | b'0'..=b'9' => Ok(raw.as_bytes().to_vec()),
            _ => Err(format!("the field {name:?} holds neither text nor a number")),
        }
    }
}

/// A reason and a hint.
type Refused = (String, &'static str);

fn ndjson(line: &[u8], form: &Form) -> Result<Item, Refused> {
    const RECORD: &str = "a record is {\"key\": ..., \"value\": ...}, a line that `export` wrote, or with --key-field \
                          any JSON object";
    let line = std::str::from_utf8(line.trim_ascii())
        .map_err(|_| ("it is not UTF-8".to_owned(), "write other bytes as {\"base64\": \"...\"}"))?;
    let fields: Fields<'_> = serde_json::from_str(line).map_err(|error| match line.as_bytes()[0] {
        b'{' => (format!("it is not JSON: {error}"), "each record takes one line of its own"),
        b'[' => ("it is a JSON array".into(), "`jq -c '.[]' FILE` makes a record of each item"),
        _ => (
            "it is not a JSON object".into(),
            "for a table use --format csv; `jq -Rc '{key: ., value: \"\"}' FILE` makes records of plain lines",
        ),
    })?;
    ndjson_item(line, &fields, form).map_err(|reason| (reason, RECORD))
}

fn ndjson_item(line: &str, fields: &Fields<'_>, form: &Form) -> Result<Item, String> {
    if let Some(field) = form.key_field.as_deref() {
        return put(form, None, fields.key(field)?, line.as_bytes().to_vec());
    }
    let keyspace = fields.get("keyspace")?;
    if let (Some(kind), Some(_)) = (fields.get("type")?, keyspace) {
        return exported(line, kind.trim_matches('"'), form.keyspace.as_deref(), wall_ms());
    }
    let keyspace: Option<String> =
        keyspace.map(serde_json::from_str).transpose().map_err(|_| "the keyspace is not text".to_owned())?;
    let key = fields.key("key")?;
    let value = match fields.get("value")? {
        Some(text) if text.starts_with('"') => {
            serde_json::from_str::<String>(text).map_err(|e| e.to_string())?.into_bytes()
        }
        Some(other) => other.as_bytes().to_vec(),
        None => return Err("there is no field \"value\"".into()),
    };
    put(form, keyspace, key, value)
}

fn csv_item(record: Vec<String>, header: &[String], form: &Form) -> Result<Item, String> {
    if record.len() != header.len() {
        return Err(format!("it has {} fields, and the header {}", record.len(), header.len()));
    }
    if form.key_field.is_none() && header == ["key", "value"] {
        let [key, value] = <[String; 2]>::try_from(record).unwrap_or_default();
        return put(form, None, key.into_bytes(), value.into_bytes());
    }
    let wanted = form.key_field.as_deref().unwrap_or("key");
    let key = header.iter().position(|name| name == wanted).map(|at| record[at].clone()).unwrap_or_default();
    let text = |text: &String| serde_json::to_string(text).expect("text serializes");
    let fields: Vec<String> =
        header.iter().zip(&record).map(|(name, value)| format!("{}:{}", text(name), text(value))).collect();
    put(form, None, key.into_bytes(), format!("{{{}}}", fields.join(",")).into_bytes())
}

fn put(form: &Form, keyspace: Option<String>, key: Vec<u8>, value: Vec<u8>) -> Result<Item, String> {
    if key.is_empty() {
        return Err("the key is empty".into());
    }
    let keyspace = form.keyspace.clone().or(keyspace).unwrap_or_else(|| DEFAULT_KEYSPACE.into());
    Ok(Item::Writes(vec![Write::new(keyspace, key, Op::Put { value: value.into() })]))
}

/// A line of an eventual keyspace.
#[derive(Deserialize)]
struct Eventual {
    #[serde(flatten)]
    entry: Entry,
    #[serde(default)]
    concurrent: bool,
}

/// What a line of `export` stands for. What has expired since is left out.
fn exported(line: &str, kind: &str, keyspace: Option<&str>, wall_ms: u64) -> Result<Item, String> {
    if STRONG_TYPES.contains(&kind) {
        let record: Exported = serde_json::from_str(line).map_err(|e| e.to_string())?;
        return exported_strong(record, keyspace);
    }
    let Eventual { entry, concurrent } = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let Entry { keyspace: own, key, data, also } = entry;
    if key.0.is_empty() {
        return Err("the key is empty".into());
    }
    let keyspace = keyspace.unwrap_or(&own);
    let mut writes = Vec::new();
    restore(keyspace, &key, data, concurrent, wall_ms, &mut writes)?;
    for other in also {
        restore(keyspace, &key, other, true, wall_ms, &mut writes)?;
    }
    Ok(Item::Writes(writes))
}

fn restore(
    keyspace: &str,
    key: &Blob,
    data: Data,
    concurrent: bool,
    wall_ms: u64,
    writes: &mut Vec<Write>,
) -> Result<(), String> {
    let is_part = match &data {
        Data::Set(page) => page.next.is_some(),
        Data::Map(page) => page.next.is_some(),
        _ => false,
    };
    if is_part {
        return Err("it holds a part of its members only: `starling export` writes all".into());
    }
    let mut concurrent = concurrent;
    let ops = data.restore().ok_or("the counter is too far beyond 64 bits")?;
    for (op, expires_at_ms) in ops {
        let ttl_ms = expires_at_ms.map(|at| at.saturating_sub(wall_ms));
        if ttl_ms != Some(0) {
            let check = concurrent.then_some(Check::Concurrent);
            writes.push(Write { keyspace: keyspace.into(), key: key.0.clone(), op, ttl_ms, check });
            concurrent = true;
        }
    }
    Ok(())
}

fn exported_strong(record: Exported, keyspace: Option<&str>) -> Result<Item, String> {
    let own = |own: String| keyspace.map_or(own, Into::into);
    Ok(match record {
        Exported::Key { keyspace, key, value, lease, sequential } => Item::Key(StrongKey {
            keyspace: own(keyspace),
            key: key.0,
            value: value.0,
            lease: lease.as_deref().map_or(Ok(0), parse_lease)?,
            sequential,
        }),
        Exported::Lease { keyspace, id, ttl_ms } => {
            Item::Lease { keyspace: own(keyspace), id: parse_lease(&id)?, ttl_ms }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_api::{Count, Counter, Register, SetPage, Sibling};

    fn read(text: &str, form: Form) -> Result<Vec<Item>, Bad> {
        let mut records = Records::of(text.as_bytes(), form)?;
        std::iter::from_fn(|| records.next_record()).map(|record| record.map(|(_, item)| item)).collect()
    }

    fn csv(key_field: Option<&str>) -> Form {
        Form { delimiter: Some(b','), key_field: key_field.map(Into::into), keyspace: None }
    }

    fn writes(items: Vec<Item>) -> Vec<Write> {
        let of = |item| if let Item::Writes(writes) = item { writes } else { panic!("{item:?}") };
        items.into_iter().flat_map(of).collect()
    }

    /// Keys and values of puts.
    fn puts(text: &str, form: Form) -> Vec<(String, String)> {
        let value = |write: &Write| match &write.op {
            Op::Put { value } => String::from_utf8_lossy(value).into_owned(),
            other => format!("{other:?}"),
        };
        let writes = writes(read(text, form).expect("valid"));
        writes.iter().map(|write| (String::from_utf8_lossy(&write.key).into_owned(), value(write))).collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.into(), value.into())
    }

    #[test]
    fn text_is_decoded_and_any_other_json_is_kept_as_it_is_written() {
        let text = "{\"key\":\"a\",\"value\":\"x\"}\n\n{\"key\":7,\"value\":{\"z\": 1.10,\"a\":1e2}}\r\n";
        assert_eq!(puts(text, Form::default()), [pair("a", "x"), pair("7", "{\"z\": 1.10,\"a\":1e2}")]);
        for number in ["18446744073709551616", "1.10", "1e2", "0.12345678901234567", "-0"] {
            let text = format!("{{\"key\":{number},\"value\":{number}}}");
            assert_eq!(puts(&text, Form::default()), [pair(number, number)]);
        }
        let keys = ["123456789012345678901234567890123456789", "123456789012345678901234567890123456788"];
        let line = |key: &&str| format!("{{\"key\":{key},\"value\":1}}\n");
        let text: String = keys.iter().map(line).collect();
        assert_eq!(puts(&text, Form::default()), keys.map(|key| pair(key, "1")));
    }

    #[test]
    fn a_key_field_makes_the_whole_record_the_value() {
        let line = "{\"code\":\"CH\",\"name\":\"Switzerland\",\"area\":41.290}";
        let form = Form { key_field: Some("code".into()), ..Form::default() };
        assert_eq!(puts(line, form), [pair("CH", line)]);
        let found = puts("name,code\nSwitzerland,CH\n", csv(Some("code")));
        assert_eq!(found, [pair("CH", "{\"name\":\"Switzerland\",\"code\":\"CH\"}")]);
        assert_eq!(puts("key,value\na,\"x,y\"\n", csv(None)), [pair("a", "x,y")]);
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        for (text, form) in
            [("\u{feff}{\"key\":\"a\",\"value\":1}", Form::default()), ("\u{feff}key,value\na,1", csv(None))]
        {
            let mut records = open(text.as_bytes(), form).expect("opens");
            assert!(records.next_record().expect("a record").is_ok());
        }
    }

    #[test]
    fn mistakes_are_refused_where_they_are() {
        for (text, form) in [
            ("{\"key\":\"a\",\"value\":1}\nnonsense", Form::default()),
            ("{\"key\":\"a\",\"value\":1}\n{\"key\":\"b\"}", Form::default()),
            ("\n[{\"key\":\"a\",\"value\":1}]", Form::default()),
            ("\n{\"key\":\"a\",\"value\":1,\"value\":2}", Form::default()),
            ("\n{\"key\":\"\",\"value\":1}", Form::default()),
            ("key,value\nc", csv(None)),
            ("key,value\n\"c", csv(None)),
        ] {
            let bad = read(text, form).expect_err("malformed");
            assert_eq!(bad.line, 2, "{text}: {bad:?}");
        }
        for header in ["a,b\n1,2", "key,key\n1,2"] {
            assert!(read(header, csv(None)).is_err_and(|bad| bad.is_fatal));
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let bad = Records::of(BufReader::new(std::io::repeat(b'x')), Form::default())
            .expect("there is no header")
            .next_record()
            .expect("a record")
            .expect_err("too long");
        assert!(bad.is_fatal);
    }

    fn entry(data: Data) -> Entry {
        Entry { keyspace: "k".into(), key: vec![0xff].into(), data, also: Vec::new() }
    }

    fn read_back(entry: &Entry) -> Vec<Write> {
        writes(read(&serde_json::to_string(entry).expect("serializes"), Form::default()).expect("valid"))
    }

    #[test]
    fn what_export_writes_is_read_back() {
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
            let writes = read_back(&entry(data));
            assert_eq!(writes.len(), 1);
            assert_eq!((writes[0].keyspace.as_str(), &writes[0].key), ("k", &vec![0xff]));
            assert_eq!((&writes[0].op, writes[0].check), (&operation, None));
        }
        let expired = Register { expires_at_ms: Some(5), ..Register::default() };
        assert!(read_back(&entry(Data::Register(expired))).is_empty());
        let part = SetPage { members: Vec::new(), next: Some("m".into()) };
        let line = serde_json::to_string(&entry(Data::Set(part))).expect("serializes");
        assert!(read(&line, Form::default()).is_err(), "the rest would be lost");
    }

    #[test]
    fn siblings_other_types_and_large_counters_are_restored() {
        let sibling = |value: &str| Sibling { value: value.into(), ..Sibling::default() };
        let siblings = vec![sibling("shown"), sibling("other")];
        let register = Register { value: "shown".into(), siblings, ..Register::default() };
        let sum = 18_446_744_073_709_551_614_i128;
        let also = vec![Data::Counter(Counter { value: Count(sum) })];
        let found = read_back(&Entry { also, ..entry(Data::Register(register)) });
        let checks: Vec<_> = found.iter().map(|write| write.check).collect();
        assert_eq!(checks[0], None);
        assert!(checks[1..].iter().all(|check| *check == Some(Check::Concurrent)), "{checks:?}");
        assert_eq!(found[0].op, Op::Put { value: "other".into() }, "the one shown is the latest");
        assert_eq!(found[1].op, Op::Put { value: "shown".into() });
        let by = |write: &Write| if let Op::Incr { by } = write.op { i128::from(by) } else { 0 };
        assert_eq!(found[2..].iter().map(by).sum::<i128>(), sum);
        let beyond = Data::Counter(Counter { value: Count(i128::MAX) });
        let line = serde_json::to_string(&entry(beyond)).expect("serializes");
        assert!(read(&line, Form::default()).is_err());
    }
}
