//! Bytes and large numbers in text and in JSON.

use std::fmt::{self, Write as _};

/// Any bytes. In JSON: a string where they are UTF-8, and `{"base64": "..."}` where they are not.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blob(pub Vec<u8>);

impl Blob {
    /// The bytes as text for people ([`escaped`]).
    pub fn escaped(&self) -> String {
        escaped(&self.0)
    }
}

/// Whether a terminal obeys a character instead of showing it: control characters, line and paragraph separators, and the characters
/// that change the direction of the text behind them (Unicode Standard Annex 9, section 2), with which a name could
/// make the rest of a line read as something else.
pub fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Bytes as text for people: UTF-8 as it is but for what a terminal obeys ([`is_obeyed`]), which is escaped; other bytes as
/// `\xNN`.
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_obeyed(c) || c == '\\' { text.extend(c.escape_default()) } else { text.push(c) }
        }
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("writing to a String does not fail");
        }
    }
    text
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escaped())
    }
}

impl From<&str> for Blob {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<String> for Blob {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<bytes::Bytes> for Blob {
    fn from(bytes: bytes::Bytes) -> Self {
        Self(bytes.into())
    }
}

/// The sum of a counter: 128 bits, since 64-bit sums of many actors add up. In JSON a number while
/// it fits in 64 bits, then a string of digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub i128);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn escaped_text_holds_nothing_that_a_terminal_obeys(bytes: Vec<u8>, text: String) {
            for bytes in [bytes, text.into_bytes()] {
                prop_assert!(!Blob(bytes).escaped().chars().any(is_obeyed));
            }
        }
    }

    #[test]
    fn scripts_of_both_directions_are_shown_and_overrides_of_the_direction_are_escaped() {
        for text in ["مفتاح", "מפתח", "鍵🗝️", "कुंजी", "İıß", "a\u{200f}b"] {
            assert_eq!(escaped(text.as_bytes()), text);
        }
        assert_eq!(escaped("a\u{202e}b\u{2066}\u{2028}".as_bytes()), "a\\u{202e}b\\u{2066}\\u{2028}");
    }
}
