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

/// A client in the queue of a lock, or a key that is none and keeps clients from their turn.
struct Standing {
    lock: Blob,
    /// Its position in the queue; 0 holds the lock.
    place: usize,
    kv: KeyValue,
    /// Whether it is no client of the lock.
    blocks: bool,
    /// Time left of its lease, milliseconds; `None` if it has expired by now.
    left_ms: Option<u64>,
}

impl LockArgs {
    /// Whether locks are listed. Behind an option, the parser takes the subcommand for a name.
    pub fn is_listing(&self) -> bool {
        self.list.is_some() || self.name.as_deref().is_some_and(|name| name == "ls")
    }
}

impl Session {
    pub(in crate::cli) async fn lock(&self, args: &LockArgs) -> Result {
        let run = async |strong: &Self| match (&args.list, &args.name) {
            (Some(LockCommand::Ls { name }), _) => strong.list_locks(name.as_deref()).await,
            (None, Some(_)) if args.is_listing() => match &args.hold.command[..] {
                [] => strong.list_locks(None).await,
                [name] => strong.list_locks(Some(name)).await,
                _ => Err(Failure::usage(
                    "`lock ls` lists locks, and no lock has this name",
                    "name another lock",
                )),
            },
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
            let kvs = self.everything(&layout::prefix(&name)).await?.1;
            for (place, (kv, blocks)) in queue(&name, kvs).into_iter().enumerate() {
                let left_ms = self.left_ms(kv.lease).await?;
                all.push(Standing { lock: Blob(name.clone()), place, kv, blocks, left_ms });
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
                let Standing { lock, place, kv, blocks, left_ms } = it;
                let (token, lease, key) = (kv.create_revision, layout::hex(kv.lease), Blob::from(&kv.key[..]));
                print::json(
                    &json!({ "lock": lock, "place": place, "token": token, "lease": lease, "left_ms": left_ms, "key": key, "blocks": blocks }),
                )
            }),
            Output::Table => {
                let row = |it: &Standing| {
                    let place = match it.place {
                        _ if it.blocks => format!("blocked by {}", Blob::from(&it.kv.key[..]).escaped()),
                        0 => "holds it".into(),
                        place => format!("waits, {place}."),
                    };
                    let left = it.left_ms.map_or_else(|| "-".into(), seconds);
                    let (token, lease) = (it.kv.create_revision.to_string(), layout::hex(it.kv.lease));
                    [it.lock.escaped(), place, token, lease, left]
                };
                print::table(["LOCK", "PLACE", "TOKEN", "LEASE", "LEFT"], all.iter().map(row))
            }
        }
    }
}

/// The clients of a lock in their order, and among them, marked, the first key that is none, if it keeps one waiting or
/// there is no client: clients wait until every older key under the lock's name is gone.
fn queue(name: &[u8], kvs: Vec<KeyValue>) -> Vec<(KeyValue, bool)> {
    let is_in_line = |kv: &KeyValue| line_name(kv) == Some(name);
    let (clients, others): (Vec<_>, Vec<_>) = in_order(kvs).into_iter().partition(is_in_line);
    let last = clients.last().map(|kv| kv.create_revision);
    let blocks = |kv: &KeyValue| last.is_none_or(|last| kv.create_revision < last);
    let blocker = others.into_iter().next().filter(blocks).map(|kv| (kv, true));
    // The keys of elections have values, those of locks have none.
    let clients = clients.into_iter().filter(|kv| kv.value.is_empty()).map(|kv| (kv, false));
    let mut all: Vec<_> = clients.chain(blocker).collect();
    all.sort_by_key(|(kv, _)| kv.create_revision);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &str, create_revision: u64, lease: i64) -> KeyValue {
        KeyValue { key: key.into(), create_revision, lease, ..KeyValue::default() }
    }

    #[test]
    fn a_key_that_is_no_client_is_shown_where_it_keeps_one_waiting() {
        let shown = |kvs: Vec<KeyValue>| -> Vec<(u64, bool)> {
            queue(b"job", kvs).into_iter().map(|(kv, blocks)| (kv.create_revision, blocks)).collect()
        };
        let (first, second) = (kv("job/a", 5, 0xa), kv("job/b", 7, 0xb));
        let other = |created| kv("job/config", created, 0);
        assert_eq!(shown(vec![first.clone(), second.clone(), other(3)]), [(3, true), (5, false), (7, false)]);
        assert_eq!(shown(vec![first.clone(), second.clone(), other(6)]), [(5, false), (6, true), (7, false)]);
        assert_eq!(shown(vec![first.clone(), second, other(9)]), [(5, false), (7, false)]);
        assert_eq!(shown(vec![other(3)]), [(3, true)], "the next client will wait for it");
        assert_eq!(
            shown(vec![first, kv("job/x/f", 2, 0xf)]),
            [(2, true), (5, false)],
            "a lock of a nested name"
        );
    }
}
