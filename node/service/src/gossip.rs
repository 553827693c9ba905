//! The gossip thread: one task that owns the driver and the core, and carries between them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::call::Call;
use futures::FutureExt;
use starling_api::admin::{
    self, ClosedReplica, DoubledPeer, ImpairedReplica, KeptReplica, Nodes, Peers, Status,
};
use starling_bootstrap::TicketAuthority;
use starling_core::strong::{Aside, Strong};
use starling_core::{Core, Input, Notice, Output, Token};
use starling_kv::Reader;
use starling_p2p::{Driver, Event, Issuer, Shown};
use starling_proto::message::SyncMessage;
use starling_proto::record::ADDRESSES_MAX;
use starling_proto::trust::{Invitation, Trust};
use starling_proto::{Class, Message, NodeRecord, Role};
use starling_rocks::RocksEngine;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::clock::Clock;
use super::command::{ChangeSet, Command, Written};
use super::contacts::{Contacts, Search};
use super::disk::{Acknowledgement, Disk};
use super::error::write_failure;
use super::notices::log;
use super::report;
use super::strong::{Names, Requests};

/// Commands handled before the network has its turn again, and so batches in a group commit, at most.
const COMMANDS_AT_ONCE_MAX: usize = 512;
/// A group is committed when its keys and values reach this, bytes: bounds how long peers wait.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// Calls of strong keyspaces, and messages about them, that are handled together, at most.
const CALLS_AT_ONCE_MAX: usize = 512;
/// How long a leaving node waits until its last messages are sent. A guess: more than a round trip.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes a join ticket that names the addresses of a record.
type TicketMaker = dyn Fn(&NodeRecord, Option<TicketAuthority>) -> String + Send;

/// What does not change while the node runs.
pub struct Facts {
    /// The network's id in hexadecimal.
    pub network: String,
    /// Level of durability by name.
    pub durability: &'static str,
    /// Addresses for peers instead of the listening ones, if not empty.
    pub external: Vec<String>,
    /// Makes a join ticket that names these addresses.
    pub ticket: Box<TicketMaker>,
    /// Gives certificates, if this node is an issuer.
    pub issuer: Arc<Issuer>,
    /// Whether the node was configured with, or remembers, a way to other nodes.
    pub has_contacts: bool,
}

/// The loop and all it owns.
pub struct GossipLoop {
    /// Both clocks.
    pub clock: Clock,
    /// The node.
    pub core: Core<RocksEngine>,
    /// The network.
    pub driver: Driver,
    /// This node's own record, as last signed.
    pub record: NodeRecord,
    /// From the other threads.
    pub commands: mpsc::Receiver<Command>,
    /// Calls of strong keyspaces.
    pub calls: mpsc::Receiver<Call>,
    /// To the disk thread.
    pub disk: Disk,
    /// The number of the last successful sync for strong keyspaces.
    pub synced: watch::Receiver<u64>,
    /// Names of strong keyspaces, and where they are looked up; no reader on a seed.
    pub names: Names,
    /// The store's snapshots.
    pub reader: Option<Reader<RocksEngine>>,
    /// Pending requests to strong keyspaces.
    pub strong: Requests,
    /// To the watches.
    pub changes: broadcast::Sender<Arc<ChangeSet>>,
    /// The search for peers.
    pub contacts: Contacts,
    /// What it has tried since the node last had a neighbour.
    pub search: Search,
    /// The invitation of the last ticket.
    pub invitation: Option<Invitation>,
    /// The authority's statements, for the handles.
    pub trust: watch::Sender<Arc<Trust>>,
    /// What does not change while the node runs.
    pub facts: Facts,
    /// Pending requests to the core, by token.
    pub asked: Asked,
}

/// Requests that the core has not answered yet.
#[derive(Default)]
pub struct Asked {
    next: Token,
    writes: BTreeMap<Token, oneshot::Sender<Written>>,
    crawls: BTreeMap<Token, oneshot::Sender<Nodes>>,
}

impl Asked {
    fn token(&mut self) -> Token {
        self.next += 1;
        self.next
    }
}

