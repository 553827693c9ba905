//! One member of a Raft group as a pure state machine, over raft-rs: elections, the log, the state
//! machine, and the requests of clients that are not answered yet.
//!
//! The caller passes in [`Input`]s with the time (monotonic milliseconds), carries out the [`Output`]s, and
//! passes [`Input::Timeout`] at [`Group::poll_timeout`]. A message that promises durability is held back until
//! the caller has synced the engine and passed [`Input::Synced`].
//!
//! Reads are confirmed by a majority, many at a time (Raft's `ReadIndex`), and served by the member that received
//! them. A follower asks the leader only for the commit index, or, while nothing is written, all voters for the
//! last indexes of their logs (see `quorum`). There are no lease reads: a follower may elect another leader as
//! soon as its link to the leader breaks, which makes failover fast, so a leader cannot rely on a lease.

mod apply;
mod change;
mod check;
mod commits;
mod compare;
mod cut;
mod dropping;
mod history;
mod introductions;
mod io;
mod long_reads;
mod membership;
mod opening;
mod promises;
mod quorum;
mod ready;
mod requests;
mod revocations;
mod snapshot;
mod status;
mod timing;
pub mod wire;
mod work;

use std::collections::{BTreeMap, VecDeque};

use raft::eraftpb::Entry;
use raft::{RawNode, StateRole};
use starling_kv::Engine;

use crate::log::Log;
use crate::machine::{Command, DATED, Machine, Room, VERSION_NEWEST};
use crate::members::{MemberId, Members, NodeKey};

use apply::APPLIED;
pub use change::{ChangeError, VOTERS_MAX};
use change::{Target, Transfer};
pub use check::failure;
use commits::Commits;
use compare::Comparing;
use cut::Durable;
use dropping::Dropping;
pub use history::History;
use history::Revisions;
use introductions::Introductions;
pub use io::{Asked, GroupConfig, GroupMessage, Input, KEPT_ENTRIES, Notice, OpenError, Output, Stop};
use long_reads::LongReads;
use membership::MembershipCheck;
use promises::Recall;
pub use promises::{Promises, Rollback};
pub use quorum::{Found, LastIndexes, Probed, is_probe};
use ready::Unsynced;
use requests::Requests;
use revocations::Revocations;
use snapshot::{CURSOR_BYTES_MAX, Received, Receiving, Sending};
pub use status::{MemberStatus, Status};
pub use timing::{LEASE_MS, TICK_MS};
use timing::{QUORUM_TICKS, Timing};
use wire::{Kind, RaftMessage};
pub use work::TIDY_PAUSE_MS;

/// A group's id, drawn at random when the group is created and never reused.
pub type GroupId = [u8; 16];
/// The caller's name for a request. The group returns it with the answer and does not interpret it.
pub type Token = u64;

/// Bytes of entries in one message, about; one entry is sent whatever its size.
const MESSAGE_BYTES: u64 = 256 << 10;
/// Messages to one follower that are not acknowledged yet, at most: 16 MiB of entries.
const INFLIGHT_MAX: usize = 64;
/// Bytes of writes that are not committed yet, at most; further writes are rejected.
const UNCOMMITTED_BYTES_MAX: u64 = 64 << 20;
/// Bytes of entries applied in one write of the engine, about.
const APPLIED_BYTES: u64 = 4 << 20;

/// How long the leader waits before it repeats a proposal of its own, milliseconds: an expired lease may live this much
/// longer.
const PROPOSE_AGAIN_MS: u64 = 500;

