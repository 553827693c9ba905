//! The file with the id and the secrets of a node's network.

use std::{
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::file;

const HEADER: &str = "starling network v1";
/// The current secret, and one more while it is being replaced.
const SECRETS_MAX: usize = 2;

/// A network's id and its valid secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct NetworkFile {
    /// Id of the network.
    pub id: [u8; 16],
    /// One secret, or two while one replaces the other; tickets contain the first one.
    pub secrets: Vec<Zeroizing<[u8; 32]>>,
}

impl std::fmt::Debug for NetworkFile {
    /// Does not print a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetworkFile").field("secrets", &self.secrets.len()).finish_non_exhaustive()
    }
}

/// Why a network file cannot be used. Nothing was changed.
#[derive(Debug, Error)]
pub enum NetworkFileError {
    /// It cannot be read or written.
    #[error("network file {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It is something else, or damaged.
    #[error("network file {path} is damaged, line {line}: {what}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The problem.
        what: &'static str,
    },
}

impl NetworkFile {
    /// Generates a new network: a random id and a random secret.
    pub fn generate() -> Self {
        Self { id: rand::random(), secrets: vec![Zeroizing::new(rand::random())] }
    }

    /// Reads the file; `None` if there is none.
    pub fn load(path: &Path) -> Result<Option<Self>, NetworkFileError> {
        match fs::read(path).map(Zeroizing::new) {
            Ok(bytes) => Self::parse(&String::from_utf8_lossy(&bytes))
                .map(Some)
                .map_err(|(line, what)| NetworkFileError::Malformed { path: path.to_owned(), line, what }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(NetworkFileError::Io { path: path.to_owned(), source }),
        }
    }

    /// Writes the file in one step, with mode 0600.
    pub fn save(&self, path: &Path) -> Result<(), NetworkFileError> {
        let mut text = Zeroizing::new(format!("{HEADER}\nid {}\n", HEXLOWER.encode(&self.id)));
        for secret in &self.secrets {
            let digits = Zeroizing::new(HEXLOWER.encode(&**secret));
            writeln!(text, "secret {}", *digits).expect("writing to a String does not fail");
        }
        file::replace(path, text.as_bytes())
            .map_err(|source| NetworkFileError::Io { path: path.to_owned(), source })
    }

    /// Parses the file. Empty lines and lines that begin with `#` are ignored.
    fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut lines = text.lines().enumerate().map(|(n, line)| (n + 1, line.trim()));
        if lines.next().is_none_or(|(_, line)| line != HEADER) {
            return Err((1, "it does not read `starling network v1`"));
        }
        let (mut id, mut secrets) = (None, Vec::new());
        for (n, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            match line.split_once(' ') {
                Some(("id", hex)) if id.is_none() => {
                    id = Some(parse_hex(hex).ok_or((n, "an id has 32 hexadecimal digits"))?);
                }
                Some(("secret", hex)) if secrets.len() < SECRETS_MAX => {
                    let secret = parse_hex(hex).ok_or((n, "a secret has 64 hexadecimal digits"))?;
                    secrets.push(Zeroizing::new(secret));
                }
                Some(("id" | "secret", _)) => return Err((n, "there is one id, and at most two secrets")),
                _ => return Err((n, "it is neither `id ...` nor `secret ...`")),
            }
        }
        let end = text.lines().count();
        let id = id.ok_or((end, "no id before the end"))?;
        if secrets.is_empty() {
            return Err((end, "no secret before the end"));
        }
        Ok(Self { id, secrets })
    }
}

fn parse_hex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(hex.trim().as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_saved_loads_and_is_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("network");
        assert_eq!(NetworkFile::load(&path).expect("no file is no error"), None);
        let mut network = NetworkFile::generate();
        assert_ne!(network, NetworkFile::generate());
        for _ in 0..2 {
            network.save(&path).expect("saves");
            assert_eq!(NetworkFile::load(&path).expect("loads"), Some(network.clone()));
            assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
            network.secrets.insert(0, [7; 32].into());
        }
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 1, "nothing is left beside it");
    }

    #[test]
    fn damage_is_an_error_that_names_the_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("network");
        let good = format!("{HEADER}\n\n# two lines\nid {}\nsecret {}\n", "ab".repeat(16), "cd".repeat(32));
        fs::write(&path, &good).expect("writes");
        assert!(NetworkFile::load(&path).expect("loads").is_some());
        let cases = [
            (String::new(), 1),
            (good.replace("v1", "v2"), 1),
            (good.replace("abab", "ab"), 4),
            (good.replace("cdcd", "zz"), 5),
            (good.replace("secret", "secrets"), 5),
            (format!("{good}{}", format!("secret {}\n", "ef".repeat(32)).repeat(2)), 7),
            (good.replace("id", "# id"), 5),
        ];
        for (text, expected) in cases {
            fs::write(&path, &text).expect("writes");
            match NetworkFile::load(&path) {
                Err(NetworkFileError::Malformed { line, .. }) => assert_eq!(line, expected, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        fs::write(&path, b"\xff\xfe\0").expect("writes");
        assert!(NetworkFile::load(&path).is_err());
        assert!(matches!(NetworkFile::load(folder.path()), Err(NetworkFileError::Io { .. })));
    }
}
