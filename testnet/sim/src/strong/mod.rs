//! Those who use a strong keyspace: clients that write, read, hold a lock, push and pop, and watch, each through
//! members of its group and through nodes that are none; and whoever replaces its voters. What they do and
//! are told is judged by [`crate::invariants`] in the end, and measured.

mod actors;
mod leader;
mod locker;
mod measure;
mod queuer;
mod register;
mod rivals;
mod strangers;
mod watchers;
mod worker;

use std::collections::BTreeSet;

use rand::RngExt;
use rand::seq::IteratorRandom;
use rand_chacha::ChaCha8Rng;
use starling_core::Input;
use starling_core::strong::{CreateError, GroupLocation, StrongInput};
use starling_history::{Call, Checked, Locker, Log, Queuer, Violation, Worker};
use starling_strong::group::{GroupId, Notice};

use crate::scenario::{Action, STRONG_KEYSPACE, Scenario, Step, StrongLoad};
use crate::world::{Heard, World};
use actors::{Actor, Role};
use leader::Leaders;
use measure::Measured;
pub use register::register_of;
use rivals::Rivals;
pub use watchers::Watcher;

/// Between two attempts to make the keyspace, microseconds.
const MAKE_AGAIN_US: u64 = 2_000_000;
/// Between making the keyspace and the clients' first requests, microseconds.
const SETTLE_US: u64 = 1_000_000;
/// Requests that have to be answered after the last fault before the clients are content.
const ANSWERED_IN_THE_END: u64 = 20;
/// Between two looks whether all has come to its end, microseconds.
const LOOK_US: u64 = 100_000;
/// How long after the last fault a keyspace whose majority is there may take to serve again, microseconds:
/// a minute of tries, each of which takes as long as a client's patience, and the wait for streams that lose
/// packets to go on.
const SERVES_AGAIN_US: u64 = 120_000_000;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The keyspace is to be made.
    Make,
    /// Clients begin.
    Begin,
    /// A client's.
    Actor(usize),
    /// A watch's.
    Watcher(usize),
    /// Whether all has come to its end.
    Look,
    /// A side's that creates a rival: which rivals, which side.
    CreateRival(usize, usize),
    /// A rival's client's: which rivals, which side, which client.
    Rival(usize, usize, usize),
    /// Whether rivals are as they have to be.
    JudgeRivals(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There are no clients yet.
    Making,
    /// Clients ask.
    Running,
    /// No faults any more, since then: clients ask until enough was answered.
    Ending(u64),
    /// Watches are told what is left.
    Closing(u64),
    Over,
}

/// See the module.
pub struct Strong {
    load: StrongLoad,
    /// Messages may come twice.
    is_doubling: bool,
    rng: ChaCha8Rng,
    phase: Phase,
    actors: Vec<Actor>,
    watchers: Vec<Watcher>,
    log: Log,
    leaders: Leaders,
    measured: Measured,
    tokens: u64,
    making: Option<u64>,
    /// Its group.
    made: Option<GroupId>,
    /// The nodes that were asked to make it.
    makers: BTreeSet<usize>,
    /// It was made twice, by another try because nobody answered.
    has_rival: bool,
    /// Requests answered since the last fault.
    answered_in_the_end: u64,
    /// The latest revision that anybody was told.
    revision: u64,
    /// Up to there all watchers were waited for.
    told: u64,
    planned: Vec<(u64, Turn)>,
    rivals: Vec<Rivals>,
    /// What was seen not to hold while it went on: the invariant, and what.
    broken: Vec<(&'static str, String)>,
}

impl Strong {
    /// Nobody has asked anything yet; `None`: the scenario has no strong keyspace.
    pub fn new(scenario: &Scenario, rng: impl FnOnce() -> ChaCha8Rng) -> Option<Self> {
        let load = scenario.strong.clone()?;
        let doubles = |step: &Step| matches!(step.action, Action::Links { duplicate: Some(_), .. });
        Some(Self {
            load,
            is_doubling: scenario.links.duplicate > 0.0 || scenario.step.iter().any(doubles),
            rng: rng(),
            phase: Phase::Making,
            actors: Vec::new(),
            watchers: Vec::new(),
            log: Log::default(),
            leaders: Leaders::default(),
            measured: Measured::default(),
            tokens: 0,
            making: None,
            made: None,
            makers: BTreeSet::new(),
            has_rival: false,
            answered_in_the_end: 0,
            revision: 1,
            told: 0,
            planned: Vec::new(),
            rivals: Vec::new(),
            broken: Vec::new(),
        })
    }

    /// Turns to be planned.
    pub(crate) fn planned(&mut self) -> Vec<(u64, Turn)> {
        std::mem::take(&mut self.planned)
    }

    fn plan(&mut self, at_us: u64, turn: Turn) {
        self.planned.push((at_us, turn));
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.random_range(0..bound.max(1))
    }

    fn token(&mut self) -> u64 {
        self.tokens += 1;
        self.tokens
    }

    fn note(&mut self, invariant: &'static str, checked: Checked) {
        if let Err(Violation(what)) = checked {
            self.broken.push((invariant, what));
        }
    }

