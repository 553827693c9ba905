use starling_kv::MemoryEngine;
use starling_strong::api::{Keys, Watch, WatchUpdate};
use starling_strong::members::NodeKey;

use super::super::context::Timer;
use super::super::input::{Effect, StrongOutput};
use super::super::message::StrongMessage;
use super::super::testing::{ME, Outside};
use super::client::{ClientWatches, Handler};
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
    node.pass();
    assert_eq!(node.node.sent(), [(at[0], StrongMessage::Check { id, received: 1, updates: 100 })]);
    node.handler().on_checked(at, id, 2);
    node.node.sent();
    node.pass();
    assert_eq!(node.asked().2, 11);
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
