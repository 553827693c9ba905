//! No step of a node is long: heartbeats, rumors and other clients wait for it.

use starling_kv::engine::Cost;

/// The most that one step may cost; see [`Cost::units`]. The longest steps are commits, which stop after 10,000 places of
/// six or seven rows.
pub const UNITS_MAX: u64 = 80_000;

/// One step.
pub fn check(cost: Cost) -> Result<(), String> {
    if cost.units() <= UNITS_MAX {
        return Ok(());
    }
    Err(format!("one step read and wrote {} rows and {} bytes", cost.rows, cost.bytes))
}
