//! What both doctors, that of a running node and that of a stopped one, find of strong keyspaces in the store.

use std::collections::BTreeSet;

use starling_api::EVENTUAL_PREFIX;
use starling_api::admin::Doctor;
use starling_core::published;
use starling_core::strong::{LOCATIONS, may_lack};
use starling_kv::{Engine, Error, Range, Reader};
use starling_strong::group::GroupId;
use starling_strong::log::Log;
use starling_strong::machine::{inspect, stored};
use starling_strong::registry::{self, Registered, registered};

use super::{REPLICA_HINT, add};
use crate::wall_ms;

/// Keys that are counted under one name, at most. A guess: what to do does not depend on more.
const COUNTED_MAX: usize = 1000;

/// Adds what is wrong with the rows of strong keyspaces: the state of each replica, kept ones included, and names that an
/// eventual and a strong keyspace share.
///
/// # Errors
/// The store cannot be read.
pub fn check<E: Engine>(doctor: &mut Doctor, reader: &Reader<E>) -> Result<(), Error> {
    let (mut keys, mut superseded) = (0, 0);
    for Registered { group, keyspace, .. } in registered(reader.engine())? {
        let inspected = inspect(&reader.engine().view(), &group);
        // The rows of a replica that is being removed end with those of its log.
        if !matches!(Log::read_end(reader.engine(), &group, 0), Ok(None)) {
            match inspected {
                Ok(found) => {
                    (keys, superseded) = (keys + found.keys, superseded + found.superseded);
                    for (what, count) in found.problems {
                        let what = format!("strong keyspace {keyspace:?}: {what} ({count} times)");
                        add(doctor, what, REPLICA_HINT);
                    }
                }
                Err(error) => add(doctor, format!("strong keyspace {keyspace:?}: {error}"), REPLICA_HINT),
            }
        }
        if may_have_more(reader, group, &keyspace)? {
            add_kept(doctor, &keyspace);
        }
    }
    doctor.counts.insert("strong_keys".into(), keys);
    doctor.counts.insert("strong_superseded".into(), superseded);
    add_shared_names(doctor, reader)
}

/// Whether a replica is kept aside and may have writes that its group lacks.
fn may_have_more<E: Engine>(reader: &Reader<E>, group: GroupId, keyspace: &str) -> Result<bool, Error> {
    let engine = reader.engine();
    if Log::aside_since(engine, &group)?.is_none() || registry::dropped(engine)?.contains_key(&group) {
        return Ok(false);
    }
    let (applied, _) = stored(engine, &group).unwrap_or_default();
    let end = Log::read_end(engine, &group, applied).ok().flatten().map(|(_, end)| end.position());
    let locations = published(reader, wall_ms(), keyspace)?;
    let latest = locations.iter().filter(|location| location.group == group).max_by_key(|it| it.term);
    Ok(may_lack(end, &group, latest))
}

fn add_kept(doctor: &mut Doctor, keyspace: &str) {
    let what = format!("a removed replica of {keyspace} may have writes that it lacks since its recovery");
    let hint = format!(
        "`starling keyspace replicas {keyspace}` compares the logs; `starling keyspace discard {keyspace}` here deletes \
         the removed replica"
    );
    add(doctor, what, hint);
}

/// Adds the names of strong keyspaces under which there are eventual keys, written by nodes that did not know of the strong
/// keyspace.
fn add_shared_names<E: Engine>(doctor: &mut Doctor, reader: &Reader<E>) -> Result<(), Error> {
    let eventual: BTreeSet<String> = reader.keyspaces()?.into_iter().collect();
    if !eventual.contains(LOCATIONS) {
        return Ok(());
    }
    for name in eventual.iter().filter(|name| !name.starts_with('.')) {
        if !published(reader, wall_ms(), name)?.is_empty() {
            let keys = count_keys(reader, name)?;
            let what =
                format!("{name} is a strong keyspace, and hides {keys} of an eventual one of this name");
            let hidden = format!("{EVENTUAL_PREFIX}{name}");
            let hint = format!(
                "`starling export -k {hidden} > FILE` saves them, `starling import -k NAME FILE` keeps them under another \
                 name, and `starling del -k {hidden} --prefix ''` deletes them"
            );
            add(doctor, what, hint);
        }
    }
    Ok(())
}

/// How many keys an eventual keyspace holds, for people.
pub fn count_keys<E: Engine>(reader: &Reader<E>, keyspace: &str) -> Result<String, Error> {
    let page = reader.list(wall_ms(), keyspace, &Range::default(), COUNTED_MAX, 0)?;
    let more = if page.next.is_some() { " or more" } else { "" };
    let count = page.items.len();
    Ok(format!("{count}{more} {}", if count == 1 && page.next.is_none() { "key" } else { "keys" }))
}
