//! What the doctor of a running node finds beyond its store: replicas, and the strong keyspaces that it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use starling_api::admin::{
    ClosedReplica, Doctor, Leaderless, NO_PEER_HINT, SilentVoter, Status, no_peer, replace_revoked,
};
use starling_api::strong::{REPORTED_MS, ReplicaInfo, StrongInfo};
use starling_api::{Error, ErrorCode};
use starling_core::strong::former_name;
use tokio::sync::oneshot;

use super::{add, certificate, check_running};
use crate::admin::Admin;
use crate::clock::wall_ms;
use crate::error::store_error;
use crate::strong::Held;

/// What to do about a store or a replica that does not work.
pub const STORAGE_HINT: &str = "make space: the node then continues within seconds; after damage, replace the disk and this \
                                node's voters (`starling keyspace voters remove`, then `add`)";
/// What to do about two processes with one identity.
const DOUBLED_HINT: &str = "stop one of them, unless it has ended by now; this ends a minute after the last sign of both; a copy \
                            needs an empty data directory and joins with the ticket";
/// What to do about a peer that was disconnected for misbehaviour.
const BANNED_HINT: &str = "compare `starling version` on both; if they are the same, look for damage on the way or for a program \
                           that has this network's ticket and is no node";
/// Keyspaces that are asked at a time, at most. A guess.
const ASKED_AT_ONCE: usize = 256;
/// Keyspaces whose replicas are asked for at a time, at most: half of the surveys that a node makes at once.
const SURVEYED_AT_ONCE: usize = 32;

