//! The line of a lock or an election, and what is done while it is one's turn. It is etcd's
//! ([`starling_strong::line`]): whoever keeps to that stands in it too, through the etcd door or here.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use serde_json::json;
use starling_api::Blob;
use starling_api::strong::{
    Compare, Get, KeyValue, Keys, Operand, Put, Relation, Sort, SortBy, StrongRequest, StrongResult, Txn,
    TxnOp,
};
use starling_strong::line;
use tokio::time::sleep;

use super::args::HoldArgs;
use super::child::{Ended, Running};
use super::signals::Signals;
use super::tenure::{AGAIN, Lost, Tenure, insist, look, until_deleted};
use crate::cli::Session;
use crate::cli::args::Output;
use crate::cli::failure::Failure;
use crate::cli::print::{self, Result};
use crate::cli::strong::{How, unexpected};

/// What is waited for, and what is done with it.
pub struct Wanted<'a> {
    /// What people call it: "lock" or "leadership".
    pub what: &'static str,
    /// What the variables of the command begin with.
    pub variables: &'static str,
    /// The lock or the election.
    pub name: Blob,
    /// What the key holds.
    pub value: Blob,
    pub hold: &'a HoldArgs,
}

/// A place in the line.
struct Place {
    key: Blob,
    /// When the key came into being: the place, and the fencing token.
    token: u64,
}

/// Everybody in a line, whoever has it first.
pub fn in_order(mut kvs: Vec<KeyValue>) -> Vec<KeyValue> {
    kvs.sort_by_key(|kv| kv.create_revision);
    kvs
}

/// The name of the line that a key may stand in: such a key ends with the lease that it goes with.
pub fn name_of(kv: &KeyValue) -> Option<&[u8]> {
    let at = kv.key.0.iter().rposition(|byte| *byte == b'/')?;
    let is_it = kv.lease != 0 && line::key(&kv.key.0[..at], kv.lease) == kv.key.0;
    is_it.then(|| &kv.key.0[..at])
}

impl Session {
    /// Waits for its turn, and does what is to be done then.
    pub(super) async fn hold(&self, wanted: &Wanted<'_>) -> Result {
        let mut signals = Signals::watch()?;
        let mut tenure = signals.or_end(Tenure::begin(self, wanted.hold.ttl)).await?;
        let result = self.hold_with(wanted, &mut tenure, &mut signals).await;
        tenure.give_back(self).await;
        result
    }

    async fn hold_with(&self, wanted: &Wanted<'_>, tenure: &mut Tenure, signals: &mut Signals) -> Result {
        let lease = tenure.lease;
        let place = tokio::select! {
            biased;
            lost = tenure.lost() => return Err(lost.failure("the place in the line")),
            signal = signals.end() => return Err(Failure::signalled(signal)),
            place = self.turn(wanted, lease) => place?,
            () = late(wanted.hold.timeout) => return Err(not_in_time(wanted)),
        };
        let ended = if wanted.hold.command.is_empty() {
            self.show_held(wanted, &place, lease)?;
            tokio::select! {
                biased;
                lost = tenure.lost_with(&place.key, place.token) => Ended::Lost(lost),
                _ = signals.end() => Ended::Exited(0),
            }
        } else {
            let mut running = Running::start(&wanted.hold.command, self.variables(wanted, &place))?;
            let grace = Duration::from_millis(wanted.hold.grace);
            running.attend(tenure.lost_with(&place.key, place.token), signals, grace).await?
        };
        ended.result(&format!("the {}", wanted.what))
    }

    fn variables(&self, wanted: &Wanted<'_>, place: &Place) -> Vec<(String, OsString)> {
        let variable =
            |name: &str, value: Vec<u8>| (format!("{}_{name}", wanted.variables), OsString::from_vec(value));
        vec![
            variable("NAME", wanted.name.0.clone()),
            variable("KEY", place.key.0.clone()),
            variable("TOKEN", place.token.to_string().into_bytes()),
            variable("KEYSPACE", self.keyspace.clone().into_bytes()),
        ]
    }

    fn show_held(&self, wanted: &Wanted<'_>, place: &Place, lease: i64) -> Result {
        let Place { key, token } = place;
        match self.output {
            Output::Json => print::json(
                &json!({ "name": wanted.name, "key": key, "token": token, "lease": line::hex(lease) }),
            ),
            Output::Raw => print::raw_line(&[&key.0[..], b"\t", token.to_string().as_bytes()].concat()),
            Output::Table => print::pairs([("key", key.escaped()), ("token", token.to_string())]),
        }
    }

