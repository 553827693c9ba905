//! Strong keyspaces on a node: the replicas that it has, and the way to those that it does not have.
//!
//! A strong keyspace is a Raft group. Any node serves any client: a request goes to the group's leader, directly
//! if that is this node, otherwise over the link to the leader, found through the location that
//! leaders write into a reserved eventual keyspace ([`LOCATIONS`]). A stale location costs a redirection.
//!
//! [`Strong`] is composed of parts. Each owns its state, and changes no other part's:
//!
//! ```text
//!   clients ──► requests   creations   watches/client        peers, and this node itself
//!                   │          │           │                              │
//!                   └──────────┴───────────┴────► outbox ◄──► messages ◄──┘
//!                                                               │
//!          directory: where groups and nodes are     serving ◄──┼──► watches/served
//!          syncs: one sync for all replicas               │     │        │
//!                                                         └──► replicas ◄┘   ready ──► outbox, syncs
//! ```
//!
//! - `requests`, `creations` and `watches::client` act for clients here, and send messages to nodes.
//! - `serving` and `watches::served` handle such messages for the `replicas` here. A message of this node
//!   to itself takes the same way, without being encoded.
//! - `directory` is what the node has learned about others, `syncs` the writes that wait for the disk, and
//!   `context` what all use: the instant, ids, timers, the `outbox`, and effects.
//!
//! Only this module uses several parts. It passes each input to its part, and the result to the next part. A part
//! that has to read another one, or to write state that it does not own, borrows it in a `Handler`. No part calls
//! this module.
//!
//! Groups are never suspended: all replicas of a node tick at the same instants, and all messages of one instant to
//! one peer share a frame, so a hundred idle groups cost as many frames as one.

mod context;
mod creations;
mod directory;
mod dropping;
mod drops;
mod getters;
mod input;
mod keyspaces;
mod message;
mod names;
mod outbox;
mod placement;
mod precedence;
mod recovery;
mod replicas;
mod requests;
mod serving;
mod starts;
mod surveys;
mod syncs;
#[cfg(test)]
mod testing;
mod watches;

use std::collections::BTreeSet;

use starling_kv::Engine;
use starling_proto::message::Payload;
use starling_proto::{Millis, NodeId, NodeRecord};
use starling_strong::api::Failure;
use starling_strong::group::{GroupId, GroupMessage, History, Input, Notice, Output, Stop};
use starling_strong::machine::{self, DATED};
use starling_strong::members::NodeKey;
use starling_strong::registry::Registered;

use context::{Context, Timer};
pub use creations::CreateError;
use creations::Creations;
use directory::Directory;
use drops::Drops;
pub use input::{CoreCall, Effect, ManageError, StrongInput, StrongOutput, Surveyed, SurveyedReplica};
pub use message::{GroupLocation, Manage, StrongFrame, StrongMessage, decode_frame, encode_frames};
pub use placement::Known;
pub use precedence::former_name;
use replicas::Replicas;
pub use replicas::{Aside, AsideConfig, may_lack};
use requests::Requests;
use serving::Serving;
use starts::Starts;
pub use surveys::ReplicaState;
use surveys::Surveys;
use syncs::Syncs;
use watches::client::ClientWatches;
use watches::served::ServedWatches;

/// The eventual keyspace where leaders publish where their groups are: keyspace -> map of groups -> [`GroupLocation`].
/// The map of a keyspace that was created once has one field.
pub const LOCATIONS: &str = ".strong";
/// Longest name of a keyspace, bytes: as of eventual ones.
pub const KEYSPACE_BYTES_MAX: usize = 64;
/// How long a voter is silent before it is replaced automatically, milliseconds, unless the node is configured
/// otherwise. Longer than a machine takes to be restarted or updated.
pub const REPLACE_MS: u64 = 600_000;
/// How often leaders compare the location that they published with the present one, and look for lost voters,
/// milliseconds. A guess.
const PUBLISH_MS: u64 = 5_000;

/// Configuration of the strong keyspaces of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrongConfig {
    /// How long a voter is silent before it is replaced automatically, milliseconds; `None`: operators replace it.
    pub replace_ms: Option<u64>,
    /// The history that leaders here keep.
    pub history: History,
    /// For how long, and up to which size, replicas are kept that were removed from their groups.
    pub aside: AsideConfig,
    /// Configuration of the state machines.
    pub machine: machine::Config,
}