impl GossipLoop {
    /// Runs until `stop` completes or a command makes the node leave; then leaves the network.
    pub async fn run(&mut self, stop: impl Future<Output = ()>) {
        let alarm = sleep(Duration::ZERO);
        tokio::pin!(stop, alarm);
        self.carry_out();
        let mut calls = Vec::new();
        loop {
            let due = self.core.poll_timeout().map(|at| self.clock.instant(at));
            // Setting an alarm earlier takes a system call. Busy groups postpone theirs again and again: an alarm
            // that is too early is set again when it fires.
            if let Some(due) = due
                && (due < alarm.deadline() || alarm.is_elapsed())
            {
                alarm.as_mut().reset(due);
            }
            tokio::select! {
                event = self.driver.next_event() => self.on_event(event),
                Ok(()) = self.synced.changed() => {
                    let number = *self.synced.borrow_and_update();
                    self.feed(Input::Synced(number));
                }
                count = self.calls.recv_many(&mut calls, CALLS_AT_ONCE_MAX), if !self.calls.is_closed() => {
                    debug_assert!(count == calls.len(), "nothing is left of the time before");
                    self.on_calls(&mut calls);
                }
                Some(command) = self.commands.recv() => if !self.on_commands(command) { break },
                () = &mut alarm, if due.is_some() => self.feed(Input::Timeout),
                () = &mut stop => break,
            }
        }
        self.leave().await;
    }

    pub(super) fn feed(&mut self, input: Input) {
        self.core.handle(self.clock.now(), input);
        self.carry_out();
    }

    /// Handles an event, and with a message about strong keyspaces also those that wait behind it.
    fn on_event(&mut self, event: Event) {
        let mut inputs = Vec::new();
        let mut next = Some(event);
        while let Some(event) = next {
            match event {
                Event::Message { peer, message: message @ Message::Strong(_) } => {
                    inputs.push(Input::Message { peer, message });
                }
                other => {
                    self.feed_together(inputs);
                    return self.on_other_event(other);
                }
            }
            let enough = inputs.len() >= CALLS_AT_ONCE_MAX;
            next = if enough { None } else { self.driver.next_event().now_or_never() };
        }
        self.feed_together(inputs);
    }

    fn on_calls(&mut self, calls: &mut Vec<Call>) {
        if self.core.strong().is_none() {
            // On a seed the caller learns that there are no keyspaces from the dropped reply.
            calls.clear();
            return;
        }
        let begin = |call| self.strong.begin(&self.core, call).map(Input::Strong);
        let inputs = calls.drain(..).filter_map(begin).collect();
        self.feed_together(inputs);
    }

    fn feed_together(&mut self, mut inputs: Vec<Input>) {
        match inputs.len() {
            0 => {}
            1 => inputs.drain(..).for_each(|input| self.feed(input)),
            _ => self.feed(Input::Batch(inputs)),
        }
    }

    fn on_other_event(&mut self, event: Event) {
        match event {
            Event::Connected { peer, record, from, dialed, shown, .. } => {
                self.search.answered(&peer, dialed.as_deref());
                let Shown { authority, statements, certificate, .. } = *shown;
                // The peer may be one that its own statements exclude.
                if let Some(authority) = authority {
                    self.feed(Input::Statements { from: Some(peer), authority, statements });
                }
                self.feed(Input::Connected { peer, record, from, dialed, certificate });
            }
            Event::Certified(certificate) => self.feed(Input::Certified(certificate)),
            Event::Disconnected { peer, reason } => {
                tracing::debug!(?peer, reason, "disconnected");
                self.feed(Input::Disconnected { peer });
            }
            Event::Unreachable { peer, address, reason } => {
                tracing::debug!(?peer, ?address, reason, "unreachable");
                self.search.failed(peer.as_ref(), address.as_deref(), reason);
                self.feed(Input::Unreachable { peer, address });
            }
            Event::Message { peer, message } => {
                let writes = may_write(&message);
                self.feed(Input::Message { peer, message });
                if writes {
                    self.disk.wrote();
                }
            }
            Event::Shed { peer, class } => self.feed(Input::Shed { peer, class }),
            Event::Progress { peer } => self.feed(Input::Progress { peer }),
            Event::NewListenAddress(_) => self.on_new_address(),
        }
    }

    fn on_new_address(&mut self) {
        let addresses = public_addresses(&self.facts.external, self.driver.listen_addresses());
        if addresses == self.record.addresses {
            return;
        }
        self.record.addresses = addresses;
        self.record.revision += 1;
        self.driver.sign(&mut self.record);
        self.driver.set_record(self.record.clone());
        self.feed(Input::RecordChanged(self.record.clone()));
    }

    /// Handles a command and those that wait behind it, the writes among them as one group. Returns `false` to leave.
    fn on_commands(&mut self, command: Command) -> bool {
        let mut group = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        let mut next = Some(command);
        while let Some(command) = next {
            match command {
                Command::Write(batch, reply) => {
                    let token = self.asked.token();
                    bytes += batch.payload_bytes();
                    self.asked.writes.insert(token, reply);
                    group.push((token, batch));
                }
                Command::Leave => return false,
                question => self.answer(question),
            }
            count += 1;
            let enough = count >= COMMANDS_AT_ONCE_MAX || bytes >= GROUP_BYTES_MAX;
            next = if enough { None } else { self.commands.try_recv().ok() };
        }
        if !group.is_empty() {
            self.feed(Input::Write(group));
        }
        true
    }

