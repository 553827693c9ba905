//! Commands on the keys of strong keyspaces.

use std::ffi::OsStr;
use std::time::Duration;

use serde_json::json;
use starling_api::strong::{
    Body, Compare, Delete, Fence, KeyValue, Keys, Operand, Put, Range, Relation, Request, Staleness,
    StrongAnswer, StrongCall, StrongEvent, Txn, TxnOp, Write,
};
use starling_api::{Blob, Precondition, escaped};
use starling_client::{Client, Keyspace, Named};

use super::Session;
use super::args::{DelArgs, GetArgs, LsArgs, Output, PutArgs, WatchArgs};
use super::coordinate::args::WriteArgs;
use super::failure::Failure;
use super::print::{self, Result};
use super::value::{bytes, read_value};

/// Options of sending a write.
#[derive(Clone, Debug, Default)]
pub struct How<'a> {
    /// Its request id; a random one if there is none.
    pub name: Option<u128>,
    /// Whether the command has the option that gives it one.
    pub can_be_named: bool,
    pub fence: Option<&'a Fence>,
    /// How long it is sent again with its request id while its outcome is unknown.
    pub patience: Duration,
}

impl<'a> How<'a> {
    /// The options of the command line.
    pub fn of(args: &'a WriteArgs) -> Self {
        Self {
            name: args.request_id,
            can_be_named: true,
            fence: args.fence.as_ref(),
            patience: Duration::ZERO,
        }
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
    /// 0: the latest.
    pub revision: u64,
}

impl Listed {
    /// The keys that begin with the prefix, from the start to the end.
    fn keys(&self) -> Keys {
        let mut keys = Keys::prefix(self.prefix.0.clone());
        if let Keys::Range { from, to } = &mut keys {
            if let Some(start) = self.start.as_ref().filter(|start| start.0 > *from) {
                from.clone_from(&start.0);
            }
            let ends = to.iter().chain(self.end.as_ref().map(|end| &end.0));
            *to = ends.min().cloned();
        }
        keys
    }
}

impl Session {
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

    /// Runs a command that works in strong keyspaces only. `what` it is for: "locks".
    pub(super) async fn need_strong(&self, what: &str, command: impl AsyncFnOnce(&Self) -> Result) -> Result {
        match self.if_strong(command).await? {
            Some(()) => Ok(()),
            None => self.refuse_strong_only(true, what),
        }
    }