/// One member of a group.
pub struct Group<E: Engine> {
    config: GroupConfig,
    raw: RawNode<Log<E>>,
    machine: Machine<E>,
    timing: Timing,
    members: Members,
    introductions: Introductions,
    /// When this process last received a message from each member, milliseconds.
    heard: BTreeMap<MemberId, u64>,
    requests: Requests,
    long_reads: LongReads,
    commits: Commits,
    unsynced: VecDeque<Unsynced>,
    /// Committed entries that are not applied yet.
    unapplied: VecDeque<Entry>,
    /// What this step may still apply.
    apply_room: Room,
    /// Number of the last write that has to be synced.
    written: u64,
    /// The term when all writes were last durable.
    synced_term: u64,
    target: Option<Target>,
    transfer: Option<Transfer>,
    sending: Option<Sending<E>>,
    receiving: Option<Receiving<E>>,
    received: Option<Received<E>>,
    /// When this process last received a message from the leader that this member follows, or last led, milliseconds.
    led_at_ms: Option<u64>,
    /// Since when this member knows of no leader, milliseconds; `None`: it knows of one.
    leaderless_since_ms: Option<u64>,
    /// Term and leader of the last [`Notice::Leader`].
    led: (u64, MemberId),
    /// When that notice was queued, milliseconds.
    led_since_ms: u64,
    /// When this process opened the group, milliseconds.
    opened_ms: u64,
    /// Whether this member leads and has applied an entry of its term; the state machine then times leases.
    leads: bool,
    revocations: Revocations,
    /// The data version in force in the network, as far as this node knows; the group is to adopt it.
    version: u16,
    /// When the leader last proposed to adopt it, milliseconds.
    adopted_ms: u64,
    /// When which revision was the last one, on the leader.
    revisions: Revisions,
    /// The check whether this node is still a member.
    membership: MembershipCheck,
    /// Portions of background work done; see `work`.
    portions: u64,
    /// The comparison of the replicas' hashes.
    comparing: Comparing,
    durable: Durable,
    recall: Recall,
    dropping: Dropping,
    stopped: Option<Stop>,
    outputs: VecDeque<Output>,
}

impl<E: Engine> Group<E> {
    /// Handles one input and queues the outputs. On an error the group stops and reports
    /// [`Notice::Stopped`].
    pub fn handle(&mut self, now_ms: u64, input: Input) {
        self.step(now_ms, input);
        self.process_ready(now_ms);
    }

    /// Handles one of several inputs that arrived together. The caller calls [`Group::process_ready`] after the last
    /// one, so that their writes and messages are combined.
    pub fn step(&mut self, now_ms: u64, input: Input) {
        self.note_input();
        if self.stopped.is_some() {
            self.refuse(&input);
            return;
        }
        match input {
            Input::Timeout => self.handle_timeout(now_ms),
            Input::Request { token, request, options } => {
                self.handle_request(now_ms, token, request, &options);
            }
            Input::Message { from, message } => {
                if let Err(stop) = self.on_message(now_ms, from, message) {
                    self.stop(stop);
                }
            }
            Input::PeerDown(node) => self.handle_peer_down(now_ms, &node),
            Input::Synced(number) => self.handle_synced(number),
            Input::SetVoters { token, nodes } => self.handle_set_voters(now_ms, token, nodes),
            Input::Transfer { token, to } => self.handle_transfer(token, &to),
            Input::Drop { token } => self.handle_drop(now_ms, token),
            Input::Declined { node, reason } => self.handle_declined(now_ms, &node, reason),
        }
    }

    /// Queues the outputs of the inputs since the last call; see [`Group::step`].
    pub fn process_ready(&mut self, now_ms: u64) {
        if self.stopped.is_none() {
            self.drain(now_ms);
        }
    }

    /// The next output; `None` if there is none until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due, milliseconds; `None` if the group has stopped.
    pub fn poll_timeout(&self) -> Option<u64> {
        let next = self.timing.next(self.is_leader());
        let due = [self.gathered_at(), self.commits_at()].into_iter().flatten().fold(next, u64::min);
        self.stopped.is_none().then_some(due)
    }

    /// The state machine, for reads that need no leader, and for watches.
    pub fn machine(&mut self) -> &mut Machine<E> {
        &mut self.machine
    }

    /// The data version that the group has adopted; 0 if it has adopted none.
    pub fn version(&self) -> u16 {
        self.machine.version()
    }

    /// Sets the data version in force in the network. The leader proposes that the group adopts it, if it changes
    /// anything for groups.
    pub fn set_version(&mut self, version: u16) {
        self.version = if version < DATED { 0 } else { version.min(VERSION_NEWEST) };
        self.begin_recall();
    }

    /// The members of the group as of the last entry that this member has applied.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Whether this member knows the group's members: a new member learns them with its first snapshot.
    pub fn is_informed(&self) -> bool {
        !self.members.voters.is_empty()
    }

    /// Gives the keyspace another name. It appears in errors only.
    pub fn rename(&mut self, keyspace: String) {
        self.config.keyspace = keyspace;
    }

    /// The number of this node's member.
    pub fn member(&self) -> MemberId {
        self.config.member
    }

    /// Why the group has stopped on this node, if it has.
    pub fn stopped(&self) -> Option<&Stop> {
        self.stopped.as_ref()
    }

    /// The current term, as far as this member knows.
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// Whether this member is the leader in its own term; another one may lead a later term.
    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// The leader's node, if it is known.
    pub fn leader(&self) -> Option<NodeKey> {
        self.node_of(self.raw.raft.leader_id)
    }

