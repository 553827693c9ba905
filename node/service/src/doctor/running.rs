//! What the doctor of a running node finds beyond its store: replicas, and the strong keyspaces that it knows.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::future::join_all;
use starling_api::admin::{ClosedReplica, Doctor, Leaderless, Status};
use starling_api::strong::StrongInfo;
use starling_api::{Error, ErrorCode};
use starling_core::strong::{LEADERLESS_MS, former_name};
use tokio::sync::oneshot;

use super::{add, check_running};
use crate::admin::Admin;
use crate::error::store_error;
use crate::strong::Held;

/// What to do about a store or a replica that does not work.
pub const STORAGE_HINT: &str = "make space: the node then continues within seconds; after damage, replace the disk and this \
                                node's voters (`starling keyspace voters remove`, then `add`)";
/// What to do about two processes with one identity.
const DOUBLED_HINT: &str = "stop one of them; this ends a minute after the last sign of it; a copy needs an empty data directory \
                            and joins with the ticket";
/// Keyspaces that are asked at a time, at most. A guess.
const ASKED_AT_ONCE: usize = 256;

impl Admin {
    /// Checks the whole store on a snapshot, on a thread of its own, and asks for the leaders of the strong keyspaces.
    /// Takes minutes on a large store, and some seconds more where a keyspace has no leader.
    pub async fn doctor(&self) -> Result<Doctor, Error> {
        let reader = self.0.reader()?;
        let mut report = on_a_thread(move || check_running(&reader)).await?.map_err(store_error)?;
        let status = self.status().await?;
        for what in failures(&status) {
            add(&mut report, what, STORAGE_HINT);
        }
        for impaired in &status.impaired_replicas {
            let (name, me) = (&impaired.keyspace, &status.name);
            let hint = format!(
                "of two processes stop one; after an older copy was restored, a restart ends this message once the replica has \
                 everything; if nothing was, the disk loses writes: `starling keyspace voters replace {name} {me} OTHER` puts \
                 another node in its place"
            );
            add(&mut report, impaired.to_string(), hint);
        }
        let held = self.groups().await?;
        for (name, former) in held.iter().filter_map(gave_way) {
            let what = format!("{name} was created as {former}, apart from the keyspace that has this name");
            let hint = format!(
                "`starling export -k {name}` shows what it holds: write to {former} what is missing there, then \
                 `starling keyspace drop {name}`"
            );
            add(&mut report, what, hint);
        }
        let elsewhere = self.leaderless_elsewhere(&held).await?;
        for leaderless in status.leaderless.iter().chain(&elsewhere) {
            add(&mut report, leaderless.to_string(), leaderless_hint(leaderless));
        }
        if let Some(what) = status.identity_conflict {
            add(&mut report, what, DOUBLED_HINT);
        }
        for peer in &status.doubled_peers {
            add(&mut report, peer.to_string(), DOUBLED_HINT);
        }
        Ok(report)
    }

    /// The keyspaces without a replica here that have no leader, seen twice so that an election is not taken for a
    /// loss.
    async fn leaderless_elsewhere(&self, held: &[Held]) -> Result<Vec<Leaderless>, Error> {
        let here: BTreeSet<&str> = held.iter().map(|replica| replica.keyspace.as_str()).collect();
        let names: Vec<String> = self.0.0.names.all().into_keys().collect();
        let names: Vec<String> = names.into_iter().filter(|name| !here.contains(name.as_str())).collect();
        let began = Instant::now();
        let first = self.without_leader(names).await;
        if first.is_empty() {
            return Ok(Vec::new());
        }
        let rest = Duration::from_millis(LEADERLESS_MS).saturating_sub(began.elapsed());
        on_a_thread(move || std::thread::sleep(rest)).await?;
        let names = first.into_iter().map(|leaderless| leaderless.keyspace).collect();
        let mut second = self.without_leader(names).await;
        for leaderless in &mut second {
            leaderless.for_ms = leaderless.for_ms.max(began.elapsed().as_millis() as u64);
        }
        Ok(second)
    }

    /// Those of these keyspaces that have no leader now.
    async fn without_leader(&self, names: Vec<String>) -> Vec<Leaderless> {
        let mut found = Vec::new();
        for some in names.chunks(ASKED_AT_ONCE) {
            let asked = some.iter().map(async |name| leaderless(name, self.keyspace_info(name).await));
            found.extend(join_all(asked).await.into_iter().flatten());
        }
        found
    }
}

/// What a keyspace's status, or the lack of one, shows of its leader; `None`: it has one, or there is no keyspace.
fn leaderless(keyspace: &str, info: Result<StrongInfo, Error>) -> Option<Leaderless> {
    let keyspace = keyspace.to_owned();
    match info {
        Ok(info) if info.leader.is_some() => None,
        Ok(info) => {
            let (voters, silent) = info.silent_voters();
            Some(Leaderless { keyspace, for_ms: info.heard_ms.unwrap_or_default(), voters, silent })
        }
        Err(error) if matches!(error.code, ErrorCode::NoMajority | ErrorCode::Timeout) => {
            Some(Leaderless { keyspace, for_ms: 0, voters: 0, silent: Vec::new() })
        }
        Err(_) => None,
    }
}

fn leaderless_hint(Leaderless { keyspace, voters, silent, .. }: &Leaderless) -> String {
    let start = match (voters, silent.as_slice()) {
        (0, _) => "start the nodes of its voters".to_owned(),
        (_, []) => "look at the logs of the voters' nodes".to_owned(),
        (_, silent) => format!("start {}", silent.join(" and ")),
    };
    format!(
        "{start}; `starling keyspace info {keyspace}` shows its members; if most voters are lost for good, see \
         `starling keyspace recover --help`"
    )
}

/// What does not work on a node.
pub fn failures(status: &Status) -> impl Iterator<Item = String> {
    status.storage_error.iter().cloned().chain(status.closed_replicas.iter().map(ClosedReplica::to_string))
}

/// The name of a keyspace that gave way to another one, and the one that it had before.
fn gave_way(replica: &Held) -> Option<(&str, &str)> {
    former_name(&replica.keyspace, &replica.status.group).map(|former| (replica.keyspace.as_str(), former))
}

/// Does this on a thread of its own: the caller may have no runtime, and must not wait.
async fn on_a_thread<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let (sender, result) = oneshot::channel();
    let work = move || drop(sender.send(what()));
    std::thread::Builder::new()
        .name("doctor".into())
        .spawn(work)
        .map_err(|e| Error::new(ErrorCode::Internal, format!("the check cannot start: {e}"), "try again"))?;
    result.await.map_err(|_| Error::new(ErrorCode::Internal, "the check has failed", "see the node's log"))
}