    /// Gets in line, and returns when it is its turn.
    async fn turn(&self, wanted: &Wanted<'_>, lease: i64) -> std::result::Result<Place, Failure> {
        let place = self.stand(wanted, lease).await?;
        while let Some((before, seen)) = insist(async || self.before(&wanted.name, place.token).await).await?
        {
            if until_deleted(&self.client, &self.keyspace, &before, seen + 1).await.is_err() {
                sleep(AGAIN).await;
            }
        }
        let (_, kv) = insist(async || look(&self.client, &self.keyspace, &place.key).await).await?;
        if kv.is_none_or(|kv| kv.create_revision != place.token) {
            return Err(Lost::Deleted.failure("the place in the line"));
        }
        Ok(place)
    }

    async fn stand(&self, wanted: &Wanted<'_>, lease: i64) -> std::result::Result<Place, Failure> {
        let key = Blob(line::key(&wanted.name.0, lease));
        let is_new = Compare { key: key.clone(), is: Relation::Equal, to: Operand::CreateRevision(0) };
        let put = Put { key: key.clone(), value: wanted.value.clone(), lease, prev: false };
        let txn = Txn {
            compare: vec![is_new],
            then: vec![TxnOp::Put(put)],
            otherwise: vec![TxnOp::Get(Get::of(Keys::Key(key.clone())))],
        };
        // For as long as the lease lasts: nobody waits for this any more when it is lost.
        let how = How { patience: Duration::MAX, ..How::default() };
        let answer = self.write(StrongRequest::Txn(txn), &how).await?;
        let token = match answer.result {
            StrongResult::Txn { succeeded: true, .. } => answer.revision,
            StrongResult::Txn { ref results, .. } => match results.first() {
                Some(StrongResult::Found(found)) if found.kvs.len() == 1 => found.kvs[0].create_revision,
                _ => return Err(unexpected(&answer.result)),
            },
            other => return Err(unexpected(&other)),
        };
        Ok(Place { key, token })
    }

    /// The key just before a place in a line, and the revision at which it was there.
    async fn before(&self, name: &Blob, place: u64) -> std::result::Result<Option<(Blob, u64)>, Failure> {
        let get = Get {
            limit: 1,
            sort: Some(Sort { by: SortBy::CreateRevision, descending: true }),
            // The first revision there is, is 2: the bound is never 0, which would be none.
            max_create_revision: place - 1,
            keys_only: true,
            ..Get::of(Keys::Prefix(Blob(line::prefix(&name.0))))
        };
        let answer = self.client.ask(&self.keyspace, &StrongRequest::Get(get).into()).await?;
        let StrongResult::Found(found) = answer.result else { return Ok(None) };
        Ok(found.kvs.into_iter().next().map(|kv| (kv.key, answer.revision)))
    }
}

/// Returns after so long; never, if not said.
pub async fn late(after_ms: Option<u64>) {
    match after_ms {
        Some(ms) => sleep(Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}

fn not_in_time(wanted: &Wanted<'_>) -> Failure {
    let (what, name) = (wanted.what, wanted.name.escaped());
    let hint = match what {
        "lock" => format!("`starling lock ls {name}` tells who holds it; a longer --timeout waits longer"),
        _ => format!("`starling elect leader {name}` tells who leads; a longer --timeout waits longer"),
    };
    Failure::held(format!("the {what} of {name} was not had in time: others are before"), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &str, create_revision: u64, lease: i64) -> KeyValue {
        KeyValue { key: key.into(), create_revision, lease, ..KeyValue::default() }
    }

    #[test]
    fn whoever_came_first_has_it_whatever_its_key() {
        let line = in_order(vec![kv("job/a", 9, 0xa), kv("job/b", 3, 0xb), kv("job/c", 5, 0xc)]);
        let tokens: Vec<u64> = line.iter().map(|kv| kv.create_revision).collect();
        assert_eq!(tokens, [3, 5, 9]);
    }

    #[test]
    fn a_key_in_a_line_ends_with_its_lease() {
        assert_eq!(name_of(&kv("a/job/1f", 2, 0x1f)), Some(&b"a/job"[..]));
        assert_eq!(name_of(&kv("job/-1f", 2, -0x1f)), Some(&b"job"[..]));
        for other in [kv("job/1f", 2, 0), kv("job/1f", 2, 0x1e), kv("1f", 2, 0x1f), kv("job", 2, 0x1f)] {
            assert_eq!(name_of(&other), None, "{other:?}");
        }
    }
}
