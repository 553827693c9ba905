//! The registry of a node's groups and of the groups that were dropped, in rows beside the groups' logs. A
//! process reads it when it starts.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bincode::{Decode, Encode, config};
use starling_kv::engine::{Family, RowOp, View};
use starling_kv::{Engine, Error};

use crate::group::GroupId;
use crate::log::Log;
use crate::members::{MemberId, is_member_id};

/// The reserved group id under which the rows of the node's groups are.
const NONE: GroupId = [0; 16];
/// The reserved group id under which the rows of dropped groups are.
const DROPPED: GroupId = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// The lowest group id that is not reserved.
const FIRST: GroupId = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
/// Version of every row.
const VERSION: u8 = 1;

/// One group on this node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Registered {
    /// The group's id.
    pub group: GroupId,
    /// The name of its keyspace.
    pub keyspace: String,
    /// The number of this node's member of the group.
    pub member: MemberId,
    /// Whether only an operator replaces lost voters.
    pub manual: bool,
}

fn key(group: &GroupId) -> Vec<u8> {
    [NONE, *group].concat()
}

/// Whether a group id is reserved: the rows of such a group's log would be among those of the registry.
pub fn is_reserved(group: &GroupId) -> bool {
    *group < FIRST
}

/// Adds a group to the registry.
pub fn register<E: Engine>(engine: &E, registered: &Registered) -> Result<(), Error> {
    let mut row = vec![VERSION];
    bincode::encode_into_std_write(registered, &mut row, config::standard())
        .expect("writing to a Vec does not fail");
    engine.write(vec![RowOp::Put(Family::Raft, key(&registered.group), row)])
}

/// Removes a group from the registry.
pub fn forget<E: Engine>(engine: &E, group: &GroupId) -> Result<(), Error> {
    engine.write(vec![RowOp::Delete(Family::Raft, key(group))])
}

/// All groups in the registry.
pub fn registered<E: Engine>(engine: &E) -> Result<Vec<Registered>, Error> {
    let mut all = Vec::new();
    engine.view().scan(Family::Raft, &NONE, Some(&DROPPED), &mut |key, row| {
        let decode = |body| bincode::decode_from_slice(body, config::standard().with_limit::<4096>()).ok();
        let known = row.split_first().filter(|(version, _)| **version == VERSION);
        let decoded: Option<(Registered, usize)> = known.and_then(|(_, body)| decode(body));
        let (registered, _) = decoded
            .filter(|(registered, _)| is_member_id(registered.member))
            .ok_or_else(|| Error::Corrupt { reason: format!("the note of a group at {key:?}") })?;
        all.push(registered);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(all)
}

/// Marks the logs of all groups in the registry, because the engine has lost rows that were synced; see
/// [`Log::mark_lost`].
pub fn mark_lost<E: Engine>(engine: &E) -> Result<(), Error> {
    registered(engine)?.iter().try_for_each(|registered| Log::mark_lost(engine, &registered.group))
}

/// Records that a group was dropped. `number` orders the records by age; `forgotten` names a record that is
/// removed in the same write, so that the caller can bound how many there are.
pub fn note_dropped<E: Engine>(
    engine: &E,
    group: &GroupId,
    number: u64,
    forgotten: Option<&GroupId>,
) -> Result<(), Error> {
    let key = |group: &GroupId| [DROPPED, *group].concat();
    let row = [&[VERSION], &number.to_be_bytes()[..]].concat();
    let removed = forgotten.map(|group| RowOp::Delete(Family::Raft, key(group)));
    engine.write([RowOp::Put(Family::Raft, key(group), row)].into_iter().chain(removed).collect())
}

/// The groups that were dropped, with the number of each record.
pub fn dropped<E: Engine>(engine: &E) -> Result<BTreeMap<GroupId, u64>, Error> {
    let mut all = BTreeMap::new();
    engine.view().scan(Family::Raft, &DROPPED, Some(&FIRST), &mut |key, row| {
        let number = row.strip_prefix(&[VERSION]).and_then(|number| number.try_into().ok());
        let group = key.strip_prefix(&DROPPED).and_then(|group| group.try_into().ok());
        let (Some(group), Some(number)) = (group, number) else {
            return Err(Error::Corrupt { reason: format!("the note of a dropped group at {key:?}") });
        };
        all.insert(group, u64::from_be_bytes(number));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use starling_kv::MemoryEngine;

    use super::*;

    #[test]
    fn groups_are_found_again() {
        let engine = MemoryEngine::new();
        let noted = |n: u8| {
            let (group, keyspace) = ([n; 16], format!("k{n}"));
            Registered { group, keyspace, member: u64::from(n), manual: n == 3 }
        };
        for n in [3, 1, 2] {
            register(&engine, &noted(n)).expect("memory");
        }
        forget(&engine, &[2; 16]).expect("memory");
        assert_eq!(registered(&engine), Ok(vec![noted(1), noted(3)]));
        register(&engine, &Registered { member: 0, ..noted(4) }).expect("memory");
        assert!(matches!(registered(&engine), Err(Error::Corrupt { .. })), "no member has this number");
    }

    #[test]
    fn what_was_dropped_is_kept_apart() {
        let engine = MemoryEngine::new();
        let first = Registered { group: FIRST, keyspace: "k".into(), member: 1, manual: false };
        register(&engine, &first).expect("memory");
        note_dropped(&engine, &[0xff; 16], 7, None).expect("memory");
        note_dropped(&engine, &[1; 16], 8, None).expect("memory");
        assert_eq!(dropped(&engine), Ok([([1; 16], 8), ([0xff; 16], 7)].into()));
        note_dropped(&engine, &[2; 16], 9, Some(&[0xff; 16])).expect("memory");
        assert_eq!(dropped(&engine), Ok([([1; 16], 8), ([2; 16], 9)].into()));
        assert_eq!(registered(&engine), Ok(vec![first]));
        assert!(is_reserved(&NONE) && is_reserved(&DROPPED) && !is_reserved(&FIRST));
    }
}
