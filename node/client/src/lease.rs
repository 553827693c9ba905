//! A lease that is kept alive, and the keys that are attached to it.

use std::time::Duration;

use futures::StreamExt;
use starling_api::strong::{Body, Request, StrongCall, StrongEvent, Write};
use starling_api::{Error, ErrorCode, Strong};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::expiry::{Expiry, now};
use crate::keyspace::{AGAIN, Keyspace, Named, WriteFailed, unexpected};

/// How long a revocation is retried. Without it the lease expires. An estimate.
const REVOKE: Duration = Duration::from_secs(3);

/// Why a lease was lost, and with it what was held under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// No keep-alive has reached the keyspace in time.
    #[error("the keyspace was not reached in time to keep the lease alive")]
    Silent,
    /// The keyspace has ended the lease.
    #[error("the lease has ended")]
    Ended,
    /// The key was deleted.
    #[error("the key was deleted")]
    Deleted,
}

/// A lease that a task of this process keeps alive until it is lost, revoked or dropped. A dropped lease expires.
/// Needs a tokio runtime.
#[derive(Debug)]
pub struct Lease<N> {
    keyspace: Keyspace<N>,
    id: i64,
    keeper: JoinHandle<Lost>,
    lost: Option<Lost>,
}

impl<N: Strong + Clone + Send + Sync + 'static> Lease<N> {
    /// Grants a lease and begins to keep it alive.
    pub async fn grant(keyspace: &Keyspace<N>, ttl_ms: u64) -> Result<Self, WriteFailed> {
        let sent = now();
        let grant = Write::LeaseGrant { id: 0, ttl_ms };
        match keyspace.write(grant, &Named::default()).await?.body {
            Body::LeaseGranted { id, ttl_ms } => {
                Ok(Self::keep(keyspace, id, Expiry::new(sent, Duration::from_millis(ttl_ms))))
            }
            other => Err(unexpected(&other).into()),
        }
    }

    /// Keeps an existing lease alive.
    pub fn keep(keyspace: &Keyspace<N>, id: i64, expiry: Expiry) -> Self {
        let keeper = tokio::spawn(keep_alive(keyspace.clone(), id, expiry));
        Self { keyspace: keyspace.clone(), id, keeper, lost: None }
    }

    /// Its id, to attach keys to it.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// Completes once the lease is lost. May be dropped and called again.
    pub async fn lost(&mut self) -> Lost {
        if let Some(lost) = self.lost {
            return lost;
        }
        // A keeper that does not end as it should has kept nothing alive.
        let lost = (&mut self.keeper).await.unwrap_or(Lost::Silent);
        self.lost = Some(lost);
        lost
    }

    /// Completes once the lease is lost, or its key, which was created at this revision, is deleted.
    pub async fn lost_with(&mut self, key: &[u8], created: u64) -> Lost {
        let keyspace = self.keyspace.clone();
        tokio::select! {
            lost = self.lost() => lost,
            () = deleted(&keyspace, key, created) => Lost::Deleted,
        }
    }

    /// Ends the lease, and deletes the keys that are attached to it. Does nothing if the lease was lost.
    pub async fn revoke(self) -> Result<(), Error> {
        self.keeper.abort();
        if self.lost.is_some() {
            return Ok(());
        }
        let how = Named { patience: REVOKE, ..Named::default() };
        match timeout(REVOKE, self.keyspace.write(Write::LeaseRevoke { id: self.id }, &how)).await {
            Ok(Err(failed)) if failed.error.code != ErrorCode::NotFound => Err(failed.error),
            Ok(_) => Ok(()),
            Err(_) => {
                let message = format!("no answer for {REVOKE:?}");
                Err(Error::new(ErrorCode::Timeout, message, "the lease expires automatically"))
            }
        }
    }
}

impl<N> Drop for Lease<N> {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Keeps a lease alive. Returns when it is lost.
async fn keep_alive<N: Strong>(keyspace: Keyspace<N>, id: i64, mut expiry: Expiry) -> Lost {
    loop {
        sleep(expiry.pause(now())).await;
        let sent = now();
        let Some(attempt) = expiry.attempt(sent) else { return Lost::Silent };
        let call = StrongCall { timeout_ms: attempt.as_millis() as u64, ..Request::KeepAlive { id }.into() };
        match timeout(attempt, keyspace.ask(call)).await {
            Ok(Ok(answer)) => match answer.body {
                Body::KeptAlive { ttl_ms, .. } => expiry.renewed(sent, Duration::from_millis(ttl_ms)),
                _ => expiry.failed(now()),
            },
            Ok(Err(error)) if error.code == ErrorCode::NotFound => return Lost::Ended,
            Ok(Err(_)) | Err(_) => expiry.failed(now()),
        }
    }
}

/// Completes once a key that was created at this revision is gone. A read that fails is repeated: the caller
/// holds a lease that sets an end to it.
async fn deleted<N: Strong>(keyspace: &Keyspace<N>, key: &[u8], created: u64) {
    loop {
        if let Ok((revision, kv)) = keyspace.get(key).await {
            if kv.is_none_or(|kv| kv.create_revision != created) {
                return;
            }
            // If the watch fails, the next read shows it.
            drop(until_deleted(keyspace, key, revision + 1).await);
        }
        sleep(AGAIN).await;
    }
}

/// Completes once a key is deleted at this revision or later, or the watch has ended.
pub(crate) async fn until_deleted<N: Strong>(
    keyspace: &Keyspace<N>,
    key: &[u8],
    from: u64,
) -> Result<(), Error> {
    let mut events = keyspace.node().changes(keyspace.name(), key, from).await?;
    while let Some(event) = events.next().await {
        match event? {
            // Longer keys may begin like this one.
            StrongEvent::Delete { key: gone, .. } if gone.0 == key => return Ok(()),
            StrongEvent::Compacted { .. } | StrongEvent::Lost { .. } => return Ok(()),
            StrongEvent::Ready { .. } | StrongEvent::Put { .. } | StrongEvent::Delete { .. } => {}
        }
    }
    Ok(())
}
