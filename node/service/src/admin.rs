//! The node itself: its status, its peers, its network, and the strong keyspaces as wholes.

use std::collections::BTreeSet;

use data_encoding::HEXLOWER;
use futures::future::join_all;
use starling_access::Operation;
use starling_api::admin::{ImpairedReplica, NO_PEER_HINT, Nodes, Peers, Status, no_peer};
use starling_api::strong::{CreateKeyspace, ReplicaInfo, Replicas, StrongInfo, StrongMember};
use starling_api::trust::{Statements, TicketSpec, Trust};
use starling_api::{EVENTUAL_PREFIX, Error, ErrorCode, KeyspaceInfo, Keyspaces};
use starling_core::strong::{Surveyed, SurveyedReplica, former_name};
use starling_p2p::verify_signed;
use starling_proto::trust::{Signed, Statement};
use starling_strong::api::{Failure, Member, Status as GroupStatus};
use starling_strong::group::GroupId;

use crate::doctor::{STORAGE_HINT, count_keys, failures};
use crate::error::{failure_error, manage_error, stopping, store_error};
use crate::handle::{Handle, reserved};
use crate::report::hex;
use crate::strong::{Held, Manage};

/// The node itself: [`Handle::admin`]. Cheap to clone.
#[derive(Clone)]
pub struct Admin(pub(crate) Handle);

impl Admin {
    /// The node's status.
    pub async fn status(&self) -> Result<Status, Error> {
        self.0.parts.gossip.status().await.ok_or_else(stopping)
    }

    /// The peers that the node knows.
    pub async fn peers(&self) -> Result<Peers, Error> {
        self.0.parts.gossip.peers().await.ok_or_else(stopping)
    }

    /// The whole overlay, by asking every node. Takes seconds where nodes do not answer.
    pub async fn nodes(&self) -> Result<Nodes, Error> {
        self.0.parts.gossip.crawl().await.ok_or_else(stopping)
    }

    /// A join ticket: any node that has it can join the network, within its limits if the network has an authority.
    ///
    /// # Errors
    /// This node is no issuer, and certificates are required or limits were asked for; or limits were asked for in a network
    /// without an authority.
    pub async fn ticket(&self, spec: TicketSpec) -> Result<String, Error> {
        let ticket = async { self.0.parts.gossip.ticket(spec).await.ok_or_else(stopping)? };
        self.administer("ticket", "", ticket).await
    }

    /// The authority of the network and its statements, as far as the node has them.
    pub async fn trust(&self) -> Result<Trust, Error> {
        self.0.parts.gossip.trust().await.ok_or_else(stopping)
    }

    /// Learns statements of the network's authority, and passes them on to the other nodes. The first ones make the network
    /// follow the authority.
    ///
    /// # Errors
    /// A statement is none, is not signed by the key that it names, or is of another authority; or there is no room for it.
    /// Nothing was changed.
    pub async fn add_statements(&self, statements: &Statements) -> Result<Trust, Error> {
        self.administer("statements of the authority", "", self.pass_on_statements(statements)).await
    }

    async fn pass_on_statements(&self, statements: &Statements) -> Result<Trust, Error> {
        let invalid =
            |message: &str| Error::new(ErrorCode::Invalid, message, "`starling authority` makes statements");
        let read = |hex: &String| -> Option<Statement> {
            let statement = Statement::decoded(&HEXLOWER.decode(hex.as_bytes()).ok()?)?;
            verify_signed(&statement).then_some(statement)
        };
        let read: Option<Vec<Statement>> = statements.statements.iter().map(read).collect();
        let read = read.ok_or_else(|| {
            invalid("a statement cannot be read, or is not signed by the key that it names")
        })?;
        if read.is_empty() {
            return Err(invalid("there is no statement"));
        }
        self.0.parts.gossip.add_statements(read).await.ok_or_else(stopping)?
    }

