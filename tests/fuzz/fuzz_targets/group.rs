//! Peers of a group that say anything in any order, to one that founded it with them and to one that they
//! invited: messages that fit the group's log nearly, or not at all, between ticks, syncs and requests. Handled
//! or dropped, never a panic. Raft stops the process where a peer says what cannot be: this is what finds out
//! whether anything of it gets past our checks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use starling_kv::MemoryEngine;
use starling_strong::api::{Options, Put, Request, Write};
use starling_strong::group::wire::{Kind, Offer, RaftMessage, WireEntry};
use starling_strong::group::{
    Group, GroupConfig, GroupMessage, History, Input, KEPT_ENTRIES, Output, Promises,
};
use starling_strong::log::LogPosition;
use starling_strong::machine;
use starling_strong::members::Members;

const KINDS: [Kind; 10] = [
    Kind::Append,
    Kind::AppendReply,
    Kind::Vote,
    Kind::VoteReply,
    Kind::PreVote,
    Kind::PreVoteReply,
    Kind::Heartbeat,
    Kind::HeartbeatReply,
    Kind::Snapshot,
    Kind::TimeoutNow,
];

/// The next decision of the fuzzer; 0 when it has made all.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = (self.byte() as usize % 48).min(self.0.len());
        self.0.split_off(..length).unwrap_or_default().to_vec()
    }

    /// Mostly one that is near those of the group, sometimes one that is far away.
    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => 1 << 62,
            253 => (1 << 62) - 1,
            number => u64::from(number % 16),
        }
    }

    fn numbers(&mut self) -> impl Iterator<Item = u64> {
        let count = self.byte() % 5;
        (0..count).map(|_| self.number()).collect::<Vec<_>>().into_iter()
    }

    fn members(&mut self) -> Members {
        Members {
            voters: self.numbers().collect(),
            learners: self.numbers().collect(),
            outgoing: self.numbers().collect(),
            learners_next: self.numbers().collect(),
            auto_leave: self.byte() % 2 == 1,
            nodes: self.numbers().map(|id| (id, node(id as u8))).collect(),
            next: self.number(),
        }
    }

    fn position(&mut self) -> LogPosition {
        LogPosition { term: self.number(), index: self.number() }
    }

    fn entry(&mut self) -> WireEntry {
        WireEntry { kind: self.byte() % 4, term: self.number(), context: self.bytes(), data: self.bytes() }
    }

    fn raft(&mut self) -> RaftMessage {
        let kind = KINDS[self.byte() as usize % KINDS.len()];
        let count = if kind == Kind::Append { self.byte() % 5 } else { 0 };
        let is_offered = kind == Kind::Snapshot;
        RaftMessage {
            kind,
            from: self.number() % 4,
            to: 1,
            term: self.number(),
            log_term: self.number(),
            index: self.number(),
            commit: self.number(),
            commit_term: self.number(),
            reject: self.byte() % 2 == 1,
            reject_hint: self.number(),
            context: if self.byte() % 8 == 0 { self.bytes() } else { Vec::new() },
            entries: (0..count).map(|_| self.entry()).collect(),
            snapshot: is_offered.then(|| {
                let (index, term) = (self.number(), self.number());
                let members = if self.byte() % 4 == 0 { self.members() } else { Members::initial(&nodes()) };
                Box::new(Offer { index, term, members })
            }),
        }
    }

    fn message(&mut self) -> GroupMessage {
        match self.byte() % 32 {
            0 => GroupMessage::Gone { member: self.number(), voters: nodes().to_vec() },
            1 => {
                GroupMessage::Pull { index: self.number(), cursor: self.bytes(), bytes: self.number() as u32 }
            }
            2 | 3 => GroupMessage::Chunk { index: self.number(), bytes: self.bytes() },
            4 => GroupMessage::NoSnapshot { index: self.number() },
            5 => GroupMessage::Hash { index: self.number(), hash: [self.byte(); 32] },
            6 => GroupMessage::CheckMembership { member: self.number() },
            7 => GroupMessage::AskIndex { name: self.number() },
            8 => GroupMessage::Index { name: self.number(), index: self.number() },
            9 => GroupMessage::AskLastIndex { name: self.number() },
            10 => {
                GroupMessage::LastIndex { name: self.number(), member: self.number(), index: self.number() }
            }
            11 => {
                let (name, member) = (self.number(), self.number());
                GroupMessage::AskPromises { name, member, last: self.position() }
            }
            12 => GroupMessage::Promises {
                name: self.number(),
                reply: Promises {
                    member: self.number(),
                    term: self.number(),
                    committed: self.position(),
                    last: self.position(),
                    acknowledged: self.position(),
                },
            },
            13 => GroupMessage::AskMembers,
            14 => {
                let members = self.numbers().map(|id| (id, node(id as u8))).collect();
                GroupMessage::Members { members }
            }
            _ => GroupMessage::Raft(self.raft()),
        }
    }
}

fn node(number: u8) -> [u8; 32] {
    [number; 32]
}

fn nodes() -> [[u8; 32]; 3] {
    [1, 2, 3].map(node)
}

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices(bytes);
    let config = GroupConfig {
        group: [9; 16],
        keyspace: "orders".into(),
        node: node(1),
        member: 1,
        machine: machine::Config::default(),
        history: History::default(),
        kept_entries: KEPT_ENTRIES,
        in_journal: true,
    };
    let is_founder = choices.byte() % 4 != 0;
    let opened = if is_founder {
        Group::create(MemoryEngine::new(), config, &nodes(), [7; 32], 0)
    } else {
        Group::join(MemoryEngine::new(), config, nodes(), [7; 32], 0)
    };
    let mut group = opened.expect("a memory engine opens");
    let (mut now_ms, mut written, mut token) = (0, 0, 0);
    while !choices.0.is_empty() {
        let input = match choices.byte() % 16 {
            0 => {
                now_ms += u64::from(choices.byte()) * 10;
                Input::Timeout
            }
            1..4 => Input::Synced(written),
            4 => Input::PeerDown(node(choices.byte() % 4)),
            5 => {
                token += 1;
                let put = Put { key: vec![1], value: Some(vec![2]), lease: None, prev: false };
                let options = Options { timeout_ms: 1_000, stale: false, id: None, fence: None };
                Input::Request { token, request: Request::Write(Write::Put(put)), options }
            }
            6 => Input::SetVoters { token: 0, nodes: nodes()[..choices.byte() as usize % 4].to_vec() },
            7 => Input::Transfer { token: 0, to: node(choices.byte() % 4) },
            8 => Input::Drop { token: 0 },
            _ => Input::Message { from: node(choices.byte() % 4), message: choices.message() },
        };
        group.step(now_ms, input);
        // Several inputs may have arrived together.
        if choices.byte() % 4 == 0 {
            continue;
        }
        group.process_ready(now_ms);
        while let Some(output) = group.poll_output() {
            if let Output::Sync(number) = output {
                written = number;
            }
        }
    }
});
