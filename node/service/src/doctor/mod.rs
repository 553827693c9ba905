//! Checks of the whole store, outside the gossip thread.

mod certificate;
mod running;
mod strong;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use starling_api::admin::{Doctor, Finding};
use starling_kv::check::doctor as check;
use starling_kv::{Error, Reader, Report};
use starling_rocks::{LostWrites, RocksEngine, RocksOptions};
use starling_strong::group::failure;
use starling_strong::registry::{Registered, registered};

use crate::data_dir::{self, STORE_DIR};
use crate::start_error::StartError;

pub use running::{STORAGE_HINT, failures};
pub use strong::count_keys;

/// What to do about a replica that would not open.
const REPLICA_HINT: &str = "after damage, replace the disk and this node's voter (`starling keyspace voters remove`, then \
                            `add`); `starling keyspace recover` continues a keyspace of one voter";

/// What to do about a store that is damaged.
const DAMAGE_HINT: &str = "move the data directory's store aside and start again: peers refill eventual keyspaces, and voters \
                           of strong ones are replaced by `starling keyspace voters remove` and `add`";

/// Checks a store on a snapshot of it; waits for the disk.
pub fn check_running(reader: &Reader<RocksEngine>) -> Result<Doctor, Error> {
    let mut doctor = reader.doctor().map(describe)?;
    add_losses(&mut doctor, reader.engine());
    strong::check(&mut doctor, reader)?;
    Ok(doctor)
}

/// Checks the store and the strong replicas of a node that is not running. Nothing is written, and no node can start on it
/// meanwhile.
pub fn examine(data_dir: &Path) -> Result<Doctor, StartError> {
    let store = data_dir.join(STORE_DIR);
    if !store.is_dir() {
        return Err(StartError::NoStore { path: data_dir.to_owned() });
    }
    let _directory = data_dir::lock(data_dir, FlockOperation::NonBlockingLockShared)?;
    let _store = lock(&store)?;
    let engine = RocksEngine::open_read_only(&store, &RocksOptions::default())?;
    let mut doctor = describe(check(&engine, None)?);
    add_losses(&mut doctor, &engine);
    match Reader::open(engine.clone()) {
        Ok(reader) => strong::check(&mut doctor, &reader)?,
        Err(error) => add(&mut doctor, error.to_string(), DAMAGE_HINT),
    }
    for Registered { group, keyspace, .. } in registered(&engine)? {
        if let Some(reason) = failure(&engine, group) {
            let what = format!("strong keyspace {keyspace:?}: {reason}");
            add(&mut doctor, what, REPLICA_HINT);
        }
    }
    Ok(doctor)
}

/// Adds what was durable and was not there when the store was opened.
fn add_losses(doctor: &mut Doctor, engine: &RocksEngine) {
    if let Some(LostWrites { synced, found }) = engine.lost_writes() {
        doctor.counts.insert("writes_lost".into(), synced - found);
        let what =
            format!("{} writes that were durable were missing when the store was opened", synced - found);
        let hint =
            "check the disk; peers refill eventual keyspaces, replicas of strong ones have to be replaced";
        add(doctor, what, hint);
    }
    if engine.lost_records().is_some() {
        let what = "records of the journal that were durable were missing when the store was opened".into();
        add(doctor, what, "check the disk; this node's replicas of strong keyspaces have to be replaced");
    }
}

/// Adds what is wrong, and what to do about it.
pub fn add(doctor: &mut Doctor, what: String, hint: impl Into<String>) {
    doctor.findings.push(Finding { what, hint: hint.into() });
    doctor.healthy = false;
}

/// Takes the storage engine's lock of a store, because a store that a process writes would look damaged, and older
/// versions lock nothing else. A copy may lack the lock file.
fn lock(store: &Path) -> Result<Option<File>, Error> {
    let Ok(file) = File::open(store.join("LOCK")) else { return Ok(None) };
    match fcntl_lock(&file, FlockOperation::NonBlockingLockShared) {
        Err(Errno::AGAIN | Errno::ACCESS) => Err(Error::Locked { path: store.to_owned() }),
        _ => Ok(Some(file)),
    }
}

fn describe(report: Report) -> Doctor {
    let counts = [
        ("format", report.format.into()),
        ("actors", report.actors),
        ("intervals", report.intervals),
        ("dots_seen", report.dots_seen),
        ("entries", report.entries),
        ("places", report.places),
        ("places_with_siblings", report.places_with_siblings),
        ("expiring", report.expiring),
        ("unreadable", report.unreadable),
        ("equivocations", report.equivocations),
    ];
    let finding = |problem: starling_kv::check::Problem| Finding {
        what: format!("{} ({} times; {})", problem.what, problem.count, problem.examples.join(", ")),
        hint: DAMAGE_HINT.into(),
    };
    Doctor {
        healthy: report.is_sound(),
        counts: counts.map(|(name, count)| (name.to_owned(), count)).into_iter().collect::<BTreeMap<_, _>>(),
        findings: report.problems.into_iter().map(finding).collect(),
    }
}