    /// Sends a write with a request id, so that it can be sent again without being applied twice.
    pub(super) async fn write(
        &self,
        request: impl Into<Request>,
        how: &How<'_>,
    ) -> std::result::Result<StrongAnswer, Failure> {
        let named = Named { request_id: how.name, fence: how.fence.cloned(), patience: how.patience };
        let written = self.strong().write(request, &named).await;
        written.map_err(|failed| match failed.maybe_applied {
            Some(_) if !how.can_be_named => Failure::from(failed.error).maybe_applied(),
            _ => failed.into(),
        })
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
        let put = Put { lease: Some(lease), ..Put::new(key.0.clone(), value.0) };
        let condition = if args.if_absent { &Precondition::Absent } else { &args.if_version };
        let write = match compare(&key, condition)? {
            None => Write::Put(put),
            Some(compare) => conditional(compare, TxnOp::Put(put)),
        };
        let answer = self.write(write, &how).await?;
        held(answer.body, &key.escaped())?;
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
        let write = Write::PutSequential { prefix: prefix.0, value: value.0, lease };
        let answer = self.write(write, how).await?;
        match answer.body {
            Body::Sequential { key } => {
                Ok(Made { key: Blob(key), revision: answer.revision, is_chosen: true })
            }
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
        let range = Range { revision: args.revision.unwrap_or(0), ..Range::of(Keys::One(name.0.clone())) };
        let call = StrongCall { stale: args.stale, ..range.into() };
        let answer = self.client.ask(&self.keyspace, &call).await?;
        let Body::Range(mut found) = answer.body else { return Err(unexpected(&answer.body)) };
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
            let keys = if args.prefix { Keys::prefix(key.0.clone()) } else { Keys::One(key.0.clone()) };
            let delete = Delete { keys, prev: false };
            let write = match compare(&key, &args.if_version)? {
                None => Write::Delete(delete),
                Some(compare) => conditional(compare, TxnOp::Delete(delete)),
            };
            let answer = self.write(write, &How::of(&args.write)).await?;
            let deleted = match held(answer.body, &key.escaped())? {
                Body::Delete { deleted, .. } => deleted,
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
            revision: 0,
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
        let mut keys = listed.keys();
        let mut left = listed.limit.unwrap_or(u64::MAX);
        let (mut revision, mut stale) = (listed.revision, None);
        while left > 0 {
            let limit = if left == u64::MAX { 0 } else { left };
            let range = Range { limit, revision, keys_only: !listed.values, ..Range::of(keys.clone()) };
            let call = StrongCall { stale: listed.stale, ..range.into() };
            let answer = self.client.ask(&self.keyspace, &call).await?;
            let Body::Range(found) = answer.body else { return Err(unexpected(&answer.body)) };
            if revision == 0 {
                (revision, stale) = (answer.revision, answer.stale);
            }
            left = left.saturating_sub(found.kvs.len() as u64);
            // The first key after the last one.
            let next = found.kvs.last().filter(|_| found.more).map(|last| [&last.key[..], &[0]].concat());
            show(found.kvs)?;
            let (Some(next), Keys::Range { from, .. }) = (next, &mut keys) else { break };
            *from = next;
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
            Output::Raw => kvs.iter().try_for_each(|kv| print::raw_line(&kv.key)),
            Output::Table if values => {
                let row = |kv: &KeyValue| [escaped(&kv.key), kv.mod_revision.to_string(), escaped(&kv.value)];
                print::table(["KEY", "VERSION", "VALUE"], kvs.iter().map(row))
            }
            Output::Table => {
                let row = |kv: &KeyValue| [escaped(&kv.key), kv.mod_revision.to_string()];
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
            (Output::Raw, StrongEvent::Put { kv }) => print::raw_line(&kv.value),
            (Output::Table, StrongEvent::Put { kv }) => print::line(format!(
                "put     {}  {}  {}",
                kv.mod_revision,
                escaped(&kv.key),
                escaped(&kv.value)
            )),
            (Output::Table, StrongEvent::Delete { key, revision }) => {
                print::line(format!("delete  {revision}  {}", key.escaped()))
            }
            (Output::Table, StrongEvent::Ready { .. }) => {
                print::waiting("waiting for changes; Ctrl-C ends the watch");
                Ok(())
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
            self.write(Write::Txn(txn), &How::of(write)).await?
        } else if write.fence.is_some() {
            let hint = "leave --fence out: what is read is current in any case";
            return Err(Failure::usage("a transaction that only reads is not fenced", hint));
        } else {
            self.client.ask(&self.keyspace, &Request::txn(txn).into()).await?
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
    Ok(Some(Compare { keys: Keys::One(key.0.clone()), is: Relation::Equal, to }))
}

fn conditional(compare: Compare, op: TxnOp) -> Write {
    Write::Txn(Txn { compare: vec![compare], then: vec![op], otherwise: Vec::new() })
}

/// The outcome of a write; a conflict if its condition did not hold.
fn held(body: Body, key: &str) -> std::result::Result<Body, Failure> {
    match body {
        Body::Txn { succeeded: false, .. } => Err(Failure::conflict(key)),
        Body::Txn { mut bodies, .. } if bodies.len() == 1 => Ok(bodies.remove(0)),
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
    print::note(format!(
        "stale, at revision {revision}: {heard}; entry {applied_index} is applied, {behind} more are known"
    ));
}

/// The failure of an answer that does not fit its request.
pub fn unexpected(body: &Body) -> Failure {
    Failure::failed(
        format!("the answer does not fit the request: {body:?}"),
        "update the older of the two: `starling version`",
    )
}
