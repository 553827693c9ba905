//! One strong keyspace, embedded or remote, as the recipes use it.

use std::time::{Duration, Instant};

use starling_api::strong::{
    Fence, Get, KeyValue, Keys, RequestId, StrongAnswer, StrongCall, StrongRequest, StrongResult,
};
use starling_api::{Blob, Error, Retry, Strong};
use tokio::time::sleep;

/// Pause before something that failed is tried again. An estimate: a fifth of an election.
pub(crate) const AGAIN: Duration = Duration::from_millis(200);

/// How a write is sent.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// The write's name in hexadecimal; `None`: one is drawn.
    pub request_id: Option<String>,
    /// The lock that must be held for the write to be applied.
    pub fence: Option<Fence>,
    /// For how long the write is sent again where its outcome is not known.
    pub patience: Duration,
}

/// Why a write failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{error}")]
pub struct WriteFailed {
    /// The last error.
    pub error: Error,
    /// Whether an attempt may have been applied.
    pub is_unknown: bool,
    /// The name under which the write may be sent again: it is applied once.
    pub request_id: String,
}

impl From<WriteFailed> for Error {
    fn from(failed: WriteFailed) -> Self {
        failed.error
    }
}

/// A strong keyspace of a [`Strong`] node. Cheap to clone where the node is.
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

    /// Carries out a write under a name, so that it is applied once however often it is sent.
    pub async fn write(&self, request: StrongRequest, how: &Named) -> Result<StrongAnswer, WriteFailed> {
        let request_id = how.request_id.clone().unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
        let id = Some(RequestId { client: request_id.clone(), ..RequestId::default() });
        let call = StrongCall { request_id: id, fence: how.fence.clone(), ..request.into() };
        let began = Instant::now();
        let mut is_unknown = false;
        loop {
            let error = match self.node.call(&self.name, call.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            is_unknown |= error.retry() == Retry::IfIdempotent;
            if error.retry() == Retry::Never || began.elapsed() >= how.patience {
                return Err(WriteFailed { error, is_unknown, request_id });
            }
            sleep(AGAIN).await;
        }
    }

    /// A key, and the revision at which it was read.
    pub async fn get(&self, key: &Blob) -> Result<(u64, Option<KeyValue>), Error> {
        let answer = self.ask(StrongRequest::Get(Get::of(Keys::Key(key.clone())))).await?;
        match answer.result {
            StrongResult::Found(mut found) => Ok((answer.revision, found.kvs.pop())),
            other => Err(unexpected(&other)),
        }
    }

    /// Sets a key. Returns the revision of the write.
    pub async fn put(&self, key: impl Into<Blob>, value: impl Into<Blob>) -> Result<u64, Error> {
        let put = starling_api::strong::Put {
            key: key.into(),
            value: value.into(),
            ..starling_api::strong::Put::default()
        };
        Ok(self.write(StrongRequest::Put(put), &Named::default()).await?.revision)
    }
}

/// An answer of another kind than the request: the two ends differ in their version.
pub(crate) fn unexpected(result: &StrongResult) -> Error {
    Error::not_understood("the node", format!("unexpected {result:?}"))
}

/// Tries again and again until it has worked, or has failed for good.
pub(crate) async fn insist<T>(mut attempt: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
    loop {
        match attempt().await {
            Err(error) if error.retry() != Retry::Never => sleep(AGAIN).await,
            result => return result,
        }
    }
}
