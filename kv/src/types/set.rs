//! Sets: a place per member, with an empty value. Adding wins over a concurrent removal.

use std::ops::ControlFlow;

use bytes::Bytes;
use starling_types::Blob;
use starling_types::eventual::{Data, SetPage};

use super::Found;
use crate::place::place;
use crate::store::{Session, Stop};
use crate::{Engine, Kind, Outcome, Write};

/// Adds members.
pub fn add<E: Engine>(
    session: &mut Session<'_, E>,
    write: &Write,
    members: &[Bytes],
) -> Result<Outcome, Stop> {
    session.put_fields(write, members.iter().map(|member| (at(write, member), &[][..])))
}

/// Removes members.
pub fn remove<E: Engine>(
    session: &mut Session<'_, E>,
    write: &Write,
    members: &[Bytes],
) -> Result<Outcome, Stop> {
    session.remove(write, members.iter().map(|member| at(write, member)).collect())
}

fn at(write: &Write, member: &[u8]) -> Vec<u8> {
    place(&write.keyspace, &write.key, Kind::Set, member)
}

/// Adds a member to the page.
pub fn read<R>(found: &Found<'_, R>, data: &mut Vec<Data>, members_max: usize) -> ControlFlow<()> {
    if !matches!(data.last(), Some(Data::Set(_))) {
        data.push(Data::Set(SetPage::default()));
    }
    let Some(Data::Set(page)) = data.last_mut() else { return ControlFlow::Break(()) };
    if page.members.len() == members_max {
        page.next = page.members.last().cloned();
        return ControlFlow::Break(());
    }
    page.members.push(Blob::from(found.field));
    ControlFlow::Continue(())
}
