//! Golden files: bytes as text, compared with what the repository has.

use std::fmt::Write as _;
use std::path::PathBuf;

/// What the file says, after it was written anew if that was asked for.
pub fn golden(name: &str, found: &str) -> String {
    let path = PathBuf::from("tests/golden").join(name);
    if std::env::var_os("STARLING_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).expect("writes");
    }
    std::fs::read_to_string(&path).expect("the golden file is in the repository")
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writes to memory");
        text
    })
}

pub fn unhex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(digits).collect()
}