    /// The statements of the network's authority that the node has.
    pub async fn statements(&self) -> Result<Statements, Error> {
        self.0.parts.gossip.statements().await.ok_or_else(stopping)
    }

    /// Has the node leave the network and stop. Returns before it has stopped. Where the node is a voter of a strong
    /// keyspace, another node takes its place first, within a minute; with `force` its votes stay, and the keyspaces have
    /// to do without it.
    ///
    /// # Errors
    /// No other node can take its place in a keyspace, or has not done so in time; it is an issuer, and no other one answers;
    /// or, with `force`, the node is the only voter of a keyspace, which would end. The node goes on.
    pub async fn leave(&self, force: bool) -> Result<(), Error> {
        let target = if force { "with its votes" } else { "" };
        self.administer("leave", target, self.depart(force)).await
    }

    async fn depart(&self, force: bool) -> Result<(), Error> {
        if force {
            let is_alone = |it: &Held| {
                let mut voters = it.status.members.iter().filter(|member| !member.learner);
                voters.next().is_some_and(|voter| voter.id == it.status.member) && voters.next().is_none()
            };
            let (groups, status) = (self.groups().await?, self.status().await?);
            // In place of one that has withdrawn another process votes.
            let alone = groups.iter().filter(|it| is_alone(it) && !status.withdrawn);
            let alone: Vec<&str> = alone.map(|it| it.keyspace.as_str()).collect();
            if !alone.is_empty() {
                return Err(only_voter(&alone, &status.name));
            }
        } else {
            self.require_other_issuer().await?;
            let votes = self.status().await?.votes;
            let moved = votes.iter().map(async |name| (name, self.order(name, Manage::Vacate).await));
            let kept =
                join_all(moved).await.into_iter().filter_map(|(name, moved)| Some((name, moved.err()?)));
            let kept: Vec<_> = kept.collect();
            if !kept.is_empty() {
                return Err(votes_here(&kept, &self.status().await?.name));
            }
        }
        self.0.parts.gossip.leave().await.ok_or_else(stopping)
    }

    /// Fails if this node is the only issuer that answers in a network that requires certificates, and other nodes need one.
    async fn require_other_issuer(&self) -> Result<(), Error> {
        let trust = self.trust().await?;
        if !trust.is_issuer || !trust.required {
            return Ok(());
        }
        let (found, me) = (self.nodes().await?, self.status().await?);
        let others = || found.nodes.iter().filter(|node| node.id != me.id);
        let is_known = |id: &String| !trust.revoked.contains(id);
        let is_alone = others().next().is_none()
            && !found.unreachable.iter().any(|node| !node.left && is_known(&node.id));
        if is_alone || others().any(|node| trust.has_issuer(&node.id)) {
            return Ok(());
        }
        let message = "no other issuer answers: until one does, no certificate is renewed and no node joins";
        let hint = "start one, make another node one with  starling issuer add,  or leave with --force; to come back soon, end \
                    the process (SIGTERM) instead";
        Err(Error::new(ErrorCode::Conflict, message, hint))
    }

    /// Succeeds if the store works, and the node knows a live peer or was configured without peers to join.
    pub async fn ready(&self) -> Result<(), Error> {
        let status = self.status().await?;
        let failures: Vec<String> = failures(&status).collect();
        if !failures.is_empty() {
            return Err(Error::new(ErrorCode::NotReady, failures.join("; "), STORAGE_HINT));
        }
        if status.joined {
            return Ok(());
        }
        Err(Error::new(ErrorCode::NotReady, no_peer(&status.failed_contacts), NO_PEER_HINT))
    }

    /// The replicas of strong keyspaces on this node, for metrics.
    pub async fn groups(&self) -> Result<Vec<Held>, Error> {
        self.0.parts.gossip.groups().await.ok_or_else(stopping)
    }

