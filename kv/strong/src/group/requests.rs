//! Requests that are not answered yet. A write waits until its entry is applied. A read waits until a round
//! with a majority has confirmed the leader, and until the leader's commit index of that time is applied here.
//! A follower starts a round by asking its leader for the commit index, or all voters for the last indexes of
//! their logs, and serves the read itself. A transaction whose conditions do not hold, and that then only
//! reads, is served as a read.

use std::collections::{BTreeMap, VecDeque};

use raft::eraftpb::{Entry, Message, MessageType};
use raft::{ReadState, StateRole};
use starling_kv::Engine;

use super::long_reads::is_long;
use super::timing::TICK_MS;
use super::{ChangeError, Group, GroupMessage, Input, LastIndexes, Output, Stop, Token};
use crate::api::{Answer, Body, Failure, LeaseId, Options, Read, Refusal, Request, Write};
use crate::machine::Command;
use crate::members::{MemberId, NodeKey};

/// Requests that wait in a group, at most; further ones are rejected with [`Failure::Overloaded`].
const WAITING_MAX: usize = 8192;

/// How long new writes are gathered while earlier ones are not committed, milliseconds, at most. Fewer and larger
/// writes, syncs and messages cost less. This is longer than a round trip within one site; where a round trip
/// takes longer, several proposals are under way at a time.
const GATHER_MS: u64 = 2;
/// Gathered writes that are proposed without waiting for more. A guess: several are one message's worth.
const GATHERED_MAX: usize = 512;
/// How long a follower waits for the confirmation of a round before it redirects the reads, milliseconds. Two
/// ticks: by then the question or its answer was lost.
const CONFIRMED_MS: u64 = 2 * TICK_MS;
/// Entries that a follower may lack for a read and still wait for; with more, it redirects the read to the leader.
const BEHIND_MAX: u64 = 1024;

/// Rounds under way at the same time, at most. A read needs a round that begins after the read arrived, so without
/// several rounds it would wait for the end of the one before.
const ROUNDS_MAX: usize = 4;

/// A read, or a request that is answered like one.
pub enum Query {
    Read(Read),
    /// A transaction whose conditions do not hold: the read that answers it, and the command that is proposed if
    /// they hold by then. Served as a read, it needs no entry in the log.
    Lost(Read, Command),
    KeepAlive(LeaseId),
    TimeToLive(LeaseId, bool),
}

impl Query {
    /// Whether serving it visits rows. A read of many keys is queued without room.
    fn needs_room(&self) -> bool {
        match self {
            Self::Read(read) => !is_long(read),
            Self::Lost(..) | Self::TimeToLive(_, true) => true,
            Self::KeepAlive(_) | Self::TimeToLive(_, false) => false,
        }
    }
}

/// A request that waits, and its deadline.
#[derive(Clone, Copy)]
pub struct Waiter {
    pub token: Token,
    pub deadline_ms: u64,
}

/// A write whose entry is in the log.
struct Proposed {
    term: u64,
    /// `None` for a command that the leader proposed unprompted.
    waiter: Option<Waiter>,
}

/// Reads that are confirmed and served together.
type Batch = Vec<(Waiter, Query)>;

/// One round that confirms reads.
struct Round {
    name: u64,
    began_ms: u64,
    batch: Batch,
    /// On the leader: followers that are answered with this round, and the name of each one's latest round that
    /// it confirms.
    followers: BTreeMap<NodeKey, u64>,
    /// On a follower that asked all voters: the last indexes of their logs.
    last_indexes: Option<LastIndexes>,
}

/// All requests of a group that wait, except long reads.
pub struct Requests {
    /// Commands that are proposed together.
    queue: Vec<(Option<Waiter>, Command)>,
    /// When the first of them was queued behind uncommitted entries, milliseconds.
    gathering_since: Option<u64>,
    /// Proposed writes by the index of their entry.
    proposed: BTreeMap<u64, Proposed>,
    /// Reads for the next round.
    reads: Batch,
    /// Followers that the next round answers, and the name of each one's latest round.
    followers: BTreeMap<NodeKey, u64>,
    /// The rounds under way, oldest first. A confirmation of one confirms all older ones.
    rounds: VecDeque<Round>,
    /// Name of the last round; the next one has the number after it.
    next_round: u64,
    /// Confirmed reads, with the index of the entry that has to be applied before they are served.
    ready: VecDeque<(u64, Batch)>,
    /// Whether reads in `ready` can be served, and wait for the next step.
    is_left_over: bool,
}

