//! Parsing of keys, values, times and versions on the command line.

use std::ffi::OsStr;
use std::io::{IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;

use starling_api::Precondition;

use super::failure::Failure;

/// An argument's bytes: on Unix any but NUL.
pub fn bytes(argument: &OsStr) -> Vec<u8> {
    argument.as_bytes().to_vec()
}

/// A value: the argument itself, `@FILE`, or standard input for `-` and for nothing; `@@` begins a
/// literal `@`. Standard input that was not asked for has to hold something: an argument was forgotten otherwise.
pub fn read_value(argument: Option<&OsStr>) -> Result<Vec<u8>, Failure> {
    match argument.map(OsStrExt::as_bytes) {
        None | Some(b"-") => {
            let forgotten = || {
                let hint = "write it after the key, '' for an empty one, or pipe it in";
                Err(Failure::usage("there is no value, and none on standard input", hint))
            };
            let mut value = Vec::new();
            if argument.is_none() && std::io::stdin().is_terminal() {
                return forgotten();
            }
            std::io::stdin().read_to_end(&mut value).map_err(|e| {
                Failure::usage(format!("cannot read standard input: {e}"), "pipe the value in")
            })?;
            if argument.is_none() && value.is_empty() { forgotten() } else { Ok(value) }
        }
        Some([b'@', b'@', rest @ ..]) => Ok([b"@", rest].concat()),
        Some([b'@', path @ ..]) => {
            let path = OsStr::from_bytes(path);
            std::fs::read(path).map_err(|e| {
                let what = format!("cannot read {}: {e}", path.display());
                Failure::usage(
                    what,
                    "name a readable file after @, or write @@ for a value that begins with @",
                )
            })
        }
        Some(literal) => Ok(literal.to_vec()),
    }
}

/// Milliseconds from `500ms`, `10s`, `5m`, `2h` or `7d`.
pub fn parse_duration_ms(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a time: write a number and ms, s, m, h or d, like 10s or 5m");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    match number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms)) {
        Some(0) => Err(format!("{text:?} is no time at all: the shortest is 1ms")),
        None => Err(wrong()),
        Some(ms) => Ok(ms),
    }
}

/// A number of voters; the node judges which.
pub fn parse_voters(text: &str) -> Result<u8, String> {
    text.parse().map_err(|_| format!("{text:?} is not 1, 3, 5 or 7: --on {text} names the nodes"))
}

/// What separates columns.
pub fn parse_delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n') => Ok(*byte),
        _ => Err(format!("{text:?} does not separate columns: write one character, or tab")),
    }
}

/// A version, or "none" for "holds nothing". ("any" is the default, for completeness.)
#[expect(clippy::unnecessary_wraps, reason = "the signature of a clap parser; the node judges the version")]
pub fn parse_precondition(text: &str) -> Result<Precondition, String> {
    Ok(match text {
        "any" => Precondition::Any,
        "none" => Precondition::Absent,
        version => Precondition::Version(version.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_need_a_unit_and_fit() {
        assert_eq!(parse_duration_ms("500ms"), Ok(500));
        assert_eq!(parse_duration_ms("10s"), Ok(10_000));
        assert_eq!(parse_duration_ms("5m"), Ok(300_000));
        assert_eq!(parse_duration_ms("2h"), Ok(7_200_000));
        assert_eq!(parse_duration_ms("7d"), Ok(604_800_000));
        for wrong in ["", "10", "s", "-1s", "1.5s", "0s", "1w", "99999999999999999d"] {
            assert!(parse_duration_ms(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_value_is_literal_a_file_or_escaped() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("value");
        std::fs::write(&path, [0, 255, b'\n']).expect("writes");
        let value = |text: &str| read_value(Some(OsStr::new(text))).map_err(|failure| failure.message);
        assert_eq!(value("plain"), Ok(b"plain".to_vec()));
        assert_eq!(value(""), Ok(Vec::new()));
        assert_eq!(value("@@home"), Ok(b"@home".to_vec()));
        assert_eq!(value(&format!("@{}", path.display())), Ok(vec![0, 255, b'\n']));
        assert!(value("@/nonexistent/file").is_err());
    }

    #[test]
    fn preconditions() {
        assert_eq!(parse_precondition("none"), Ok(Precondition::Absent));
        assert_eq!(parse_precondition("00ff"), Ok(Precondition::Version("00ff".into())));
    }
}
