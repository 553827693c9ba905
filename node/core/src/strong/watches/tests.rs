use starling_kv::MemoryEngine;
use starling_proto::Millis;
use starling_proto::wire::STRONG_FRAME_BYTES_MAX;
use starling_strong::api::{
    Delete, Event, EventKind, KeyValue, Keys, Put, Txn, TxnOp, Watch, WatchUpdate, Write,
};
use starling_strong::members::NodeKey;

use super::super::context::{Context, Timer};
use super::super::input::{Effect, StrongOutput};
use super::super::message::{StrongMessage, decode_frame};
use super::super::testing::{ME, Member, Outside};
use super::client::{ClientWatches, Handler};
use super::served::{self, ServedWatches};
use crate::Token;

const TOKEN: Token = 5;

struct Fixture {
    node: Outside,
    watches: ClientWatches,
}

impl Fixture {
    fn new() -> Self {
        Self { node: Outside::new(), watches: ClientWatches::default() }
    }

    fn handler(&mut self) -> Handler<'_, MemoryEngine> {
        let Outside { cx, directory, replicas } = &mut self.node;
        Handler { cx, state: &mut self.watches, directory, replicas }
    }

    fn open(&mut self, credit: u32) {
        let watch = Watch { keys: Keys::One(b"k".to_vec()), from_revision: 0, prev: false, only: None };
        self.handler().open(TOKEN, "orders".into(), watch, credit);
    }

    /// The node that is asked to serve the watch, its id, and the revision that it begins with.
    fn asked(&mut self) -> (NodeKey, u64, u64) {
        let sent = self.node.sent();
        let asked = sent.iter().find_map(|(to, message)| match message {
            StrongMessage::Watch { id, watch, .. } => Some(([*to; 32], *id, watch.from_revision)),
            _ => None,
        });
        asked.unwrap_or_else(|| panic!("no node is asked: {sent:?}"))
    }

    fn updates(&mut self) -> Vec<WatchUpdate> {
        let effects = self.node.effects().into_iter();
        let update = |effect| match effect {
            Effect::Client(StrongOutput::Update { token: TOKEN, update }) => Some(update),
            _ => None,
        };
        effects.filter_map(update).collect()
    }

    /// Lets time pass until a deadline is due.
    fn pass(&mut self) {
        let at = self.node.cx.timers.next().expect("a deadline");
        self.node.cx.now_ms = at.0;
        while let Some(timer) = self.node.cx.timers.pop_due(at) {
            if let Timer::Watch(token) = timer {
                self.handler().on_timeout(token);
            }
        }
    }
}

fn created(revision: u64) -> WatchUpdate {
    WatchUpdate::Created { revision }
}

fn events(revision: u64) -> WatchUpdate {
    WatchUpdate::Events { revision, events: Vec::new() }
}

#[test]
fn a_repeated_update_is_delivered_once_and_a_missing_one_reopens_the_watch() {
    let mut node = Fixture::new();
    node.open(100);
    let (at, id, from) = node.asked();
    assert_eq!(from, 0, "from now on");
    node.handler().on_update(at, id, 0, created(10));
    node.handler().on_update(at, id, 1, events(11));
    node.handler().on_update(at, id, 1, events(11));
    assert_eq!(node.updates(), [created(10), events(11)]);
    node.handler().on_update(at, id, 3, events(13));
    assert_eq!(node.updates(), []);
    assert_eq!(node.node.sent(), [(at[0], StrongMessage::Unwatch { id })]);
    node.pass();
    let (next, id, from) = node.asked();
    assert_eq!(from, 12, "behind what was delivered");
    // The client knows already that its watch is open.
    node.handler().on_update(next, id, 0, created(13));
    node.handler().on_update(next, id, 1, events(13));
    assert_eq!(node.updates(), [events(13)]);
}

