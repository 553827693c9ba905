//! A client that writes as users' clients do: to one node as long as it answers, then to the next, under a
//! name by which the write is applied once.

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use starling_api::strong::{Put, RequestId, StrongCall, Write};
use starling_api::{Error as ApiError, ErrorCode, Retry};
use starling_client::{Client, new_request_id};
use tokio::sync::oneshot;

use super::{KEYSPACE, MEMBERS, OUTSIDER};
use crate::error::{Error, Result};
use crate::load::VALUE_BYTES;
use crate::network::Network;

/// A write that was not acknowledged by any node within this time ends the run.
const DEADLINE: Duration = Duration::from_secs(30);
/// Between two nodes where the first one refused, so that refusals alone do not keep the cores busy.
const PAUSE: Duration = Duration::from_millis(10);

/// Writes one key over and over, one write at a time.
pub struct Writer {
    clients: Vec<Client>,
    /// Whom it asks now.
    at: usize,
    patience: Duration,
    id: RequestId,
    /// Of the last write that was acknowledged.
    pub revision: u64,
    /// Requests that went to another node than the write's first one.
    pub sent_again: u64,
}

impl Writer {
    /// Through the outsider first, through the members if it fails.
    pub fn new(network: &Network, patience: Duration) -> Result<Self> {
        let order = [OUTSIDER].into_iter().chain(MEMBERS);
        let clients = order.map(|index| network.node(index).client().cloned()).collect::<Result<_>>()?;
        let id = RequestId { client: new_request_id(), seq: 0, answered_below: 0 };
        Ok(Self { clients, at: 0, patience, id, revision: 0, sent_again: 0 })
    }

    /// Writes until a write that was begun after `failed` is acknowledged, and says how long after. `ready`
    /// is told once so many writes were acknowledged before.
    pub async fn recover(
        &mut self,
        lead: u32,
        ready: oneshot::Sender<()>,
        failed: &OnceCell<Instant>,
    ) -> Result<Duration> {
        for _ in 0..lead {
            self.write().await?;
        }
        // Whoever makes the node fail has given up: so does the other half of this run.
        let _ = ready.send(());
        loop {
            let began = Instant::now();
            self.write().await?;
            if let Some(failed) = failed.get().filter(|failed| began >= **failed) {
                return Ok(failed.elapsed());
            }
        }
    }

    async fn write(&mut self) -> Result<()> {
        self.id.seq += 1;
        self.id.answered_below = self.id.seq;
        let put = Write::Put(Put::new("failover", vec![b'v'; VALUE_BYTES]));
        let call = StrongCall { request_id: Some(self.id), ..put.into() };
        let began = Instant::now();
        loop {
            let client = &self.clients[self.at];
            let missing = match tokio::time::timeout(self.patience, client.ask(KEYSPACE, &call)).await {
                Ok(Ok(answer)) => {
                    self.revision = answer.revision;
                    return Ok(());
                }
                Ok(Err(error)) if !may_be_sent_again(&error) => {
                    return Err(Error::Broken(format!("a write was refused: {error}")));
                }
                Ok(Err(error)) => {
                    tokio::time::sleep(PAUSE).await;
                    error.to_string()
                }
                Err(_) => format!("no answer of {}", client.url()),
            };
            let waited = began.elapsed();
            if waited > DEADLINE {
                return Err(Error::Deadline { what: "a write is acknowledged".into(), missing, waited });
            }
            self.at = (self.at + 1) % self.clients.len();
            self.sent_again += 1;
        }
    }
}

/// Whether another node may do better, or this one later.
fn may_be_sent_again(error: &ApiError) -> bool {
    error.retry() != Retry::Never || error.code == ErrorCode::NotUnderstood
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_another_node_may_do_better_is_sent_again() {
        let refused = |code| may_be_sent_again(&ApiError::new(code, "", ""));
        assert!(refused(ErrorCode::OutcomeUnknown) && refused(ErrorCode::NotReady));
        assert!(!refused(ErrorCode::Invalid) && !refused(ErrorCode::NotFound));
        assert!(refused(ErrorCode::Unreachable) && refused(ErrorCode::NotUnderstood));
    }
}