    fn node_of(&self, member: MemberId) -> Option<NodeKey> {
        self.members.nodes.get(&member).or_else(|| self.introductions.node_of(member)).copied()
    }

    fn handle_timeout(&mut self, now_ms: u64) {
        let is_tick = self.timing.pass(now_ms);
        if self.is_leader() {
            if is_tick {
                self.raw.tick();
            }
        } else {
            self.wait_for_leader(now_ms);
        }
        if is_tick {
            self.recall_promises(now_ms);
            self.expire(now_ms);
            self.check_own_membership(now_ms);
        }
    }

    fn wait_for_leader(&mut self, now_ms: u64) {
        if self.timing.is_lease_over() {
            self.raw.raft.election_elapsed = QUORUM_TICKS;
        }
        if !self.timing.is_election_due(now_ms) {
            return;
        }
        self.timing.campaigned(now_ms);
        if self.raw.raft.promotable() && self.is_durable() && self.takes_part() && self.reaches_floor(now_ms)
        {
            let result = self.raw.campaign();
            debug_assert!(result.is_ok(), "a local message does not fail");
        }
    }

    /// Whether all entries of the log are durable: Raft relies on it for candidates and new leaders.
    fn is_durable(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        log.persisted == log.last_index()
    }

    fn handle_peer_down(&mut self, now_ms: u64, node: &NodeKey) {
        let Some(member) = self.members.on(node) else { return };
        // The member counts as silent from now on, even if a message of it was still on its way.
        let silent_since = now_ms.saturating_sub(2 * LEASE_MS);
        self.heard.entry(member).and_modify(|at| *at = silent_since.min(*at));
        if self.is_leader() {
            self.raw.report_unreachable(member);
        } else if self.raw.raft.leader_id == member {
            self.timing.hint(now_ms);
            self.raw.raft.election_elapsed = QUORUM_TICKS;
            self.redirect_reads();
        }
    }

    fn on_raft(&mut self, now_ms: u64, from: NodeKey, mut message: RaftMessage) -> Result<(), Stop> {
        let member = message.from;
        if !self.is_from_member(now_ms, from, &message) {
            return Ok(());
        }
        if !self.may_step(now_ms, from, &message) {
            return Ok(());
        }
        self.distrust_commit(&mut message);
        // The leader transfers leadership only to a member whose entries are durable, and a candidate has asked for votes
        // after its entries were.
        let elects = matches!(message.kind, Kind::TimeoutNow | Kind::PreVoteReply | Kind::VoteReply);
        if elects && !self.is_durable() {
            return Ok(());
        }
        self.note_hurried(&message);
        let named = (message.kind == Kind::Snapshot).then(|| message.clone());
        let message = match message.into_raft(self.raw.store().last_index()) {
            Ok(message) => message,
            Err(wire::Impossible(what)) => {
                self.outputs.push_back(Output::Notice(Notice::Impossible { from, what }));
                return Ok(());
            }
        };
        self.note_heard(now_ms, member);
        if let Some(named) = named
            && self.begin_receiving(now_ms, from, named)?
        {
            return Ok(());
        }
        self.step_raft(now_ms, message);
        if member == self.raw.raft.leader_id {
            self.led_at_ms = Some(now_ms);
        }
        Ok(())
    }

    fn step_raft(&mut self, now_ms: u64, message: raft::eraftpb::Message) {
        // Raft sets it to 0 when it hears of a leader or grants its vote, which is how this code notices.
        if !self.is_leader() {
            self.raw.raft.election_elapsed = self.raw.raft.election_elapsed.max(1);
        }
        // A message that does not fit the state is dropped, as if it had been lost.
        let _ = self.raw.step(message);
        if !self.is_leader() && self.raw.raft.election_elapsed == 0 {
            self.timing.heard(now_ms);
        }
    }

