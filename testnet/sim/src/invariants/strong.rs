//! All that has to hold of a strong keyspace, from what its clients were told.

use starling_history::Violation;

use super::{done_once, exclusion, linearizable, once, watches};
use crate::strong::Strong;

/// What does not hold, each with the invariant's name. While it went on, members may have shown that something
/// is wrong with them ("sound"), and in the end a keyspace with a majority has to serve again ("serves").
pub fn judge(strong: &Strong) -> Vec<(&'static str, String)> {
    let mut broken = strong.broken().to_vec();
    let checks = [
        ("linearizable", linearizable::check(&strong.calls(), strong.log())),
        ("stale", linearizable::check_stale(&strong.stale_calls(), strong.log())),
        ("exclusion", exclusion::check(strong.lockers(), strong.log())),
        ("once", once::check(strong.queuers(), strong.log())),
        ("done once", done_once::check(strong.workers(), strong.log())),
        ("watches", watches::check(strong.watchers(), strong.log(), strong.told())),
    ];
    // Without the whole log it is not known what happened.
    let knows_all = strong.has_whole_log();
    for (invariant, checked) in checks.into_iter().filter(|_| knows_all) {
        broken.extend(checked.err().map(|Violation(what)| (invariant, what)));
    }
    broken
}
