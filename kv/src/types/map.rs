//! Maps: a place per field, each a register of its own.

use std::ops::ControlFlow;

use bytes::Bytes;
use starling_types::Blob;
use starling_types::eventual::{Data, Field, MapPage};

use super::{Found, register};
use crate::cell::Rows;
use crate::place::place;
use crate::store::{Session, Stop};
use crate::{Engine, Error, Kind, Outcome, Write};

/// Sets fields.
pub fn put<E: Engine>(
    session: &mut Session<'_, E>,
    write: &Write,
    fields: &[Field],
) -> Result<Outcome, Stop> {
    session.put_fields(write, fields.iter().map(|field| (at(write, &field.name.0), &field.value.0[..])))
}

/// Deletes fields.
pub fn delete<E: Engine>(
    session: &mut Session<'_, E>,
    write: &Write,
    names: &[Bytes],
) -> Result<Outcome, Stop> {
    session.remove(write, names.iter().map(|name| at(write, name)).collect())
}

fn at(write: &Write, name: &[u8]) -> Vec<u8> {
    place(&write.keyspace, &write.key, Kind::Map, name)
}

/// Adds a field to the page.
pub fn read<R: Rows>(
    found: &Found<'_, R>,
    data: &mut Vec<Data>,
    fields_max: usize,
) -> Result<ControlFlow<()>, Error> {
    if !matches!(data.last(), Some(Data::Map(_))) {
        data.push(Data::Map(MapPage::default()));
    }
    let Some(Data::Map(page)) = data.last_mut() else { return Ok(ControlFlow::Break(())) };
    if page.fields.len() == fields_max {
        page.next = page.fields.last().map(|field| field.name.clone());
        return Ok(ControlFlow::Break(()));
    }
    let value = register::versions(found)?;
    let field =
        |value: super::Register| Field { name: Blob::from(found.field), value: Blob::from(&value.value[..]) };
    page.fields.extend(value.map(field));
    Ok(ControlFlow::Continue(()))
}