impl Default for StrongConfig {
    /// [`REPLACE_MS`], and the defaults of groups.
    fn default() -> Self {
        let (history, machine) = (History::default(), machine::Config::default());
        Self { replace_ms: Some(REPLACE_MS), history, aside: AsideConfig::default(), machine }
    }
}

/// The strong keyspaces of one node: its replicas, and the requests to all others.
pub struct Strong<E: Engine> {
    config: StrongConfig,
    cx: Context,
    directory: Directory,
    replicas: Replicas<E>,
    syncs: Syncs,
    requests: Requests,
    creations: Creations,
    drops: Drops,
    surveys: Surveys,
    serving: Serving,
    client_watches: ClientWatches,
    served_watches: ServedWatches,
    starts: Starts,
    /// Messages that were skipped: of a kind, or of a version of a kind, that this node does not know.
    messages_unknown: u64,
}

impl<E: Engine> Strong<E> {
    /// Opens the replicas that the engine has.
    ///
    /// # Errors
    /// Fails with an error of the engine. A single replica that does not open is left out, and reported.
    pub fn open(
        engine: E,
        me: NodeRecord,
        config: StrongConfig,
        seed: [u8; 32],
        now_ms: u64,
    ) -> Result<Self, starling_kv::Error> {
        let mut cx = Context::new(me.id.0, seed, now_ms);
        let replicas = Replicas::open(engine, config, &mut cx)?;
        cx.set_timer(Timer::Publish, PUBLISH_MS);
        let mut strong = Self {
            config,
            cx,
            directory: Directory::new(me),
            replicas,
            syncs: Syncs::default(),
            requests: Requests::default(),
            creations: Creations::default(),
            drops: Drops::default(),
            surveys: Surveys::default(),
            serving: Serving::default(),
            client_watches: ClientWatches::default(),
            served_watches: ServedWatches::default(),
            starts: Starts::default(),
            messages_unknown: 0,
        };
        strong.process_ready(now_ms);
        Ok(strong)
    }

    /// Sets the time of day, milliseconds since 1970.
    pub fn set_wall_ms(&mut self, wall_ms: u64) {
        self.cx.wall_ms = wall_ms;
    }

    /// Sets the data version in force in the network, which the groups are to adopt.
    pub fn set_version(&mut self, version: u16) {
        self.replicas.set_version(version);
    }

    /// Takes part in no group any more: another process with this node's identity has started later, and acts for its
    /// members.
    pub fn withdraw(&mut self, now_ms: u64) {
        if self.replicas.withdraw() {
            self.process_ready(now_ms);
        }
    }

    /// Handles a client's request. `known` are the replicas of the network that this node can name: the
    /// candidates for the members of a keyspace.
    pub fn handle_client(&mut self, now_ms: u64, input: StrongInput, known: &Known) {
        self.cx.now_ms = now_ms;
        match input {
            StrongInput::Request { token, keyspace, request, options } => {
                self.requests().request(token, keyspace, request, options);
            }
            StrongInput::Watch { token, keyspace, watch, updates } => {
                self.watches().open(token, keyspace, watch, updates);
            }
            StrongInput::More { token, updates } => self.watches().more(token, updates),
            StrongInput::Progress { token } => self.watches().progress(token),
            StrongInput::Unwatch { tokens } => {
                for token in tokens {
                    self.watches().close(token);
                }
            }
            StrongInput::Create { token, keyspace, voters, on, manual } => {
                match self.plan(&keyspace, voters, &on, known) {
                    Ok(plan) => self.create(token, keyspace, plan, manual),
                    Err(error) => self.cx.reply(StrongOutput::Created { token, result: Err(error) }),
                }
            }
            StrongInput::Drop { token, keyspace } => {
                self.drop_keyspace(token, keyspace);
            }
            StrongInput::SetVoters { token, keyspace, nodes } => {
                let known = known.all().filter(|record| nodes.contains(&record.id)).cloned().collect();
                self.requests().manage(token, keyspace, Manage::Voters(known));
            }
            StrongInput::Vacate { token, keyspace } => {
                self.requests().vacate(token, keyspace, known.up.clone());
            }
            StrongInput::Transfer { token, keyspace, to } => {
                self.requests().manage(token, keyspace, Manage::Transfer(to.0));
            }
            StrongInput::Status { token, keyspace, of_leader } => {
                self.requests().status(token, keyspace, of_leader);
            }
            StrongInput::Survey { token, keyspace } => self.survey(token, keyspace, known),
            StrongInput::Recover { token, keyspace, accept_loss } => {
                self.recover(token, keyspace, accept_loss, known);
            }
            StrongInput::Discard { token, keyspace } => {
                let result = self.replicas.discard_all(&mut self.cx, &keyspace);
                let result = result.map_err(|error| ManageError::Failed(Failure::Storage(error.to_string())));
                self.cx.reply(StrongOutput::Managed { token, result });
            }
        }
        self.deliver_local();
    }

