//! Queues are bounded: no table or cache of a node outgrows its limit, whatever happens; and no exchange
//! goes on and on by itself.

use starling_core::Core;
use starling_kv::MemoryEngine;

/// One node. `cache_bytes_max` is its setting.
pub fn check(core: &Core<MemoryEngine>, cache_bytes_max: usize) -> Result<(), String> {
    let held = core.held();
    for (what, found, max) in [
        ("bytes of rumors cached", held.rumor_bytes, cache_bytes_max),
        ("rumors waited for", held.rumors_wanted, 8_192),
        ("links for rumors", held.rumor_links, core.active().count()),
        ("dials under way", held.dials, 64),
        ("messages waiting for dials", held.waiting, 64 * 8),
        ("gaps watched", held.gaps, 1_024),
        ("outputs not fetched", held.outputs, 0),
    ] {
        if found > max {
            return Err(format!("{found} {what}, at most {max} are allowed"));
        }
    }
    Ok(())
}

/// Most deltas that reach a node in a virtual second, on average. The largest bursts that are drawn make a
/// third of it; rumors or sessions that keep each other going make it without end.
const DELTAS_S_MAX: u64 = 2_000;

/// What reached all nodes within a second.
pub fn check_deltas(deltas: u64, nodes: usize) -> Result<(), String> {
    if deltas <= DELTAS_S_MAX * nodes as u64 {
        return Ok(());
    }
    Err(format!(
        "{deltas} deltas reached {nodes} nodes within a second, at most {DELTAS_S_MAX} each are sane"
    ))
}