    /// A live node, a member of the group or not as asked for, if there is one.
    fn pick(&mut self, world: &World, wants_member: bool) -> Option<usize> {
        let live = |node: &usize| world.is_up(*node) && world.nodes[*node].is_replica();
        let fits = |node: &usize| live(node) && world.is_member(*node, STRONG_KEYSPACE) == wants_member;
        let all = 0..world.nodes.len();
        let fitting = all.clone().filter(fits).choose(&mut self.rng);
        fitting.or_else(|| all.filter(live).choose(&mut self.rng))
    }

    /// It is somebody's turn.
    pub(crate) fn turn(&mut self, world: &mut World, turn: Turn) {
        match turn {
            Turn::Make => self.make(world),
            Turn::Begin => self.begin(world),
            Turn::Actor(number) => self.act(world, number),
            Turn::Watcher(number) => self.watch(world, number),
            Turn::Look => self.look(world),
            Turn::CreateRival(number, side) => self.create_rival(world, number, side),
            Turn::Rival(number, side, client) => self.act_as_rival(world, (number, side, client)),
            Turn::JudgeRivals(number) => self.check_rivals(world, number),
        }
    }

    fn make(&mut self, world: &mut World) {
        if self.phase != Phase::Making {
            return;
        }
        if let Some(node) = self.pick(world, false) {
            let token = self.token();
            self.making = Some(token);
            self.makers.insert(node);
            let (keyspace, voters) = (STRONG_KEYSPACE.into(), self.load.voters);
            world.ask(
                node,
                Input::Strong(StrongInput::Create { token, keyspace, voters, on: Vec::new(), manual: false }),
            );
        } else {
            self.plan(world.now_us() + MAKE_AGAIN_US, Turn::Make);
        }
    }

    fn on_created(&mut self, world: &World, token: u64, result: &Result<GroupLocation, CreateError>) {
        if self.on_rival_created(world, token, result) {
            return;
        }
        if self.making.take_if(|making| *making == token).is_none() {
            return;
        }
        self.made = result.as_ref().ok().map(|location| location.group);
        match result {
            Ok(_) | Err(CreateError::Exists(_)) => self.plan(world.now_us() + SETTLE_US, Turn::Begin),
            Err(_) => self.plan(world.now_us() + MAKE_AGAIN_US, Turn::Make),
        }
    }

    fn begin(&mut self, world: &World) {
        if self.phase != Phase::Making {
            return;
        }
        self.phase = Phase::Running;
        for role in Role::all(&self.load) {
            let number = self.actors.len();
            self.actors.push(Actor::new(role, number));
            let after_us = self.below(200_000);
            self.plan_actor(number, world.now_us() + after_us);
        }
        for number in 0..self.load.watchers {
            self.watchers.push(Watcher::new(number));
            self.plan_watcher(world, number, world.now_us() + 1);
        }
    }

    /// The measured time begins.
    pub(crate) fn begin_measuring(&mut self, world: &mut World) {
        self.measured.begin(world.now_us());
    }

    /// Everything heals now; clients go on until they are content.
    pub(crate) fn end_faults(&mut self, world: &mut World) {
        let now_us = world.now_us();
        self.measured.end(now_us);
        self.leaders.give_up();
        for node in 0..world.nodes.len() {
            world.gain(node, 0);
        }
        self.judge_rivals(world);
        if self.phase == Phase::Running {
            self.phase = Phase::Ending(now_us);
            self.plan(now_us, Turn::Look);
        } else {
            self.phase = Phase::Over;
        }
    }

    /// Whether nothing is left to wait for.
    pub fn is_settled(&self) -> bool {
        self.phase == Phase::Over && self.rivals.iter().all(|rivals| rivals.is_over)
    }

    /// Whether clients begin something new.
    fn asks(&self) -> bool {
        match self.phase {
            Phase::Running => true,
            Phase::Ending(_) => self.answered_in_the_end < ANSWERED_IN_THE_END,
            Phase::Making | Phase::Closing(_) | Phase::Over => false,
        }
    }

    /// Everything that nodes have said.
    pub(crate) fn listen(&mut self, world: &mut World) {
        while let Some((node, heard)) = world.listen() {
            match heard {
                Heard::Answer { token, result } => self.on_answer(world, token, result),
                Heard::Update { token, update } => self.on_update(world, token, update),
                Heard::Created { token, result } => self.on_created(world, token, &result),
                Heard::Leader { term } => self.leaders.elected(term),
                Heard::Unsound { keyspace, notice: Notice::Rival | Notice::GaveWay { .. } } => {
                    self.has_rival |= keyspace == STRONG_KEYSPACE;
                }
                Heard::Unsound { keyspace, notice } => {
                    self.broken.push(("sound", format!("node {node}, {keyspace}: {notice:?}")));
                }
                Heard::Down => self.on_down(world, node),
            }
        }
    }

