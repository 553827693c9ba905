//! What can be done with keys and keyspaces.

use std::fmt;
use std::str::FromStr;

/// One thing that can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Learn what keys hold, or held; compare with it.
    Read = 1,
    /// Set keys, and change what they hold.
    Write = 2,
    /// Delete keys.
    Delete = 4,
    /// Follow changes.
    Watch = 8,
    /// Take leases, and attach keys to them, which end with them. A lock is made of that and of the other four.
    Lock = 16,
    /// Create, drop, compact and manage keyspaces. On all keys of all keyspaces: administer the node and its network.
    Admin = 32,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 6] = [Self::Read, Self::Write, Self::Delete, Self::Watch, Self::Lock, Self::Admin];

    /// Its name in grants and errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Watch => "watch",
            Self::Lock => "lock",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of verbs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Verbs(u8);

/// The name of all verbs but `admin`.
const DATA_NAME: &str = "data";

impl Verbs {
    /// All verbs.
    pub const EVERYTHING: Self = Self(63);
    /// All but [`Verb::Admin`].
    pub const DATA: Self = Self(31);

    /// Whether the verb is one of them. Bits that this version does not know mean nothing.
    pub fn contains(self, verb: Verb) -> bool {
        self.0 & verb as u8 != 0
    }

    /// Whether there is none that this version knows.
    pub fn is_empty(self) -> bool {
        self.0 & Self::EVERYTHING.0 == 0
    }
}

impl FromIterator<Verb> for Verbs {
    fn from_iter<I: IntoIterator<Item = Verb>>(verbs: I) -> Self {
        Self(verbs.into_iter().fold(0, |bits, verb| bits | verb as u8))
    }
}

impl fmt::Display for Verbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Verb::ALL.into_iter().filter(|verb| self.contains(*verb)).map(Verb::name);
        f.write_str(&names.collect::<Vec<_>>().join(","))
    }
}

impl FromStr for Verbs {
    type Err = String;

    /// Reads names with commas between them; the error is the part that is none.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut bits = 0;
        for name in text.split(',') {
            bits |= match Verb::ALL.into_iter().find(|verb| verb.name() == name) {
                Some(verb) => verb as u8,
                None if name == DATA_NAME => Self::DATA.0,
                None => return Err(name.to_owned()),
            };
        }
        Ok(Self(bits))
    }
}
