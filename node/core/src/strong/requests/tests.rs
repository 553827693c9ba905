use starling_kv::MemoryEngine;
use starling_strong::api::{Body, Keys, Put, Range, Read, RequestId, Txn, TxnOp};
use starling_strong::group::Found;
use starling_strong::machine::DATED;

use super::super::input::Effect;
use super::super::testing::Outside;
use super::*;

const TOKEN: Token = 5;

struct Fixture {
    node: Outside,
    requests: Requests,
}

impl Fixture {
    fn new() -> Self {
        Self { node: Outside::new(), requests: Requests::default() }
    }

    fn handler(&mut self) -> Handler<'_, MemoryEngine> {
        let Outside { cx, directory, replicas } = &mut self.node;
        Handler { cx, state: &mut self.requests, directory, replicas }
    }

    fn write(&mut self, id: Option<RequestId>) {
        let put = Put { key: b"k".to_vec(), value: Some(b"v".to_vec()), lease: None, prev: false };
        let options = Options { timeout_ms: 5_000, stale: false, id, fence: None };
        self.handler().request(TOKEN, "orders".into(), Request::Write(Write::Put(put)), options);
    }

    fn read(&mut self) {
        let read = Read::Range(Range::of(Keys::One(b"k".to_vec())));
        let options = Options { timeout_ms: 5_000, stale: false, id: None, fence: None };
        self.handler().request(TOKEN, "orders".into(), Request::Read(read), options);
    }

    /// The node that got the only message since the last call, and its id.
    fn asked(&mut self) -> (u8, u64) {
        match &self.node.sent()[..] {
            [(to, StrongMessage::Request { id, .. })] => (*to, *id),
            sent => panic!("not one request: {sent:?}"),
        }
    }

    fn answer(&mut self) -> Option<Result<Answer, Failure>> {
        self.node.effects().into_iter().find_map(|effect| match effect {
            Effect::Client(StrongOutput::Answer { token: TOKEN, result }) => Some(result),
            _ => None,
        })
    }

    /// Lets time pass until a deadline is due.
    fn pass(&mut self) {
        let at = self.node.cx.timers.next().expect("a deadline");
        self.node.cx.now_ms = at.0;
        while let Some(timer) = self.node.cx.timers.pop_due(at) {
            if let Timer::Request(id) = timer {
                self.handler().on_timeout(id);
            }
        }
    }
}

fn named() -> RequestId {
    RequestId { client: 7, seq: 1, answered_below: 1 }
}

fn key(n: u8) -> NodeKey {
    [n; 32]
}

#[test]
fn a_transaction_that_no_node_decodes_is_not_sent() {
    let mut node = Fixture::new();
    let ask = |node: &mut Fixture, depth: usize| {
        let nest = |inner, _| Txn { then: vec![TxnOp::Txn(inner)], ..Txn::default() };
        let txn = (1..depth).fold(Txn::default(), nest);
        let options = Options { timeout_ms: 5_000, stale: false, id: None, fence: None };
        node.handler().request(TOKEN, "orders".into(), Request::txn(txn), options);
        (node.node.sent().len(), node.answer())
    };
    for version in [2, DATED] {
        node.node.replicas.set_version(version);
        let deepest = usize::from(txn_depth_max(version));
        let (sent, answer) = ask(&mut node, deepest + 1);
        assert!(matches!(answer, Some(Err(Failure::Refused(Refusal::TooManyOps { .. })))), "{answer:?}");
        assert_eq!(sent, 0);
        assert_eq!(ask(&mut node, deepest), (1, None));
    }
}

#[test]
fn only_nodes_that_were_asked_reply() {
    let mut node = Fixture::new();
    node.write(None);
    let (at, id) = node.asked();
    assert!(node.requests.has_asked(id, &key(at)));
    assert!(!node.requests.has_asked(id, &key(9)) && !node.requests.has_asked(id + 1, &key(at)));
    let reply = StrongMessage::Response { id, result: Err(Failure::Overloaded) };
    assert_eq!(reply.replies_to(), Some(id));
}

#[test]
fn a_redirection_is_followed_at_once_a_few_times() {
    let mut node = Fixture::new();
    node.write(None);
    let (mut at, id) = node.asked();
    assert_eq!(at, 2, "the leader");
    for hop in 1..=HOPS_MAX {
        let next = 2 + (at - 1) % 3;
        node.handler().on_redirect(id, Some(key(next)), &[]);
        at = node.asked().0;
        assert_eq!(at, next, "hop {hop}");
    }
    node.handler().on_redirect(id, Some(key(2 + (at - 1) % 3)), &[]);
    assert_eq!(node.node.sent(), [], "after that with a pause");
    node.pass();
    node.asked();
}

#[test]
fn a_write_that_may_have_arrived_is_repeated_if_it_is_named_only() {
    let mut node = Fixture::new();
    node.write(None);
    node.asked();
    node.handler().on_peer_down(key(2), true);
    assert_eq!(node.answer(), Some(Err(Failure::OutcomeUnknown("orders".into()))));

    node.write(Some(named()));
    node.asked();
    node.handler().on_peer_down(key(2), true);
    assert_eq!(node.answer(), None);
    node.pass();
    node.asked();

    let mut node = Fixture::new();
    node.write(None);
    node.asked();
    node.handler().on_peer_down(key(2), false);
    assert_eq!(node.answer(), None, "the dial failed: it did not arrive");
    node.pass();
    node.asked();
}