    /// Handles a frame of a peer. What cannot be decoded is dropped, as if it had been lost.
    pub fn handle_frame(&mut self, now_ms: u64, from: NodeId, frame: &Payload) {
        self.cx.now_ms = now_ms;
        let Ok(StrongFrame { messages, skipped }) = decode_frame(frame) else { return };
        self.messages_unknown += skipped;
        self.requests.on_sign_of_life(&from.0);
        for message in messages {
            self.on_message(from.0, message);
            self.deliver_local();
        }
    }

    /// Records the address of a peer whose link is up.
    pub fn handle_connected(&mut self, record: NodeRecord) {
        self.starts.connected(&record);
        self.directory.learn(record, || self.replicas.nodes());
    }

    /// Handles the loss of a link: what was sent may have arrived.
    pub fn handle_disconnected(&mut self, now_ms: u64, peer: NodeId) {
        self.handle_down(now_ms, peer.0, true);
    }

    /// Handles a failed dial: nothing arrived.
    pub fn handle_unreachable(&mut self, now_ms: u64, peer: NodeId) {
        self.handle_down(now_ms, peer.0, false);
    }

    fn handle_down(&mut self, now_ms: u64, peer: NodeKey, was_connected: bool) {
        self.cx.now_ms = now_ms;
        self.replicas.peer_down(now_ms, peer);
        self.requests().on_peer_down(peer, was_connected);
        self.creations.on_peer_down(&mut self.cx, &self.directory, peer, was_connected);
        self.watches().on_peer_down(peer);
        self.served().on_peer_down(peer);
        self.deliver_local();
    }

    /// Handles the end of a sync that [`Effect::Sync`] asked for.
    pub fn handle_synced(&mut self, now_ms: u64, number: u64) {
        self.cx.now_ms = now_ms;
        for (group, write) in self.syncs.end(number) {
            self.replicas.step(now_ms, group, Input::Synced(write));
        }
    }

    /// Handles the locations of a keyspace in [`LOCATIONS`]. If there are several groups, it was created more than
    /// once; see `precedence`.
    pub fn handle_locations(&mut self, now_ms: u64, keyspace: &str, locations: Vec<GroupLocation>) {
        self.cx.now_ms = now_ms;
        self.on_locations(keyspace, locations);
        self.deliver_local();
    }

    /// Handles a message that asks for a replica here, once what is published of the keyspace is known; see
    /// [`CoreCall::LookupFirst`].
    pub fn handle_looked_up(&mut self, now_ms: u64, from: NodeKey, message: StrongMessage) {
        self.cx.now_ms = now_ms;
        match message {
            StrongMessage::Create { group, keyspace, members, manual } => {
                self.on_create(from, group, &keyspace, &members, manual);
            }
            StrongMessage::Invite { group, keyspace, member, members, manual } => {
                let invited = Registered { group, keyspace, member, manual };
                self.on_invite(from, invited, &members);
            }
            _ => {}
        }
        self.deliver_local();
    }

    /// Replaces one lost voter of a group by one of these nodes. The group rejects a change if most of the new
    /// voters would not be up, and makes one change at a time.
    pub fn handle_spares(&mut self, now_ms: u64, group: GroupId, spares: Vec<NodeRecord>) {
        self.cx.now_ms = now_ms;
        let Some(after_ms) = self.config.replace_ms else { return };
        let voters = self.replicas.replacement(now_ms, group, after_ms, spares, &self.directory);
        let Some(voters) = voters else { return };
        // No request awaits the reply: the next check finds out the result.
        let (id, change) = (self.cx.fresh_id(), Manage::Voters(voters));
        let me = self.cx.me;
        self.cx.send(&me, StrongMessage::Manage { id, group, change });
        self.deliver_local();
    }