    /// Answers a question about the node; the answer is dropped if its receiver is gone.
    fn answer(&mut self, question: Command) {
        match question {
            Command::Status(reply) => drop(reply.send(self.status())),
            Command::Peers(reply) => drop(reply.send(self.peers())),
            Command::Ticket(spec, reply) => drop(reply.send(self.ticket(spec))),
            Command::SignToken(token, reply) => drop(reply.send(self.sign_token(token))),
            Command::Trust(reply) => drop(reply.send(self.trust())),
            Command::AddStatements(statements, reply) => drop(reply.send(self.add_statements(statements))),
            Command::Statements(reply) => drop(reply.send(self.statements())),
            Command::Crawl(reply) => {
                let token = self.asked.token();
                self.asked.crawls.insert(token, reply);
                self.feed(Input::Crawl(token));
            }
            Command::Contact(addresses) => self.contact(addresses),
            Command::Survey(keyspace, reply) => {
                let input = self.strong.survey(keyspace, reply);
                self.core.handle(self.clock.now(), Input::Strong(input));
            }
            Command::Manage(keyspace, what, reply) => {
                if let Some(input) = self.strong.manage(&self.core, keyspace, what, reply) {
                    self.feed(Input::Strong(input));
                }
            }
            Command::Groups(reply) => {
                let now = self.clock.now();
                drop(reply.send(self.strong.held(&mut self.core, now)));
            }
            Command::Write(..) | Command::Leave => unreachable!("taken by the caller"),
        }
    }

    /// Dials the addresses of a round of the search.
    fn contact(&mut self, addresses: Vec<String>) {
        if !self.is_joined() && self.search.begin_round(&addresses) {
            tracing::warn!("{}: {}", admin::no_peer(&self.search.report()), admin::NO_PEER_HINT);
        }
        self.feed(Input::Contact(addresses));
    }

    /// Whether this node has a neighbour, or needs none. A seed waits for others, once they admit it.
    fn is_joined(&self) -> bool {
        match self.record.role {
            Role::Seed => self.core.is_admitted(self.clock.now()),
            Role::Replica => !self.facts.has_contacts || self.core.active().next().is_some(),
        }
    }

    /// Carries out the core's outputs.
    fn carry_out(&mut self) {
        // Updates of watches may lead to further inputs, and those to further outputs.
        loop {
            let inputs = self.carry_out_once();
            if inputs.is_empty() {
                return;
            }
            self.core.handle(self.clock.now(), Input::Batch(inputs));
        }
    }

