//! The data types of eventual keyspaces: for each its kind, its operations, their outcomes, and what a read
//! shows. A new type begins here; `kv/src/types` says how it is stored.

use std::fmt;

use bytes::Bytes;
#[cfg(feature = "json")]
use serde::{Deserialize, Serialize};
#[cfg(feature = "json")]
use utoipa::ToSchema;

use super::{Limits, Version, WriteError};
#[cfg(feature = "json")]
use crate::json;
use crate::{Blob, Count};

/// A data type. The type is part of the place, so a key that is written as two types concurrently holds both.
/// The number of each is its tag in stored and replicated places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
#[cfg_attr(feature = "json", serde(rename_all = "lowercase"), schema(as = DataType))]
pub enum Kind {
    /// One value; concurrent writes are kept side by side as siblings.
    Register = 1,
    /// On or off; enabling wins over a concurrent disabling.
    Flag = 2,
    /// A sum; a field per actor.
    Counter = 3,
    /// Distinct members; a field per member.
    Set = 4,
    /// Values by field name; each field a register.
    Map = 5,
    /// The greatest integer written.
    Max = 6,
    /// The least integer written.
    Min = 7,
}

impl Kind {
    /// Every type, in the order of the tags, which begin at 1.
    pub const ALL: [Self; 7] =
        [Self::Register, Self::Flag, Self::Counter, Self::Set, Self::Map, Self::Max, Self::Min];

    /// The type with this tag; `None` if this version of Starling knows none.
    pub fn from_tag(tag: u8) -> Option<Self> {
        Self::ALL.get(usize::from(tag).checked_sub(1)?).copied()
    }

    /// Its name in JSON, on the command line and in errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Flag => "flag",
            Self::Counter => "counter",
            Self::Set => "set",
            Self::Map => "map",
            Self::Max => "max",
            Self::Min => "min",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An operation. All but the deletes belong to one data type: [`Op::kind`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
#[cfg_attr(feature = "json", serde(tag = "op", rename_all = "snake_case"), schema(as = Operation))]
pub enum Op {
    /// Set a register, superseding every sibling seen here.
    Put {
        /// The value.
        #[cfg_attr(feature = "json", serde(with = "json::bytes"), schema(value_type = Blob))]
        value: Bytes,
    },
    /// Delete the whole key, whatever it holds.
    Delete,
    /// Delete every key that begins with the write's key.
    DeletePrefix,
    /// Add to a counter.
    Incr {
        /// The summand; may be negative.
        by: i64,
    },
    /// Add members to a set. An addition wins over a concurrent removal.
    SetAdd {
        /// The members.
        #[cfg_attr(feature = "json", serde(with = "json::list"), schema(value_type = Vec<Blob>))]
        members: Vec<Bytes>,
    },
    /// Remove members from a set.
    SetRemove {
        /// The members.
        #[cfg_attr(feature = "json", serde(with = "json::list"), schema(value_type = Vec<Blob>))]
        members: Vec<Bytes>,
    },
    /// Set fields of a map, each a register of its own.
    MapPut {
        /// The fields.
        fields: Vec<Field>,
    },
    /// Delete fields of a map.
    MapDelete {
        /// Their names.
        #[cfg_attr(feature = "json", serde(with = "json::list"), schema(value_type = Vec<Blob>))]
        names: Vec<Bytes>,
    },
    /// Turn a flag on or off. Of concurrent changes, "on" wins.
    Flag {
        /// On or off.
        enabled: bool,
    },
    /// Raise a max register to at least this. Concurrent writes merge to the greatest.
    Max {
        /// The integer.
        value: i64,
    },
    /// Lower a min register to at most this. Concurrent writes merge to the least.
    Min {
        /// The integer.
        value: i64,
    },
}

/// One field of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct Field {
    /// Its name.
    pub name: Blob,
    /// Its value.
    pub value: Blob,
}

impl Field {
    /// A field with this name and value.
    pub fn new(name: impl Into<Blob>, value: impl Into<Blob>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

impl Op {
    /// The type that it belongs to; `None`: any.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Put { .. } => Some(Kind::Register),
            Self::Delete | Self::DeletePrefix => None,
            Self::Incr { .. } => Some(Kind::Counter),
            Self::SetAdd { .. } | Self::SetRemove { .. } => Some(Kind::Set),
            Self::MapPut { .. } | Self::MapDelete { .. } => Some(Kind::Map),
            Self::Flag { .. } => Some(Kind::Flag),
            Self::Max { .. } => Some(Kind::Max),
            Self::Min { .. } => Some(Kind::Min),
        }
    }

