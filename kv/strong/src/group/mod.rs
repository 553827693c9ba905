//! One member of a Raft group as a pure state machine, over raft-rs: elections, the log, the state
//! machine, and the clients that wait.
//!
//! Whoever runs it feeds [`Input`]s with the time (monotonic milliseconds), carries out [`Output`]s, and
//! comes back at [`Group::poll_timeout`]. What promises durability is held back until the caller has
//! synced the engine and said so.
//!
//! Reads are confirmed by a majority, many at a time (Raft's `ReadIndex`), and served by the member that was
//! asked: a follower asks the leader only how far it has to be, or, where nothing is written, all voters how
//! far their logs reach (see `quorum`). There are no lease reads: a
//! member gives up its leader as soon as the link to it breaks, which is what makes failover fast, and a
//! leader could not rely on a lease that its followers may end.

mod apply;
mod change;
mod commits;
mod compare;
mod io;
mod long_reads;
mod membership;
mod quorum;
mod ready;
mod requests;
mod snapshot;
mod status;
mod timing;
pub mod wire;
mod work;

use std::collections::{BTreeMap, VecDeque};

use raft::{Config, RawNode, StateRole};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use starling_kv::Engine;

use crate::api::Write;
use crate::log::{CREATED_AT, Log};
use crate::machine::{Command, Machine};
use crate::members::{MEMBERS_MAX, MemberId, Members, NodeKey};

use change::Target;
pub use change::{ChangeError, VOTERS_MAX};
use commits::Commits;
use compare::Comparing;
pub use io::{GroupConfig, GroupMessage, Input, Notice, OpenError, Output, Stop};
use long_reads::LongReads;
use membership::MembershipCheck;
pub use quorum::{Found, LastIndexes, Probed, is_probe};
use ready::Unsynced;
use requests::Requests;
use snapshot::{CURSOR_BYTES_MAX, Received, Receiving, Sending};
pub use status::{MemberStatus, Status};
pub use timing::{LEASE_MS, TICK_MS};
use timing::{QUORUM_TICKS, Timing};
use wire::{Kind, RaftMessage};
pub use work::TIDY_PAUSE_MS;

/// A group's name for ever, drawn at random when it is made.
pub type GroupId = [u8; 16];
/// Names one request between the caller and the group; echoed, never interpreted.
pub type Token = u64;

/// Bytes of entries in one message, about; one entry is sent whatever its size.
const MESSAGE_BYTES: u64 = 256 << 10;
/// Messages to one follower that are not acknowledged yet, at most: 16 MiB.
const INFLIGHT_MAX: usize = 64;
/// Bytes of writes that are not committed yet, at most; beyond, writes are refused.
const UNCOMMITTED_BYTES_MAX: u64 = 64 << 20;
/// Bytes of entries applied in one write of the engine, about.
const APPLIED_BYTES: u64 = 4 << 20;

/// Leases that are revoked at a time.
const REVOKED_MAX: usize = 4096;
/// Between two times, milliseconds: a lease may last so much longer than it has to.
const REVOKE_AGAIN_MS: u64 = 500;

/// One member of a group.
pub struct Group<E: Engine> {
    config: GroupConfig,
    raw: RawNode<Log<E>>,
    machine: Machine<E>,
    timing: Timing,
    members: Members,
    /// Members that we do not know as such yet: we are behind.
    contacts: BTreeMap<MemberId, NodeKey>,
    /// When members were last heard of, since this process started.
    heard: BTreeMap<MemberId, u64>,
    requests: Requests,
    long_reads: LongReads,
    commits: Commits,
    unsynced: VecDeque<Unsynced>,
    /// Number of the last write that has to be synced.
    written: u64,
    /// The term that was durable when everything was.
    synced_term: u64,
    target: Option<Target>,
    sending: Option<Sending<E>>,
    receiving: Option<Receiving<E>>,
    received: Option<Received<E>>,
    /// When this member last heard of the leader that it follows, since this process started.
    led_at_ms: Option<u64>,
    /// The last term and leader that were told.
    led: (u64, MemberId),
    /// When this process opened the group.
    opened_ms: u64,
    /// Whether the state machine counts leases.
    leads: bool,
    /// When the leader last proposed to revoke leases.
    revoked_ms: u64,
    /// Whether this member still belongs to the group.
    membership: MembershipCheck,
    /// Portions of work done.
    portions: u64,
    /// The comparison of the replicas' hashes.
    comparing: Comparing,
    stopped: Option<Stop>,
    outputs: VecDeque<Output>,
}

