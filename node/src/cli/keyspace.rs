//! Commands on keyspaces.

use std::io::{IsTerminal, Write, stderr, stdin};
use std::time::Duration;

use futures::{StreamExt, stream};
use starling_api::KeyspaceInfo;
use starling_api::admin::Status;
use starling_api::strong::{
    self, CreateKeyspace, Leader, Leaderless, REPORTED_MS, ReplicaInfo, Replicas, SilentVoter, StrongInfo,
    StrongMember, Voters,
};
use starling_client::WORK;

use tokio::time::timeout;

use super::Session;
use super::args::{KeyspaceCommand, Output, VotersCommand};
use super::failure::Failure;
use super::print::{self, Result, duration, size};

/// Time between two checks whether a new keyspace has a leader. A guess: a first election takes a few hundred
/// milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Such checks, at most.
const LOOKS_MAX: u32 = 100;
/// How long the status of a keyspace may take before a person at a terminal is told why. A guess: many round trips.
const UNKNOWN_AFTER: Duration = Duration::from_millis(300);
/// How long `status` waits for the leaders of the node's keyspaces. A guess: longer than a round trip, and not too long for a
/// command that operators repeat.
const STATUS_WAIT: Duration = Duration::from_secs(1);
/// Keyspaces whose leaders are asked at a time, at most. A guess.
const ASKED_AT_ONCE: usize = 64;

impl Session {
    pub(super) async fn keyspace(&self, command: KeyspaceCommand) -> Result {
        match command {
            KeyspaceCommand::Create { name, strong: false, .. } => {
                let hint =
                    format!("`starling put -k {name} KEY VALUE` creates it; --strong creates a strong one");
                Err(Failure::usage("an eventual keyspace exists as soon as it holds a key", hint))
            }
            KeyspaceCommand::Create { name, voters, on, manual, .. } => {
                let create = CreateKeyspace { name, voters, on, manual };
                let made = self.client.create_keyspace(&create).await?;
                self.show_info(&self.first_leader(made).await?)
            }
            KeyspaceCommand::Ls => self.list_keyspaces().await,
            KeyspaceCommand::Info { name } => self.show_info(&self.info(&name).await?),
            KeyspaceCommand::TransferLeader { name, node } => {
                self.show_info(&self.client.transfer_leader(&name, &Leader { node }).await?)
            }
            KeyspaceCommand::Voters(command) => self.voters(command).await,
            KeyspaceCommand::Compact { name, revision } => self.compact(&name, revision).await,
            KeyspaceCommand::Drop { name, yes } => {
                confirm(&format!("This removes {name} with all its data, on every node."), &name, yes)?;
                Ok(self.noting(WORK, self.client.drop_keyspace(&name)).await?)
            }
            KeyspaceCommand::Recover { name, force_new_group: false, .. } => {
                let message = format!(
                    "nothing was changed: --force-new-group is missing, which makes the replica on the node asked the one voter \
                     of {name} and gives up what only the lost voters have"
                );
                let hint = format!(
                    "start a majority of its voters if they can come back: it then continues automatically; \
                     `starling keyspace replicas {name}` shows what is left of it"
                );
                Err(Failure::usage(message, hint))
            }
            KeyspaceCommand::Recover { name, accept_loss, yes, .. } => {
                self.show_replicas(&self.noting(WORK, self.client.replicas(&name)).await?)?;
                let warning = format!(
                    "The node asked goes on alone with its replica of {name}. What the lost voters had \
                     acknowledged and it has not is lost for ever."
                );
                confirm(&warning, &name, yes)?;
                self.noting(WORK, self.client.recover_keyspace(&name, accept_loss)).await?;
                let node = self.client.status().await?.name;
                print::note(format!(
                    "done: {node} is the one voter of {name}; add others with `starling keyspace voters add {name} NODE`; a \
                     node that keeps a replica with more declines until `starling keyspace discard {name}` there"
                ));
                Ok(())
            }
            KeyspaceCommand::Replicas { name } => self.show_replicas(&self.client.replicas(&name).await?),
            KeyspaceCommand::Discard { name, yes } => {
                let kept = self.client.status().await?.kept_replicas;
                if !kept.iter().any(|replica| replica.keyspace == name) {
                    let message = format!("the node asked keeps no removed replica of {name}");
                    return Err(Failure::nothing(
                        message,
                        "`starling keyspace ls` names those that it keeps",
                    ));
                }
                let lacking = kept.iter().any(|replica| replica.keyspace == name && replica.may_have_more);
                let lost = if lacking {
                    format!(" They may have writes that {name} lacks: these are lost.")
                } else {
                    String::new()
                };
                let warning =
                    format!("This deletes the removed replicas of {name} that the node asked keeps.{lost}");
                confirm(&warning, &name, yes)?;
                Ok(self.noting(self.silence, self.client.discard_replicas(&name)).await?)
            }
        }
    }