    fn on_message(&mut self, now_ms: u64, from: NodeKey, message: GroupMessage) -> Result<(), Stop> {
        if !message.is_from_anyone() && !self.knows(&from) {
            return Ok(());
        }
        match message {
            GroupMessage::Raft(message) => return self.on_raft(now_ms, from, message),
            GroupMessage::Gone { member, voters } => self.on_gone(now_ms, from, member, voters),
            GroupMessage::AskMembers => self.on_ask_members(from),
            GroupMessage::Members { members } => self.on_members(from, members),
            GroupMessage::CheckMembership { member } => self.on_check_membership(from, member),
            GroupMessage::Hash { index, hash } => self.on_hash(from, index, hash),
            GroupMessage::AskIndex { name } => self.on_ask_index(now_ms, from, name),
            GroupMessage::Index { name, index } => self.on_index(from, name, index),
            GroupMessage::AskLastIndex { name } => self.on_ask_last_index(now_ms, from, name),
            GroupMessage::LastIndex { name, member, index } => self.on_last_index(from, name, member, index),
            GroupMessage::AskPromises { name, member, last } => {
                self.on_ask_promises(from, name, member, last);
            }
            GroupMessage::Promises { name, reply } => self.on_promises(now_ms, from, name, &reply),
            GroupMessage::Pull { index, cursor, bytes } => {
                if cursor.len() <= CURSOR_BYTES_MAX && self.members.on(&from).is_some() {
                    self.on_pull(now_ms, from, index, &cursor, bytes);
                }
            }
            GroupMessage::Chunk { index, bytes } => return self.on_chunk(now_ms, from, index, &bytes),
            GroupMessage::NoSnapshot { index } => self.on_no_snapshot(from, index),
        }
        Ok(())
    }

    /// Processes everything that the inputs have caused, and stops the group on an error.
    fn drain(&mut self, now_ms: u64) {
        if let Err(stop) = self.run(now_ms) {
            self.stop(stop);
        }
        self.report_drop();
        self.long_reads.end_turn();
        self.apply_room = APPLIED;
    }

    fn run(&mut self, now_ms: u64) -> Result<(), Stop> {
        self.offer_snapshot(now_ms)?;
        self.drive_target(now_ms);
        self.apply(now_ms)?;
        loop {
            self.propose(now_ms);
            self.confirm_reads(now_ms);
            self.send_commit_index(now_ms);
            while self.raw.has_ready() {
                self.process_raft_ready(now_ms)?;
                self.confirm_reads(now_ms);
                self.send_commit_index(now_ms);
            }
            if let Some(error) = self.raw.store().failure() {
                return Err(error.into());
            }
            self.note_leader(now_ms);
            if !self.serve_reads(now_ms) {
                return Ok(());
            }
        }
    }

    /// Reports a change of the leader, and acts on it.
    fn note_leader(&mut self, now_ms: u64) {
        let led = (self.raw.raft.term, self.raw.raft.leader_id);
        if self.led != led {
            if led.1 == 0 {
                self.leaderless_since_ms.get_or_insert(now_ms);
            } else {
                self.timing.leader_elected(now_ms);
                self.leaderless_since_ms = None;
            }
            if self.led.1 == self.config.member {
                self.led_at_ms = Some(now_ms);
            }
            self.led = led;
            self.led_since_ms = now_ms;
            self.redirect_reads();
            let node = self.leader();
            self.outputs.push_back(Output::Notice(Notice::Leader { term: led.0, node }));
        }
        let leads = self.is_leader() && self.raw.raft.apply_to_current_term();
        if leads != self.leads {
            self.leads = leads;
            self.revisions = Revisions::default();
            if leads {
                self.machine.lead(now_ms);
            } else {
                self.machine.follow();
            }
        }
        if !self.is_leader() {
            self.abandon_target();
            self.abandon_drop();
        }
        self.drive_transfer(now_ms);
    }

    /// Expires what has timed out; called once a tick.
    fn expire(&mut self, now_ms: u64) {
        self.expire_requests(now_ms);
        self.expire_rounds(now_ms);
        self.expire_snapshots(now_ms);
        if !self.leads {
            return;
        }
        self.invite();
        self.adopt(now_ms);
        self.propose_drop(now_ms);
        self.compact_history(now_ms);
        self.compare_returned(now_ms);
        if let Err(stop) = self.revoke_expired(now_ms) {
            self.stop(stop);
        }
    }

    /// Proposes that the group adopts the data version in force.
    fn adopt(&mut self, now_ms: u64) {
        if self.machine.version() < self.version && now_ms >= self.adopted_ms + PROPOSE_AGAIN_MS {
            self.enqueue(Command::Adopt { version: self.version });
            self.adopted_ms = now_ms;
        }
    }

    /// Stops the group on this node, and answers all waiting requests.
    fn stop(&mut self, stop: Stop) {
        self.machine.follow();
        self.stopped = Some(stop.clone());
        self.unsynced.clear();
        self.unapplied.clear();
        self.fail_requests(&stop);
        self.abandon_target();
        self.abandon_transfer();
        self.abandon_drop();
        self.outputs.push_back(Output::Notice(Notice::Stopped(stop)));
    }
}