#[test]
fn a_silent_watch_is_checked_and_one_that_lost_its_last_update_is_opened_again() {
    let mut node = Fixture::new();
    node.open(100);
    let (at, id, _) = node.asked();
    node.handler().on_update(at, id, 0, created(10));
    node.pass();
    assert_eq!(node.node.sent(), [(at[0], StrongMessage::Check { id, received: 1, updates: 100 })]);
    node.handler().on_checked(at, id, 1);
    assert_eq!(node.node.sent(), [(at[0], StrongMessage::Progress { id })]);
    node.pass();
    assert_eq!(node.node.sent(), [(at[0], StrongMessage::Check { id, received: 1, updates: 100 })]);
    node.handler().on_checked(at, id, 2);
    node.node.sent();
    node.pass();
    assert_eq!(node.asked().2, 11);
}

#[test]
fn progress_is_requested_from_the_next_member_if_the_first_one_is_lost() {
    let mut node = Fixture::new();
    node.open(100);
    let (at, id, _) = node.asked();
    node.handler().on_update(at, id, 0, created(10));
    node.handler().progress(TOKEN);
    assert_eq!(node.node.sent(), [(at[0], StrongMessage::Progress { id })]);
    node.handler().on_peer_down(at);
    node.pass();
    let (next, id, _) = node.asked();
    node.handler().on_update(next, id, 0, created(10));
    assert_eq!(node.node.sent(), [(next[0], StrongMessage::Progress { id })]);
    node.handler().on_update(next, id, 1, WatchUpdate::Progress { revision: 10 });
    node.handler().on_peer_down(next);
    node.pass();
    let (third, id, _) = node.asked();
    node.handler().on_update(third, id, 0, created(10));
    assert_eq!(node.node.sent(), [], "nothing is requested any more");
}

#[test]
fn a_watch_without_credit_asks_no_node() {
    let mut node = Fixture::new();
    node.open(0);
    assert_eq!(node.node.sent(), []);
    assert_eq!(node.node.cx.timers.next(), None);
    node.handler().more(TOKEN, 1);
    node.asked();
}

#[test]
fn no_member_is_asked_for_ever() {
    let mut node = Fixture::new();
    node.open(1);
    let mut asked = std::collections::BTreeSet::new();
    while node.node.cx.timers.next().is_some() {
        asked.extend(node.node.sent().into_iter().map(|(to, _)| to));
        node.pass();
    }
    assert!(matches!(node.updates()[..], [WatchUpdate::Lost { .. }]));
    assert_eq!(asked, [2, 3, 4].into());
    assert!(!asked.contains(&ME[0]));
}

fn deletion(revision: u64, value_bytes: usize) -> Event {
    let kv = KeyValue { key: b"k".to_vec(), mod_revision: revision, ..KeyValue::default() };
    let prev = KeyValue { value: vec![1; value_bytes], ..kv.clone() };
    Event { kv, kind: EventKind::Delete, prev: Some(prev) }
}

#[test]
fn the_parts_of_a_revision_are_delivered_together() {
    let mut node = Fixture::new();
    node.open(2);
    let (at, id, _) = node.asked();
    node.handler().on_update(at, id, 0, created(10));
    let part = |revision, events: &[u64]| WatchUpdate::Events {
        revision,
        events: events.iter().map(|revision| deletion(*revision, 1)).collect(),
    };
    node.handler().on_update(at, id, 1, part(11, &[11, 12]));
    node.handler().on_update(at, id, 2, part(11, &[12, 12]));
    assert_eq!(node.updates(), [created(10), part(11, &[11])]);
    assert_eq!(node.node.sent(), [(at[0], StrongMessage::More { id, updates: 1 })], "for the part alone");
    node.handler().on_update(at, id, 3, part(13, &[12, 13]));
    assert_eq!(node.updates(), [part(13, &[12, 12, 12, 12, 13])]);
    // Another member begins a revision again.
    node.handler().more(TOKEN, 2);
    node.handler().on_update(at, id, 4, part(13, &[14]));
    node.handler().on_peer_down(at);
    node.pass();
    let (next, id, from) = node.asked();
    assert_eq!(from, 14);
    node.handler().on_update(next, id, 0, created(14));
    node.handler().on_update(next, id, 1, part(14, &[14, 14]));
    assert_eq!(node.updates(), [part(14, &[14, 14])]);
}