impl Requests {
    pub fn new(first_round: u64) -> Self {
        Self {
            queue: Vec::new(),
            gathering_since: None,
            proposed: BTreeMap::new(),
            reads: Vec::new(),
            followers: BTreeMap::new(),
            rounds: VecDeque::new(),
            next_round: first_round,
            ready: VecDeque::new(),
            is_left_over: false,
        }
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        let rounds: usize = self.rounds.iter().map(|round| round.batch.len()).sum();
        let ready: usize = self.ready.iter().map(|(_, batch)| batch.len()).sum();
        self.queue.len() + self.proposed.len() + self.reads.len() + rounds + ready
    }

    /// Whether reads that can be served wait for the next step.
    pub fn is_left_over(&self) -> bool {
        self.is_left_over
    }

    /// Leaves confirmed reads for the next step.
    pub fn serve_later(&mut self, batch: Vec<(Waiter, Query)>) {
        self.ready.push_back((0, batch));
        self.is_left_over = true;
    }

    /// Whether confirmed reads wait until an entry is applied.
    pub fn wait_for_entries(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Removes the round with this name and all older ones, oldest first.
    fn take_rounds(&mut self, name: u64) -> Vec<Round> {
        let count = self.rounds.iter().position(|round| round.name == name).map_or(0, |at| at + 1);
        self.rounds.drain(..count).collect()
    }

    /// Records a member's answer to the round with this name: its log ends with entry `index`.
    pub fn note_last_index(&mut self, name: u64, member: MemberId, index: u64) {
        let round = self.rounds.iter_mut().find(|round| round.name == name);
        if let Some(last_indexes) = round.and_then(|round| round.last_indexes.as_mut()) {
            last_indexes.note(member, index);
        }
    }

    /// Marks the reads of the confirmed rounds as ready to be served from the state after entry `applied`.
    pub fn confirm_if(&mut self, applied: u64, are_confirmed: impl Fn(&LastIndexes) -> bool) {
        let is_confirmed = |round: &Round| round.last_indexes.as_ref().is_some_and(&are_confirmed);
        if let Some(last) = self.rounds.iter().rposition(is_confirmed) {
            let batch = self.rounds.drain(..=last).flat_map(|round| round.batch).collect();
            self.ready.push_back((applied, batch));
        }
    }

    /// Removes all reads that are not confirmed, or that wait for an entry after `applied`.
    fn take_reads(&mut self, applied: u64) -> Batch {
        let mut reads: Batch = self.rounds.drain(..).flat_map(|round| round.batch).collect();
        reads.append(&mut self.reads);
        for (index, batch) in std::mem::take(&mut self.ready) {
            if index > applied { reads.extend(batch) } else { self.ready.push_back((index, batch)) }
        }
        reads
    }

    fn retain(batch: &mut Batch, now_ms: u64, late: &mut Vec<Token>) {
        batch.retain(|(waiter, _)| {
            let waits = now_ms < waiter.deadline_ms;
            if !waits {
                late.push(waiter.token);
            }
            waits
        });
    }
}

impl<E: Engine> Group<E> {
    pub(super) fn handle_request(&mut self, now_ms: u64, token: Token, request: Request, options: &Options) {
        let waiter = Waiter { token, deadline_ms: now_ms.saturating_add(options.timeout_ms) };
        if options.stale {
            match request {
                Request::Read(_) if self.waiting() >= WAITING_MAX => {
                    self.answer(token, Err(Failure::Overloaded));
                }
                Request::Read(read) => self.read(waiter, read),
                _ => self.answer(token, Err(Refusal::NotARead.into())),
            }
            return;
        }
        let may_follower = self.is_informed()
            && self.leader().is_some()
            && matches!(request, Request::Read(_) | Request::Write(Write::Txn(_)));
        if !self.is_leader() && !may_follower {
            self.send_elsewhere(token);
            return;
        }
        if self.waiting() >= WAITING_MAX {
            self.answer(token, Err(Failure::Overloaded));
            return;
        }
        let query = match request {
            Request::Write(write) => return self.admit(now_ms, waiter, write, options),
            Request::Read(read) => Query::Read(read),
            Request::KeepAlive { id } => Query::KeepAlive(id),
            Request::TimeToLive { id, keys } => Query::TimeToLive(id, keys),
        };
        self.requests.reads.push((waiter, query));
    }

