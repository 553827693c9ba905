//! Commands on the keys of strong keyspaces.

use std::ffi::OsStr;
use std::time::Duration;

use serde_json::json;
use starling_api::strong::{
    Compare, Delete, Fence, Get, KeyValue, Keys, Operand, Put, Relation, Staleness, StrongAnswer, StrongCall,
    StrongEvent, StrongRequest, StrongResult, Txn, TxnOp,
};
use starling_api::{Blob, ErrorCode, Precondition};
use starling_client::{Client, Keyspace, Named};

use super::Session;
use super::args::{DelArgs, GetArgs, LsArgs, Output, PutArgs, WatchArgs};
use super::coordinate::args::WriteArgs;
use super::failure::Failure;
use super::print::{self, Result};
use super::value::{bytes, read_value};

type Answered = std::result::Result<StrongResult, Failure>;

/// Options of sending a write.
#[derive(Clone, Debug, Default)]
pub struct How<'a> {
    /// Its request id; a random one if there is none.
    pub name: Option<&'a str>,
    pub fence: Option<&'a Fence>,
    /// How long it is sent again with its request id while its outcome is unknown.
    pub patience: Duration,
}

impl<'a> How<'a> {
    /// The options of the command line.
    pub fn of(args: &'a WriteArgs) -> Self {
        Self { name: args.request_id.as_deref(), fence: args.fence.as_ref(), patience: Duration::ZERO }
    }
}

/// The result of a put.
pub struct Made {
    pub key: Blob,
    /// Its version.
    pub revision: u64,
    /// Whether the keyspace has chosen the end of the key.
    is_chosen: bool,
}

/// Which keys to list.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    pub prefix: Blob,
    pub start: Option<Blob>,
    pub end: Option<Blob>,
    /// `None`: all.
    pub limit: Option<u64>,
    pub values: bool,
    pub stale: bool,
}