impl<E: Engine> Group<E> {
    /// Creates this node's replica of a new group: every initial member does the same with the same `members`.
    /// Only for a group of which this node has no rows.
    pub fn create(
        engine: E,
        config: GroupConfig,
        members: &[NodeKey],
        seed: [u8; 32],
        now_ms: u64,
    ) -> Result<Self, OpenError> {
        let log = Log::create(engine.clone(), config.group, Members::initial(members))?;
        Self::with_log(engine, config, log, seed, now_ms)
    }

    /// Becomes a member that was invited and knows nothing yet.
    pub fn join(engine: E, config: GroupConfig, seed: [u8; 32], now_ms: u64) -> Result<Self, OpenError> {
        let log = Log::join(engine.clone(), config.group)?;
        Self::with_log(engine, config, log, seed, now_ms)
    }

    /// Goes on where an earlier run ended; `None`: there was none.
    pub fn open(
        engine: E,
        config: GroupConfig,
        seed: [u8; 32],
        now_ms: u64,
    ) -> Result<Option<Self>, OpenError> {
        let Some(log) = Log::open(engine.clone(), config.group)? else { return Ok(None) };
        Self::with_log(engine, config, log, seed, now_ms).map(Some)
    }

    /// The disaster: this member goes on alone, with what it has, as a group of one. What the others had
    /// acknowledged and this one has not is lost; others that come back are told that they are out.
    pub fn force_alone(
        engine: E,
        config: GroupConfig,
        seed: [u8; 32],
        now_ms: u64,
    ) -> Result<Option<Self>, OpenError> {
        let Some(mut log) = Log::open(engine.clone(), config.group)? else { return Ok(None) };
        log.force_alone(config.member, config.node)?;
        Self::with_log(engine, config, log, seed, now_ms).map(Some)
    }

    fn with_log(
        engine: E,
        config: GroupConfig,
        mut log: Log<E>,
        seed: [u8; 32],
        now_ms: u64,
    ) -> Result<Self, OpenError> {
        let mut machine = Machine::open(engine, config.group, config.machine)?;
        if machine.applied() == 0 && log.base_index() == CREATED_AT {
            // The entry that initial members begin at is empty.
            machine.apply(now_ms, vec![(CREATED_AT, None)])?;
        }
        let applied = machine.applied();
        let kept = log.base_index()..=log.last_index();
        if !kept.contains(&applied) {
            let reason = format!("entry {applied} is applied, and the log has {kept:?}");
            return Err(OpenError::Unfit(reason));
        }
        log.begin_at(applied);
        let members = log.members().0.clone();
        let mut rng = ChaCha12Rng::from_seed(seed);
        let mut fork = [0; 32];
        rng.fill_bytes(&mut fork);
        let raw = RawNode::new(&raft_config(config.member, applied), log, &silent())
            .map_err(|error| OpenError::Unfit(error.to_string()))?;
        let mut group = Self {
            timing: Timing::new(fork, now_ms),
            requests: Requests::new(rng.next_u64()),
            long_reads: LongReads::default(),
            commits: Commits::default(),
            config,
            raw,
            machine,
            members,
            contacts: BTreeMap::new(),
            heard: BTreeMap::new(),
            unsynced: VecDeque::new(),
            written: 0,
            synced_term: 0,
            target: None,
            sending: None,
            receiving: None,
            received: None,
            led_at_ms: None,
            led: (0, 0),
            opened_ms: now_ms,
            leads: false,
            revoked_ms: 0,
            membership: MembershipCheck::new(now_ms),
            portions: 0,
            comparing: Comparing::since(applied),
            stopped: None,
            outputs: VecDeque::new(),
        };
        if group.machine.diverged().is_some() {
            group.stop(Stop::Diverged);
            return Ok(group);
        }
        group.sync_at_start();
        group.drain(now_ms);
        Ok(group)
    }

