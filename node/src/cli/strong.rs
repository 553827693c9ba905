//! Commands on the keys of strong keyspaces.

use std::ffi::OsStr;

use serde_json::json;
use starling_api::strong::{
    Compare, Delete, Found, Get, KeyValue, Keys, Operand, Put, Relation, RequestId, StrongAnswer, StrongCall,
    StrongEvent, StrongRequest, StrongResult, Txn, TxnOp,
};
use starling_api::{Blob, Error, ErrorCode, Precondition};

use super::Session;
use super::args::{DelArgs, GetArgs, LsArgs, Output, PutArgs, WatchArgs};
use super::failure::Failure;
use super::print::{self, Result};
use super::value::{bytes, read_value};

type Answered = std::result::Result<StrongResult, Failure>;

impl Session {
    /// Whether the keyspace is a strong one. The one that is not named is eventual.
    pub(super) async fn is_strong(&self) -> std::result::Result<bool, Failure> {
        if !self.keyspace_given {
            return Ok(false);
        }
        match self.client.keyspaces().await {
            Ok(found) => {
                let is_it = |kind: &str| kind != "eventual";
                Ok(found.keyspaces.iter().any(|it| it.name == self.keyspace && is_it(&it.kind)))
            }
            // What is asked next says so itself.
            Err(error) if error.code() == Some(ErrorCode::NoStore) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// A write, named, so that it can be sent again without being applied twice.
    async fn write(
        &self,
        request: StrongRequest,
        name: Option<&str>,
    ) -> std::result::Result<StrongAnswer, Failure> {
        let client = name.map_or_else(|| format!("{:032x}", rand::random::<u128>()), ToOwned::to_owned);
        let request_id = Some(RequestId { client: client.clone(), ..RequestId::default() });
        let call = StrongCall { request_id, ..request.into() };
        self.client.ask(&self.keyspace, &call).await.map_err(|error| {
            let is_unknown = match &error {
                Error::Unreachable { .. } => true,
                error => error.code() == Some(ErrorCode::OutcomeUnknown),
            };
            let mut failure = Failure::from(error);
            if is_unknown {
                failure.hint = format!(
                    "the write may or may not have been applied; the same command with --request-id {client} \
                     applies it once at most, and tells"
                );
            }
            failure
        })
    }

    async fn read(&self, get: Get, stale: bool) -> std::result::Result<Found, Failure> {
        let call = StrongCall { stale, ..StrongRequest::Get(get).into() };
        match self.client.ask(&self.keyspace, &call).await?.result {
            StrongResult::Found(found) => Ok(found),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn put_strong(&self, args: PutArgs) -> Result {
        if args.ttl.is_some() {
            let hint = "make a lease (POST /v1/strong/NAME/call, op lease_grant), and give it with --lease";
            return Err(Failure::usage("keys of strong keyspaces live as long as their lease", hint));
        }
        let put = Put {
            key: Blob(bytes(&args.key)),
            value: Blob(read_value(args.value.as_deref())?),
            lease: args.lease.unwrap_or(0),
            prev: false,
        };
        let condition = if args.if_absent { Precondition::Absent } else { args.if_version };
        let request = match compare(&put.key, &condition)? {
            None => StrongRequest::Put(put),
            Some(compare) => conditional(compare, TxnOp::Put(put)),
        };
        let answer = self.write(request, args.request_id.as_deref()).await?;
        let revision = answer.revision;
        held(answer.result, &args.key.to_string_lossy())?;
        match self.output {
            Output::Json => print::json(&json!({ "version": revision.to_string() })),
            _ => print::line(revision.to_string()),
        }
    }

    pub(super) async fn get_strong(&self, args: &GetArgs) -> Result {
        let name = Blob(bytes(&args.key));
        let get = Get { revision: args.revision.unwrap_or(0), ..Get::of(Keys::Key(name.clone())) };
        let found = self.read(get, args.stale).await?.kvs.pop();
        let kv = found.ok_or_else(|| Failure::not_found(&name.escaped()))?;
        match self.output {
            Output::Json => print::json(&kv),
            output => print::value(output, &kv.value),
        }
    }

    pub(super) async fn delete_strong(&self, args: DelArgs) -> Result {
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
            let answer = self.write(request, args.request_id.as_deref()).await?;
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

    /// Page after page at one revision: what is listed was there together.
    pub(super) async fn list_strong(&self, args: LsArgs) -> Result {
        let prefix = Blob(bytes(&args.prefix));
        let mut keys = match (&args.start, &args.end) {
            (None, None) => Keys::Prefix(prefix.clone()),
            (start, end) => {
                let from = start.as_deref().map(bytes).unwrap_or_default().max(prefix.0.clone());
                Keys::Range { from: Blob(from), to: end.as_deref().map(|end| Blob(bytes(end))) }
            }
        };
        let mut left = args.limit.map_or(u64::MAX, |limit| limit as u64);
        let mut revision = 0;
        while left > 0 {
            let limit = if left == u64::MAX { 0 } else { left };
            let get = Get { limit, revision, keys_only: !args.values, ..Get::of(keys.clone()) };
            let call = StrongCall { stale: args.stale, ..StrongRequest::Get(get).into() };
            let answer = self.client.ask(&self.keyspace, &call).await?;
            let StrongResult::Found(found) = answer.result else { return Err(unexpected(&answer.result)) };
            revision = answer.revision;
            let wanted = |kv: &KeyValue| kv.key.0.starts_with(&prefix.0);
            let kvs: Vec<_> = found.kvs.into_iter().filter(wanted).collect();
            self.show_kvs(&kvs, args.values)?;
            let Some(last) = kvs.last().filter(|_| found.more) else { break };
            left = left.saturating_sub(kvs.len() as u64);
            // The first key behind the last one.
            let from = Blob([&last.key.0[..], &[0]].concat());
            keys = match keys {
                Keys::Range { to, .. } => Keys::Range { from, to },
                // Where the prefix ends, the filter above stops.
                Keys::Key(_) | Keys::Prefix(_) => Keys::Range { from, to: None },
            };
        }
        Ok(())
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

    /// A transaction as JSON.
    pub(super) async fn transaction(&self, file: Option<&OsStr>, request_id: Option<&str>) -> Result {
        let text = read_value(file)?;
        let txn: Txn = serde_json::from_slice(&text).map_err(|error| {
            let hint =
                r#"{"compare":[{"key":"a","mod_revision":2}],"then":[{"op":"put","key":"a","value":"b"}]}"#;
            Failure::usage(format!("this is no transaction: {error}"), format!("write it like {hint}"))
        })?;
        let answer = if txn.writes() {
            self.write(StrongRequest::Txn(txn), request_id).await?
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

/// What came of a write; a conflict, if its condition did not hold.
fn held(result: StrongResult, key: &str) -> Answered {
    match result {
        StrongResult::Txn { succeeded: false, .. } => Err(Failure::conflict(key)),
        StrongResult::Txn { mut results, .. } if results.len() == 1 => Ok(results.remove(0)),
        other => Ok(other),
    }
}

fn unexpected(result: &StrongResult) -> Failure {
    Failure::failed(
        format!("this is not what was asked for: {result:?}"),
        "update the older of the two: `starling version`",
    )
}
