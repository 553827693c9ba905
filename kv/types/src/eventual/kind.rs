//! The data types of eventual keyspaces.

use std::fmt;

/// A data type. The type is part of the place, so a key written as two types concurrently holds
/// both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One value; concurrent ones are siblings.
    Register = 1,
    /// A boolean; enabling wins.
    Flag = 2,
    /// A sum; a field per actor.
    Counter = 3,
    /// A set; a field per element.
    Set = 4,
    /// Registers under names; a field per name.
    Map = 5,
}

impl Kind {
    /// The type with this tag; `None` if this version of Starling knows none.
    pub fn from_tag(tag: u8) -> Option<Self> {
        Some(match tag {
            1 => Self::Register,
            2 => Self::Flag,
            3 => Self::Counter,
            4 => Self::Set,
            5 => Self::Map,
            _ => return None,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Register => "register",
            Self::Flag => "flag",
            Self::Counter => "counter",
            Self::Set => "set",
            Self::Map => "map",
        })
    }
}
