//! The bound on the rows that one step visits.

/// The rows, and their bytes, that a step may still visit. A row counts with all its bytes even if only its key is
/// used, because the engine reads it whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Rows, at most.
    pub rows: usize,
    /// Bytes of rows, at most, but for the last row.
    pub bytes: usize,
}

impl Room {
    /// No bound.
    pub const ALL: Self = Self { rows: usize::MAX, bytes: usize::MAX };

    /// Whether no further row may be visited.
    pub fn is_used_up(&self) -> bool {
        self.rows == 0 || self.bytes == 0
    }

    /// Whether there is room for more than these rows.
    pub(super) fn has_room_for(self, visited: Self) -> bool {
        visited.rows < self.rows && visited.bytes < self.bytes
    }

    /// Accounts for a row of some bytes. Returns whether there was room for it.
    pub fn take(&mut self, bytes: usize) -> bool {
        if self.is_used_up() {
            return false;
        }
        self.use_up(Self { rows: 1, bytes });
        true
    }

    /// Accounts for rows that were visited.
    pub fn use_up(&mut self, visited: Self) {
        self.rows = self.rows.saturating_sub(visited.rows);
        self.bytes = self.bytes.saturating_sub(visited.bytes);
    }

    /// What was visited, if it was [`Room::ALL`] before.
    #[must_use]
    pub fn used(self) -> Self {
        Self { rows: usize::MAX - self.rows, bytes: usize::MAX - self.bytes }
    }

    /// The smaller of two bounds.
    pub(super) fn within(self, other: Self) -> Self {
        Self { rows: self.rows.min(other.rows), bytes: self.bytes.min(other.bytes) }
    }
}
