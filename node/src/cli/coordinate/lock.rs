//! Locks.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use serde_json::json;
use starling_api::strong::{Body, KeyValue, Request};
use starling_api::{Blob, ErrorCode};
use starling_client::{in_order, line_name};
use starling_strong::line as layout;

use super::args::{LockArgs, LockCommand};
use super::lease::seconds;
use super::line::Wanted;
use crate::cli::Session;
use crate::cli::args::Output;
use crate::cli::failure::Failure;
use crate::cli::print::{self, Result};
use crate::cli::strong::{Listed, unexpected};
use crate::cli::value::bytes;

/// A client in the queue of a lock.
struct Standing {
    lock: Blob,
    /// Its position in the queue; 0 holds the lock.
    place: usize,
    kv: KeyValue,
    /// Time left of its lease, milliseconds; `None` if it has expired by now.
    left_ms: Option<u64>,
}

impl Session {
    pub(in crate::cli) async fn lock(&self, args: &LockArgs) -> Result {
        let run = async |strong: &Self| match (&args.list, &args.name) {
            (Some(LockCommand::Ls { name }), _) => strong.list_locks(name.as_deref()).await,
            (None, Some(name)) => strong.hold_lock(args, name).await,
            (None, None) => Err(Failure::usage("which lock?", "starling lock NAME [-- COMMAND]")),
        };
        self.need_strong("locks", run).await
    }

    async fn hold_lock(&self, args: &LockArgs, name: &OsStr) -> Result {
        let wanted = Wanted {
            what: "lock",
            variables: "STARLING_LOCK",
            name: Blob(bytes(name)),
            value: Blob::default(),
            hold: &args.hold,
        };
        self.hold(&wanted).await
    }

    async fn list_locks(&self, name: Option<&OsStr>) -> Result {
        let names = match name {
            Some(name) => BTreeSet::from([bytes(name)]),
            None => self.names_of_lines().await?,
        };
        let mut all = Vec::new();
        for name in names {
            let mut kvs = self.everything(&layout::prefix(&name)).await?.1;
            // The keys of elections have values, those of locks have none.
            kvs.retain(|kv| kv.value.is_empty());
            for (place, kv) in in_order(kvs).into_iter().enumerate() {
                let left_ms = self.left_ms(kv.lease).await?;
                all.push(Standing { lock: Blob(name.clone()), place, kv, left_ms });
            }
        }
        self.show_locks(&all)
    }

    async fn names_of_lines(&self) -> std::result::Result<BTreeSet<Vec<u8>>, Failure> {
        let mut names = BTreeSet::new();
        self.each_page(&Listed::default(), |kvs| {
            names.extend(kvs.iter().filter_map(line_name).map(<[u8]>::to_vec));
            Ok(())
        })
        .await?;
        Ok(names)
    }

    async fn left_ms(&self, lease: i64) -> std::result::Result<Option<u64>, Failure> {
        if lease == 0 {
            return Ok(None);
        }
        let request = Request::TimeToLive { id: lease, keys: false };
        match self.client.ask(&self.keyspace, &request.into()).await {
            Ok(answer) => match answer.body {
                Body::TimeToLive { left_ms, .. } => Ok(Some(left_ms)),
                other => Err(unexpected(&other)),
            },
            Err(error) if error.code == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn show_locks(&self, all: &[Standing]) -> Result {
        match self.output {
            Output::Raw => all.iter().try_for_each(|it| print::raw_line(&it.kv.key)),
            Output::Json => all.iter().try_for_each(|it| {
                let Standing { lock, place, kv, left_ms } = it;
                let (token, lease, key) = (kv.create_revision, layout::hex(kv.lease), Blob::from(&kv.key[..]));
                print::json(
                    &json!({ "lock": lock, "place": place, "token": token, "lease": lease, "left_ms": left_ms, "key": key }),
                )
            }),
            Output::Table => {
                let row = |it: &Standing| {
                    let place = if it.place == 0 { "holds it".into() } else { format!("waits, {}.", it.place) };
                    let left = it.left_ms.map_or_else(|| "-".into(), seconds);
                    let (token, lease) = (it.kv.create_revision.to_string(), layout::hex(it.kv.lease));
                    [it.lock.escaped(), place, token, lease, left]
                };
                print::table(["LOCK", "PLACE", "TOKEN", "LEASE", "LEFT"], all.iter().map(row))
            }
        }
    }
}