    async fn list_keyspaces(&self) -> Result {
        let mut found = self.client.keyspaces().await?;
        if self.output != Output::Raw {
            self.add_troubles(&mut found.keyspaces).await;
        }
        match self.output {
            Output::Json => print::json(&found),
            Output::Raw => found.keyspaces.iter().try_for_each(|keyspace| print::line(&keyspace.name)),
            Output::Table => {
                let row = |it: &KeyspaceInfo| [it.name.clone(), it.kind.clone(), it.notes.join("; ")];
                print::table(["NAME", "KIND", "NOTES"], found.keyspaces.iter().map(row))
            }
        }
    }

    /// Asks the leaders of the strong keyspaces, and notes what is wrong with them.
    async fn add_troubles(&self, keyspaces: &mut [KeyspaceInfo]) {
        let strong = keyspaces.iter_mut().filter(|keyspace| keyspace.kind != "eventual");
        let asked = strong.map(async |keyspace| {
            let notes = match self.client.strong_info(&keyspace.name).await {
                // The node says why with its own notes.
                Ok(Some(info)) if info.withdrawn => Vec::new(),
                Ok(Some(info)) if info.leader.is_none() => vec![format!("leader: {}", no_leader(&info))],
                Ok(Some(info)) => info.silent_voters().iter().map(SilentVoter::what).collect(),
                Ok(None) => Vec::new(),
                Err(error) => vec![error.message],
            };
            keyspace.notes.extend(notes);
        });
        stream::iter(asked).buffer_unordered(ASKED_AT_ONCE).collect::<()>().await;
    }

    /// Adds silent voters of keyspaces that other nodes lead, as far as these say so in time.
    pub(super) async fn add_silent_voters(&self, status: &mut Status) {
        let is_known = |name: &&String| !status.leaderless.iter().any(|it| it.keyspace == **name);
        let votes = status.votes.iter().filter(|_| !status.withdrawn).filter(is_known);
        let asked = votes.map(async |name| self.client.strong_info(name).await);
        let answers = stream::iter(asked).buffer_unordered(ASKED_AT_ONCE);
        let found =
            answers.take_until(tokio::time::sleep(STATUS_WAIT)).filter_map(async |answer| answer.ok()?);
        let found: Vec<StrongInfo> =
            found.filter(|info| std::future::ready(info.leader.is_some())).collect().await;
        let silent = found.iter().flat_map(StrongInfo::silent_voters);
        let is_news = |voter: &SilentVoter| {
            !status.silent_voters.iter().any(|it| (&it.keyspace, &it.name) == (&voter.keyspace, &voter.name))
        };
        let news: Vec<SilentVoter> = silent.filter(is_news).collect();
        status.silent_voters.extend(news);
    }