#[test]
fn a_write_without_a_majority_names_the_voters_that_are_silent() {
    let mut node = Fixture::new();
    node.write(Some(named()));
    let answer = loop {
        node.pass();
        node.node.sent();
        if let Some(answer) = node.answer() {
            break answer;
        }
    };
    let failure = answer.expect_err("nobody answers");
    assert!(matches!(failure, Failure::Unconfirmed { .. }), "{failure:?}");
    let message = failure.to_string();
    assert!(message.contains("n2, n3") && message.contains("may or may not"), "{message}");
}

#[test]
fn news_of_a_leader_moves_what_may_be_repeated() {
    let mut node = Fixture::new();
    node.write(Some(named()));
    node.asked();
    node.handler().on_leader("orders", key(2));
    assert_eq!(node.node.sent(), [], "it is there already");
    node.handler().on_leader("orders", key(3));
    assert_eq!(node.asked().0, 3);

    let mut node = Fixture::new();
    node.write(None);
    node.asked();
    node.handler().on_leader("orders", key(3));
    assert_eq!(node.node.sent(), []);
}

#[test]
fn without_a_leader_the_missing_nodes_are_named() {
    let mut node = Fixture::new();
    node.write(None);
    let (_, id) = node.asked();
    node.handler().on_redirect(id, None, &[key(4)]);
    let mut answer = None;
    while answer.is_none() {
        node.pass();
        for (_, message) in node.node.sent() {
            let StrongMessage::Request { id, .. } = message else { panic!("{message:?}") };
            node.handler().on_redirect(id, None, &[key(4)]);
        }
        answer = node.answer();
    }
    let (keyspace, missing) = ("orders".into(), vec!["n4".into()]);
    assert_eq!(answer, Some(Err(Failure::NoMajority { keyspace, missing })));
    assert!((NO_LEADER_MS..NO_LEADER_MS + 1_000).contains(&node.node.cx.now_ms));
}

#[test]
fn an_unknown_keyspace_is_looked_up_for_a_while() {
    let mut node = Fixture::new();
    node.node.directory.forget("orders");
    node.read();
    let looked_up = |effects: &[Effect]| {
        effects.iter().any(|effect| matches!(effect, Effect::Call(CoreCall::Lookup { .. })))
    };
    assert!(looked_up(&node.node.effects()));
    let mut answer = None;
    while answer.is_none() {
        node.pass();
        answer = node.answer();
    }
    assert_eq!(answer, Some(Err(Failure::NoSuchKeyspace("orders".into()))));
    assert!((UNKNOWN_MS..UNKNOWN_MS + 1_000).contains(&node.node.cx.now_ms));
    assert_eq!(node.node.sent(), []);
}

/// A member's reply to a probe: its log ends with entry `last`; a leader's state contains it.
fn probed(member: u64, last: u64, leads: bool) -> Probed {
    let result = Ok(Answer { revision: 3, body: Body::Compacted });
    let found = leads.then(|| Found {
        applied: last,
        voters: BTreeSet::from([1, 2, 3]),
        outgoing: BTreeSet::new(),
        result,
    });
    Probed { member, last, found }
}

#[test]
fn a_read_from_outside_needs_the_leader_and_one_more_member() {
    let mut node = Fixture::new();
    node.read();
    let sent = node.node.sent();
    let reads: Vec<(u8, bool)> = sent
        .iter()
        .map(|(to, message)| match message {
            StrongMessage::Probe { read, .. } => (*to, read.is_some()),
            message => panic!("{message:?}"),
        })
        .collect();
    assert_eq!(reads, [(2, true), (3, false), (4, false)]);
    let StrongMessage::Probe { id, .. } = sent[0].1 else { panic!("{sent:?}") };
    node.handler().on_probed(key(2), id, Some(probed(1, 7, true)));
    assert_eq!(node.answer(), None, "one of three");
    node.handler().on_probed(key(3), id, Some(probed(2, 7, false)));
    assert!(matches!(node.answer(), Some(Ok(Answer { revision: 3, .. }))));
}

#[test]
fn a_read_that_no_other_member_confirms_in_time_goes_to_the_leader() {
    let mut node = Fixture::new();
    node.read();
    let StrongMessage::Probe { id, .. } = node.node.sent()[0].1 else { panic!("a probe") };
    let began_ms = node.node.cx.now_ms;
    node.handler().on_probed(key(2), id, Some(probed(1, 7, true)));
    node.handler().on_probed(key(3), id, Some(probed(2, 8, false)));
    assert_eq!(node.answer(), None, "a longer log does not confirm it, and the third member is silent");
    node.pass();
    assert_eq!((node.asked(), node.node.cx.now_ms - began_ms), ((2, id), CONFIRM_MS));
}

#[test]
fn a_read_while_others_write_goes_to_the_leader() {
    let mut node = Fixture::new();
    node.read();
    let StrongMessage::Probe { id, .. } = node.node.sent()[0].1 else { panic!("a probe") };
    node.handler().on_probed(key(2), id, Some(probed(1, 7, true)));
    node.handler().on_probed(key(3), id, Some(probed(2, 8, false)));
    node.handler().on_probed(key(4), id, Some(probed(3, 9, false)));
    assert_eq!(node.asked(), (2, id));
    // For a moment the next ones do so at once.
    node.read();
    assert_eq!(node.asked().0, 2);
}