    /// Handles the deadlines that are due; called at [`Strong::poll_timeout`].
    pub fn handle_timeout(&mut self, now_ms: u64) {
        self.cx.now_ms = now_ms;
        while let Some(timer) = self.cx.timers.pop_due(Millis(now_ms)) {
            match timer {
                // When the next tick is due is known once the outputs of this one are processed.
                Timer::Group(group) => self.replicas.step(now_ms, group, Input::Timeout),
                Timer::Reopen(group) => self.replicas.reopen(&mut self.cx, group),
                Timer::Request(id) => self.requests().on_timeout(id),
                Timer::Watch(token) => self.watches().on_timeout(token),
                Timer::Creation(group) => self.creations.on_timeout(&mut self.cx, &self.directory, group),
                Timer::Survey(id) => {
                    if let Some(survey) = self.surveys.end(&mut self.cx, id) {
                        self.on_surveyed(&survey);
                    }
                }
                Timer::Publish => self.publish_changes(),
                Timer::Work => self.replicas.work(&mut self.cx),
                // They are served with the next pass; see `process_ready`.
                Timer::Serve => {}
            }
            self.deliver_local();
        }
    }

    /// Processes what the inputs handled so far have caused, in one pass: replicas that have outputs, watches,
    /// frames, and at most one sync. Inputs that are handled before it share frames and log entries.
    pub fn process_ready(&mut self, now_ms: u64) {
        self.cx.now_ms = now_ms;
        while let Some((group, output)) = self.replicas.poll_output(&mut self.cx) {
            self.on_group_output(group, output);
            self.deliver_local();
        }
        self.served().serve();
        self.deliver_local();
        for (to, frames) in self.cx.outbox.take_frames() {
            let Some(record) = self.directory.record(&to) else { continue };
            for frame in frames {
                self.cx.push(Effect::Send { to: Box::new(record.clone()), frame });
            }
        }
        if let Some(number) = self.syncs.begin() {
            self.cx.push(Effect::Sync(number));
        }
    }

    /// The next effect; complete only after [`Strong::process_ready`].
    pub fn poll_output(&mut self) -> Option<Effect> {
        self.cx.pop_effect()
    }