    /// The strong keyspaces that this node knows, and the eventual ones that hold a key.
    pub async fn keyspaces(&self) -> Result<Keyspaces, Error> {
        let eventual = self.0.reader()?.keyspaces().map_err(store_error)?;
        let eventual: BTreeSet<String> = eventual.into_iter().filter(|name| !name.starts_with('.')).collect();
        let strong = self.0.parts.names.all();
        let Status { closed_replicas: closed, kept_replicas: kept, impaired_replicas: impaired, .. } =
            self.status().await?;
        let with_replica = closed.iter().map(|replica| &replica.keyspace);
        let with_replica = with_replica.chain(kept.iter().map(|replica| &replica.keyspace)).cloned();
        let all = eventual.iter().chain(strong.keys()).cloned().chain(with_replica);
        let all: BTreeSet<String> = all.filter(|name| self.0.caller().knows(name)).collect();
        let info = |name: String| {
            let kind = match (eventual.contains(&name), strong.contains_key(&name)) {
                (true, true) => "both",
                (true, false) => "eventual",
                (false, _) => "strong",
            };
            let closed = closed.iter().filter(|replica| replica.keyspace == name);
            let closed = closed.map(|replica| format!("its replica here is closed: {}", replica.reason));
            let kept = kept.iter().filter(|replica| replica.keyspace == name).map(|replica| {
                if replica.may_have_more {
                    format!(
                        "a removed replica is kept here that may have writes which {name} lacks: `starling keyspace \
                         replicas {name}` compares them"
                    )
                } else {
                    format!("a removed replica is kept here: `starling keyspace discard {name}` deletes it")
                }
            });
            let notes = strong.get(&name).and_then(|groups| name_note(&name, groups));
            let hidden = (kind == "both").then(|| format!("{EVENTUAL_PREFIX}{name} names the eventual keys"));
            let impaired = notes_on(&name, &impaired);
            let notes = notes.into_iter().chain(hidden).chain(closed).chain(impaired).chain(kept);
            KeyspaceInfo { kind: kind.into(), notes: notes.collect(), name }
        };
        Ok(Keyspaces { keyspaces: all.into_iter().map(info).collect() })
    }

    /// Creates a strong keyspace. Its first leader may not have been elected when this returns; requests
    /// wait for it.
    pub async fn create_keyspace(&self, create: CreateKeyspace) -> Result<StrongInfo, Error> {
        let CreateKeyspace { name, voters, on, manual } = create;
        self.0.caller().check_manager(&name)?;
        if name.starts_with('.') {
            return Err(reserved());
        }
        if self.0.reader()?.keyspaces().map_err(store_error)?.contains(&name) {
            let keys = count_keys(&self.0.reader()?, &name).map_err(store_error)?;
            let message = format!("{name} is an eventual keyspace that holds {keys}");
            let hint = format!(
                "choose another name; or save them with `starling export -k {name} > FILE`, and delete them with \
                 `starling del -k {name} --prefix ''`"
            );
            return Err(Error::new(ErrorCode::OtherKeyspace, message, hint));
        }
        self.manage(&name, Manage::Create { voters, on, manual }).await?;
        self.keyspace_info(&name).await
    }

    /// The status of a strong keyspace, as its leader sees it if that one answers.
    pub async fn keyspace_info(&self, keyspace: &str) -> Result<StrongInfo, Error> {
        self.check_known(keyspace)?;
        if self.alone_without(keyspace).await? {
            return Err(failure_error(&Failure::NoSuchKeyspace(keyspace.into())));
        }
        let status = self.0.strong(keyspace)?.status(true).await?;
        let here = self.status().await?;
        let notes = notes_on(keyspace, &here.impaired_replicas).collect();
        let mut info = describe(keyspace.into(), &status);
        let trust = self.trust().await?;
        info.members.iter_mut().for_each(|member| member.revoked = trust.revoked.contains(&member.id));
        Ok(StrongInfo { notes, withdrawn: here.withdrawn && info.answered_by == here.name, ..info })
    }