    /// The version of stored and replicated data that introduced it: nodes of an older version keep and forward
    /// what it writes, and cannot read it. It is to be refused until the network's operator has switched that
    /// version on.
    pub fn required_data_version(&self) -> u16 {
        match self.kind() {
            Some(Kind::Max | Kind::Min) => 2,
            _ => 1,
        }
    }

    /// The places that it writes, at least one, and the bytes of values and field names that it carries.
    ///
    /// # Errors
    /// One of them is above its limit.
    pub fn size(&self, limits: &Limits) -> Result<(usize, usize), WriteError> {
        let fields = |names: &[Bytes]| names.iter().map(|name| limits.field(name.len())).sum();
        let (places, bytes): (usize, Result<usize, WriteError>) = match self {
            Self::Put { value } => (1, limits.value(value.len())),
            Self::SetAdd { members: names }
            | Self::SetRemove { members: names }
            | Self::MapDelete { names } => (names.len(), fields(names)),
            Self::MapPut { fields } => {
                let field = |field: &Field| {
                    Ok(limits.field(field.name.0.len())? + limits.value(field.value.0.len())?)
                };
                (fields.len(), fields.iter().map(field).sum())
            }
            Self::Delete
            | Self::DeletePrefix
            | Self::Incr { .. }
            | Self::Flag { .. }
            | Self::Max { .. }
            | Self::Min { .. } => (1, Ok(0)),
        };
        Ok((places.max(1), bytes?))
    }

    /// The bytes of values and field names that it carries, whatever the limits.
    pub fn payload_bytes(&self) -> usize {
        self.size(&Limits::NONE).map_or(0, |(_, bytes)| bytes)
    }
}

/// The outcome of one write of an accepted batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
#[cfg_attr(feature = "json", serde(tag = "result", rename_all = "snake_case"), schema(as = WriteResult))]
pub enum Outcome {
    /// A register was set.
    Put {
        /// Its version now, for [`super::Check::Version`].
        #[cfg_attr(feature = "json", schema(value_type = String))]
        version: Version,
    },
    /// A key or the keys under a prefix were deleted.
    Deleted {
        /// Values, members and fields that were removed; 0 if there were none.
        places: u64,
        /// More are left than one batch may delete ([`Limits::delete_places_max`]): send it again.
        #[cfg_attr(feature = "json", serde(default))]
        more: bool,
    },
    /// A counter was changed.
    Counter {
        /// Its sum now, as far as this node knows.
        #[cfg_attr(feature = "json", serde(with = "json::count"), schema(value_type = Count))]
        value: i128,
    },
    /// A set or a map was changed.
    Changed {
        /// Members or fields that are new or gone. Those that were there (or absent) already are not counted,
        /// though writing them again takes effect.
        fields: u64,
    },
    /// A flag was set.
    Flag,
    /// A max register was written.
    Max {
        /// The greatest integer now, as far as this node knows.
        value: i64,
    },
    /// A min register was written.
    Min {
        /// The least integer now, as far as this node knows.
        value: i64,
    },
}

impl Outcome {
    /// The number that the key holds now, if it holds one.
    pub fn number(&self) -> Option<i128> {
        match self {
            Self::Counter { value } => Some(*value),
            Self::Max { value } | Self::Min { value } => Some(i128::from(*value)),
            Self::Put { .. } | Self::Deleted { .. } | Self::Changed { .. } | Self::Flag => None,
        }
    }
}

/// What a key holds, as one type.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
#[cfg_attr(feature = "json", serde(tag = "type", rename_all = "lowercase"))]
pub enum Data {
    /// One value.
    Register(Register),
    /// A sum.
    Counter(Counter),
    /// Distinct members.
    Set(SetPage),
    /// Values by field name.
    Map(MapPage),
    /// On or off.
    Flag(FlagState),
    /// The greatest integer written.
    Max(Extremum),
    /// The least integer written.
    Min(Extremum),
}

impl Data {
    /// The type.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Register(_) => Kind::Register,
            Self::Counter(_) => Kind::Counter,
            Self::Set(_) => Kind::Set,
            Self::Map(_) => Kind::Map,
            Self::Flag(_) => Kind::Flag,
            Self::Max(_) => Kind::Max,
            Self::Min(_) => Kind::Min,
        }
    }

    /// Roughly how many bytes of values and field names it carries.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Register(register) => {
                register.value.0.len() + register.siblings.iter().map(|s| s.value.0.len()).sum::<usize>()
            }
            Self::Set(page) => page.members.iter().map(|member| member.0.len()).sum(),
            Self::Map(page) => page.fields.iter().map(|f| f.name.0.len() + f.value.0.len()).sum(),
            Self::Counter(_) | Self::Flag(_) | Self::Max(_) | Self::Min(_) => 0,
        }
    }

    /// As one line of bytes: a value as it is, numbers in digits, flags as `true` and `false`; `None` for sets
    /// and maps.
    pub fn raw(&self) -> Option<Blob> {
        Some(match self {
            Self::Register(register) => register.value.clone(),
            Self::Counter(counter) => counter.value.to_string().into(),
            Self::Flag(flag) => flag.enabled.to_string().into(),
            Self::Max(extremum) | Self::Min(extremum) => extremum.value.to_string().into(),
            Self::Set(_) | Self::Map(_) => return None,
        })
    }

    /// The operations that write it to a key that holds nothing, in order, each with the time when what it writes
    /// expires (milliseconds since the Unix epoch). Of siblings the one shown is the last. `None`: a counter so far
    /// beyond 64 bits that it takes more than [`RESTORE_OPS_MAX`].
    pub fn restore(self) -> Option<Vec<(Op, Option<u64>)>> {
        let bytes = |blob: Blob| Bytes::from(blob.0);
        let put = |value: Blob, expires_at_ms| (Op::Put { value: bytes(value) }, expires_at_ms);
        let op = match self {
            Self::Register(register) if register.siblings.is_empty() => {
                return Some(vec![put(register.value, register.expires_at_ms)]);
            }
            Self::Register(register) => {
                let latest_last = register.siblings.into_iter().rev();
                return Some(latest_last.map(|sibling| put(sibling.value, sibling.expires_at_ms)).collect());
            }
            Self::Counter(Counter { value }) => return increments(value.0),
            Self::Set(page) => Op::SetAdd { members: page.members.into_iter().map(bytes).collect() },
            Self::Map(page) => Op::MapPut { fields: page.fields },
            Self::Flag(flag) => Op::Flag { enabled: flag.enabled },
            Self::Max(Extremum { value }) => Op::Max { value },
            Self::Min(Extremum { value }) => Op::Min { value },
        };
        Some(vec![(op, None)])
    }
}

