//! Clients that wait: writes until their entry is applied, reads until a majority has confirmed that this
//! member still leads.

use std::collections::{BTreeMap, VecDeque};

use raft::eraftpb::{Entry, Message, MessageType};
use raft::{ReadState, StateRole};
use starling_kv::Engine;

use super::{ChangeError, Group, Input, Output, Stop, Token};
use crate::api::{Answer, Failure, LeaseId, Options, Read, Refusal, Request};
use crate::machine::Command;

/// Most requests that wait in a group; beyond, they are refused.
const WAITING_MAX: usize = 8192;

/// A read, or what is answered like one.
enum Query {
    Read(Read),
    KeepAlive(LeaseId),
    TimeToLive(LeaseId, bool),
}

/// Who waits, and until when.
#[derive(Clone, Copy)]
pub struct Waiter {
    pub token: Token,
    pub deadline_ms: u64,
}

/// A write whose entry is in the log.
struct Proposed {
    term: u64,
    /// Nobody waits for what the leader proposes by itself.
    waiter: Option<Waiter>,
}

/// Reads that are confirmed together.
type Batch = Vec<(Waiter, Query)>;

/// Everybody who waits.
pub struct Requests {
    /// Commands to be proposed in one go.
    queue: Vec<(Option<Waiter>, Command)>,
    /// Index of the entry -> its writer.
    proposed: BTreeMap<u64, Proposed>,
    /// Reads for the next round.
    reads: Batch,
    /// The round that is under way, by its name.
    round: Option<(u64, Batch)>,
    /// Names the next round.
    next_round: u64,
    /// Confirmed, to be served once this entry is applied.
    ready: VecDeque<(u64, Batch)>,
}