    /// Fails on a seed, and for a keyspace of which the caller may not know.
    fn check_known(&self, keyspace: &str) -> Result<(), Error> {
        self.0.reader()?;
        let is_known = self.0.caller().knows(keyspace);
        if is_known { Ok(()) } else { Err(failure_error(&Failure::NoSuchKeyspace(keyspace.into()))) }
    }

    /// Whether a keyspace is unknown here, and there is no other node that may know it.
    async fn alone_without(&self, keyspace: &str) -> Result<bool, Error> {
        if self.0.knows_strong(keyspace) || self.groups().await?.iter().any(|it| it.keyspace == keyspace) {
            return Ok(false);
        }
        let Status { joined, active, passive, closed_replicas: closed, .. } = self.status().await?;
        Ok(joined && active == 0 && passive == 0 && !closed.iter().any(|it| it.keyspace == keyspace))
    }

    /// Removes a strong keyspace with all it holds.
    pub async fn drop_keyspace(&self, keyspace: &str) -> Result<(), Error> {
        self.manage(keyspace, Manage::Drop).await
    }

    /// Makes these nodes the voters of a strong keyspace, one change after the other; it stays available.
    /// Nodes are given by name or by the first digits of their id.
    pub async fn set_voters(&self, keyspace: &str, nodes: Vec<String>) -> Result<StrongInfo, Error> {
        self.manage(keyspace, Manage::Voters(nodes)).await?;
        self.keyspace_info(keyspace).await
    }

    /// Transfers the leadership of a strong keyspace to a node, given like a voter.
    pub async fn transfer_leader(&self, keyspace: &str, node: String) -> Result<StrongInfo, Error> {
        self.manage(keyspace, Manage::Transfer(node)).await?;
        self.keyspace_info(keyspace).await
    }

    /// Unsafe recovery after a loss of quorum: this node's replica becomes the only member. What the other
    /// members had acknowledged and this one does not have is lost. Fails if a replica within reach has more than
    /// `accept_loss` entries that this one lacks.
    pub async fn recover_keyspace(&self, keyspace: &str, accept_loss: u64) -> Result<(), Error> {
        self.manage(keyspace, Manage::Recover { accept_loss }).await
    }

    /// The replicas of a strong keyspace on all nodes that can be reached. Takes seconds where nodes do not answer.
    pub async fn replicas(&self, keyspace: &str) -> Result<Replicas, Error> {
        self.check_known(keyspace)?;
        let surveyed = self.0.parts.gossip.survey(keyspace.to_owned()).await.ok_or_else(stopping)?;
        let surveyed = surveyed.map_err(|error| manage_error(&error.into(), keyspace))?;
        Ok(describe_replicas(&surveyed, &self.0.parts.node.0))
    }

    /// Removes the replicas of a strong keyspace that this node keeps although they were removed from it.
    pub async fn discard_replicas(&self, keyspace: &str) -> Result<(), Error> {
        self.manage(keyspace, Manage::Discard).await
    }

    /// Carries out an operator's change of a keyspace, and records it.
    async fn manage(&self, keyspace: &str, what: Manage) -> Result<(), Error> {
        let (action, operation) = (what.name(), Operation::Manage { keyspace });
        self.0.caller().audited(&operation, action, keyspace, self.order(keyspace, what)).await
    }

    async fn order(&self, keyspace: &str, what: Manage) -> Result<(), Error> {
        self.0.reader()?;
        let managed = self.0.parts.gossip.manage(keyspace.to_owned(), what).await.ok_or_else(stopping)?;
        managed.map_err(|failure| manage_error(&failure, keyspace))
    }
}

/// What an operator has to know about this node's replica of a keyspace.
fn notes_on<'a>(keyspace: &'a str, impaired: &'a [ImpairedReplica]) -> impl Iterator<Item = String> + 'a {
    let of_it = impaired.iter().filter(move |replica| replica.keyspace == keyspace);
    of_it.map(|replica| format!("its replica here {}", replica.reason))
}

