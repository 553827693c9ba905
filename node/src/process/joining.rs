//! Join tickets from files and from standard input: on a command line every user of the machine can read them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;

use super::error::RunError;

/// Bytes of such a file or line, at most: more than the longest list of tickets that anyone needs.
const BYTES_MAX: u64 = 64 << 10;

/// What `join` lists, with the lines of a file in place of `@FILE`, and the first line of standard input in place of `-`.
pub fn resolve(join: &[String]) -> Result<Vec<String>, RunError> {
    let mut resolved = Vec::new();
    for item in join {
        let text = match item.strip_prefix('@') {
            Some(path) => read_file(path),
            None if item == "-" => first_line(io::stdin().lock()),
            None => {
                resolved.push(item.clone());
                continue;
            }
        };
        let found = text.and_then(|text| items(&text));
        resolved.extend(found.map_err(|reason| RunError::Join { item: item.clone(), reason })?);
    }
    Ok(resolved)
}

fn read_file(path: &str) -> io::Result<String> {
    let file = File::open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        tracing::warn!(path, "other users can read the join ticket: chmod 600");
    }
    let mut text = String::new();
    BufReader::new(file).take(BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn first_line(input: impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    input.take(BYTES_MAX).read_line(&mut line)?;
    Ok(line)
}

/// The lines that name something. It is an error if there are none: without a ticket the node would begin a network of its
/// own.
fn items(text: &str) -> io::Result<Vec<String>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let items: Vec<String> = lines.map(ToOwned::to_owned).collect();
    if items.is_empty() { Err(io::Error::other("it is empty")) } else { Ok(items) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_lines_stand_for_what_they_hold() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let path = temporary.path().join("tickets");
        std::fs::write(&path, "# of the other hall\nstarling1a\n\n  db.example.org\n").expect("writes");
        let named = format!("@{}", path.display());
        let resolved = resolve(&["10.0.0.1:7400".into(), named]).expect("it can be read");
        assert_eq!(resolved, ["10.0.0.1:7400", "starling1a", "db.example.org"]);
        let missing = resolve(&["@/no/such/file".into()]).expect_err("it is not there");
        assert!(missing.to_string().contains("/no/such/file"), "{missing}");
        assert_eq!(first_line(&b"starling1a\nmore"[..]).expect("a line"), "starling1a\n");
        for nothing in ["", "\n", "# a comment\n"] {
            std::fs::write(&path, nothing).expect("writes");
            let empty = resolve(&[format!("@{}", path.display())]).expect_err("no ticket");
            assert!(empty.to_string().ends_with("it is empty"), "{empty}");
        }
    }
}
