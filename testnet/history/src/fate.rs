//! What a client knows of a write.

/// The outcome of a write, as its client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was applied.
    Done,
    /// It was not applied.
    Failed,
    /// It may have been applied, or be applied later.
    Unknown,
}

impl Fate {
    /// Whether the write may have been applied so often.
    pub(crate) fn allows(self, count: usize) -> bool {
        match self {
            Self::Done => count == 1,
            Self::Unknown => count <= 1,
            Self::Failed => count == 0,
        }
    }
}
