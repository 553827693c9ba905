//! Operations on registers: keys that hold numbers.

use std::fmt;

/// A key, by a number of the recorder's.
pub type Register = u16;

/// What was done to registers at one instant: it saw these values, then wrote those. Every value is written
/// once in a history; 0 is "no value", so writing it is deleting.
///
/// A compare-and-set that did not hold is a read of what it saw instead. A deletion that found nothing is a
/// read too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Op {
    /// What the registers held before.
    pub seen: Vec<(Register, u64)>,
    /// What they hold afterwards.
    pub written: Vec<(Register, u64)>,
}

impl Op {
    /// Sets a register, or deletes it (0), whatever it held.
    pub fn write(register: Register, value: u64) -> Self {
        Self { seen: Vec::new(), written: vec![(register, value)] }
    }

    /// Reads a register.
    pub fn read(register: Register, seen: u64) -> Self {
        Self { seen: vec![(register, seen)], written: Vec::new() }
    }

    /// Sets a register that held `from`.
    pub fn swap(register: Register, from: u64, to: u64) -> Self {
        Self { seen: vec![(register, from)], written: vec![(register, to)] }
    }
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Answered {
        /// When.
        end: u64,
        /// The revision that the answer named: that of the write, if there was one.
        revision: u64,
    },
    /// It may have been carried out, or be carried out at any later time.
    Unknown,
    /// It was said to have changed nothing.
    Failed,
}

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Whose.
    pub client: u32,
    /// What.
    pub op: Op,
    /// When it was first sent.
    pub start: u64,
    /// What became of it.
    pub outcome: Outcome,
}

impl Call {
    /// When it was answered, if it was.
    pub fn end(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Answered { end, .. } => Some(end),
            Outcome::Unknown | Outcome::Failed => None,
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}, {} to ", self.client, self.start)?;
        match self.outcome {
            Outcome::Answered { end, revision } => write!(f, "{end}, revision {revision}:")?,
            Outcome::Unknown => f.write_str("an unknown end:")?,
            Outcome::Failed => f.write_str("no effect:")?,
        }
        self.op.seen.iter().try_for_each(|(register, value)| write!(f, " r{register} was {value},"))?;
        self.op.written.iter().try_for_each(|(register, value)| write!(f, " r{register} := {value},"))
    }
}
