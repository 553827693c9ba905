//! Acquires a lock or a leadership, and runs a command while it is held.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use serde_json::json;
use starling_api::strong::{Keys, Range};
use starling_api::{Blob, ErrorCode, Retry};
use starling_client::{Client, Keyspace, Lease, Place, WriteFailed};
use starling_strong::line;
use tokio::time::{sleep, timeout};

use super::args::HoldArgs;
use super::child::{Ended, Running};
use super::held::{AGAIN, give_back, lost, not_reached};
use super::signals::Signals;
use crate::cli::Session;
use crate::cli::args::Output;
use crate::cli::failure::Failure;
use crate::cli::print::{self, Result};

/// How long the last question to the keyspace may take, after the time to wait. A guess: more than a round trip.
pub const LAST_LOOK: Duration = Duration::from_millis(500);

/// The lock or leadership to acquire, and what to do while it is held.
pub struct Wanted<'a> {
    /// Its name in messages: "lock" or "leadership".
    pub what: &'static str,
    /// The prefix of the command's environment variables.
    pub variables: &'static str,
    /// The lock or the election.
    pub name: Blob,
    /// The value of the key.
    pub value: Blob,
    pub hold: &'a HoldArgs,
}

impl Session {
    /// Waits for the lock, then runs the command.
    pub(super) async fn hold(&self, wanted: &Wanted<'_>) -> Result {
        let mut signals = Signals::watch()?;
        let keyspace = self.strong();
        let late = late(self.wait_ms);
        tokio::pin!(late);
        let mut silence = unanswered("no answer");
        let granted = async {
            tokio::select! {
                lease = grant(&keyspace, wanted.hold.ttl, &mut silence) => lease,
                () = &mut late => Err(silence),
            }
        };
        let mut lease = signals.or_end(granted).await?;
        let result = self.hold_with(wanted, &mut lease, &mut signals, late).await;
        // Of a node that does not answer, the revocation would be one more thing to wait for: the lease expires.
        if !result.as_ref().is_err_and(Failure::is_unreachable) {
            give_back(lease).await;
        }
        result
    }

    /// The failure at the end of the time: other clients are before this one, if the keyspace still answers.
    async fn not_in_time(&self, wanted: &Wanted<'_>) -> Failure {
        let any =
            Range { limit: 1, keys_only: true, ..Range::of(Keys::prefix(line::prefix(&wanted.name.0))) };
        match timeout(LAST_LOOK, self.strong().ask(any)).await {
            Ok(Ok(_)) => not_in_time(&self.keyspace, wanted),
            Ok(Err(error)) => unanswered(&error.message),
            Err(_) => unanswered("no answer"),
        }
    }

    async fn hold_with(
        &self,
        wanted: &Wanted<'_>,
        lease: &mut Lease<Client>,
        signals: &mut Signals,
        late: impl Future<Output = ()>,
    ) -> Result {
        let (id, keyspace) = (lease.id(), self.strong());
        let what = format!("waiting for the {} of {}; Ctrl-C gives up", wanted.what, wanted.name.escaped());
        let reached = Place::reach(&keyspace, &wanted.name.0, wanted.value.clone(), id);
        let place = tokio::select! {
            biased;
            why = lease.lost() => return Err(lost(why, "the place in the queue")),
            signal = signals.end() => return Err(Failure::signalled(signal)),
            place = announced(&what, reached) => place.map_err(not_reached)?,
            () = late => return Err(self.not_in_time(wanted).await),
        };
        let ended = if wanted.hold.command.is_empty() {
            self.show_held(wanted, &place, id)?;
            tokio::select! {
                biased;
                why = lease.lost_with(&place.key.0, place.token) => Ended::Lost(why),
                _ = signals.end() => Ended::Exited(0),
            }
        } else {
            let mut running = Running::start(&wanted.hold.command, self.variables(wanted, &place), None)?;
            let grace = Duration::from_millis(wanted.hold.grace);
            running.attend(lease.lost_with(&place.key.0, place.token), signals, grace).await?
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
}

/// Grants a lease once the keyspace can: it waits, as for the lock itself, while there is no leader. A grant whose answer
/// was lost expires.
/// `last` is the failure if the time is over meanwhile.
async fn grant(
    keyspace: &Keyspace<Client>,
    ttl_ms: u64,
    last: &mut Failure,
) -> std::result::Result<Lease<Client>, Failure> {
    let mut is_noted = false;
    loop {
        let failed = match Lease::grant(keyspace, ttl_ms).await {
            Ok(lease) => return Ok(lease),
            Err(WriteFailed { error, .. }) => error,
        };
        if failed.retry() == Retry::Never || failed.code == ErrorCode::Unreachable {
            return Err(failed.into());
        }
        *last = unanswered(&failed.message);
        if !is_noted {
            print::note(format!("waiting: {}", failed.message));
            is_noted = true;
        }
        sleep(AGAIN).await;
    }
}

/// Waits for something, and says so at a terminal after a second.
async fn announced<T>(what: &str, waited: impl Future<Output = T>) -> T {
    tokio::pin!(waited);
    tokio::select! {
        biased;
        done = &mut waited => return done,
        () = sleep(Duration::from_secs(1)) => print::waiting(what),
    }
    waited.await
}

/// Completes after `after_ms`; never without it.
pub async fn late(after_ms: Option<u64>) {
    match after_ms {
        Some(ms) => sleep(Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}

/// The failure when the time is over, and the keyspace did not answer.
pub fn unanswered(why: &str) -> Failure {
    Failure::unreachable(
        format!("the keyspace did not answer in time: {why}"),
        "check that the node runs (`starling status`) and that the keyspace has a leader (`starling keyspace info NAME`)",
    )
}

fn not_in_time(keyspace: &str, wanted: &Wanted<'_>) -> Failure {
    let (what, name) = (wanted.what, wanted.name.escaped());
    let hint = match what {
        "lock" => format!(
            "`starling -k {keyspace} lock ls {name}` shows the holder; a longer --timeout waits longer"
        ),
        _ => format!(
            "`starling -k {keyspace} elect leader {name}` shows the leader; a longer --timeout waits longer"
        ),
    };
    Failure::held(
        format!("the {what} of {name} was not acquired in time: other clients are before this one"),
        hint,
    )
}