/// The most operations that [`Data::restore`] makes of one counter. An estimate: nobody reaches 64 bits by counting.
pub const RESTORE_OPS_MAX: usize = 64;

/// Increments with this sum, at least one.
fn increments(sum: i128) -> Option<Vec<(Op, Option<u64>)>> {
    let mut left = sum;
    let mut ops = Vec::new();
    while ops.is_empty() || left != 0 {
        if ops.len() == RESTORE_OPS_MAX {
            return None;
        }
        let by = left.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        left -= i128::from(by);
        ops.push((Op::Incr { by }, None));
    }
    Some(ops)
}

/// One value, with what was written concurrently.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct Register {
    /// The value shown: of concurrent ones, that with the highest timestamp.
    pub value: Blob,
    /// Names exactly this set of siblings, for `if_version`.
    pub version: String,
    /// When the value expires, milliseconds since the Unix epoch.
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Option::is_none"))]
    pub expires_at_ms: Option<u64>,
    /// All concurrent values, the shown one first. Empty when there is only that one.
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Vec::is_empty"))]
    pub siblings: Vec<Sibling>,
}

/// One of several values written concurrently.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct Sibling {
    /// The value.
    pub value: Blob,
    /// When it was written by its writer's clock, milliseconds since the Unix epoch.
    pub written_ms: u64,
    /// When it expires, milliseconds since the Unix epoch.
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Option::is_none"))]
    pub expires_at_ms: Option<u64>,
}

/// The sum of a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct Counter {
    /// The sum.
    pub value: Count,
}

/// Members of a set in order of their bytes, a page at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct SetPage {
    /// The members of this page.
    pub members: Vec<Blob>,
    /// More follow: read on with `after` set to this.
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Option::is_none"))]
    pub next: Option<Blob>,
}

/// Fields of a map in order of their names, a page at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct MapPage {
    /// The fields of this page.
    pub fields: Vec<Field>,
    /// More follow: read on with `after` set to this.
    #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Option::is_none"))]
    pub next: Option<Blob>,
}

/// A flag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct FlagState {
    /// On or off.
    pub enabled: bool,
}

/// A max or min register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(Serialize, Deserialize, ToSchema))]
pub struct Extremum {
    /// The greatest or the least integer written.
    pub value: i64,
}
