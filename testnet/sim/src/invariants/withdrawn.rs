//! Of two processes with one identity the earlier one gives way to the later one, and says so: that another process uses its
//! identity, and of each of its replicas that it takes no part in its group.

use crate::world::World;

/// The process that was there first, and the one that was started on a copy of its machine, long after they could hear each
/// other.
pub fn check(world: &World, first: usize) -> Result<(), String> {
    match world.hides_conflict(first) {
        Some(true) => {
            Err("another process has its identity, and the earlier one does not report that".into())
        }
        Some(false) | None => Ok(()),
    }
}