    /// Carries out the outputs once, and returns the inputs that follow from them.
    fn carry_out_once(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        let mut written: Vec<Acknowledgement> = Vec::new();
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Dial(record) => {
                    if !self.is_joined() {
                        self.search.dialed(&record);
                    }
                    self.driver.dial(&record);
                }
                Output::DialAddress(address) => self.driver.dial_address(&address),
                Output::Renew(issuer) => {
                    if !self.is_joined() {
                        self.search.dialed(&issuer);
                    }
                    self.driver.renew(&issuer);
                }
                Output::Trust(trust) => {
                    self.trust.send_replace(Arc::clone(&trust));
                    self.driver.set_trust(trust);
                    self.keep_credentials();
                }
                Output::Certified(certificate) => {
                    tracing::info!(issuer = ?certificate.issuer, "this node has a new certificate");
                    self.driver.set_certificate(certificate);
                    self.keep_credentials();
                }
                Output::Send { to, message } => self.driver.send(&to, &message),
                Output::Close { peer, reason } => self.driver.close(peer, reason),
                Output::Misbehaved { peer, what } => self.driver.misbehaved(peer, what),
                Output::Written { token, result } => {
                    let result = result.map_err(|failure| write_failure(&failure));
                    written.extend(self.asked.writes.remove(&token).map(|reply| (reply, result)));
                }
                Output::Changed(changes) => {
                    self.follow_names(&changes);
                    if self.changes.receiver_count() > 0 {
                        // There may be no receiver.
                        let _ = self.changes.send(Arc::new(changes));
                    }
                }
                Output::Remember(peers) => self.disk.remember(peers),
                Output::NeedContacts => self.contacts.look(),
                Output::Crawled { token, nodes, unreachable } => {
                    if let Some(reply) = self.asked.crawls.remove(&token) {
                        let (identity_conflict, doubled_peers) = self.doubles();
                        let has_left = |record: &NodeRecord| self.core.has_left(record);
                        let found = report::nodes(&nodes, &unreachable, has_left);
                        drop(reply.send(Nodes { identity_conflict, doubled_peers, ..found }));
                    }
                }
                Output::Notice(notice) => self.on_notice(&notice),
                Output::Sync(number) => self.disk.sync_strong(number),
                Output::Strong(output) => {
                    inputs.extend(self.strong.finish(output).map(Input::Strong));
                }
            }
        }
        if !written.is_empty() {
            self.disk.acknowledge(written);
        }
        inputs
    }

    fn follow_names(&self, changes: &[starling_kv::Change]) {
        let Some(reader) = &self.reader else { return };
        if let Err(error) = self.names.follow(reader, changes) {
            tracing::warn!(%error, "names of strong keyspaces cannot be read");
        }
    }

    fn on_notice(&mut self, notice: &Notice) {
        match notice {
            // Logged once, and not for every write that fails for the same reason.
            Notice::StorageFailed(reason) if !self.disk.failed(reason) => return,
            Notice::StorageFailed(_) => {}
            Notice::NeighborUp(_) => {
                self.contacts.succeeded();
                self.search = Search::default();
            }
            Notice::IdentityConflict { incarnation } => self.disk.note_start(*incarnation),
            notice => self.strong.note(notice),
        }
        log(notice);
    }

    fn kept_replicas(&self) -> Vec<KeptReplica> {
        let wall_ms = self.clock.now().wall_ms;
        let asides = self.core.strong().into_iter().flat_map(Strong::asides);
        let kept = |(aside, may_have_more): (&Aside, bool)| KeptReplica {
            keyspace: aside.keyspace.clone(),
            age_ms: wall_ms.saturating_sub(aside.since_ms),
            bytes: aside.bytes,
            may_have_more,
        };
        asides.map(kept).collect()
    }

    fn closed_replicas(&self) -> Vec<ClosedReplica> {
        let closed = self.core.strong().into_iter().flat_map(Strong::closed);
        closed.map(|(keyspace, reason)| ClosedReplica { keyspace: keyspace.into(), reason }).collect()
    }

    fn impaired_replicas(&self) -> Vec<ImpairedReplica> {
        let impaired = self.core.strong().into_iter().flat_map(Strong::impaired);
        impaired.map(|(keyspace, reason)| ImpairedReplica { keyspace: keyspace.into(), reason }).collect()
    }

    fn votes(&self) -> Vec<String> {
        let votes = self.core.strong().into_iter().flat_map(Strong::votes);
        votes.map(str::to_owned).collect()
    }

    /// That another process uses this node's identity, and the peers whose identity two processes use.
    fn doubles(&self) -> (Option<String>, Vec<DoubledPeer>) {
        report::doubles(&self.core.status(self.clock.now()))
    }

    fn banned_peers(&self) -> Vec<admin::BannedPeer> {
        self.driver.banned().iter().map(report::banned_peer).collect()
    }

    fn status(&self) -> Status {
        let now = self.clock.now();
        let (core, metrics, trust) = (self.core.status(now), self.driver.metrics(), self.core.trust());
        let strong = self.core.strong();
        let (identity_conflict, doubled_peers) = report::doubles(&core);
        let stats = self.core.store().map(starling_kv::Store::stats);
        Status {
            name: core.record.name.clone(),
            id: report::hex(&core.record.id.0),
            role: report::role(core.record.role),
            labels: report::labels(&core.record),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_ms: core.uptime_ms,
            network: self.facts.network.clone(),
            listen: self.driver.listen_addresses(),
            joined: self.is_joined(),
            failed_contacts: if self.is_joined() { Vec::new() } else { self.search.report() },
            root: core.root.as_ref().map(report::root),
            active: core.active as u64,
            passive: core.passive as u64,
            entries: self.core.entries(),
            durability: self.facts.durability.into(),
            storage_error: self.disk.failure(),
            closed_replicas: self.closed_replicas(),
            impaired_replicas: self.impaired_replicas(),
            kept_replicas: self.kept_replicas(),
            votes: self.votes(),
            leaderless: strong.map_or_else(Vec::new, |strong| strong.leaderless(now.mono.0, trust)),
            silent_voters: strong.map_or_else(Vec::new, |strong| strong.silent_voters(now.mono.0, trust)),
            identity_conflict,
            withdrawn: strong.is_some_and(Strong::has_withdrawn),
            doubled_peers,
            banned_peers: self.banned_peers(),
            traffic: report::traffic(&metrics.traffic),
            payload_new: core.counters.rumors_news,
            payload_old: core.counters.rumors_old,
            counters: report::counters(&core.counters, stats.as_ref(), &metrics),
        }
    }

    fn peers(&self) -> Peers {
        let fill = |(id, mut peer): (_, admin::Peer)| {
            if let Some(traffic) = self.driver.traffic(id) {
                let flows = Class::ALL
                    .map(|class| (traffic.received(class).bytes.get(), traffic.sent(class).bytes.get()));
                peer.bytes_in = flows.iter().map(|(received, _)| received).sum();
                peer.bytes_out = flows.iter().map(|(_, sent)| sent).sum();
            }
            peer
        };
        let peers = report::peers(&self.core, self.clock.now()).into_iter().map(fill).collect();
        let (identity_conflict, doubled_peers) = self.doubles();
        Peers { peers, identity_conflict, doubled_peers, banned_peers: self.banned_peers() }
    }

    /// Writes everything that remains to the disk.
    pub fn finish(mut self) {
        self.disk.stop();
        if let Some(Err(error)) = self.core.into_store().map(|mut store| store.checkpoint()) {
            tracing::warn!(%error, "no checkpoint was written: the next start rebuilds the fingerprints");
        }
    }

    /// Notifies the neighbours that this node leaves, and waits for a bounded time until the messages are sent.
    async fn leave(&mut self) {
        self.feed(Input::Leave);
        let now = self.clock.now();
        let mut connected: Vec<_> = self.core.peers(now).into_iter().map(|peer| peer.record.id).collect();
        for peer in &connected {
            self.driver.close(*peer, "leaving");
        }
        let goodbyes = async {
            while !connected.is_empty() {
                if let Event::Disconnected { peer, .. } = self.driver.next_event().await {
                    connected.retain(|id| *id != peer);
                }
            }
        };
        if timeout(LEAVE_TIMEOUT, goodbyes).await.is_err() {
            tracing::debug!("some neighbours did not take the goodbye in time");
        }
    }
}

