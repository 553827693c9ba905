//! Watches return every event of their keys, once, in order, and whole revisions at a time.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::model::Model;
use common::plans::{self, Planned};
use common::*;
use proptest::prelude::*;
use starling_kv::MemoryEngine;
use starling_strong::api::*;
use starling_strong::machine::{Command, Cursor, Machine, Next, WatchId};

/// What the client of a watch has received.
struct Holder {
    spec: Watch,
    /// The first revision that it asked for.
    from: Revision,
    told: Vec<Event>,
    /// The highest revision up to which it has received everything.
    upto: Revision,
    /// The oldest revision, if a compaction ended the watch.
    ended: Option<Revision>,
}

impl Holder {
    fn take(&mut self, update: WatchUpdate) {
        assert_eq!(self.ended, None, "nothing is told after the end");
        match update {
            WatchUpdate::Created { revision } => assert_eq!(revision + 1, self.from),
            WatchUpdate::Events { revision, events } => {
                let first = events.first().expect("events").kv.mod_revision;
                assert!(first > self.upto && revision >= first, "{first} after {}", self.upto);
                assert!(events.is_sorted_by_key(|event| event.kv.mod_revision));
                self.upto = revision;
                self.told.extend(events);
            }
            WatchUpdate::Progress { revision } => {
                // A watch may begin in the future.
                assert!(revision >= self.upto || revision < self.from);
                self.upto = self.upto.max(revision);
            }
            WatchUpdate::Compacted { oldest } => self.ended = Some(oldest),
            WatchUpdate::Lost { reason } => panic!("the machine loses no watch: {reason}"),
        }
    }

    /// Compares the received events with those of the model up to revision `upto`.
    fn check(&self, model: &Model, upto: Revision) {
        let mut wanted = model.told(&self.spec, self.from);
        wanted.retain(|event| event.kv.mod_revision <= upto);
        assert_eq!(self.told.len(), wanted.len(), "{:?} against {wanted:?}", self.told);
        for (told, wanted) in self.told.iter().zip(&wanted) {
            assert_eq!((&told.kv, told.kind), (&wanted.kv, wanted.kind));
            let compacted = wanted.prev.as_ref().is_some_and(|prev| prev.mod_revision < model.compacted);
            assert!(told.prev == wanted.prev || (told.prev.is_none() && compacted), "{told:?} {wanted:?}");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Planned>),
    Watch(Watch),
    Unwatch(usize),
    Progress(usize),
    /// The watch, the number of polls, and the bytes of each.
    Poll(usize, usize, usize),
    Maintain,
    /// Replaces the rows by a snapshot of a replica that is this many entries ahead.
    Install(Vec<Planned>),
}

fn step() -> impl Strategy<Value = Step> {
    let writes = |max| prop::collection::vec(plans::planned(), 1..max);
    prop_oneof![
        8 => writes(6).prop_map(Step::Write),
        4 => plans::watch().prop_map(Step::Watch),
        1 => any::<usize>().prop_map(Step::Unwatch),
        1 => any::<usize>().prop_map(Step::Progress),
        8 => (any::<usize>(), 1usize..4, prop_oneof![Just(1usize), Just(100_000)])
            .prop_map(|(watch, times, bytes)| Step::Poll(watch, times, bytes)),
        2 => Just(Step::Maintain),
        1 => writes(6).prop_map(Step::Install),
    ]
}

fn command(planned: &Planned) -> Command {
    let Planned { id, fence, write } = planned.clone();
    Command::Write { id, fence, write }
}

/// A replica with its watches, the model, and the log.
struct World {
    machine: Machine<MemoryEngine>,
    model: Model,
    holders: BTreeMap<WatchId, Holder>,
    ready: BTreeSet<WatchId>,
    log: Vec<Command>,
}

impl World {
    fn step(&mut self, step: Step) {
        match step {
            Step::Write(planned) => {
                self.play(&planned);
                apply_all(&mut self.machine, planned.iter().map(command).collect());
            }
            Step::Watch(spec) => {
                let id = self.holders.len() as WatchId;
                let from = match spec.from_revision {
                    0 => self.machine.revision() + 1,
                    from => from,
                };
                self.machine.watch(id, spec.clone()).expect("there is room");
                let holder = Holder { spec, from, told: Vec::new(), upto: from - 1, ended: None };
                self.holders.insert(id, holder);
            }
            Step::Unwatch(which) => {
                if let Some(id) = self.choose(which) {
                    self.machine.unwatch(id);
                    assert_eq!(self.machine.poll_watch(id, 1).expect("reads"), None);
                    let holder = self.holders.get_mut(&id).expect("chosen");
                    holder.ended = holder.ended.or(Some(0));
                    holder.check(&self.model, holder.upto);
                }
            }
            Step::Progress(which) => {
                if let Some(id) = self.choose(which) {
                    self.machine.request_progress(id);
                }
            }
            Step::Poll(which, times, bytes) => {
                if let Some(id) = self.choose(which) {
                    // A watch that was not polled to the end stays ready.
                    self.ready.extend(self.machine.take_ready());
                    if !(0..times).any(|_| !self.poll(id, bytes)) {
                        self.ready.insert(id);
                    }
                }
            }
            Step::Maintain => drop(self.machine.maintain().expect("maintains")),
            Step::Install(planned) => self.install(&planned),
        }
    }