/// The end that serves watches, on the only member of a group.
struct Serving {
    member: Member,
    watches: ServedWatches,
}

impl Serving {
    /// Serves watches of everything to node 2, each with this credit.
    fn begin(count: u64, credit: u32) -> Self {
        let mut serving = Self { member: Member::new(), watches: ServedWatches::default() };
        let everything = Keys::Range { from: Vec::new(), to: None };
        for id in 0..count {
            let watch = Watch { keys: everything.clone(), from_revision: 0, prev: true, only: None };
            serving.handler().on_watch([2; 32], id, Member::GROUP, watch, credit);
        }
        serving.serve();
        serving
    }

    fn handler(&mut self) -> served::Handler<'_, MemoryEngine> {
        let Member { cx, replicas } = &mut self.member;
        served::Handler { cx, state: &mut self.watches, replicas }
    }

    /// Does one step, and returns the updates sent in it, with the bytes of the largest frame.
    fn step(&mut self) -> (Vec<(u64, WatchUpdate)>, usize) {
        self.handler().serve();
        let (mut updates, mut largest) = (Vec::new(), 0);
        for (_, frames) in self.member.cx.outbox.take_frames() {
            for frame in frames {
                largest = largest.max(frame.0.len());
                for message in decode_frame(&frame).expect("a frame of ours").messages {
                    let StrongMessage::Update { id, update, .. } = message else { continue };
                    updates.push((id, update));
                }
            }
        }
        (updates, largest)
    }

    /// Does steps until none is due.
    fn serve(&mut self) -> (Vec<(u64, WatchUpdate)>, usize) {
        let (mut all, mut largest) = (Vec::new(), 0);
        loop {
            let (updates, frame) = self.step();
            all.extend(updates);
            largest = largest.max(frame);
            let Context { timers, now_ms, .. } = &mut self.member.cx;
            let due: Vec<Timer> = std::iter::from_fn(|| timers.pop_due(Millis(*now_ms))).collect();
            if !due.contains(&Timer::Serve) {
                return (all, largest);
            }
        }
    }

    fn put(&mut self, key: &str, bytes: usize) {
        let value = Some(vec![7; bytes]);
        self.member.write(Write::Put(Put { key: key.into(), value, lease: Some(0), prev: false }));
    }
}

#[test]
fn a_revision_of_any_size_fits_into_frames() {
    let mut serving = Serving::begin(1, 100);
    for key in 0..12 {
        serving.put(&format!("k{key}"), 1 << 20);
    }
    serving.serve();
    let everything = Keys::Range { from: Vec::new(), to: None };
    let delete = TxnOp::Delete(Delete { keys: everything, prev: false });
    serving.member.write(Write::Txn(Txn { then: vec![delete], ..Txn::default() }));
    let (updates, largest) = serving.serve();
    assert!(largest <= STRONG_FRAME_BYTES_MAX, "a frame of {largest} bytes");
    let mut left = 12;
    for (_, update) in updates {
        let WatchUpdate::Events { revision, events } = update else { panic!("{update:?}") };
        left -= events.len();
        assert_eq!(
            revision,
            events[0].kv.mod_revision - u64::from(left > 0),
            "the last part ends the revision"
        );
    }
    assert_eq!(left, 0);
}

#[test]
fn watches_that_are_not_read_take_little_memory() {
    let mut serving = Serving::begin(30, 4);
    let sum =
        |updates: &[(u64, WatchUpdate)]| updates.iter().map(|(_, update)| update.bytes()).sum::<usize>();
    let mut bytes = 0;
    for key in 0..4 {
        serving.put(&format!("k{key}"), 1 << 20);
        let in_step = sum(&serving.step().0);
        assert!(in_step <= 5 << 20, "{in_step} bytes in one step");
        bytes += in_step;
    }
    bytes += sum(&serving.serve().0);
    assert!(bytes <= 2 * 30 * ((1 << 20) + 100), "{bytes} bytes are under way");
    // Each goes on as its client handles them.
    for id in 0..30 {
        serving.handler().on_more([2; 32], id, 2);
    }
    assert_eq!(serving.serve().0.len(), 60);
}