/// Whether handling a message may have written to the store.
fn may_write(message: &Message) -> bool {
    match message {
        Message::Sync(SyncMessage::Delta { .. } | SyncMessage::Push { .. }) => true,
        message => message.class() == Class::Rumor,
    }
}

/// The addresses for peers: the configured ones, or those where the node listens. Loopback and link-local addresses, which
/// other machines cannot use, only if there are no others; TCP first, and of that IPv4, because a ticket holds a few.
pub fn public_addresses(external: &[String], listening: Vec<String>) -> Vec<String> {
    let mut addresses = if external.is_empty() { listening } else { external.to_vec() };
    if !addresses.iter().all(|address| is_local(address)) {
        addresses.retain(|address| !is_local(address));
    }
    addresses.sort_by_key(|address| (!address.contains("/tcp/"), address.starts_with("/ip6/")));
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

/// Whether other machines cannot connect to this address: it is a loopback or a link-local one.
pub fn is_local(address: &str) -> bool {
    let mut parts = address.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some("ip4"), Some(ip)) => {
            ip.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback() || ip.is_link_local())
        }
        (Some("ip6"), Some(ip)) => {
            ip.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unicast_link_local())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(external: &[&str], listening: &[&str]) -> Vec<String> {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        public_addresses(&owned(external), owned(listening))
    }

    #[test]
    fn loopback_is_told_only_where_there_is_nothing_else() {
        let (loopback, quic) = ("/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/udp/1/quic-v1");
        let tcp = "/ip4/10.0.0.1/tcp/1";
        assert_eq!(addresses(&[], &[loopback]), [loopback]);
        assert_eq!(addresses(&[], &[quic, loopback, tcp]), [tcp, quic]);
        let (local, ipv6) = ("/ip6/fe80::1/tcp/1", "/ip6/2001:db8::1/tcp/1");
        assert_eq!(addresses(&[], &[loopback, local, ipv6]), [ipv6]);
        assert_eq!(addresses(&[], &[ipv6, quic, tcp]), [tcp, ipv6, quic]);
        assert_eq!(addresses(&["/dns4/example.org/tcp/1"], &[tcp]), ["/dns4/example.org/tcp/1"]);
        let many: Vec<String> = (0..20).map(|port| format!("/ip4/10.0.0.1/tcp/{port}")).collect();
        assert_eq!(public_addresses(&[], many).len(), ADDRESSES_MAX);
    }
}