    fn admit(&mut self, now_ms: u64, waiter: Waiter, write: Write, options: &Options) {
        let is_plain = options.id.is_none() && options.fence.is_none();
        let lost = match &write {
            Write::Txn(txn) if is_plain => self.machine.lost(txn),
            _ => None,
        };
        if lost.is_none() && !self.is_leader() {
            self.send_elsewhere(waiter.token);
            return;
        }
        let command = Command::Write { id: options.id, fence: options.fence.clone(), write };
        match self.machine.admit(command) {
            Ok(command) => match lost {
                Some(read) => self.requests.reads.push((waiter, Query::Lost(read, command))),
                None => self.measure(now_ms, waiter, command),
            },
            Err(refusal) => self.answer(waiter.token, Err(refusal.into())),
        }
    }

    /// How many requests wait.
    pub(super) fn waiting(&self) -> usize {
        self.requests.len() + self.long_reads.len() + self.revocations.len()
    }

    pub(super) fn answer(&mut self, token: Token, result: Result<Answer, Failure>) {
        self.outputs.push_back(Output::Answer { token, result });
    }

    /// Queues a command of the leader that no client waits for.
    pub(super) fn enqueue(&mut self, command: Command) {
        self.requests.queue.push((None, command));
    }

    /// Queues a client's command.
    pub(super) fn enqueue_for(&mut self, waiter: Waiter, command: Command) {
        self.requests.queue.push((Some(waiter), command));
    }

    /// Whether the queued commands wait for more of them, because earlier entries are not committed yet.
    fn gathers(&mut self, now_ms: u64) -> bool {
        let since = *self.requests.gathering_since.get_or_insert(now_ms);
        let may_wait = self.requests.queue.len() < GATHERED_MAX && now_ms < since + GATHER_MS;
        let log = &self.raw.raft.raft_log;
        may_wait && self.is_leader() && log.committed < log.last_index()
    }

    /// When the queued commands are to be proposed at the latest, milliseconds.
    pub(super) fn gathered_at(&self) -> Option<u64> {
        self.requests.gathering_since.map(|since| since + GATHER_MS)
    }

    /// Appends all queued commands to the log in one proposal.
    pub(super) fn propose(&mut self, now_ms: u64) {
        if self.requests.queue.is_empty() || self.gathers(now_ms) {
            return;
        }
        self.requests.gathering_since = None;
        let queue = std::mem::take(&mut self.requests.queue);
        let entries: Vec<_> = queue
            .iter()
            .map(|(_, command)| {
                let data = command.encode().into();
                Entry { data, ..Entry::default() }
            })
            .collect();
        let first = self.raw.raft.raft_log.last_index() + 1;
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.config.member;
        message.set_entries(entries.into());
        // Raft rejects a proposal without leadership, during its transfer, and with too much uncommitted.
        let is_taken = self.is_leader() && self.raw.raft.step(message).is_ok();
        if is_taken {
            self.note_commit_index_sent();
        }
        let term = self.raw.raft.term;
        for (index, (waiter, _)) in (first..).zip(queue) {
            if is_taken {
                let before = self.requests.proposed.insert(index, Proposed { term, waiter });
                // An earlier term's entry at the same index: this log lost it, and another log may have it.
                if let Some(waiter) = before.and_then(|before| before.waiter) {
                    self.unknown(waiter.token);
                }
            } else if let Some(Waiter { token, .. }) = waiter {
                self.refuse_write(token);
            }
        }
    }

