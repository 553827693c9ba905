//! Elections.

use std::ffi::OsStr;

use serde_json::json;
use starling_api::strong::{Body, Delete, Keys, Range, SortBy, SortOrder, Write};
use starling_api::{Blob, escaped};
use starling_client::{Candidates, Leadership};
use starling_strong::line as layout;
use tokio::time::sleep;

use super::args::{CampaignArgs, ElectCommand, ResignArgs};
use super::held::AGAIN;
use super::line::Wanted;
use crate::cli::Session;
use crate::cli::args::Output;
use crate::cli::failure::Failure;
use crate::cli::print::{self, Result};
use crate::cli::strong::{How, unexpected};
use crate::cli::value::bytes;

impl Session {
    pub(in crate::cli) async fn elect(&self, command: ElectCommand) -> Result {
        let run = async |strong: &Self| match command {
            ElectCommand::Campaign(args) => strong.campaign(&args).await,
            ElectCommand::Observe { name } => strong.observe(&name).await,
            ElectCommand::Leader { name } => strong.show_leader(&name).await,
            ElectCommand::Resign(args) => strong.resign(&args).await,
        };
        self.need_strong("elections", run).await
    }

    async fn campaign(&self, args: &CampaignArgs) -> Result {
        let wanted = Wanted {
            what: "leadership",
            variables: "STARLING_ELECTION",
            name: Blob(bytes(&args.name)),
            value: Blob(bytes(&args.value)),
            hold: &args.hold,
        };
        self.hold(&wanted).await
    }

    /// Prints every change of the leader. If the watch has to begin again, only the current leader is printed.
    async fn observe(&self, name: &OsStr) -> Result {
        let prefix = layout::prefix(&bytes(name));
        let mut told = None;
        loop {
            match self.follow(&prefix, &mut told).await {
                Ok(()) => {}
                Err(failure) if failure.is_passing() => {
                    print::note(format!("{}; trying again", failure.message));
                    sleep(AGAIN).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Prints changes until the watch ends. `told` is the last printed leadership.
    async fn follow(&self, prefix: &[u8], told: &mut Option<Leadership>) -> Result {
        let (revision, kvs) = self.everything(prefix).await?;
        let mut all = Candidates::new(kvs);
        self.tell_leader(&all, told)?;
        let mut watch = self.client.watch_strong(&self.keyspace, prefix, revision + 1).await?;
        while let Some(event) = watch.next_event().await {
            all.on_event(event?);
            self.tell_leader(&all, told)?;
        }
        // The node may be stopping, so this waits before it tries again.
        sleep(AGAIN).await;
        Ok(())
    }

    fn tell_leader(&self, all: &Candidates, told: &mut Option<Leadership>) -> Result {
        let leader = all.leader();
        let now = all.leadership();
        if told.as_ref() == Some(&now) {
            return Ok(());
        }
        *told = Some(now);
        match (self.output, leader) {
            (Output::Json, leader) => print::json(&json!({ "leader": leader })),
            (Output::Raw, Some(kv)) => print::raw_line(&kv.value),
            (Output::Raw, None) => Ok(()),
            (Output::Table, Some(kv)) => print::line(format!(
                "leads   {}  {}  {}",
                kv.mod_revision,
                escaped(&kv.key),
                escaped(&kv.value)
            )),
            (Output::Table, None) => print::line("no leader"),
        }
    }

    async fn show_leader(&self, name: &OsStr) -> Result {
        let name = Blob(bytes(name));
        let first = Range {
            limit: 1,
            sort: Some((SortBy::CreateRevision, SortOrder::Ascending)),
            ..Range::of(Keys::prefix(layout::prefix(&name.0)))
        };
        let answer = self.client.ask(&self.keyspace, &first.into()).await?;
        let Body::Range(found) = answer.body else { return Err(unexpected(&answer.body)) };
        let Some(kv) = found.kvs.first() else {
            let hint = format!(
                "`starling elect observe {0}` waits for a leader, `elect campaign {0}` campaigns",
                name.escaped()
            );
            return Err(Failure::nothing(format!("{} has no leader", name.escaped()), hint));
        };
        match self.output {
            Output::Json => print::json(kv),
            Output::Raw => print::raw(&kv.value),
            Output::Table => print::pairs([
                ("value", escaped(&kv.value)),
                ("key", escaped(&kv.key)),
                ("token", kv.create_revision.to_string()),
                ("lease", layout::hex(kv.lease)),
            ]),
        }
    }

    async fn resign(&self, args: &ResignArgs) -> Result {
        let name = bytes(&args.name);
        let key = match (&args.key, args.lease) {
            (Some(key), _) => bytes(key),
            (None, lease) => layout::key(&name, lease.unwrap_or(0)),
        };
        if !key.starts_with(&layout::prefix(&name)) {
            let what = format!("{} is not a key of the election {}", escaped(&key), escaped(&name));
            return Err(Failure::usage(what, "the key begins with the election's name and a slash"));
        }
        let delete = Delete { keys: Keys::One(key.clone()), prev: false };
        match self.write(Write::Delete(delete), &How::default()).await?.body {
            Body::Delete { deleted: 0, .. } => {
                let hint = "`starling elect leader` shows the leader and its key";
                Err(Failure::nothing(format!("there is no candidate with the key {}", escaped(&key)), hint))
            }
            Body::Delete { .. } => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}
