//! One strong keyspace, embedded or remote, as the recipes use it.

use std::time::{Duration, Instant, SystemTime};

use starling_api::strong::{
    Body, Fence, KeyValue, Keys, Put, Range, Request, RequestId, StrongAnswer, StrongCall, Write,
};
use starling_api::{Blob, Error, ErrorCode, Retry, Strong};
use tokio::time::{sleep, timeout};

/// Pause before a failed request is retried. An estimate: a fifth of an election.
pub(crate) const AGAIN: Duration = Duration::from_millis(200);

/// How a write is sent.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// The write's request id ([`RequestId::client`]); `None`: a new one is drawn.
    pub request_id: Option<u128>,
    /// The lock that must be held for the write to be applied.
    pub fence: Option<Fence>,
    /// Time, from the first attempt on, within which the write is retried while its outcome is not known.
    pub patience: Duration,
}

/// Why a write failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{error}")]
pub struct WriteFailed {
    /// The last error.
    pub error: Error,
    /// The request id of a write of which an attempt may have been applied. Sent again with this id, the write is
    /// applied at most once.
    pub maybe_applied: Option<u128>,
}

impl From<Error> for WriteFailed {
    /// The failure of a write that was not applied.
    fn from(error: Error) -> Self {
        Self { error, maybe_applied: None }
    }
}

impl From<WriteFailed> for Error {
    fn from(failed: WriteFailed) -> Self {
        failed.error
    }
}

/// A strong keyspace, reached through a [`Strong`] node. Cheap to clone if the node is.
#[derive(Clone, Debug)]
pub struct Keyspace<N> {
    node: N,
    name: String,
}

impl<N: Strong> Keyspace<N> {
    /// The keyspace of this name.
    pub fn new(node: N, name: impl Into<String>) -> Self {
        Self { node, name: name.into() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node through which it is reached.
    pub fn node(&self) -> &N {
        &self.node
    }

    /// Carries out a request once.
    pub async fn ask(&self, call: impl Into<StrongCall>) -> Result<StrongAnswer, Error> {
        self.node.call(&self.name, call.into()).await
    }

    /// Carries out a write with a request id, so that it is applied at most once however often it is sent.
    pub async fn write(&self, request: impl Into<Request>, how: &Named) -> Result<StrongAnswer, WriteFailed> {
        let client = how.request_id.unwrap_or_else(new_request_id);
        let request_id = Some(RequestId { client, seq: 0, answered_below: 0 });
        let call = StrongCall { request_id, fence: how.fence.clone(), ..request.into().into() };
        let began = Instant::now();
        let mut maybe_applied = None;
        let mut attempt = self.node.call(&self.name, call.clone()).await;
        loop {
            let error = match attempt {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // A client's own error says that the request was never sent.
            if error.retry() == Retry::IfIdempotent && error.code != ErrorCode::Unreachable {
                maybe_applied = Some(client);
            }
            if error.retry() == Retry::Never || began.elapsed() >= how.patience {
                return Err(WriteFailed { error, maybe_applied });
            }
            sleep(AGAIN).await;
            let left = how.patience.saturating_sub(began.elapsed());
            attempt = match timeout(left, self.node.call(&self.name, call.clone())).await {
                Ok(attempt) => attempt,
                // The attempt was given up, and may still be applied.
                Err(_) => return Err(WriteFailed { error, maybe_applied: Some(client) }),
            };
        }
    }

    /// A key, and the revision at which it was read.
    pub async fn get(&self, key: &[u8]) -> Result<(u64, Option<KeyValue>), Error> {
        let answer = self.ask(Range::of(Keys::One(key.to_vec()))).await?;
        match answer.body {
            Body::Range(mut found) => Ok((answer.revision, found.kvs.pop())),
            other => Err(unexpected(&other)),
        }
    }

    /// Sets a key. Returns the revision of the write.
    pub async fn put(&self, key: impl Into<Blob>, value: impl Into<Blob>) -> Result<u64, Error> {
        let put = Put::new(key.into().0, value.into().0);
        Ok(self.write(Write::Put(put), &Named::default()).await?.revision)
    }
}

/// Draws a request id: a UUID of version 7, with this machine's time.
pub fn new_request_id() -> u128 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    RequestId::draw(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX), rand::random())
}

/// An answer of another kind than the request: the two ends differ in their version.
pub(crate) fn unexpected(body: &Body) -> Error {
    Error::not_understood("the node", format!("unexpected {body:?}"))
}

/// Retries until an attempt succeeds, or fails with an error that a retry does not mend.
pub(crate) async fn insist<T>(mut attempt: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
    loop {
        match attempt().await {
            Err(error) if error.retry() != Retry::Never => sleep(AGAIN).await,
            result => return result,
        }
    }
}