    /// Handles one input and what follows from it. Never fails: a group that cannot go on stops, and reports it.
    pub fn handle(&mut self, now_ms: u64, input: Input) {
        self.step(now_ms, input);
        self.process_ready(now_ms);
    }

    /// Handles one of several inputs that come together. What follows from all of them follows together, at
    /// [`Group::process_ready`].
    pub fn step(&mut self, now_ms: u64, input: Input) {
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
        }
    }

    /// Processes what the inputs of [`Group::step`] have caused.
    pub fn process_ready(&mut self, now_ms: u64) {
        if self.stopped.is_none() {
            self.drain(now_ms);
        }
    }

    /// The next output; `None` until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to come back with [`Input::Timeout`], milliseconds.
    pub fn poll_timeout(&self) -> Option<u64> {
        let next = self.timing.next(self.is_leader());
        let due = [self.gathered_at(), self.commits_at()].into_iter().flatten().fold(next, u64::min);
        self.stopped.is_none().then_some(due)
    }

    /// The state machine, for reads that need no leader, and for watches.
    pub fn machine(&mut self) -> &mut Machine<E> {
        &mut self.machine
    }

    /// Who belongs to the group, as far as this member has applied its log.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Whether this member knows the group: one that was invited does with its first snapshot.
    pub fn is_informed(&self) -> bool {
        !self.members.voters.is_empty()
    }

    /// This node's place in the group.
    pub fn member(&self) -> MemberId {
        self.config.member
    }

    /// The election the group is in.
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// Whether this member believes to lead.
    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// The node of the leader, if one is known.
    pub fn leader(&self) -> Option<NodeKey> {
        self.node_of(self.raw.raft.leader_id)
    }

    fn node_of(&self, member: MemberId) -> Option<NodeKey> {
        self.members.nodes.get(&member).or_else(|| self.contacts.get(&member)).copied()
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
        // A member that campaigns has promised everything it has: Raft relies on it.
        if self.raw.raft.promotable() && self.unsynced.is_empty() {
            let result = self.raw.campaign();
            debug_assert!(result.is_ok(), "a local message does not fail");
        }
    }

    fn handle_peer_down(&mut self, now_ms: u64, node: &NodeKey) {
        let Some(member) = self.members.on(node) else { return };
        // Whatever was on its way: it counts as silent from now on.
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

    fn on_raft(&mut self, now_ms: u64, from: NodeKey, message: RaftMessage) -> Result<(), Stop> {
        let member = message.from;
        let is_other = self.members.nodes.get(&member).is_some_and(|node| *node != from);
        if is_other || message.to != self.config.member {
            return Ok(());
        }
        if !self.members.nodes.contains_key(&member) {
            if self.members.is_gone(member) {
                self.on_check_membership(from, member);
                return Ok(());
            }
            // We are behind: it came after the members we know.
            if self.contacts.len() == MEMBERS_MAX {
                self.contacts.pop_first();
            }
            self.contacts.insert(member, from);
        }
        // Who hands leadership over knows that we have promised everything; see `wait_for_leader`.
        if message.kind == Kind::TimeoutNow && !self.unsynced.is_empty() {
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
        self.heard.insert(member, now_ms);
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
        // Raft sets it to 0 where it heard of a leader or gave its vote; that is how we know.
        if !self.is_leader() {
            self.raw.raft.election_elapsed = self.raw.raft.election_elapsed.max(1);
        }
        // What does not fit the state is dropped, as if it had been lost.
        let _ = self.raw.step(message);
        if !self.is_leader() && self.raw.raft.election_elapsed == 0 {
            self.timing.heard(now_ms);
        }
    }

    fn on_message(&mut self, now_ms: u64, from: NodeKey, message: GroupMessage) -> Result<(), Stop> {
        match message {
            GroupMessage::Raft(message) => return self.on_raft(now_ms, from, message),
            GroupMessage::Gone { member, voters } => self.on_gone(from, member, voters),
            GroupMessage::CheckMembership { member } => self.on_check_membership(from, member),
            GroupMessage::Hash { index, hash } => self.on_hash(from, index, hash),
            GroupMessage::AskIndex { name } => self.on_ask_index(now_ms, from, name),
            GroupMessage::Index { name, index } => self.on_index(from, name, index),
            GroupMessage::AskLastIndex { name } => self.on_ask_last_index(from, name),
            GroupMessage::LastIndex { name, member, index } => self.on_last_index(from, name, member, index),
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

    /// Runs until nothing follows any more, or the group stops.
    fn drain(&mut self, now_ms: u64) {
        if let Err(stop) = self.run(now_ms) {
            self.stop(stop);
        }
    }

    fn run(&mut self, now_ms: u64) -> Result<(), Stop> {
        self.offer_snapshot(now_ms)?;
        self.drive_target();
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

    /// Tells who leads, and what follows from it.
    fn note_leader(&mut self, now_ms: u64) {
        let led = (self.raw.raft.term, self.raw.raft.leader_id);
        if self.led != led {
            if led.1 != 0 {
                self.timing.settled(now_ms);
            }
            self.led = led;
            self.redirect_reads();
            let node = self.leader();
            self.outputs.push_back(Output::Notice(Notice::Leader { term: led.0, node }));
        }
        let leads = self.is_leader() && self.raw.raft.apply_to_current_term();
        if leads != self.leads {
            self.leads = leads;
            if leads { self.machine.lead(now_ms) } else { self.machine.follow() }
        }
        if !self.is_leader() {
            self.abandon_target();
        }
    }

    /// What is due now and then.
    fn expire(&mut self, now_ms: u64) {
        self.expire_requests(now_ms);
        self.expire_rounds(now_ms);
        self.expire_snapshots(now_ms);
        if !self.leads {
            return;
        }
        self.invite();
        // Revocations of the last time may still be on their way, or may have been lost.
        if now_ms < self.revoked_ms + REVOKE_AGAIN_MS {
            return;
        }
        for id in self.machine.expired(now_ms, REVOKED_MAX) {
            self.enqueue(Command::Write { id: None, fence: None, write: Write::LeaseRevoke { id } });
            self.revoked_ms = now_ms;
        }
    }

    /// The group goes no further on this node: whoever waits is told what is known.
    fn stop(&mut self, stop: Stop) {
        self.machine.follow();
        self.stopped = Some(stop.clone());
        self.unsynced.clear();
        self.fail_requests(&stop);
        self.abandon_target();
        self.outputs.push_back(Output::Notice(Notice::Stopped(stop)));
    }
}

fn raft_config(member: MemberId, applied: u64) -> Config {
    Config {
        id: member,
        applied,
        election_tick: QUORUM_TICKS,
        // One value: Raft draws it, and it decides nothing (see `timing`).
        min_election_tick: QUORUM_TICKS,
        max_election_tick: QUORUM_TICKS + 1,
        heartbeat_tick: 1,
        max_size_per_msg: MESSAGE_BYTES,
        max_inflight_msgs: INFLIGHT_MAX,
        max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
        max_committed_size_per_ready: APPLIED_BYTES,
        check_quorum: true,
        pre_vote: true,
        // See `commits`.
        skip_bcast_commit: true,
        ..Config::default()
    }
}

/// Raft's own log is for its developers; what an operator wants to know is a [`Notice`].
fn silent() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}
