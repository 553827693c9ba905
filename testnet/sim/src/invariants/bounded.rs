//! Queues are bounded: no table or cache of a node outgrows its limit, whatever happens.

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