    /// When to call [`Strong::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.cx.timers.next()
    }

    fn requests(&mut self) -> requests::Handler<'_, E> {
        let (cx, state) = (&mut self.cx, &mut self.requests);
        requests::Handler { cx, state, directory: &self.directory, replicas: &self.replicas }
    }

    fn watches(&mut self) -> watches::client::Handler<'_, E> {
        let (cx, state) = (&mut self.cx, &mut self.client_watches);
        watches::client::Handler { cx, state, directory: &self.directory, replicas: &self.replicas }
    }

    fn served(&mut self) -> watches::served::Handler<'_, E> {
        let (cx, state) = (&mut self.cx, &mut self.served_watches);
        watches::served::Handler { cx, state, replicas: &mut self.replicas }
    }

    fn serving(&mut self) -> serving::Handler<'_, E> {
        let (cx, state) = (&mut self.cx, &mut self.serving);
        serving::Handler { cx, state, replicas: &mut self.replicas, directory: &mut self.directory }
    }

    /// Handles the messages of this node to itself.
    fn deliver_local(&mut self) {
        loop {
            if let Some(message) = self.cx.outbox.pop_local() {
                self.on_message(self.cx.me, message);
            } else if let Some(ended) = self.requests.pop_ended_drop() {
                self.on_drop_ended(ended);
            } else {
                return;
            }
        }
    }

    fn on_message(&mut self, from: NodeKey, message: StrongMessage) {
        if let Some(id) = message.replies_to()
            && !self.requests.has_asked(id, &from)
        {
            return;
        }
        match message {
            StrongMessage::Groups(bundle) => self.on_groups(from, bundle),
            StrongMessage::Create { ref keyspace, .. } | StrongMessage::Invite { ref keyspace, .. } => {
                let (keyspace, message) = (keyspace.clone(), Box::new(message));
                self.cx.call(CoreCall::LookupFirst { keyspace, from, message });
            }
            StrongMessage::CreateReply { group, refusal } => {
                self.on_create_reply(from, group, refusal);
            }
            StrongMessage::Drop { group } => self.on_drop(from, group),
            StrongMessage::DropGroup { id, group } => self.on_drop_group(from, id, group),
            StrongMessage::Request { id, group, request, options } => {
                self.serving().on_ask(from, id, group, request, options);
            }
            StrongMessage::Response { id, result } => self.requests().finish(id, result),
            StrongMessage::Redirect { id, leader, missing } => {
                self.requests().on_redirect(id, leader, &missing);
            }
            StrongMessage::Manage { id, group, change } => self.serving().on_manage(from, id, group, change),
            StrongMessage::ManageReply { id, result } => self.requests().on_managed(id, result),
            StrongMessage::Status { id, group } => self.serving().on_describe(from, id, group),
            StrongMessage::StatusReply { id, status } => self.requests().on_described(id, status),
            StrongMessage::Probe { id, group, read } => {
                self.serving().on_probe(from, id, group, read.as_ref());
            }
            StrongMessage::ProbeReply { id, probed } => self.requests().on_probed(from, id, probed),
            StrongMessage::Watch { id, group, watch, updates } => {
                self.served().on_watch(from, id, group, watch, updates);
            }
            StrongMessage::More { id, updates } => self.served().on_more(from, id, updates),
            StrongMessage::Progress { id } => self.served().on_progress(from, id),
            StrongMessage::Unwatch { id } => self.served().on_unwatch(from, id),
            StrongMessage::Check { id, received, updates } => {
                self.served().on_check(from, id, received, updates);
            }
            StrongMessage::Update { id, number, update } => {
                self.watches().on_update(from, id, number, update);
            }
            StrongMessage::CheckReply { id, sent } => self.watches().on_checked(from, id, sent),
            StrongMessage::AskReplica { id, group } => self.on_ask_replica(from, id, group),
            StrongMessage::Replica { id, found } => {
                if let Some(survey) = self.surveys.on_reply(&mut self.cx, from, id, found) {
                    self.on_surveyed(&survey);
                }
            }
            StrongMessage::CheckName { group, keyspace } => self.on_check_name(from, group, keyspace),
            StrongMessage::NameConfirmed { group, keyspace } => {
                self.on_name_confirmed(from, group, &keyspace);
            }
        }
    }

    fn on_group_output(&mut self, group: GroupId, output: Output) {
        match output {
            Output::Send { to, message } => {
                if !self.is_former(&to) {
                    self.cx.outbox.push_group(to, group, message);
                }
            }
            Output::Sync(write) => self.syncs.request(group, write),
            Output::Answer { token, result } => self.serving().on_answer(token, result),
            Output::Redirect { token, leader } => self.serving().on_redirect(group, token, leader),
            Output::Changed { token, result } => self.serving().on_changed(token, result),
            Output::Invite { node, member } => {
                let Some(replica) = self.replicas.get(&group) else { return };
                let (keyspace, manual) = (replica.keyspace.clone(), replica.manual);
                let members = self.replicas.member_records(group, &self.directory);
                self.cx.send(&node, StrongMessage::Invite { group, keyspace, member, members, manual });
            }
            Output::Removed => self.set_aside(group),
            Output::Dropped => self.end_group(group),
            Output::Notice(notice) => self.on_group_notice(group, notice),
        }
    }

    fn on_group_notice(&mut self, group: GroupId, notice: Notice) {
        let Some(replica) = self.replicas.get(&group) else { return };
        let keyspace = replica.keyspace.clone();
        if let Notice::Leader { node: Some(node), .. } = notice {
            if node == self.cx.me {
                self.publish(group);
            }
            self.requests().on_leader(&keyspace, node);
        }
        if let Notice::Stopped(Stop::Storage(_)) = &notice {
            self.syncs.forget(&group);
            self.served().on_replica_gone(&group);
            replicas::plan_reopening(&mut self.cx, group);
        }
        self.cx.notice(keyspace, notice);
    }

    /// Whether a peer is connected with a process that does not count any more as a member of groups. Nodes of 0.1.0 may
    /// start earlier than before, where the clock was set back.
    fn is_former(&self, peer: &NodeKey) -> bool {
        self.replicas.version() >= DATED && self.starts.is_former(peer)
    }

    fn on_groups(&mut self, from: NodeKey, bundle: Vec<(GroupId, GroupMessage)>) {
        if self.is_former(&from) {
            return;
        }
        // A peer that was away when a group was dropped still sends its messages.
        let is_dropped =
            |group: &GroupId| self.replicas.was_dropped(group) && self.replicas.get(group).is_none();
        let dropped = |(group, _): &(GroupId, _)| is_dropped(group).then_some(*group);
        let dropped: BTreeSet<GroupId> = bundle.iter().filter_map(dropped).collect();
        for (group, message) in bundle {
            self.replicas.step(self.cx.now_ms, group, Input::Message { from, message });
        }
        for group in dropped {
            self.cx.send(&from, StrongMessage::Drop { group });
        }
    }
}
