//! Which groups a node has, written beside their logs: what a process finds when it starts.

use std::ops::ControlFlow;

use bincode::{Decode, Encode, config};
use starling_kv::engine::{Family, RowOp, View};
use starling_kv::{Engine, Error};

use crate::group::GroupId;
use crate::members::MemberId;

/// Rows of the registry are under the group that is none.
const NONE: GroupId = [0; 16];
/// Version of every row.
const VERSION: u8 = 1;

/// One group on this node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Registered {
    /// The group.
    pub group: GroupId,
    /// Its keyspace.
    pub keyspace: String,
    /// This node's place in it.
    pub member: MemberId,
    /// Voters that are lost are not replaced by themselves.
    pub manual: bool,
}

fn key(group: &GroupId) -> Vec<u8> {
    [NONE, *group].concat()
}

/// Notes a group.
pub fn register<E: Engine>(engine: &E, registered: &Registered) -> Result<(), Error> {
    let mut row = vec![VERSION];
    bincode::encode_into_std_write(registered, &mut row, config::standard())
        .expect("writing to a Vec does not fail");
    engine.write(vec![RowOp::Put(Family::Raft, key(&registered.group), row)])
}

/// Forgets a group.
pub fn forget<E: Engine>(engine: &E, group: &GroupId) -> Result<(), Error> {
    engine.write(vec![RowOp::Delete(Family::Raft, key(group))])
}

/// Every group that was noted.
pub fn registered<E: Engine>(engine: &E) -> Result<Vec<Registered>, Error> {
    let mut all = Vec::new();
    let mut end = NONE;
    end[15] = 1;
    engine.view().scan(Family::Raft, &NONE, Some(&end), &mut |key, row| {
        let decode = |body| bincode::decode_from_slice(body, config::standard().with_limit::<4096>()).ok();
        let known = row.split_first().filter(|(version, _)| **version == VERSION);
        let decoded: Option<(Registered, usize)> = known.and_then(|(_, body)| decode(body));
        let (registered, _) =
            decoded.ok_or_else(|| Error::Corrupt { reason: format!("the note of a group at {key:?}") })?;
        all.push(registered);
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
    }
}
