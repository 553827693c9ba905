//! Which of several keyspaces with one name keeps it.
//!
//! Nodes that do not reach each other can create keyspaces of the same name. When they meet, every node chooses the same
//! one, whichever it learned of first, because the choice depends on the ids of the groups alone: an id contains how
//! many members created the group, and when.
//!
//! ```text
//! 0    3  mark, which ids of release 0.1.0 do not have: they are random
//! 3    1  initial members
//! 4    6  time of creation, milliseconds since 1970, big endian
//! 10   6  random
//! ```
//!
//! 1. A group from before there was a mark is the oldest. Of two of these, none has precedence.
//! 2. A group of several members has precedence over one that a node created alone. A node that is alone has no clock
//!    to compare its own with, and may be a machine that was started with a wrong one.
//! 3. The older group has precedence, then the one with the lower id.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use starling_strong::group::GroupId;

use super::KEYSPACE_BYTES_MAX;

/// The first bytes of an id with a time. Drawn at random: one of 16 million ids of release 0.1.0 begins with it.
const MARK: [u8; 3] = [0xc7, 0x5e, 0x1d];
/// Precedes the digits of the group's id in the name of a keyspace that gave way.
const ASIDE: &str = ".aside-";
/// Bytes of the group's id in that name.
const NAMED_BYTES: usize = 4;

/// Writes number of members and time of creation into the id of a new group, which is random otherwise.
pub fn mark(mut id: GroupId, members: usize, wall_ms: u64) -> GroupId {
    id[..3].copy_from_slice(&MARK);
    id[3] = members as u8;
    id[4..10].copy_from_slice(&wall_ms.to_be_bytes()[2..]);
    id
}

/// Whether several members created a group, and when; `None` for a group of release 0.1.0.
fn creation(id: &GroupId) -> Option<(bool, u64)> {
    let (mark, rest) = id.split_first_chunk::<3>()?;
    let (members, rest) = rest.split_first()?;
    let (time, _) = rest.split_first_chunk::<6>()?;
    let created_ms = time.iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte));
    (*mark == MARK).then_some((*members > 1, created_ms))
}

/// Whether a group was created in the last `ms` milliseconds, or will have been by a clock that is as much ahead.
pub fn is_recent(id: &GroupId, wall_ms: u64, ms: u64) -> bool {
    creation(id).is_some_and(|(_, created_ms)| created_ms.abs_diff(wall_ms) < ms)
}

/// The group that keeps the name; `None` if none has precedence.
pub fn first(groups: &BTreeSet<GroupId>) -> Option<GroupId> {
    let mut unmarked = groups.iter().filter(|id| creation(id).is_none());
    match (unmarked.next(), unmarked.next()) {
        (None, _) => groups.iter().copied().min_by_key(|id| {
            let (is_several, created_ms) = creation(id).unwrap_or_default();
            (Reverse(is_several), created_ms, *id)
        }),
        (Some(oldest), None) => Some(*oldest),
        (Some(_), Some(_)) => None,
    }
}

/// The name that a keyspace has after another one kept its own.
pub fn aside_name(keyspace: &str, group: &GroupId) -> String {
    let suffix = aside_suffix(group);
    let kept = keyspace.len().min(KEYSPACE_BYTES_MAX - suffix.len());
    // The characters of names have one byte.
    format!("{}{suffix}", &keyspace[..kept])
}

/// The name that a keyspace had before it gave way, or the beginning of it; `None` if it has not given way.
pub fn former_name<'a>(keyspace: &'a str, group: &GroupId) -> Option<&'a str> {
    keyspace.strip_suffix(&aside_suffix(group)).filter(|name| !name.is_empty())
}

fn aside_suffix(group: &GroupId) -> String {
    // The end is random.
    let digits = group[16 - NAMED_BYTES..].iter().map(|byte| format!("{byte:02x}"));
    [ASIDE.to_owned()].into_iter().chain(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::super::creations::is_valid_name;
    use super::*;

    fn group(random: u8, members: usize, wall_ms: u64) -> GroupId {
        mark([random; 16], members, wall_ms)
    }

    fn winner(groups: &[GroupId]) -> Option<GroupId> {
        first(&groups.iter().copied().collect())
    }

    #[test]
    fn the_group_of_several_members_comes_first_then_the_older_one() {
        let (alone, several) = (group(1, 1, 1_000), group(2, 3, 2_000));
        assert_eq!(winner(&[alone, several]), Some(several), "although it is younger");
        let (older, younger) = (group(9, 5, 1_999), group(1, 7, 2_000));
        assert_eq!(winner(&[several, older, younger]), Some(older));
        assert_eq!(winner(&[alone, group(0, 1, 1_001)]), Some(alone));
        assert_eq!(winner(&[group(7, 3, 5), group(6, 3, 5)]), Some(group(6, 3, 5)), "at the same time");
        assert_eq!(winner(&[]), None);
    }

    #[test]
    fn a_group_of_the_first_release_comes_before_all_others_and_two_of_them_are_equal() {
        let (first, second, marked) = ([0xff; 16], [7; 16], group(1, 3, 0));
        assert_eq!(winner(&[first, marked]), Some(first));
        assert_eq!(winner(&[first, second, marked]), None);
    }

    #[test]
    fn a_keyspace_that_gave_way_has_a_valid_name_that_tells_the_former_one() {
        let id = group(0xab, 1, 7);
        for name in ["o", "orders", &"x".repeat(KEYSPACE_BYTES_MAX)] {
            let aside = aside_name(name, &id);
            assert!(is_valid_name(&aside), "{aside}");
            assert!(name.starts_with(former_name(&aside, &id).expect("it gave way")), "{aside}");
            assert_eq!(former_name(name, &id), None);
        }
        assert_eq!(aside_name("orders", &id), "orders.aside-abababab");
        assert_eq!(former_name("orders.aside-abababab", &group(0xac, 1, 7)), None, "of another group");
    }
}
