//! Ephemeral keys, which exist as long as the process that wrote them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use starling_api::Blob;
use starling_client::{Client, Lease};
use starling_strong::line;

use super::child::{Ended, Running};
use super::held::give_back;
use super::signals::Signals;
use crate::cli::Session;
use crate::cli::args::PutArgs;
use crate::cli::print::Result;
use crate::cli::strong::Made;

/// Time of a session's lease by default, milliseconds.
const TTL_MS_DEFAULT: u64 = 10_000;

impl Session {
    /// Writes a key, and keeps it while a command runs or until interrupted.
    pub(in crate::cli) async fn put_ephemeral(&self, args: &PutArgs, value: Blob) -> Result {
        let mut signals = Signals::watch()?;
        let ttl_ms = args.ttl.unwrap_or(TTL_MS_DEFAULT);
        let keyspace = self.strong();
        let granted = async { Ok(Lease::grant(&keyspace, ttl_ms).await?) };
        let mut lease = signals.or_end(granted).await?;
        let result = self.hold_key(args, value, &mut lease, &mut signals).await;
        give_back(lease).await;
        result
    }

    async fn hold_key(
        &self,
        args: &PutArgs,
        value: Blob,
        lease: &mut Lease<Client>,
        signals: &mut Signals,
    ) -> Result {
        let (command, grace) = (&args.command, Duration::from_millis(args.grace));
        let made = signals.or_end(self.put_once(args, value, lease.id())).await?;
        let ended = if command.is_empty() {
            self.show_made(&made)?;
            tokio::select! {
                biased;
                lost = lease.lost() => Ended::Lost(lost),
                _ = signals.end() => Ended::Exited(0),
            }
        } else {
            let Made { key, .. } = made;
            let variables = vec![
                ("STARLING_KEY".into(), OsString::from_vec(key.0)),
                ("STARLING_LEASE".into(), line::hex(lease.id()).into()),
            ];
            Running::start(command, variables, None)?.attend(lease.lost(), signals, grace).await?
        };
        ended.result("the session of the key")
    }
}
