//! Strong keyspaces: requests, watches and management.

use std::borrow::Cow;
use std::time::Duration;

use futures::StreamExt;
use percent_encoding::utf8_percent_encode;
use reqwest::Method;
use reqwest::header::ACCEPT;
use starling_api::strong::{
    CreateKeyspace, Leader, Replicas, Request, StrongAnswer, StrongCall, StrongEvent, StrongInfo,
    TIMEOUT_MS_DEFAULT, Voters,
};
use starling_api::{Error, ErrorCode, Events, Strong};

use super::{Client, SEGMENT, encoded};
use crate::stream::{WATCH_SILENCE, Watch};

/// How long to wait for the answer to a change of members: a new one fetches everything first.
pub const MANAGE_TIMEOUT: Duration = Duration::from_secs(660);
/// How long to wait for the answer of a strong keyspace beyond the time that it may take; a guess.
const CALL_SLACK: Duration = Duration::from_secs(5);

impl Client {
    /// Creates a strong keyspace. Returns its status.
    pub async fn create_keyspace(&self, create: &CreateKeyspace) -> Result<StrongInfo, Error> {
        self.fetch(self.long_request(Method::POST, "/v1/strong").json(create)).await
    }

    /// The status of a strong keyspace; `None` if there is none of this name.
    pub async fn strong_info(&self, keyspace: &str) -> Result<Option<StrongInfo>, Error> {
        self.find(&strong_path(keyspace, "")).await
    }

    /// Removes a strong keyspace with all its data.
    pub async fn drop_keyspace(&self, keyspace: &str) -> Result<(), Error> {
        self.send(self.long_request(Method::DELETE, &strong_path(keyspace, ""))).await.map(drop)
    }

    /// Makes these nodes the voters of a strong keyspace.
    pub async fn set_voters(&self, keyspace: &str, voters: &Voters) -> Result<StrongInfo, Error> {
        let request = self.request(Method::PUT, &strong_path(keyspace, "/voters"));
        self.fetch(request.timeout(MANAGE_TIMEOUT).json(voters)).await
    }

    /// Transfers the leadership of a strong keyspace to a node.
    pub async fn transfer_leader(&self, keyspace: &str, to: &Leader) -> Result<StrongInfo, Error> {
        self.fetch(self.long_request(Method::PUT, &strong_path(keyspace, "/leader")).json(to)).await
    }

    /// Unsafe recovery after a loss of quorum: the node's replica of a strong keyspace becomes the only member. It may
    /// lack `accept_loss` entries of the longest log within reach.
    pub async fn recover_keyspace(&self, keyspace: &str, accept_loss: u64) -> Result<(), Error> {
        let path = strong_path(keyspace, &format!("/recover?accept_loss={accept_loss}"));
        self.send(self.long_request(Method::POST, &path)).await.map(drop)
    }

    /// The replicas of a strong keyspace on all nodes that can be reached.
    pub async fn replicas(&self, keyspace: &str) -> Result<Replicas, Error> {
        self.fetch(self.long_request(Method::GET, &strong_path(keyspace, "/replicas"))).await
    }

    /// Deletes the replicas of a strong keyspace that the node keeps although they were removed from it.
    pub async fn discard_replicas(&self, keyspace: &str) -> Result<(), Error> {
        self.send(self.request(Method::DELETE, &strong_path(keyspace, "/kept"))).await.map(drop)
    }

    /// Sends a read or a write to a strong keyspace.
    ///
    /// # Errors
    /// [`ErrorCode::OutcomeUnknown`] also for a write whose answer was lost on its way.
    pub async fn ask(&self, keyspace: &str, call: &StrongCall) -> Result<StrongAnswer, Error> {
        let path = if self.if_strong { "/call?if_strong=true" } else { "/call" };
        let request = self.request(Method::POST, &strong_path(keyspace, path));
        let request = match self.timeout {
            Some(timeout) => request.json(&within(call, timeout)),
            None => request.timeout(Duration::from_millis(call.timeout_ms) + CALL_SLACK).json(call),
        };
        let request = request.build().map_err(|e| self.broken(&e))?;
        let lost = |error: Error| match error.code {
            ErrorCode::Unreachable if matches!(call.request, Request::Write(_)) => {
                Error { code: ErrorCode::OutcomeUnknown, ..error }
            }
            _ => error,
        };
        match self.send_built(request, is_idempotent(call)).await {
            Ok(response) => self.json(response).await.map_err(lost),
            Err(unanswered) if unanswered.sent => Err(lost(unanswered.error)),
            Err(unanswered) => Err(unanswered.error),
        }
    }

    /// Changes in a strong keyspace from a revision on, or (0) from now on. The first event is
    /// [`StrongEvent::Ready`].
    pub async fn watch_strong(
        &self,
        keyspace: &str,
        prefix: &[u8],
        from_revision: u64,
    ) -> Result<Watch<StrongEvent>, Error> {
        let (path, prefix) = (strong_path(keyspace, "/watch"), encoded(prefix));
        let if_strong = if self.if_strong { "&if_strong=true" } else { "" };
        let path = format!("{path}?prefix={prefix}&from_revision={from_revision}{if_strong}");
        let request = self.http.client().get(self.url_of(&path)).header(ACCEPT, "text/event-stream");
        let response = self.send(self.authorized(request)).await?;
        Ok(Watch::new(self.url().to_owned(), response, WATCH_SILENCE))
    }
}

/// A request that the node answers within this time: five sixths of it are the node's, or less where the request says
/// so.
fn within(call: &StrongCall, timeout: Duration) -> Cow<'_, StrongCall> {
    let longest_ms = u64::try_from((timeout * 5 / 6).as_millis()).unwrap_or(u64::MAX);
    let timeout_ms = match call.timeout_ms {
        TIMEOUT_MS_DEFAULT => longest_ms,
        chosen => chosen.min(longest_ms),
    };
    if timeout_ms == call.timeout_ms {
        return Cow::Borrowed(call);
    }
    Cow::Owned(StrongCall { timeout_ms, ..call.clone() })
}

impl Strong for Client {
    async fn call(&self, keyspace: &str, call: StrongCall) -> Result<StrongAnswer, Error> {
        self.ask(keyspace, &call).await
    }

    async fn changes(
        &self,
        keyspace: &str,
        prefix: &[u8],
        from_revision: u64,
    ) -> Result<Events<StrongEvent>, Error> {
        Ok(self.watch_strong(keyspace, prefix, from_revision).await?.boxed())
    }
}

/// Whether a request to a strong keyspace has the same effect twice: a named write is applied once.
fn is_idempotent(call: &StrongCall) -> bool {
    !matches!(call.request, Request::Write(_)) || call.request_id.is_some()
}

fn strong_path(keyspace: &str, what: &str) -> String {
    format!("/v1/strong/{}{what}", utf8_percent_encode(keyspace, SEGMENT))
}