impl Session {
    /// Whether the keyspace is a strong one. The default keyspace is eventual.
    pub(super) async fn is_strong(&self) -> std::result::Result<bool, Failure> {
        if !self.keyspace_given {
            return Ok(false);
        }
        match self.client.keyspaces().await {
            Ok(found) => {
                let is_it = |kind: &str| kind != "eventual";
                Ok(found.keyspaces.iter().any(|it| it.name == self.keyspace && is_it(&it.kind)))
            }
            // The next request fails with the same error.
            Err(error) if error.code == ErrorCode::NoStore => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Runs a command on the keyspace as a strong one. `None`: nothing was done, because the keyspace is
    /// eventual. A strong one needs no request of its own to find that out.
    pub(super) async fn if_strong<T>(
        &self,
        command: impl AsyncFnOnce(&Self) -> std::result::Result<T, Failure>,
    ) -> std::result::Result<Option<T>, Failure> {
        // The default keyspace is eventual.
        if !self.keyspace_given {
            return Ok(None);
        }
        match command(&Self { client: self.client.if_strong(), ..self.clone() }).await {
            Ok(done) => Ok(Some(done)),
            Err(failure) if failure.is_other_keyspace() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Fails unless the keyspace is strong.
    pub(super) async fn need_strong(&self, what: &str) -> Result {
        let is_strong = self.is_strong().await?;
        self.refuse_strong_only(!is_strong, what)
    }

    /// Sends a write with a request id, so that it can be sent again without being applied twice.
    pub(super) async fn write(
        &self,
        request: StrongRequest,
        how: &How<'_>,
    ) -> std::result::Result<StrongAnswer, Failure> {
        let named = Named {
            request_id: how.name.map(ToOwned::to_owned),
            fence: how.fence.cloned(),
            patience: how.patience,
        };
        Ok(self.strong().write(request, &named).await?)
    }

    /// The strong keyspace that the command is about.
    pub(super) fn strong(&self) -> Keyspace<Client> {
        Keyspace::new(self.client.clone(), self.keyspace.clone())
    }

    /// Puts a key once, attached to a lease (0: none).
    pub(super) async fn put_once(
        &self,
        args: &PutArgs,
        value: Blob,
        lease: i64,
    ) -> std::result::Result<Made, Failure> {
        let (key, how) = (Blob(bytes(&args.key)), How::of(&args.write));
        if args.sequential {
            return self.write_sequential(key, value, lease, &how).await;
        }
        let put = Put { key: key.clone(), value, lease, prev: false };
        let condition = if args.if_absent { &Precondition::Absent } else { &args.if_version };
        let request = match compare(&key, condition)? {
            None => StrongRequest::Put(put),
            Some(compare) => conditional(compare, TxnOp::Put(put)),
        };
        let answer = self.write(request, &how).await?;
        held(answer.result, &key.escaped())?;
        Ok(Made { key, revision: answer.revision, is_chosen: false })
    }

    /// Writes a key that begins with `prefix`, after all earlier ones.
    pub(super) async fn write_sequential(
        &self,
        prefix: Blob,
        value: Blob,
        lease: i64,
        how: &How<'_>,
    ) -> std::result::Result<Made, Failure> {
        let answer = self.write(StrongRequest::PutSequential { prefix, value, lease }, how).await?;
        match answer.result {
            StrongResult::Sequential { key } => Ok(Made { key, revision: answer.revision, is_chosen: true }),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) fn show_made(&self, made: &Made) -> Result {
        let version = made.revision.to_string();
        match (self.output, made.is_chosen) {
            (Output::Json, true) => print::json(&json!({ "key": made.key, "version": version })),
            (Output::Json, false) => print::json(&json!({ "version": version })),
            (Output::Raw, true) => print::raw_line(&made.key.0),
            (Output::Table, true) => print::line(made.key.escaped()),
            (_, false) => print::line(version),
        }
    }

    pub(super) async fn put_strong(&self, args: &PutArgs, value: Blob) -> Result {
        if args.ephemeral {
            return self.put_ephemeral(args, value).await;
        }
        if args.ttl.is_some() {
            let hint = "--ephemeral holds one while a process lives; or `starling lease grant`, and --lease";
            return Err(Failure::usage("keys of strong keyspaces live as long as their lease", hint));
        }
        self.show_made(&self.put_once(args, value, args.lease.unwrap_or(0)).await?)
    }

    pub(super) async fn get_strong(&self, args: &GetArgs) -> Result {
        let name = Blob(bytes(&args.key));
        let get = Get { revision: args.revision.unwrap_or(0), ..Get::of(Keys::Key(name.clone())) };
        let call = StrongCall { stale: args.stale, ..StrongRequest::Get(get).into() };
        let answer = self.client.ask(&self.keyspace, &call).await?;
        let StrongResult::Found(mut found) = answer.result else { return Err(unexpected(&answer.result)) };
        if self.output != Output::Json {
            note_age(answer.stale.as_ref(), answer.revision);
        }
        let kv = found.kvs.pop().ok_or_else(|| Failure::not_found(&name.escaped()))?;
        match (self.output, answer.stale) {
            (Output::Json, Some(stale)) => {
                let (mut kv, mut stale) = (json!(kv), json!(stale));
                stale["revision"] = answer.revision.into();
                kv["stale"] = stale;
                print::json(&kv)
            }
            (Output::Json, None) => print::json(&kv),
            (output, _) => print::value(output, &kv.value),
        }
    }

    pub(super) async fn delete_strong(&self, args: &DelArgs) -> Result {
        let mut total = 0;
        let mut missing = None;
        for key in &args.keys {
            let key = Blob(bytes(key));
            let keys = if args.prefix { Keys::Prefix(key.clone()) } else { Keys::Key(key.clone()) };
            let delete = Delete { keys, prev: false };
            let request = match compare(&key, &args.if_version)? {
                None => StrongRequest::Delete(delete),
                Some(compare) => conditional(compare, TxnOp::Delete(delete)),
            };
            let answer = self.write(request, &How::of(&args.write)).await?;
            let deleted = match held(answer.result, &key.escaped())? {
                StrongResult::Deleted { deleted, .. } => deleted,
                other => return Err(unexpected(&other)),
            };
            if deleted == 0 && missing.is_none() {
                missing = Some(key.escaped());
            }
            total += deleted;
        }
        match self.output {
            Output::Json => print::json(&json!({ "deleted": total }))?,
            _ => print::line(total.to_string())?,
        }
        missing.map_or(Ok(()), |key| Err(Failure::not_found(&key)))
    }

    pub(super) async fn list_strong(&self, args: &LsArgs) -> Result {
        let listed = Listed {
            prefix: Blob(bytes(&args.prefix)),
            start: args.start.as_deref().map(|key| Blob(bytes(key))),
            end: args.end.as_deref().map(|key| Blob(bytes(key))),
            limit: args.limit.map(|limit| limit as u64),
            values: args.values,
            stale: args.stale,
        };
        let (revision, stale) = self.each_page(&listed, |kvs| self.show_kvs(&kvs, args.values)).await?;
        note_age(stale.as_ref(), revision);
        Ok(())
    }

    /// Reads page by page at one revision. Returns that revision, and how old it was when the listing began, if it is
    /// a stale one.
    pub(super) async fn each_page(
        &self,
        listed: &Listed,
        mut show: impl FnMut(Vec<KeyValue>) -> Result,
    ) -> std::result::Result<(u64, Option<Staleness>), Failure> {
        let prefix = &listed.prefix;
        let mut keys = match (&listed.start, &listed.end) {
            (None, None) => Keys::Prefix(prefix.clone()),
            (start, end) => {
                let from = start.clone().unwrap_or_default().max(prefix.clone());
                Keys::Range { from, to: end.clone() }
            }
        };
        let mut left = listed.limit.unwrap_or(u64::MAX);
        let (mut revision, mut stale) = (0, None);
        while left > 0 {
            let limit = if left == u64::MAX { 0 } else { left };
            let get = Get { limit, revision, keys_only: !listed.values, ..Get::of(keys.clone()) };
            let call = StrongCall { stale: listed.stale, ..StrongRequest::Get(get).into() };
            let answer = self.client.ask(&self.keyspace, &call).await?;
            let StrongResult::Found(found) = answer.result else { return Err(unexpected(&answer.result)) };
            if revision == 0 {
                (revision, stale) = (answer.revision, answer.stale);
            }
            let wanted = |kv: &KeyValue| kv.key.0.starts_with(&prefix.0);
            let kvs: Vec<_> = found.kvs.into_iter().filter(wanted).collect();
            left = left.saturating_sub(kvs.len() as u64);
            // The first key after the last one.
            let from = kvs.last().filter(|_| found.more).map(|last| Blob([&last.key.0[..], &[0]].concat()));
            show(kvs)?;
            let Some(from) = from else { break };
            keys = match keys {
                Keys::Range { to, .. } => Keys::Range { from, to },
                // Where the prefix ends, the filter above stops.
                Keys::Key(_) | Keys::Prefix(_) => Keys::Range { from, to: None },
            };
        }
        Ok((revision, stale))
    }

    /// All keys that begin with `prefix`, and the revision of the read.
    pub(super) async fn everything(
        &self,
        prefix: &[u8],
    ) -> std::result::Result<(u64, Vec<KeyValue>), Failure> {
        let listed = Listed { prefix: prefix.into(), values: true, ..Listed::default() };
        let mut all = Vec::new();
        let (revision, _) = self
            .each_page(&listed, |kvs| {
                all.extend(kvs);
                Ok(())
            })
            .await?;
        Ok((revision, all))
    }

    fn show_kvs(&self, kvs: &[KeyValue], values: bool) -> Result {
        match self.output {
            Output::Json => kvs.iter().try_for_each(print::json),
            Output::Raw => kvs.iter().try_for_each(|kv| print::raw_line(&kv.key.0)),
            Output::Table if values => {
                let row = |kv: &KeyValue| [kv.key.escaped(), kv.mod_revision.to_string(), kv.value.escaped()];
                print::table(["KEY", "VERSION", "VALUE"], kvs.iter().map(row))
            }
            Output::Table => {
                let row = |kv: &KeyValue| [kv.key.escaped(), kv.mod_revision.to_string()];
                print::table(["KEY", "VERSION"], kvs.iter().map(row))
            }
        }
    }

    pub(super) async fn watch_strong(&self, args: &WatchArgs) -> Result {
        let prefix = bytes(&args.prefix);
        let from = args.from_revision.unwrap_or(0);
        let mut watch = self.client.watch_strong(&self.keyspace, &prefix, from).await?;
        let mut next = from;
        while let Some(event) = watch.next_event().await {
            let event = event?;
            next = match &event {
                StrongEvent::Ready { revision } => next.max(revision + 1),
                StrongEvent::Put { kv } => kv.mod_revision,
                StrongEvent::Delete { revision, .. } => *revision,
                StrongEvent::Compacted { oldest } => {
                    let what = format!("changes before revision {oldest} are no longer kept");
                    return Err(Failure::failed(what, "list the keys, then watch from there on"));
                }
                StrongEvent::Lost { reason } => {
                    let hint = format!("watch again with --from-revision {next}: nothing is left out");
                    return Err(Failure::failed(format!("the watch has ended: {reason}"), hint));
                }
            };
            self.show_strong_event(&event)?;
        }
        let hint = format!("watch through another node with --from-revision {next}: nothing is left out");
        Err(Failure::failed("the node has ended the watch", hint))
    }

    fn show_strong_event(&self, event: &StrongEvent) -> Result {
        match (self.output, event) {
            (Output::Json, event) => print::json(event),
            (Output::Raw, StrongEvent::Put { kv }) => print::raw_line(&kv.value.0),
            (Output::Table, StrongEvent::Put { kv }) => print::line(format!(
                "put     {}  {}  {}",
                kv.mod_revision,
                kv.key.escaped(),
                kv.value.escaped()
            )),
            (Output::Table, StrongEvent::Delete { key, revision }) => {
                print::line(format!("delete  {revision}  {}", key.escaped()))
            }
            _ => Ok(()),
        }
    }

    /// Runs a transaction given as JSON.
    pub(super) async fn transaction(&self, file: Option<&OsStr>, write: &WriteArgs) -> Result {
        let text = read_value(file)?;
        let txn: Txn = serde_json::from_slice(&text).map_err(|error| {
            let hint =
                r#"{"compare":[{"key":"a","mod_revision":2}],"then":[{"op":"put","key":"a","value":"b"}]}"#;
            Failure::usage(format!("this is not a transaction: {error}"), format!("write it like {hint}"))
        })?;
        let answer = if txn.writes() {
            self.write(StrongRequest::Txn(txn), &How::of(write)).await?
        } else if write.fence.is_some() {
            let hint = "leave --fence out: what is read is current in any case";
            return Err(Failure::usage("a transaction that only reads is not fenced", hint));
        } else {
            self.client.ask(&self.keyspace, &StrongRequest::Txn(txn).into()).await?
        };
        print::json(&answer)
    }
}

/// The condition of a write, if there is one.
fn compare(key: &Blob, condition: &Precondition) -> std::result::Result<Option<Compare>, Failure> {
    let to = match condition {
        Precondition::Any => return Ok(None),
        Precondition::Absent => Operand::CreateRevision(0),
        Precondition::Version(version) => Operand::ModRevision(version.parse().map_err(|_| {
            let hint = "a version in a strong keyspace is a number: `put` prints it, and `ls` shows it";
            Failure::usage(format!("{version:?} is not a version"), hint)
        })?),
    };
    Ok(Some(Compare { key: key.clone(), is: Relation::Equal, to }))
}

fn conditional(compare: Compare, op: TxnOp) -> StrongRequest {
    StrongRequest::Txn(Txn { compare: vec![compare], then: vec![op], otherwise: Vec::new() })
}

/// The outcome of a write; a conflict if its condition did not hold.
fn held(result: StrongResult, key: &str) -> Answered {
    match result {
        StrongResult::Txn { succeeded: false, .. } => Err(Failure::conflict(key)),
        StrongResult::Txn { mut results, .. } if results.len() == 1 => Ok(results.remove(0)),
        other => Ok(other),
    }
}

/// Prints how old a stale read is.
fn note_age(stale: Option<&Staleness>, revision: u64) {
    let Some(Staleness { heard_ms, applied_index, commit_index }) = stale else { return };
    let heard = heard_ms.map_or_else(
        || "the node has had no leader since it started".into(),
        |ms| format!("the leader's last message was {ms} ms ago"),
    );
    let behind = commit_index.saturating_sub(*applied_index);
    eprintln!(
        "note: stale, at revision {revision}: {heard}; entry {applied_index} is applied, {behind} more are known"
    );
}

/// The failure of an answer that does not fit its request.
pub fn unexpected(result: &StrongResult) -> Failure {
    Failure::failed(
        format!("the answer does not fit the request: {result:?}"),
        "update the older of the two: `starling version`",
    )
}