    fn refuse_write(&mut self, token: Token) {
        if self.is_leader() && self.raw.raft.lead_transferee.is_none() {
            self.answer(token, Err(Failure::Overloaded));
        } else {
            self.send_elsewhere(token);
        }
    }

    /// Answers the write of the entry at `index`, which is applied with this result; `None` if it has no command.
    pub(super) fn complete_write(&mut self, index: u64, term: u64, result: Option<Result<Answer, Refusal>>) {
        let Some(Proposed { term: proposed, waiter: Some(waiter) }) = self.requests.proposed.remove(&index)
        else {
            return;
        };
        match result {
            Some(result) if proposed == term => self.answer(waiter.token, result.map_err(Failure::from)),
            // Another leader's entry has this index: the write was not committed and never will be.
            _ => self.send_elsewhere(waiter.token),
        }
    }

    /// Answers the writes up to `index` with an unknown outcome: a snapshot has replaced their entries.
    pub(super) fn forget_writes(&mut self, index: u64) {
        let later = self.requests.proposed.split_off(&(index + 1));
        for (_, proposed) in std::mem::replace(&mut self.requests.proposed, later) {
            if let Some(waiter) = proposed.waiter {
                self.unknown(waiter.token);
            }
        }
    }

    fn unknown(&mut self, token: Token) {
        let keyspace = self.config.keyspace.clone();
        self.answer(token, Err(Failure::OutcomeUnknown(keyspace)));
    }

    /// Begins a round for the waiting reads, unless [`ROUNDS_MAX`] are under way.
    pub(super) fn confirm_reads(&mut self, now_ms: u64) {
        let takes_part = self.takes_part();
        let requests = &mut self.requests;
        let is_wanted = !requests.reads.is_empty() || !requests.followers.is_empty();
        if !is_wanted || !takes_part || requests.rounds.len() >= ROUNDS_MAX {
            return;
        }
        // A leader knows the commit index only after it has committed an entry of its own term.
        let leads = self.raw.raft.state == StateRole::Leader;
        if leads && !self.raw.raft.commit_to_current_term() {
            return;
        }
        #[cfg(planted)]
        if leads && starling_planted::on(starling_planted::Bug::ReadWithoutQuorum) {
            let committed = self.raw.raft.raft_log.committed;
            requests.ready.push_back((committed, std::mem::take(&mut requests.reads)));
            return;
        }
        #[cfg(planted)]
        if !leads && starling_planted::on(starling_planted::Bug::FollowerDoesNotAsk) {
            let committed = self.raw.raft.raft_log.committed;
            requests.ready.push_back((committed, std::mem::take(&mut requests.reads)));
            return;
        }
        requests.next_round = requests.next_round.wrapping_add(1);
        let name = requests.next_round;
        let (batch, followers) =
            (std::mem::take(&mut requests.reads), std::mem::take(&mut requests.followers));
        let mut round = Round { name, began_ms: now_ms, batch, followers, last_indexes: None };
        // While writes are under way, logs reach beyond the commit index.
        let is_quiet = self.raw.raft.raft_log.last_index() == self.machine.applied();
        if leads {
            self.raw.read_index(name.to_be_bytes().to_vec());
        } else if is_quiet {
            round.last_indexes = Some(self.ask_last_indexes(now_ms, name));
        } else if let Some(to) = self.leader() {
            self.outputs.push_back(Output::Send { to, message: GroupMessage::AskIndex { name } });
        }
        self.requests.rounds.push_back(round);
    }

    /// Completes the rounds for which Raft has confirmed that this member led when they began.
    pub(super) fn confirmed(&mut self, states: Vec<ReadState>) {
        for state in states {
            let Ok(name) = state.request_ctx.as_slice().try_into().map(u64::from_be_bytes) else { continue };
            for round in self.requests.take_rounds(name) {
                for (to, name) in round.followers {
                    let message = GroupMessage::Index { name, index: state.index };
                    self.outputs.push_back(Output::Send { to, message });
                }
                self.requests.ready.push_back((state.index, round.batch));
            }
        }
    }

