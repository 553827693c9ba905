//! What the nodes' own counters say about a span of time.

use serde::Serialize;
use starling_api::admin::{Flow, Status};

/// Counters of nodes added up. Bytes are those of frames before encryption: TLS-like records,
/// multiplexing and IP headers are on top (`bench idle` counts those at the interface).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Received in views, heartbeats, announcements.
    pub control_bytes: u64,
    /// Received in full rumors.
    pub rumor_bytes: u64,
    /// Received in anti-entropy sessions.
    pub sync_bytes: u64,
    /// Received about strong keyspaces.
    pub strong_bytes: u64,
    /// Frames received in anti-entropy sessions.
    pub sync_frames: u64,
    /// Anti-entropy sessions begun.
    pub sessions: u64,
    /// Full rumors received that brought something new.
    pub payload_new: u64,
    /// Full rumors received that brought nothing new.
    pub payload_old: u64,
}

impl Traffic {
    /// Adds up what these nodes have received since their starts.
    pub fn received<'a>(statuses: impl IntoIterator<Item = &'a Status>) -> Self {
        statuses.into_iter().fold(Self::default(), |sum, status| {
            let bytes = |flow: Flow| flow.bytes_in;
            Self {
                control_bytes: sum.control_bytes + bytes(status.traffic.control),
                rumor_bytes: sum.rumor_bytes + bytes(status.traffic.rumor),
                sync_bytes: sum.sync_bytes + bytes(status.traffic.sync),
                strong_bytes: sum.strong_bytes + bytes(status.traffic.strong),
                sync_frames: sum.sync_frames + status.traffic.sync.frames_in,
                sessions: sum.sessions + status.counters.get("sessions").copied().unwrap_or_default(),
                payload_new: sum.payload_new + status.payload_new,
                payload_old: sum.payload_old + status.payload_old,
            }
        })
    }

    /// What came since `earlier`, taken from the same processes.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            control_bytes: self.control_bytes.saturating_sub(earlier.control_bytes),
            rumor_bytes: self.rumor_bytes.saturating_sub(earlier.rumor_bytes),
            sync_bytes: self.sync_bytes.saturating_sub(earlier.sync_bytes),
            strong_bytes: self.strong_bytes.saturating_sub(earlier.strong_bytes),
            sync_frames: self.sync_frames.saturating_sub(earlier.sync_frames),
            sessions: self.sessions.saturating_sub(earlier.sessions),
            payload_new: self.payload_new.saturating_sub(earlier.payload_new),
            payload_old: self.payload_old.saturating_sub(earlier.payload_old),
        }
    }

    /// Bytes of all classes.
    pub fn bytes(self) -> u64 {
        self.control_bytes + self.rumor_bytes + self.sync_bytes + self.strong_bytes
    }

    /// Full rumors received for each new one: 1 is perfect. The design's redundancy is this minus 1.
    pub fn copies(self) -> f64 {
        (self.payload_new + self.payload_old) as f64 / self.payload_new.max(1) as f64
    }
}