/// The node does not leave, because it votes for these keyspaces.
fn votes_here(kept: &[(&String, Error)], node: &str) -> Error {
    let reasons: Vec<String> =
        kept.iter().map(|(name, error)| format!("{name} ({})", error.message)).collect();
    let first = kept.first().map_or("NAME", |(name, _)| name.as_str());
    let hint = format!(
        "start another node, or do what the reason says where one declines, and try again; `starling keyspace voters replace \
         {first} {node} OTHER` or `voters remove` takes a vote away; `starling leave --force` leaves with them; to come back \
         soon, end the process (SIGTERM) instead"
    );
    Error::new(ErrorCode::Conflict, format!("this node votes for {}", reasons.join(", ")), hint)
}

/// The node does not leave, because these keyspaces would end.
fn only_voter(keyspaces: &[&str], node: &str) -> Error {
    let first = keyspaces.first().copied().unwrap_or("NAME");
    let hint = format!(
        "`starling keyspace voters replace {first} {node} OTHER` moves it to another node, and `starling keyspace drop {first}` \
         deletes it with all its data; to come back, end the process (SIGTERM) instead"
    );
    let message = format!("this node is the only voter of {}, which would end", keyspaces.join(", "));
    Error::new(ErrorCode::Conflict, message, hint)
}

/// What an operator has to know about a name under which these groups are published.
fn name_note(name: &str, groups: &[GroupId]) -> Option<String> {
    match groups {
        [] => None,
        [group] => former_name(name, group)
            .map(|former| format!("was created as {former}, apart from the keyspace that has this name")),
        _ => Some("was created more than once, by nodes that did not reach each other".into()),
    }
}

fn describe_replicas(surveyed: &Surveyed, here: &[u8; 32]) -> Replicas {
    let longest = surveyed.longest().unwrap_or_default();
    let info = |SurveyedReplica { node, name, state, may_have_more }: &SurveyedReplica| ReplicaInfo {
        id: hex(node),
        name: name.clone(),
        here: node == here,
        member: state.member,
        log_term: state.end.map(|end| end.term),
        log_index: state.end.map(|end| end.index),
        commit_index: state.end.map(|end| end.committed),
        applied_index: state.end.map(|end| end.applied),
        heard_ms: state.heard_ms,
        missing: state.end.filter(|_| !may_have_more).map(|end| end.missing_of(&longest)),
        longest: state.end.is_some_and(|end| !longest.is_longer_than(&end)),
        may_have_more: *may_have_more,
        closed: state.closed.clone(),
        impaired: state.impaired.clone(),
    };
    Replicas { replicas: surveyed.replicas.iter().map(info).collect(), silent: surveyed.silent.clone() }
}

fn describe(name: String, status: &GroupStatus) -> StrongInfo {
    let called = |id: u64| status.members.iter().find(|member| member.id == id).map(|it| it.name.clone());
    let member = |member: &Member| StrongMember {
        id: hex(&member.node),
        name: member.name.clone(),
        role: if member.learner { "learner" } else { "voter" }.into(),
        addresses: member.peer_urls.clone(),
        behind: member.behind,
        restoring: member.restoring,
        silent_ms: member.silent_ms,
        revoked: false,
    };
    StrongInfo {
        name,
        group: hex(&status.group),
        answered_by: called(status.member).unwrap_or_default(),
        leader: status.leader.and_then(called),
        term: status.term,
        members: status.members.iter().map(member).collect(),
        revision: status.revision,
        log_index: status.log_index,
        applied_index: status.applied_index,
        commit_index: status.commit_index,
        log_entries: status.log_entries,
        log_bytes: status.log_bytes,
        bytes: status.bytes,
        heard_ms: status.heard_ms,
        manual: status.manual,
        withdrawn: false,
        notes: Vec::new(),
    }
}