    /// The status of a new keyspace once it has a leader, or after a while.
    async fn first_leader(&self, mut info: StrongInfo) -> std::result::Result<StrongInfo, Failure> {
        for _ in 0..LOOKS_MAX {
            if info.leader.is_some() {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            info = self.info(&info.name).await?;
        }
        Ok(info)
    }

    async fn info(&self, name: &str) -> std::result::Result<StrongInfo, Failure> {
        let info = self.client.strong_info(name);
        tokio::pin!(info);
        let info = if let Ok(info) = timeout(UNKNOWN_AFTER, &mut info).await {
            info?
        } else {
            let known = self.client.keyspaces().await?.keyspaces;
            if !known.iter().any(|it| it.name == name) {
                print::waiting(format!(
                    "the node asked knows no keyspace {name:?}; it waits for two seconds, because one that was created a \
                     moment ago may become known"
                ));
            }
            info.await?
        };
        info.ok_or_else(|| Failure::no_keyspace(name))
    }

    async fn compact(&self, name: &str, revision: Option<u64>) -> Result {
        let revision = match revision {
            Some(revision) => revision,
            None => self.info(name).await?.revision,
        };
        self.client.ask(name, &strong::Write::Compact { revision }.into()).await?;
        Ok(())
    }

    async fn voters(&self, command: VotersCommand) -> Result {
        let (VotersCommand::Add { name, .. }
        | VotersCommand::Remove { name, .. }
        | VotersCommand::Replace { name, .. }
        | VotersCommand::Cancel { name }) = &command;
        let info = self.info(name).await?;
        let mut nodes: Vec<String> = Vec::new();
        let is_called = |member: &StrongMember, node: &str| {
            member.name == node || (node.len() >= 4 && member.id.starts_with(node))
        };
        let gone = match &command {
            VotersCommand::Add { node, .. } => {
                nodes.push(node.clone());
                None
            }
            VotersCommand::Remove { node, .. } => Some(node),
            VotersCommand::Cancel { .. } => None,
            VotersCommand::Replace { node, by, .. } => {
                nodes.push(by.clone());
                Some(node)
            }
        };
        let voters = || info.members.iter().filter(|member| member.role == "voter");
        if let Some(node) = nodes.first()
            && let Some(voter) = voters().find(|member| is_called(member, node))
        {
            let hint = format!("nothing was changed: `starling keyspace info {name}` shows its voters");
            return Err(Failure::held(format!("{} is a voter of {name} already", voter.name), hint));
        }
        if let Some(gone) = gone
            && voters().filter(|member| is_called(member, gone)).count() != 1
        {
            let called: Vec<_> = voters().map(|member| member.name.as_str()).collect();
            let hint = format!("its voters are {}", called.join(", "));
            return Err(Failure::usage(format!("{name} has no single voter with the name {gone}"), hint));
        }
        let stays = |member: &&StrongMember| gone.is_none_or(|gone| !is_called(member, gone));
        nodes.extend(voters().filter(stays).map(|member| member.id.clone()));
        let after = self.client.set_voters(name, &Voters { nodes }).await?;
        if matches!(command, VotersCommand::Cancel { .. }) && voters().count() == info.members.len() {
            let hint = format!("`starling keyspace info {name}` shows its members");
            return Err(Failure::nothing(format!("no node is being made a voter of {name}"), hint));
        }
        let count = after.voters();
        if count.is_multiple_of(2) {
            print::note(format!(
                "{count} voters tolerate the loss of {}, no more than {} would: an odd number is better",
                count.saturating_sub(1) / 2,
                count.saturating_sub(1)
            ));
        }
        self.show_info(&after)
    }

    fn show_replicas(&self, found: &Replicas) -> Result {
        if self.output == Output::Json {
            return print::json(found);
        }
        let number = |n: Option<u64>| n.map_or_else(|| "-".into(), |n| n.to_string());
        let row = |it: &ReplicaInfo| {
            let state = match (&it.closed, &it.impaired) {
                (Some(reason), _) => reason.clone(),
                (None, Some(reason)) => format!("works, and {reason}"),
                (None, None) => "works".into(),
            };
            let missing = match it {
                it if it.longest => "nothing".into(),
                it if it.may_have_more => "see below".into(),
                it => it.missing.map_or_else(|| "-".into(), |entries| format!("up to {entries}")),
            };
            let name = if it.here { format!("{} (asked)", it.name) } else { it.name.clone() };
            let heard = it.heard_ms.map_or_else(|| "-".into(), |ms| format!("{} ago", duration(ms)));
            let (term, written) = (number(it.log_term), number(it.log_index));
            let (committed, applied) = (number(it.commit_index), number(it.applied_index));
            [name, term, written, committed, applied, missing, heard, state]
        };
        let header = ["NODE", "TERM", "WRITTEN", "COMMITTED", "APPLIED", "LACKS", "HEARD", "STATE"];
        print::table(header, found.replicas.iter().map(row))?;
        if !found.silent.is_empty() {
            print::line(format!("no answer from {}", found.silent.join(", ")))?;
        }
        let longest: Vec<_> = found.replicas.iter().filter(|it| it.longest).map(|it| &*it.name).collect();
        let longest = if longest.is_empty() { "none can be read".into() } else { longest.join(", ") };
        print::line(format!("longest log: {longest}"))?;
        let more: Vec<_> = found.replicas.iter().filter(|it| it.may_have_more).map(|it| &*it.name).collect();
        if !more.is_empty() {
            print::line(format!(
                "may have entries that the recovery of another replica lost: {}. To go on with them instead, stop the \
                 present voters and run `recover` there; `discard` there deletes them",
                more.join(", ")
            ))?;
        }
        Ok(())
    }

    fn show_info(&self, info: &StrongInfo) -> Result {
        if self.output == Output::Json {
            return print::json(info);
        }
        let unknown = || String::from("-");
        let since = |ms: Option<u64>| ms.map_or_else(unknown, |ms| format!("{} ago", duration(ms)));
        let leads = info.leader.as_ref() == Some(&info.answered_by);
        let heard = if leads { "most heard" } else { "leader heard" };
        let log = format!(
            "{} written, {} committed, {} applied on {}",
            info.log_index, info.commit_index, info.applied_index, info.answered_by
        );
        let pairs = [
            ("name", info.name.clone()),
            ("group", info.group.clone()),
            ("leader", info.leader.clone().unwrap_or_else(|| format!("- ({})", no_leader(info)))),
            (heard, since(info.heard_ms)),
            ("term", info.term.to_string()),
            ("revision", info.revision.to_string()),
            ("log", log),
            ("log size", format!("{} entries, {}", info.log_entries, size(info.log_bytes))),
            ("size", size(info.bytes)),
            ("lost voters", if info.manual { "replaced by hand" } else { "replaced automatically" }.into()),
        ];
        print::pairs(pairs.into_iter().chain(info.notes.iter().map(|note| ("note", note.clone()))))?;
        let row = |member: &StrongMember| {
            let leads = info.leader.as_ref() == Some(&member.name);
            let role = if leads { "leader" } else { member.role.as_str() };
            let address = member.addresses.first().cloned().unwrap_or_default();
            let behind = member.behind.map_or_else(unknown, |behind| behind.to_string());
            let behind = if member.restoring { format!("{behind}, being sent a snapshot") } else { behind };
            let id = member.id.chars().take(8).collect();
            let silent = member.silent_ms.map_or_else(unknown, duration);
            [id, member.name.clone(), role.to_owned(), behind, silent, address]
        };
        let header = ["ID", "NAME", "ROLE", "BEHIND", "SILENT", "ADDRESS"];
        print::table(header, info.members.iter().map(row))?;
        let learners = info.members.iter().filter(|member| member.role == "learner");
        let learners: Vec<_> = learners.map(|member| &*member.name).collect();
        if !learners.is_empty() {
            print::note(format!(
                "{} has no vote: it is being made a voter, or is left of a change that failed; \
                 `starling keyspace voters cancel {}` removes it",
                learners.join(", "),
                info.name
            ));
        }
        Ok(())
    }
}

/// What stands for the leader of a keyspace that has none.
fn no_leader(info: &StrongInfo) -> String {
    let Some(Leaderless { voters, silent, .. }) = info.leaderless() else { return "not known here".into() };
    let since = match info.heard_ms {
        Some(ms) if ms < REPORTED_MS => return "an election is under way".into(),
        Some(ms) => format!("for {}", duration(ms)),
        None => format!("since {} started", info.answered_by),
    };
    let answers = strong::answering(voters, &silent);
    format!(
        "none {since}: {answers}; start the others, or see `starling doctor` and `starling keyspace recover --help`"
    )
}

/// Asks for confirmation at a terminal; elsewhere `--yes` is needed.
pub(super) fn confirm(warning: &str, name: &str, yes: bool) -> Result {
    if yes {
        return Ok(());
    }
    if !stdin().is_terminal() {
        return Err(Failure::usage(warning, "add --yes to confirm"));
    }
    write!(stderr(), "{warning}\nType its name to continue: ")?;
    let mut typed = String::new();
    stdin().read_line(&mut typed)?;
    if typed.trim() == name { Ok(()) } else { Err(Failure::failed("cancelled: nothing was changed", "")) }
}