impl Requests {
    pub fn new(first_round: u64) -> Self {
        Self {
            queue: Vec::new(),
            proposed: BTreeMap::new(),
            reads: Vec::new(),
            round: None,
            next_round: first_round,
            ready: VecDeque::new(),
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        let round = self.round.as_ref().map_or(0, |(_, batch)| batch.len());
        let ready: usize = self.ready.iter().map(|(_, batch)| batch.len()).sum();
        self.queue.len() + self.proposed.len() + self.reads.len() + round + ready
    }

    /// Raft says that this member led when these rounds began.
    pub fn confirmed(&mut self, states: Vec<ReadState>) {
        for state in states {
            let Some((name, batch)) = self.round.take() else { continue };
            if state.request_ctx == name.to_be_bytes() {
                self.ready.push_back((state.index, batch));
            } else {
                self.round = Some((name, batch));
            }
        }
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
        if !self.is_leader() {
            let leader = self.leader();
            self.outputs.push_back(Output::Redirect { token, leader });
            return;
        }
        if self.waiting() >= WAITING_MAX {
            self.answer(token, Err(Failure::Overloaded));
            return;
        }
        let query = match request {
            Request::Write(write) => {
                let command = Command::Write { id: options.id, fence: options.fence.clone(), write };
                match self.machine.admit(command) {
                    Ok(command) => self.requests.queue.push((Some(waiter), command)),
                    Err(refusal) => self.answer(token, Err(refusal.into())),
                }
                return;
            }
            Request::Read(read) => Query::Read(read),
            Request::KeepAlive { id } => Query::KeepAlive(id),
            Request::TimeToLive { id, keys } => Query::TimeToLive(id, keys),
        };
        self.requests.reads.push((waiter, query));
    }

    /// How many requests wait.
    pub(super) fn waiting(&self) -> usize {
        self.requests.len() + self.long_reads.len()
    }

    pub(super) fn answer(&mut self, token: Token, result: Result<Answer, Failure>) {
        self.outputs.push_back(Output::Answer { token, result });
    }

    /// A command of the leader's own.
    pub(super) fn enqueue(&mut self, command: Command) {
        self.requests.queue.push((None, command));
    }

    /// Everything that was asked since the last time goes into the log in one go.
    pub(super) fn propose(&mut self) {
        let queue = std::mem::take(&mut self.requests.queue);
        if queue.is_empty() {
            return;
        }
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
        // Raft refuses while it hands over leadership, without it, and when too much is uncommitted.
        let is_taken = self.is_leader() && self.raw.raft.step(message).is_ok();
        let term = self.raw.raft.term;
        for (index, (waiter, _)) in (first..).zip(queue) {
            if is_taken {
                let before = self.requests.proposed.insert(index, Proposed { term, waiter });
                // An entry of an earlier term of ours: it is not in our log, and may be in another's.
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
            let leader = self.leader().filter(|_| !self.is_leader());
            self.outputs.push_back(Output::Redirect { token, leader });
        }
    }

    /// The entry at `index` is applied, with this result; `None`: it was no command.
    pub(super) fn settle_write(&mut self, index: u64, term: u64, result: Option<Result<Answer, Refusal>>) {
        let Some(Proposed { term: proposed, waiter: Some(waiter) }) = self.requests.proposed.remove(&index)
        else {
            return;
        };
        match result {
            Some(result) if proposed == term => self.answer(waiter.token, result.map_err(Failure::from)),
            // Another entry came to stand there: this one never will be applied.
            _ => {
                let leader = self.leader().filter(|_| !self.is_leader());
                self.outputs.push_back(Output::Redirect { token: waiter.token, leader });
            }
        }
    }

    /// A snapshot stands for the entries up to `index`: what became of writes among them is not known.
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

    /// Begins a round for the reads that wait, unless one is under way.
    pub(super) fn confirm_reads(&mut self) {
        let requests = &mut self.requests;
        let may_begin = requests.round.is_none() && !requests.reads.is_empty();
        // Before it has committed an entry of its own term, a leader does not know what is committed.
        let knows = self.raw.raft.state == StateRole::Leader && self.raw.raft.commit_to_current_term();
        #[cfg(planted)]
        if may_begin && knows && starling_planted::on(starling_planted::Bug::ReadWithoutQuorum) {
            let committed = self.raw.raft.raft_log.committed;
            requests.ready.push_back((committed, std::mem::take(&mut requests.reads)));
            return;
        }
        if may_begin && knows {
            requests.next_round = requests.next_round.wrapping_add(1);
            requests.round = Some((requests.next_round, std::mem::take(&mut requests.reads)));
            self.raw.read_index(requests.next_round.to_be_bytes().to_vec());
        }
    }

    /// Answers the reads whose entry is applied.
    pub(super) fn serve_reads(&mut self, now_ms: u64) {
        let applied = self.raw.raft.raft_log.applied;
        while self.requests.ready.front().is_some_and(|(index, _)| *index <= applied) {
            let Some((_, batch)) = self.requests.ready.pop_front() else { break };
            for (waiter, query) in batch {
                let result = match query {
                    Query::Read(read) => {
                        self.read(waiter, read);
                        continue;
                    }
                    Query::KeepAlive(id) => self.machine.keep_alive(now_ms, id),
                    Query::TimeToLive(id, keys) => self.machine.time_to_live(now_ms, id, keys),
                };
                self.answer(waiter.token, result.map_err(Failure::from));
            }
        }
        self.long_reads.end_turn();
    }

    /// This member does not lead: reads that are not confirmed have to be asked elsewhere.
    pub(super) fn redirect_reads(&mut self) {
        let leader = self.leader();
        let round = self.requests.round.take().map(|(_, batch)| batch).unwrap_or_default();
        for (waiter, _) in round.into_iter().chain(std::mem::take(&mut self.requests.reads)) {
            self.outputs.push_back(Output::Redirect { token: waiter.token, leader });
        }
    }

    /// Gives up requests whose time is over.
    pub(super) fn expire_requests(&mut self, now_ms: u64) {
        let mut late = Vec::new();
        Requests::retain(&mut self.requests.reads, now_ms, &mut late);
        self.long_reads.expire(now_ms, &mut late);
        if let Some((_, batch)) = &mut self.requests.round {
            Requests::retain(batch, now_ms, &mut late);
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
        // Without a majority, entries whose writers are gone would pile up here; the log's bound on what
        // is uncommitted keeps them few.
        for waiter in unknown {
            self.unknown(waiter.token);
        }
    }

    /// The group has stopped: nobody is answered any more.
    pub(super) fn fail_requests(&mut self, stop: &Stop) {
        let failure = self.failure(stop);
        let proposed = std::mem::take(&mut self.requests.proposed);
        for waiter in proposed.into_values().filter_map(|proposed| proposed.waiter) {
            self.unknown(waiter.token);
        }
        let queue = std::mem::take(&mut self.requests.queue);
        let queued = queue.into_iter().filter_map(|(waiter, _)| waiter);
        let round = self.requests.round.take().map(|(_, batch)| batch).unwrap_or_default();
        let ready = std::mem::take(&mut self.requests.ready).into_iter().flat_map(|(_, batch)| batch);
        let asked = std::mem::take(&mut self.requests.reads);
        let waiting = round.into_iter().chain(ready).chain(asked).map(|(waiter, _)| waiter);
        let long = self.long_reads.give_up();
        for waiter in queued.chain(waiting).chain(long).collect::<Vec<_>>() {
            self.answer(waiter.token, Err(failure.clone()));
        }
    }

    fn failure(&self, stop: &Stop) -> Failure {
        match stop {
            Stop::Diverged => Failure::Diverged(self.config.keyspace.clone()),
            stop => Failure::Storage(stop.to_string()),
        }
    }

    /// What a stopped group says.
    pub(super) fn refuse(&mut self, input: &Input) {
        let Some(stop) = self.stopped.clone() else { return };
        match *input {
            Input::Request { token, .. } => {
                let failure = self.failure(&stop);
                self.answer(token, Err(failure));
            }
            Input::SetVoters { token, .. } | Input::Transfer { token, .. } => {
                self.outputs.push_back(Output::Changed { token, result: Err(ChangeError::NotLeader) });
            }
            _ => {}
        }
    }
}