    /// Adds a follower that asks for the commit index to the next round.
    pub(super) fn on_ask_index(&mut self, now_ms: u64, from: NodeKey, name: u64) {
        if self.is_leader() && self.members.on(&from).is_some() {
            self.hurry(now_ms);
            let last = self.requests.followers.entry(from).or_insert(name);
            // Messages may arrive out of order: an older name must not replace a newer one.
            if name.wrapping_sub(*last).cast_signed() > 0 {
                *last = name;
            }
        }
    }

    /// Completes a follower's round: the leader has confirmed that it leads, with this commit index.
    pub(super) fn on_index(&mut self, from: NodeKey, name: u64, index: u64) {
        if self.leader() != Some(from) || self.is_leader() {
            return;
        }
        for round in self.requests.take_rounds(name) {
            if index > self.raw.raft.raft_log.last_index() + BEHIND_MAX {
                self.redirect(round.batch);
            } else {
                self.requests.ready.push_back((index, round.batch));
            }
        }
    }

    /// Answers the confirmed reads whose entry is applied, as far as the shared portion of rows allows. Returns
    /// whether transactions among them were queued as writes, because their conditions hold now.
    pub(super) fn serve_reads(&mut self, now_ms: u64) -> bool {
        self.confirm_by_last_indexes();
        let applied = self.raw.raft.raft_log.applied;
        let before = self.requests.queue.len();
        self.requests.is_left_over = false;
        for (index, batch) in std::mem::take(&mut self.requests.ready) {
            // Not in the order of indices: a later leader may have confirmed a lower one.
            if index > applied {
                self.requests.ready.push_back((index, batch));
                continue;
            }
            let mut later = Vec::new();
            for (waiter, query) in batch {
                if self.long_reads.is_used_up() && query.needs_room() {
                    later.push((waiter, query));
                } else {
                    self.serve(now_ms, waiter, query);
                }
            }
            if !later.is_empty() {
                self.requests.serve_later(later);
            }
        }
        self.requests.queue.len() > before
    }

    fn serve(&mut self, now_ms: u64, waiter: Waiter, query: Query) {
        let result = match query {
            Query::Read(read) => return self.read(waiter, read),
            Query::Lost(read, command) => match self.read_few(&read) {
                // Its conditions hold now.
                Ok(Ok(Answer { body: Body::Txn { succeeded: true, .. }, .. })) => {
                    if self.is_leader() {
                        self.enqueue_for(waiter, command);
                    } else {
                        self.send_elsewhere(waiter.token);
                    }
                    return;
                }
                Ok(result) => result,
                Err(error) => return self.answer(waiter.token, Err(Failure::Storage(error.to_string()))),
            },
            Query::KeepAlive(id) => self.machine.keep_alive(now_ms, id),
            Query::TimeToLive(id, keys) => {
                let result = self.machine.time_to_live(now_ms, id, keys);
                if let Ok(Answer { body: Body::TimeToLive { keys, .. }, .. }) = &result {
                    self.long_reads.use_up(keys.iter().map(Vec::len).sum());
                }
                result
            }
        };
        self.answer(waiter.token, result.map_err(Failure::from));
    }

    /// Starts the waiting reads again after a change of the leader: here if this member leads, else at the leader.
    pub(super) fn redirect_reads(&mut self) {
        let reads = self.requests.take_reads(self.raw.raft.raft_log.applied);
        self.requests.followers.clear();
        if self.is_leader() {
            self.requests.reads = reads;
        } else {
            self.redirect(reads);
            for waiter in self.revocations.take_if(|_| true) {
                self.send_elsewhere(waiter.token);
            }
        }
    }

    fn redirect(&mut self, batch: Batch) {
        for (waiter, _) in batch {
            self.send_elsewhere(waiter.token);
        }
    }

