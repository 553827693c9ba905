//! A lease that this process keeps alive, and a key that goes with it.

use std::time::Duration;

use starling_api::strong::{Get, KeyValue, Keys, StrongCall, StrongEvent, StrongRequest, StrongResult};
use starling_api::{Blob, Client, ErrorCode};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::expiry::{Expiry, now};
use crate::cli::Session;
use crate::cli::failure::Failure;
use crate::cli::strong::{How, unexpected};

/// Pause before something that failed is tried again.
pub const AGAIN: Duration = Duration::from_millis(200);
/// How long to try to give a lease back. It ends by itself otherwise.
const GIVE_BACK: Duration = Duration::from_secs(3);

/// Why what was held is held no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// No sign of life has reached the keyspace in time.
    Silent,
    /// The keyspace has ended the lease.
    Ended,
    /// Somebody has deleted the key.
    Deleted,
}

impl Lost {
    /// What to say of it.
    pub fn failure(self, what: &str) -> Failure {
        let (why, hint) = match self {
            Self::Silent => (
                "the keyspace was not reached in time to keep the lease alive",
                "is the node reached, and the keyspace led? `starling keyspace info` tells; a longer --ttl bridges more",
            ),
            Self::Ended => (
                "its lease has ended",
                "was this process stopped, or the lease revoked? a longer --ttl bridges more",
            ),
            Self::Deleted => ("its key was deleted", "somebody took it away: ask for it again"),
        };
        Failure::lost(format!("{what} was lost: {why}"), hint)
    }
}

/// A lease that is kept alive until it is lost, given back or dropped.
pub struct Tenure {
    client: Client,
    keyspace: String,
    /// Its name.
    pub lease: i64,
    keeper: JoinHandle<Lost>,
    lost: Option<Lost>,
}

impl Tenure {
    /// Takes a lease and begins to keep it alive.
    pub async fn begin(session: &Session, ttl_ms: u64) -> Result<Self, Failure> {
        let sent = now();
        let grant = StrongRequest::LeaseGrant { id: 0, ttl_ms };
        match session.write(grant, &How::default()).await?.result {
            StrongResult::LeaseGranted { id, ttl_ms } => {
                Ok(Self::keep(session, id, Expiry::new(sent, Duration::from_millis(ttl_ms))))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Keeps a lease alive that is there.
    pub fn keep(session: &Session, lease: i64, expiry: Expiry) -> Self {
        let (client, keyspace) = (session.client.clone(), session.keyspace.clone());
        let keeper = tokio::spawn(keep_alive(client.clone(), keyspace.clone(), lease, expiry));
        Self { client, keyspace, lease, keeper, lost: None }
    }

    /// Returns once the lease is lost. May be dropped and called again.
    pub async fn lost(&mut self) -> Lost {
        if let Some(lost) = self.lost {
            return lost;
        }
        // A keeper that does not end as it should has kept nothing alive.
        let lost = (&mut self.keeper).await.unwrap_or(Lost::Silent);
        self.lost = Some(lost);
        lost
    }

    /// Ends the lease, and with it the keys that go with it.
    pub async fn give_back(self, session: &Session) {
        self.keeper.abort();
        if self.lost.is_some() {
            return;
        }
        let how = How { patience: GIVE_BACK, ..How::default() };
        let revoke = session.write(StrongRequest::LeaseRevoke { id: self.lease }, &how);
        if let Err(failure) = revoke.await
            && !failure.is_not_found()
        {
            eprintln!(
                "note: lease {:x} could not be given back, and ends by itself: {}",
                self.lease, failure.message
            );
        }
    }

    /// Returns once the lease is lost or somebody has deleted its key, which came into being at `created`.
    pub async fn lost_with(&mut self, key: &Blob, created: u64) -> Lost {
        let (client, keyspace) = (self.client.clone(), self.keyspace.clone());
        tokio::select! {
            lost = self.lost() => lost,
            () = deleted(&client, &keyspace, key, created) => Lost::Deleted,
        }
    }
}

impl Drop for Tenure {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Until the lease is lost.
async fn keep_alive(client: Client, keyspace: String, lease: i64, mut expiry: Expiry) -> Lost {
    loop {
        sleep(expiry.pause(now())).await;
        let sent = now();
        let Some(attempt) = expiry.attempt(sent) else { return Lost::Silent };
        let request = StrongRequest::KeepAlive { id: lease };
        let call = StrongCall { timeout_ms: attempt.as_millis() as u64, ..request.into() };
        match timeout(attempt, client.ask(&keyspace, &call)).await {
            Ok(Ok(answer)) => match answer.result {
                StrongResult::KeptAlive { ttl_ms, .. } => expiry.renewed(sent, Duration::from_millis(ttl_ms)),
                _ => expiry.failed(now()),
            },
            Ok(Err(error)) if error.code() == Some(ErrorCode::NotFound) => return Lost::Ended,
            Ok(Err(_)) | Err(_) => expiry.failed(now()),
        }
    }
}

/// Returns once a key that came into being at `created` is gone. What cannot be asked is asked again: whoever
/// waits has a lease that sets an end to it.
async fn deleted(client: &Client, keyspace: &str, key: &Blob, created: u64) {
    loop {
        if let Ok((revision, kv)) = look(client, keyspace, key).await {
            if kv.is_none_or(|kv| kv.create_revision != created) {
                return;
            }
            // If the watch fails, the next look tells.
            drop(until_deleted(client, keyspace, key, revision + 1).await);
        }
        sleep(AGAIN).await;
    }
}

/// A key, and the revision at which it was looked at.
pub async fn look(client: &Client, keyspace: &str, key: &Blob) -> Result<(u64, Option<KeyValue>), Failure> {
    let get = StrongRequest::Get(Get::of(Keys::Key(key.clone())));
    let answer = client.ask(keyspace, &get.into()).await?;
    let kv = match answer.result {
        StrongResult::Found(mut found) => found.kvs.pop(),
        _ => None,
    };
    Ok((answer.revision, kv))
}

/// Returns once a key is deleted at this revision or later, or the watch has ended.
pub async fn until_deleted(client: &Client, keyspace: &str, key: &Blob, from: u64) -> Result<(), Failure> {
    let mut watch = client.watch_strong(keyspace, &key.0, from).await?;
    while let Some(event) = watch.next_event().await {
        match event? {
            // Longer keys may begin like this one.
            StrongEvent::Delete { key: gone, .. } if gone == *key => return Ok(()),
            StrongEvent::Compacted { .. } | StrongEvent::Lost { .. } => return Ok(()),
            StrongEvent::Ready { .. } | StrongEvent::Put { .. } | StrongEvent::Delete { .. } => {}
        }
    }
    Ok(())
}

/// Carries something out again and again until it is known to be done or refused for good.
pub async fn insist<T>(mut attempt: impl AsyncFnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    loop {
        match attempt().await {
            Err(failure) if failure.is_passing() => sleep(AGAIN).await,
            result => return result,
        }
    }
}