    /// What was seen not to hold while it went on.
    pub fn broken(&self) -> &[(&'static str, String)] {
        &self.broken
    }

    /// Everything that happened, as watches told it.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Whether the watchers of everything received all that any client was answered or any watcher received. Never where
    /// two keyspaces have one name for a while: clients use either.
    pub fn has_whole_log(&self) -> bool {
        !self.has_rival && self.log.last() >= self.revision
    }

    /// Up to there all watchers were told everything; not beyond, where the keyspace has lost its majority, or
    /// leases went on to end.
    pub fn told(&self) -> u64 {
        self.told
    }

    /// All watchers.
    pub fn watchers(&self) -> &[Watcher] {
        &self.watchers
    }

    /// Everything that was asked of registers, in the order of being told what became of it, and what nobody
    /// was told of.
    pub fn calls(&self) -> Vec<Call> {
        let clients = self.actors.iter().filter_map(|actor| match &actor.role {
            Role::Register(client) => Some(client.all_calls(actor.asking_since_us())),
            Role::Lock(_) | Role::Queue(_) | Role::Work(_) => None,
        });
        clients.flatten().collect()
    }

    /// All stale reads of registers.
    pub fn stale_calls(&self) -> Vec<Call> {
        let clients = self.actors.iter().filter_map(|actor| match &actor.role {
            Role::Register(client) => Some(client.stale_calls()),
            Role::Lock(_) | Role::Queue(_) | Role::Work(_) => None,
        });
        clients.flatten().cloned().collect()
    }

    /// All clients of the lock.
    pub fn lockers(&self) -> impl Iterator<Item = &Locker> {
        self.actors.iter().filter_map(|actor| match &actor.role {
            Role::Lock(holder) => Some(&holder.locker),
            Role::Register(_) | Role::Queue(_) | Role::Work(_) => None,
        })
    }

    /// All clients of the queue.
    pub fn queuers(&self) -> impl Iterator<Item = &Queuer> {
        self.actors.iter().filter_map(|actor| match &actor.role {
            Role::Queue(client) => Some(&client.queuer),
            Role::Register(_) | Role::Lock(_) | Role::Work(_) => None,
        })
    }

    /// All workers of the work queue.
    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.actors.iter().filter_map(|actor| match &actor.role {
            Role::Work(client) => Some(&client.worker),
            Role::Register(_) | Role::Lock(_) | Role::Queue(_) => None,
        })
    }

    /// Whether it is time to come to an end, or too late.
    fn look(&mut self, world: &mut World) {
        let now_us = world.now_us();
        let done = match self.phase {
            Phase::Ending(_) => !self.asks() && self.actors.iter().all(Actor::is_idle),
            Phase::Closing(_) => self.watchers.iter().all(|watcher| watcher.has_told(self.revision)),
            Phase::Making | Phase::Running | Phase::Over => return,
        };
        let (Phase::Ending(since_us) | Phase::Closing(since_us)) = self.phase else { return };
        if !done && now_us < since_us + SERVES_AGAIN_US {
            self.plan(now_us + LOOK_US, Turn::Look);
            // Where nothing happens, watches have to ask how far they have come.
            let waits = |number: &usize| {
                matches!(self.phase, Phase::Closing(_)) && !self.watchers[*number].has_told(self.revision)
            };
            let waiting: Vec<usize> = (0..self.watchers.len()).filter(waits).collect();
            for number in waiting {
                self.plan_watcher(world, number, now_us + 1);
            }
            return;
        }
        if !done {
            let what = if matches!(self.phase, Phase::Closing(_)) { "watches" } else { "clients" };
            self.phase = Phase::Over;
            if self.has_majority(world) && !self.has_rival {
                let seconds = SERVES_AGAIN_US / 1_000_000;
                self.broken
                    .push(("serves", format!("{what} were not served {seconds} s after everything healed")));
            }
        } else if matches!(self.phase, Phase::Ending(_)) {
            self.phase = Phase::Closing(now_us);
            self.plan(now_us, Turn::Look);
        } else {
            (self.phase, self.told) = (Phase::Over, self.revision);
        }
        if self.phase == Phase::Over {
            self.judge_drops(world);
        }
    }

    /// Nobody drops the keyspace.
    fn judge_drops(&mut self, world: &World) {
        let Some(group) = self.made.filter(|_| !self.has_rival) else { return };
        let droppers = (0..world.nodes.len()).filter(|node| world.has_dropped(*node, group));
        self.broken.extend(droppers.map(|node| ("sound", format!("node {node} has dropped the keyspace"))));
    }

    /// Whether so few members are gone that a majority is there, whichever of two sets of voters counts.
    fn has_majority(&self, world: &mut World) -> bool {
        let members = world.members(STRONG_KEYSPACE);
        have_majority(world, members, self.load.voters.into())
    }
}

/// Whether so few of these members are gone that a majority of the voters is there; at the beginning there were so many.
fn have_majority(
    world: &World,
    (members, voters): (BTreeSet<usize>, BTreeSet<usize>),
    at_first: usize,
) -> bool {
    let gone = members.into_iter().filter(|node| !world.is_up(*node)).count();
    let spare = at_first.min(voters.len()).saturating_sub(1) / 2;
    !voters.is_empty() && gone <= spare
}
