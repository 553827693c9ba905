//! Commands on leases.

use std::time::Duration;

use serde_json::json;
use starling_api::strong::{Body, Read, Request, Write};
use starling_api::{Blob, escaped};
use starling_client::{Expiry, Lease, now};
use starling_strong::line;

use super::args::LeaseCommand;
use super::child::Ended;
use super::signals::Signals;
use crate::cli::Session;
use crate::cli::args::Output;
use crate::cli::print::{self, Result};
use crate::cli::strong::{How, unexpected};

impl Session {
    pub(in crate::cli) async fn lease(&self, command: LeaseCommand) -> Result {
        let run = async |strong: &Self| match command {
            LeaseCommand::Grant { ttl } => strong.grant_lease(ttl).await,
            LeaseCommand::Revoke { id } => {
                strong.write(Write::LeaseRevoke { id }, &How::default()).await.map(drop)
            }
            LeaseCommand::KeepAlive { id, once } => strong.keep_lease(id, once).await,
            LeaseCommand::Info { id } => strong.show_lease(id).await,
            LeaseCommand::Ls => strong.list_leases().await,
        };
        self.need_strong("leases", run).await
    }

    async fn grant_lease(&self, ttl_ms: u64) -> Result {
        let grant = Write::LeaseGrant { id: 0, ttl_ms };
        match self.write(grant, &How::default()).await?.body {
            Body::LeaseGranted { id, ttl_ms } => match self.output {
                Output::Json => print::json(&json!({ "lease": line::hex(id), "ttl_ms": ttl_ms })),
                Output::Table | Output::Raw => print::line(line::hex(id)),
            },
            other => Err(unexpected(&other)),
        }
    }

    async fn keep_lease(&self, id: i64, once: bool) -> Result {
        let mut signals = Signals::watch()?;
        let sent = now();
        let request = Request::KeepAlive { id };
        let ttl_ms = match self.client.ask(&self.keyspace, &request.into()).await?.body {
            Body::KeptAlive { ttl_ms, .. } => ttl_ms,
            other => return Err(unexpected(&other)),
        };
        match self.output {
            Output::Json => print::json(&json!({ "lease": line::hex(id), "ttl_ms": ttl_ms }))?,
            Output::Raw => print::line(ttl_ms.to_string())?,
            Output::Table => print::line(format!("{} lasts {}", line::hex(id), seconds(ttl_ms)))?,
        }
        if once {
            return Ok(());
        }
        let mut lease = Lease::keep(&self.strong(), id, Expiry::new(sent, Duration::from_millis(ttl_ms)));
        let ended = tokio::select! {
            biased;
            lost = lease.lost() => Ended::Lost(lost),
            _ = signals.end() => Ended::Exited(0),
        };
        ended.result(&format!("lease {}", line::hex(id)))
    }

    async fn show_lease(&self, id: i64) -> Result {
        let request = Request::TimeToLive { id, keys: true };
        let answer = self.client.ask(&self.keyspace, &request.into()).await?;
        let Body::TimeToLive { granted_ms, left_ms, keys, .. } = answer.body else {
            return Err(unexpected(&answer.body));
        };
        match self.output {
            Output::Json => {
                let keys: Vec<Blob> = keys.into_iter().map(Blob).collect();
                print::json(
                    &json!({ "lease": line::hex(id), "granted_ms": granted_ms, "left_ms": left_ms, "keys": keys }),
                )
            }
            Output::Raw => print::line(left_ms.to_string()),
            Output::Table => {
                let keys: Vec<_> = keys.iter().map(|key| escaped(key)).collect();
                print::pairs([
                    ("lease", line::hex(id)),
                    ("lasts", seconds(granted_ms)),
                    ("left", seconds(left_ms)),
                    ("keys", keys.join(", ")),
                ])
            }
        }
    }

    async fn list_leases(&self) -> Result {
        let leases = match self.client.ask(&self.keyspace, &Read::Leases.into()).await?.body {
            Body::Leases { leases } => leases,
            other => return Err(unexpected(&other)),
        };
        let leases: Vec<String> = leases.into_iter().map(line::hex).collect();
        match self.output {
            Output::Json => print::json(&json!({ "leases": leases })),
            Output::Table | Output::Raw => leases.iter().try_for_each(print::line),
        }
    }
}

/// A lease's time as text.
pub fn seconds(ms: u64) -> String {
    format!("{:.1}s", ms as f64 / 1000.0)
}