    /// Redirects a request that changed nothing to the leader, if another member is known to lead.
    fn send_elsewhere(&mut self, token: Token) {
        let leader = self.leader().filter(|_| !self.is_leader());
        self.outputs.push_back(Output::Redirect { token, leader });
    }

    /// Redirects the reads of a follower's rounds that were not confirmed in time.
    pub(super) fn expire_rounds(&mut self, now_ms: u64) {
        let is_late = |round: &Round| round.began_ms + CONFIRMED_MS <= now_ms;
        while !self.is_leader() && self.requests.rounds.front().is_some_and(is_late) {
            let late = self.requests.rounds.pop_front();
            self.redirect(late.map(|round| round.batch).unwrap_or_default());
        }
    }

    /// Answers the requests whose deadline has passed.
    pub(super) fn expire_requests(&mut self, now_ms: u64) {
        let mut late = Vec::new();
        Requests::retain(&mut self.requests.reads, now_ms, &mut late);
        self.long_reads.expire(now_ms, &mut late);
        for round in &mut self.requests.rounds {
            Requests::retain(&mut round.batch, now_ms, &mut late);
        }
        for (_, batch) in &mut self.requests.ready {
            Requests::retain(batch, now_ms, &mut late);
        }
        for token in late {
            let keyspace = self.config.keyspace.clone();
            self.answer(token, Err(Failure::Timeout(keyspace)));
        }
        let mut unknown = Vec::new();
        for proposed in self.requests.proposed.values_mut() {
            unknown.extend(proposed.waiter.take_if(|waiter| waiter.deadline_ms <= now_ms));
        }
        unknown.extend(self.revocations.take_if(|waiter| waiter.deadline_ms <= now_ms));
        // The entries stay here without a waiter until they are applied. The bound on uncommitted bytes also
        // bounds how many there are while there is no majority.
        for waiter in unknown {
            self.unknown(waiter.token);
        }
    }

    /// Answers all waiting requests with the reason why the group has stopped.
    pub(super) fn fail_requests(&mut self, stop: &Stop) {
        let proposed = std::mem::take(&mut self.requests.proposed);
        for waiter in proposed.into_values().filter_map(|proposed| proposed.waiter) {
            self.unknown(waiter.token);
        }
        let queue = std::mem::take(&mut self.requests.queue);
        let queued = queue.into_iter().filter_map(|(waiter, _)| waiter);
        let ready = std::mem::take(&mut self.requests.ready).into_iter().flat_map(|(_, batch)| batch);
        let asked = self.requests.take_reads(0);
        let waiting = ready.chain(asked).map(|(waiter, _)| waiter);
        let long = self.long_reads.take_all();
        let revoking = self.revocations.take_if(|_| true);
        for waiter in queued.chain(waiting).chain(long).chain(revoking).collect::<Vec<_>>() {
            self.refuse_request(waiter.token, stop);
        }
    }

    /// Answers a request that a stopped group has not carried out. If its storage failed, other members may serve it.
    fn refuse_request(&mut self, token: Token, stop: &Stop) {
        if matches!(stop, Stop::Storage(_)) && self.members.nodes.len() > 1 {
            self.outputs.push_back(Output::Redirect { token, leader: None });
        } else {
            let failure = self.failure(stop);
            self.answer(token, Err(failure));
        }
    }

    fn failure(&self, stop: &Stop) -> Failure {
        match stop {
            Stop::Diverged => Failure::Diverged(self.config.keyspace.clone()),
            stop => Failure::Storage(stop.to_string()),
        }
    }

    /// Answers a request to a stopped group.
    pub(super) fn refuse(&mut self, input: &Input) {
        let Some(stop) = self.stopped.clone() else { return };
        match *input {
            Input::Request { token, .. } => self.refuse_request(token, &stop),
            Input::SetVoters { token, .. } | Input::Transfer { token, .. } | Input::Drop { token } => {
                self.outputs.push_back(Output::Changed { token, result: Err(ChangeError::NotLeader) });
            }
            _ => {}
        }
    }
}