impl Admin {
    /// Checks the whole store on a snapshot, on a thread of its own, and asks for the leaders of the strong keyspaces.
    /// Takes minutes on a large store, and some seconds more where it is not known since when a keyspace has no leader.
    pub async fn doctor(&self) -> Result<Doctor, Error> {
        self.0.caller().check_administrator()?;
        let mut report = match self.0.reader() {
            Ok(reader) => on_a_thread(move || check_running(&reader)).await?.map_err(store_error)?,
            // A seed.
            Err(error) if error.code == ErrorCode::NoStore => Doctor { healthy: true, ..Doctor::default() },
            Err(error) => return Err(error),
        };
        let status = self.status().await?;
        for what in failures(&status) {
            add(&mut report, what, STORAGE_HINT);
        }
        certificate::check(&mut report, &self.trust().await?, &status.id, wall_ms());
        if !status.joined {
            add(&mut report, no_peer(&status.failed_contacts), NO_PEER_HINT);
        }
        for impaired in &status.impaired_replicas {
            let (name, me) = (&impaired.keyspace, &status.name);
            let hint = format!(
                "of two processes stop one, then restart the other; after an older copy was restored, a restart ends this \
                 message once the replica has everything; if nothing was, the disk loses writes: `starling keyspace voters replace {name} {me} OTHER` puts \
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
        // A replica that has withdrawn is among the impaired ones, and knows nothing of the others.
        let is_known = |it: &&Held| status.withdrawn || it.status.leader == Some(it.status.member);
        let known = held.iter().filter(is_known).map(|replica| replica.keyspace.as_str());
        let known = known.chain(status.leaderless.iter().map(|leaderless| leaderless.keyspace.as_str()));
        let elsewhere = self.troubles(&known.collect()).await?;
        let leaderless: Vec<&Leaderless> = status
            .leaderless
            .iter()
            .chain(elsewhere.iter().filter_map(|it| it.leaderless.as_ref()))
            .collect();
        let silent: Vec<&SilentVoter> =
            status.silent_voters.iter().chain(elsewhere.iter().flat_map(|it| &it.silent)).collect();
        let troubled = leaderless.iter().map(|it| &it.keyspace).chain(silent.iter().map(|it| &it.keyspace));
        let idle = self.idle(troubled.map(String::as_str).collect()).await;
        for leaderless in leaderless {
            add(&mut report, leaderless.to_string(), leaderless_hint(leaderless, &idle));
        }
        for voter in silent {
            add(&mut report, voter.to_string(), silent_hint(voter, &idle));
        }
        if let Some(what) = status.identity_conflict {
            add(&mut report, what, DOUBLED_HINT);
        }
        for peer in &status.doubled_peers {
            add(&mut report, peer.to_string(), DOUBLED_HINT);
        }
        for peer in &status.banned_peers {
            add(&mut report, peer.to_string(), BANNED_HINT);
        }
        Ok(report)
    }

    /// The troubles of the keyspaces but those of which this node knows itself. A keyspace without a leader is asked again
    /// where nobody knows since when: it may only be electing one, as after a start.
    async fn troubles(&self, known: &BTreeSet<&str>) -> Result<Vec<Trouble>, Error> {
        let names: Vec<String> = self.0.parts.names.all().into_keys().collect();
        let names = names.into_iter().filter(|name| !known.contains(name.as_str())).collect();
        let is_unsure =
            |trouble: &Trouble| trouble.leaderless.as_ref().is_some_and(|leaderless| leaderless.for_ms == 0);
        let (unsure, mut found): (Vec<_>, Vec<_>) =
            self.ask_all(names).await.into_iter().partition(is_unsure);
        if !unsure.is_empty() {
            on_a_thread(|| std::thread::sleep(Duration::from_millis(REPORTED_MS))).await?;
            let unsure = unsure.into_iter().filter_map(|trouble| trouble.leaderless);
            found.extend(self.ask_all(unsure.map(|leaderless| leaderless.keyspace).collect()).await);
        }
        Ok(found)
    }

    /// The replicas of these keyspaces that take no part although their nodes answer: their leaders do not hear them either.
    async fn idle(&self, keyspaces: BTreeSet<&str>) -> Idle {
        let mut found = Idle::new();
        for some in keyspaces.into_iter().collect::<Vec<_>>().chunks(SURVEYED_AT_ONCE) {
            let surveyed = join_all(some.iter().map(async |name| (*name, self.replicas(name).await))).await;
            // A keyspace whose replicas cannot be named has no such explanation.
            let replicas =
                surveyed.into_iter().filter_map(|(name, found)| Some((name, found.ok()?.replicas)));
            found.extend(replicas.flat_map(|(name, replicas)| {
                let why =
                    move |it: ReplicaInfo| Some(((name.to_owned(), it.name), it.closed.or(it.impaired)?));
                replicas.into_iter().filter_map(why)
            }));
        }
        found
    }

    /// Those of these keyspaces that are in trouble now.
    async fn ask_all(&self, names: Vec<String>) -> Vec<Trouble> {
        let mut found = Vec::new();
        for some in names.chunks(ASKED_AT_ONCE) {
            let asked = some.iter().map(async |name| trouble(name, self.keyspace_info(name).await));
            found.extend(join_all(asked).await.into_iter().flatten());
        }
        found
    }
}

/// Why replicas take no part in their keyspaces, by the names of the keyspace and of the node.
type Idle = BTreeMap<(String, String), String>;

/// What is wrong with a keyspace.
struct Trouble {
    /// That it has no leader.
    leaderless: Option<Leaderless>,
    /// Voters that the leader does not hear.
    silent: Vec<SilentVoter>,
}

/// What a keyspace's status, or the lack of one, shows; `None`: all is well, an election is under way, or there is no
/// keyspace.
fn trouble(keyspace: &str, info: Result<StrongInfo, Error>) -> Option<Trouble> {
    match info {
        Ok(info) if info.heard_ms.is_some_and(|ms| ms < REPORTED_MS) && info.leader.is_none() => None,
        Ok(info) => {
            let leaderless = info.leaderless();
            let silent = if leaderless.is_some() { Vec::new() } else { info.silent_voters() };
            let is_one = leaderless.is_some() || !silent.is_empty();
            is_one.then_some(Trouble { leaderless, silent })
        }
        Err(error) if matches!(error.code, ErrorCode::NoMajority | ErrorCode::Timeout) => {
            let (keyspace, silent) = (keyspace.to_owned(), Vec::new());
            let leaderless =
                Leaderless { keyspace, for_ms: 0, voters: 0, silent: Vec::new(), revoked: Vec::new() };
            Some(Trouble { leaderless: Some(leaderless), silent })
        }
        Err(_) => None,
    }
}

fn silent_hint(SilentVoter { keyspace, name, revoked, .. }: &SilentVoter, idle: &Idle) -> String {
    if *revoked {
        return replace_revoked(keyspace, name);
    }
    if let Some(running) = running(keyspace, name, idle) {
        return running;
    }
    format!(
        "start {name}, or look at its log and its links; if it is lost for good, `starling keyspace voters replace {keyspace} \
         {name} OTHER` puts another node in its place, as happens automatically after a while (strong.replace_ms) unless the \
         keyspace was created with --manual"
    )
}

/// What to do about a silent voter whose node answers; `None`: it does not answer.
fn running(keyspace: &str, name: &str, idle: &Idle) -> Option<String> {
    let why = idle.get(&(keyspace.to_owned(), name.to_owned()))?;
    Some(format!("{name} runs; its replica of {keyspace}: {why}"))
}

fn leaderless_hint(leaderless: &Leaderless, idle: &Idle) -> String {
    let Leaderless { keyspace, voters, silent, revoked, .. } = leaderless;
    let running: Vec<String> = silent.iter().filter_map(|name| running(keyspace, name, idle)).collect();
    let may_start =
        |name: &&String| !revoked.contains(name) && !idle.contains_key(&(keyspace.clone(), (*name).clone()));
    let stopped = silent.iter().filter(may_start);
    let lost = revoked.iter().map(|name| format!("{name} is revoked: {}", replace_revoked(keyspace, name)));
    let running: Vec<String> = running.into_iter().chain(lost).collect();
    let stopped: Vec<&str> = stopped.map(String::as_str).collect();
    let start = match (voters, silent.as_slice(), stopped.as_slice()) {
        (0, ..) => "start the nodes of its voters".to_owned(),
        (_, [], _) => "look at the logs of the voters' nodes".to_owned(),
        (_, _, []) => running.join("; "),
        (_, _, stopped) => [vec![format!("start {}", stopped.join(" and "))], running].concat().join("; "),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_start_a_node_that_runs() {
        let silent = |names: &[&str]| Leaderless {
            keyspace: "orders".into(),
            for_ms: 9_000,
            voters: 3,
            silent: names.iter().map(|&name| name.into()).collect(),
            revoked: Vec::new(),
        };
        let idle = Idle::from([(("orders".into(), "emil".into()), "withdrew. Restart its node".into())]);
        let hint = leaderless_hint(&silent(&["dora", "emil"]), &idle);
        assert!(
            hint.starts_with("start dora; emil runs; its replica of orders: withdrew. Restart"),
            "{hint}"
        );
        let hint = leaderless_hint(&silent(&["emil"]), &idle);
        assert!(hint.starts_with("emil runs;"), "{hint}");
        let voter = |name: &str| SilentVoter {
            keyspace: "orders".into(),
            name: name.into(),
            for_ms: 9_000,
            revoked: false,
        };
        assert!(silent_hint(&voter("emil"), &idle).contains("Restart its node"));
        assert!(silent_hint(&voter("dora"), &idle).starts_with("start dora"));
        let replace = "`starling keyspace voters replace orders dora OTHER`";
        let revoked = SilentVoter { revoked: true, ..voter("dora") };
        assert!(silent_hint(&revoked, &idle).starts_with(replace));
        assert!(revoked.what().starts_with(&format!("voter dora is revoked: {replace}")));
        let lost = Leaderless { revoked: vec!["dora".into()], ..silent(&["dora", "fred"]) };
        let hint = leaderless_hint(&lost, &idle);
        assert!(hint.starts_with(&format!("start fred; dora is revoked: {replace}")), "{hint}");
        let lost = Leaderless { revoked: vec!["dora".into()], ..silent(&["dora"]) };
        let hint = leaderless_hint(&lost, &idle);
        assert!(hint.starts_with(&format!("dora is revoked: {replace}")), "{hint}");
    }
}