    fn play(&mut self, planned: &[Planned]) {
        for one in planned {
            drop(self.model.write(one.id, one.fence.as_ref(), &one.write));
            self.log.push(command(one));
        }
    }

    fn install(&mut self, planned: &[Planned]) {
        self.play(planned);
        let mut source = fresh();
        apply_all(&mut source, self.log.clone());
        install(&mut self.machine, &source);
    }

    fn choose(&self, which: usize) -> Option<WatchId> {
        self.holders.keys().nth(which % self.holders.len().max(1)).copied()
    }

    fn poll(&mut self, id: WatchId, bytes: usize) -> bool {
        let update = self.machine.poll_watch(id, bytes).expect("reads");
        let is_some = update.is_some();
        if let Some(update) = update {
            self.holders.get_mut(&id).expect("a watch").take(update);
        }
        is_some
    }

    /// Polls the ready watches until none is ready.
    fn drain(&mut self) {
        loop {
            self.ready.extend(self.machine.take_ready());
            let Some(id) = self.ready.pop_first() else { return };
            while self.poll(id, 500) {}
        }
    }

    /// Checks that all watches have returned all events.
    fn check(&self) {
        for holder in self.holders.values() {
            match holder.ended {
                None => holder.check(&self.model, self.model.revision()),
                Some(0) => {}
                Some(oldest) => {
                    assert!(holder.upto + 1 < oldest, "nothing was missed before {oldest}");
                    holder.check(&self.model, holder.upto);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn complete_and_in_order(steps in prop::collection::vec(step(), 1..60), drains in prop::collection::vec(any::<bool>(), 60)) {
        let mut world = World {
            machine: fresh(),
            model: Model::new(),
            holders: BTreeMap::new(),
            ready: BTreeSet::new(),
            log: Vec::new(),
        };
        for (step, drain) in steps.into_iter().zip(drains) {
            world.step(step);
            if drain {
                world.drain();
                world.check();
            }
        }
        world.drain();
        world.check();
    }
}

/// Replaces the rows by a snapshot of another replica.
fn install(machine: &mut Machine<MemoryEngine>, source: &Machine<MemoryEngine>) {
    let snapshot = source.snapshot().expect("begins");
    let mut restore = machine.restore().expect("begins");
    let mut cursor = Cursor::default();
    while let Next::Chunk(next) =
        restore.push(&snapshot.chunk(&cursor, 1000).expect("reads")).expect("takes it in")
    {
        cursor = next;
    }
    machine.install(restore, Vec::new()).expect("installs");
}

fn watch_all(machine: &mut Machine<MemoryEngine>, id: WatchId, from_revision: Revision) {
    let spec = Watch { keys: all(), from_revision, prev: true, only: None };
    machine.watch(id, spec).expect("there is room");
}

#[test]
fn one_that_falls_behind_misses_nothing() {
    let mut machine = fresh();
    watch_all(&mut machine, 1, 0);
    let value = "x".repeat(10_000);
    for number in 0..200 {
        write(&mut machine, put(&format!("key {}", number % 7), &value)).expect("puts");
    }
    let mut revisions = Vec::new();
    let mut updates = 0;
    assert_eq!(machine.take_ready(), [1]);
    while let Some(update) = machine.poll_watch(1, 50_000).expect("reads") {
        updates += 1;
        if let WatchUpdate::Events { events, .. } = update {
            let bytes: usize = events.iter().map(|event| event.kv.value.len()).sum();
            assert!(bytes <= 60_000, "in bounded pieces");
            revisions.extend(events.iter().map(|event| event.kv.mod_revision));
            assert!(events.iter().all(|event| event.prev.is_some() == (event.kv.version > 1)));
        }
    }
    assert_eq!(revisions, (2..202).collect::<Vec<_>>());
    assert!(updates > 30);
    assert_eq!(machine.take_ready(), [] as [WatchId; 0]);
}

#[test]
fn an_idle_one_survives_compaction() {
    let mut machine = fresh();
    let spec = Watch { keys: Keys::One(b"mine".to_vec()), from_revision: 0, prev: false, only: None };
    machine.watch(1, spec).expect("there is room");
    assert!(machine.poll_watch(1, 100).expect("reads").is_some(), "created");
    for number in 0..50 {
        write(&mut machine, put("others", &number.to_string())).expect("puts");
    }
    let revision = machine.revision();
    write(&mut machine, Write::Compact { revision }).expect("compacts");
    while machine.maintain().expect("maintains") {}
    // It learns the revision at which another replica could go on.
    assert_eq!(machine.take_ready(), [1]);
    assert_eq!(machine.poll_watch(1, 1), Ok(Some(WatchUpdate::Progress { revision })));
    // More than waits in memory: it has to be read from the rows.
    for _ in 0..3 {
        write(&mut machine, put("mine", &"x".repeat(150_000))).expect("puts");
    }
    let mut told = 0;
    while let Some(update) = machine.poll_watch(1, 1).expect("reads") {
        let WatchUpdate::Events { events, .. } = update else { panic!("{update:?}") };
        told += events.len();
    }
    assert_eq!(told, 3);
}

#[test]
fn an_idle_one_survives_new_rows() {
    let mut machine = fresh();
    let spec = Watch { keys: Keys::One(b"mine".to_vec()), from_revision: 0, prev: false, only: None };
    machine.watch(1, spec).expect("there is room");
    assert!(machine.poll_watch(1, 100).expect("reads").is_some(), "created");
    let mut log: Vec<Command> =
        (0..20).map(|number| common::command(put("others", &number.to_string()))).collect();
    log.push(common::command(Write::Compact { revision: 15 }));
    apply_all(&mut machine, log.clone());
    log.push(common::command(put("mine", "new")));
    let mut source = fresh();
    apply_all(&mut source, log);
    install(&mut machine, &source);
    let told = machine.poll_watch(1, 100).expect("reads");
    let Some(WatchUpdate::Events { events, .. }) = told else { panic!("{told:?}") };
    assert_eq!(events.len(), 1);
}

#[test]
fn from_before_the_oldest_is_told_so() {
    let mut machine = fresh();
    for number in 0..10 {
        write(&mut machine, put("k", &number.to_string())).expect("puts");
    }
    write(&mut machine, Write::Compact { revision: 5 }).expect("compacts");
    watch_all(&mut machine, 1, 4);
    assert_eq!(machine.poll_watch(1, 100).expect("reads"), Some(WatchUpdate::Created { revision: 3 }));
    assert_eq!(machine.poll_watch(1, 100).expect("reads"), Some(WatchUpdate::Compacted { oldest: 5 }));
    assert_eq!(machine.poll_watch(1, 100).expect("reads"), None);
    while machine.maintain().expect("maintains") {}
    watch_all(&mut machine, 2, 5);
    machine.poll_watch(2, 100).expect("reads");
    let Some(WatchUpdate::Events { events, .. }) = machine.poll_watch(2, 100_000).expect("reads") else {
        panic!("the oldest revision can be watched from")
    };
    assert_eq!(events[0].kv.mod_revision, 5);
    assert_eq!(events.len(), 7);
}

#[test]
fn progress_is_told_when_everything_is() {
    let mut machine = fresh();
    for number in 0..3000 {
        write(&mut machine, put("k", &number.to_string())).expect("puts");
    }
    let spec = Watch { keys: Keys::One(b"other".to_vec()), from_revision: 1, prev: false, only: None };
    machine.watch(1, spec).expect("there is room");
    machine.request_progress(1);
    let mut updates = Vec::new();
    let mut rounds = 0;
    loop {
        let ready = machine.take_ready();
        if ready.is_empty() {
            break;
        }
        rounds += 1;
        while let Some(update) = machine.poll_watch(1, 1000).expect("reads") {
            updates.push(update);
        }
    }
    let revision = machine.revision();
    assert_eq!(updates, [WatchUpdate::Created { revision: 0 }, WatchUpdate::Progress { revision }]);
    assert!(rounds > 2, "catching up takes bounded steps");
}

/// A client may have read the revision from a member that is ahead of this one.
#[test]
fn progress_of_a_watch_from_a_later_revision_waits_for_that_revision() {
    let mut machine = fresh();
    let ahead = machine.revision() + 2;
    watch_all(&mut machine, 1, ahead + 1);
    machine.request_progress(1);
    let mut updates = Vec::new();
    let mut poll = |machine: &mut Machine<MemoryEngine>| {
        for id in machine.take_ready() {
            while let Some(update) = machine.poll_watch(id, 1000).expect("reads") {
                updates.push(update);
            }
        }
        std::mem::take(&mut updates)
    };
    assert_eq!(poll(&mut machine), [WatchUpdate::Created { revision: ahead }]);
    write(&mut machine, put("k", "1")).expect("puts");
    assert_eq!(poll(&mut machine), []);
    write(&mut machine, put("k", "2")).expect("puts");
    assert_eq!(poll(&mut machine), [WatchUpdate::Progress { revision: ahead }]);
}

#[test]
fn a_revision_of_many_keys_comes_in_one_piece() {
    let mut machine = fresh();
    let name = |number: usize| format!("{number:0200}");
    // Listed in more than one row.
    let keys = 2000;
    for number in 0..keys {
        write(&mut machine, put(&name(number), "v")).expect("puts");
    }
    let revision = machine.revision() + 1;
    watch_all(&mut machine, 1, revision);
    watch_all(&mut machine, 2, 0);
    write(&mut machine, Write::Delete(Delete { keys: all(), prev: false })).expect("deletes");
    write(&mut machine, put("after", "it")).expect("puts");
    watch_all(&mut machine, 3, revision);
    for id in 1..=3 {
        let mut pieces = Vec::new();
        while let Some(update) = machine.poll_watch(id, 1).expect("reads") {
            if let WatchUpdate::Events { revision, events } = update {
                pieces.push((revision, events.len()));
            }
        }
        assert_eq!(pieces, [(revision, keys), (revision + 1, 1)]);
    }
    write(&mut machine, Write::Compact { revision: revision + 1 }).expect("compacts");
    while machine.maintain().expect("maintains") {}
    assert_eq!(read(&machine, range(all(), 0)).expect("reads").count, 1);
    assert!(machine.bytes() < 200, "{}", machine.bytes());
}
