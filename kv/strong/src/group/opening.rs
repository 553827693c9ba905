//! Creates and opens groups.

use std::collections::{BTreeMap, VecDeque};

use raft::{Config, RawNode};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use starling_kv::Engine;

use super::apply::APPLIED;
use super::commits::Commits;
use super::compare::Comparing;
use super::cut::Durable;
use super::dropping::Dropping;
use super::history::Revisions;
use super::introductions::Introductions;
use super::long_reads::LongReads;
use super::membership::MembershipCheck;
use super::promises::Recall;
use super::requests::Requests;
use super::revocations::Revocations;
use super::timing::{QUORUM_TICKS, Timing};
use super::{
    APPLIED_BYTES, Group, GroupConfig, INFLIGHT_MAX, MESSAGE_BYTES, OpenError, Stop, UNCOMMITTED_BYTES_MAX,
    check,
};
use crate::log::{CREATED_AT, Log, Recoveries};
use crate::machine::{DATED, Machine};
use crate::members::{MemberId, Members, NodeKey};

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
        let log =
            Log::create(engine.clone(), config.group, Members::initial(members), config.family(&engine))?;
        Self::with_log(engine, config, log, false, seed, now_ms)
    }

    /// Creates an empty replica for a member that was added to the group and waits for a snapshot. `hosts`: the nodes that
    /// the invitation named, and the one that sent it. The member handles messages of these only.
    pub fn join(
        engine: E,
        config: GroupConfig,
        hosts: impl IntoIterator<Item = NodeKey>,
        seed: [u8; 32],
        now_ms: u64,
    ) -> Result<Self, OpenError> {
        let log = Log::join(engine.clone(), config.group, config.family(&engine))?;
        let hosts = Introductions::by(hosts);
        log.write_hosts(hosts.hosts())?;
        Self::with_log(engine, config, log, false, seed, now_ms)
    }

    /// Opens the replica that an earlier run left; `None` if there is none.
    pub fn open(
        engine: E,
        config: GroupConfig,
        seed: [u8; 32],
        now_ms: u64,
    ) -> Result<Option<Self>, OpenError> {
        let Some(log) = Log::open(engine.clone(), config.group)? else { return Ok(None) };
        Self::with_log(engine, config, log, true, seed, now_ms).map(Some)
    }

    /// Unsafe recovery after a loss of quorum: opens this replica as the only member of its group. Entries that
    /// the other members had acknowledged and this one does not have are lost. Former members that come back are
    /// notified that they were removed. `known_term` and `known`: the latest term of the group and its unsafe recoveries, as
    /// far as the node knows.
    pub fn force_alone(
        engine: E,
        config: GroupConfig,
        known_term: u64,
        known: &Recoveries,
        seed: [u8; 32],
        now_ms: u64,
    ) -> Result<Option<Self>, OpenError> {
        let Some(mut log) = Log::open_with_loss(engine.clone(), config.group)? else { return Ok(None) };
        log.force_alone(config.member, config.node, known_term, known)?;
        Self::with_log(engine, config, log, true, seed, now_ms).map(Some)
    }

    /// `was_there`: whether an earlier run has left the log.
    fn with_log(
        engine: E,
        config: GroupConfig,
        mut log: Log<E>,
        was_there: bool,
        seed: [u8; 32],
        now_ms: u64,
    ) -> Result<Self, OpenError> {
        let mut machine = Machine::open(engine, config.group, config.machine)?;
        if machine.version() >= DATED {
            log.move_to_journal()?;
        }
        if log.is_in_journal() {
            machine.set_unlogged();
            log.reconcile(machine.applied())?;
        }
        if check::is_new(&log, &machine) {
            machine.apply(now_ms, vec![(CREATED_AT, None)])?;
        }
        let applied = machine.applied();
        check::fits(&log, applied)?;
        log.begin_at(applied);
        let members = log.members().0.clone();
        let is_alone = members.nodes.keys().all(|member| *member == config.member);
        let introductions = Introductions::open(&log, is_alone)?;
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
            introductions,
            heard: BTreeMap::new(),
            unsynced: VecDeque::new(),
            unapplied: VecDeque::new(),
            apply_room: APPLIED,
            written: 0,
            synced_term: 0,
            target: None,
            transfer: None,
            sending: None,
            receiving: None,
            received: None,
            led_at_ms: None,
            leaderless_since_ms: Some(now_ms),
            led: (0, 0),
            led_since_ms: now_ms,
            opened_ms: now_ms,
            leads: false,
            revocations: Revocations::default(),
            version: 0,
            adopted_ms: 0,
            revisions: Revisions::default(),
            membership: MembershipCheck::new(now_ms),
            portions: 0,
            comparing: Comparing::since(applied),
            durable: Durable::default(),
            dropping: Dropping::default(),
            recall: Recall::new(rng.next_u64(), was_there && !is_alone),
            stopped: None,
            outputs: VecDeque::new(),
        };
        if group.machine.diverged().is_some() {
            group.stop(Stop::Diverged);
            return Ok(group);
        }
        group.find_drop()?;
        group.sync_at_start();
        group.begin_recall();
        group.drain(now_ms);
        Ok(group)
    }
}

fn raft_config(member: MemberId, applied: u64) -> Config {
    Config {
        id: member,
        applied,
        election_tick: QUORUM_TICKS,
        // A range of one value: Raft draws from it with a global generator, and it has no effect (see `timing`).
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

/// A logger that discards raft-rs's log, which is for its developers. An operator reads [`super::Notice`]s.
fn silent() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}
