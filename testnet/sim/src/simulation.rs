//! One run of a scenario: the network is built and warms up, is measured while clients write and faults
//! happen, and has to become whole and equal again.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use starling_kv::MemoryEngine;
use starling_proto::Role;
use starling_report::Run;

use crate::churn::{self, Traced};
use crate::clients::Clients;
use crate::finish;
use crate::measure::{Healings, Outcome, Timeline, are_equal};
use crate::scenario::{ChurnModel, Error, Release, Scenario, StrongLoad};
use crate::strong::{Strong, Turn};
use crate::users::Users;
use crate::world::{Copy, HEARD, World};

/// Share of the warm-up in which the nodes start, one after the other.
const STARTING_SHARE: f64 = 0.4;
/// When the strong keyspace is made, as a share of the warm-up.
const STRONG_SHARE: f64 = 0.6;
/// Least time between two looks at a healing, microseconds; larger networks are looked at less often.
const CHECK_US: u64 = 50_000;
/// Nodes per [`CHECK_US`].
const CHECK_NODES: u64 = 500;

/// What there is to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Task {
    /// A node starts, for the first time or again.
    Start(usize),
    /// A new node takes the place of this one.
    Replace(usize),
    /// Clients write.
    Write,
    /// Clients write much at once.
    Burst,
    /// The measured time begins.
    Begin,
    /// A second of it has passed.
    Second,
    /// It ends: no faults and no writes any more.
    End,
    /// Look how far the network has healed.
    Check,
    /// The step with this index.
    Step(usize),
    /// A partition ends.
    Mend(u32, String),
    /// These nodes lose power, their disks fall back to this.
    PowerOff(usize, Option<f64>),
    /// The links of these nodes are not slow any more.
    SpeedUp(Vec<usize>),
    /// A disk is copied, for the power loss that follows; that of strong keyspaces too, if this is true.
    Sync(usize, bool),
    /// The second process of this node's identity starts on the copy of its machine, for so many seconds.
    StartCopy(usize, f64),
    /// One of the two processes of this node's identity ends.
    EndDouble(usize),
    /// The processes of revoked nodes end.
    EndRevoked,
    /// Everything has healed since then: of all pairs of processes with one identity one ends.
    EndDoubles(u64),
    /// The next node of a rolling restart.
    Roll { left: Vec<usize>, gap_s: f64, for_s: f64, release: Option<Release> },
    /// A healing begins.
    Heals(String),
    /// Churn: a departure of whoever is drawn.
    Departure,
    /// Churn: the session of this node begins, without a start.
    Session(usize),
    /// Churn: the session of this node ends.
    SessionEnd(usize),
    /// Churn: a region fails.
    RegionFails,
    /// Churn: what the trace says.
    Traced(usize, Traced),
    /// Somebody's turn of those who use the strong keyspace.
    Strong(Turn),
    /// A user's turn.
    User(usize),
}

/// A scenario whose users of a strong keyspace are its clients, if it has no others.
fn with_strong_users(mut scenario: Scenario) -> Scenario {
    if let Some(users) = scenario.users.filter(|users| users.voters > 0) {
        scenario.strong.get_or_insert_with(|| StrongLoad {
            voters: users.voters,
            clients: 2 * users.count,
            lockers: 0,
            queuers: 0,
            pause_ms: users.pause_ms,
            ..StrongLoad::default()
        });
    }
    scenario
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Virtual seconds since the beginning.
    pub virtual_s: f64,
    /// Of so many, if all goes well.
    pub of_s: f64,
    /// Events handled.
    pub events: u64,
    /// Live nodes.
    pub live: usize,
    /// Of those, nodes of the previous release.
    pub previous: usize,
    /// Writes not yet on every node.
    pub open: usize,
}

/// See the module.
pub struct Simulation {
    /// The network.
    pub world: World,
    /// What happens to it.
    pub scenario: Scenario,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) clients: Clients,
    pub(crate) healings: Healings,
    pub(crate) timeline: Timeline,
    pub(crate) tasks: BTreeMap<u32, Task>,
    tasks_planned: u32,
    /// Copies of machines that are going to start.
    pub(crate) copies: BTreeMap<usize, Copy>,
    /// Disks as they were synced last.
    pub(crate) synced: BTreeMap<usize, MemoryEngine>,
    pub(crate) begin_us: u64,
    /// Faults that happened, by name.
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// Churn from a file.
    pub(crate) traced: Vec<(u64, usize, Traced)>,
    /// Those who use the strong keyspace, if there is one.
    pub(crate) strong: Option<Box<Strong>>,
    /// Clients whose operations are counted as availability, if there are any.
    pub(crate) users: Option<Users>,
    phase: Phase,
    check_planned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measured,
    Settling,
    Over,
}

pub(crate) fn us(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}

impl Simulation {
    /// Builds the network, which has not started yet.
    pub fn new(scenario: Scenario) -> Result<Self, Error> {
        let scenario = with_strong_users(scenario);
        let mut world = World::new(&scenario)?;
        let rng = world.fork_rng();
        let traced = match &scenario.churn.model {
            ChurnModel::Trace { file } => churn::read_trace(file, scenario.nodes)?,
            _ => Vec::new(),
        };
        let clients = Clients::new(&scenario.workload, scenario.nodes, world.fork_rng());
        let users = Users::new(&scenario);
        let strong = Strong::new(&scenario, || world.fork_rng()).map(Box::new);
        let regions = scenario.regions.len();
        for index in 0..scenario.nodes {
            world.add(Role::Replica, (regions > 0).then(|| index % regions));
        }
        for _ in 0..scenario.seeds {
            world.add(Role::Seed, None);
        }
        let mut simulation = Self {
            world,
            rng,
            clients,
            healings: Healings::default(),
            timeline: Timeline::default(),
            tasks: BTreeMap::new(),
            tasks_planned: 0,
            copies: BTreeMap::new(),
            synced: BTreeMap::new(),
            begin_us: us(scenario.warmup_s),
            faults: BTreeMap::new(),
            traced,
            strong,
            users,
            phase: Phase::WarmUp,
            check_planned: false,
            scenario,
        };
        for node in 0..simulation.scenario.nodes {
            simulation.label(node);
        }
        simulation.plan_start();
        Ok(simulation)
    }

    /// Adds a replica in a region.
    pub(crate) fn add(&mut self, region: Option<usize>) -> usize {
        let node = self.world.add(Role::Replica, region);
        self.label(node);
        node
    }

    /// Gives a node the labels that say where it is, as processes have them.
    fn label(&mut self, node: usize) {
        let Some(region) = self.region(node) else { return };
        let zone = self.zone(node).map(|zone| format!(",zone={zone}"));
        let labels = format!("region={region}{}", zone.unwrap_or_default()).parse();
        self.world.nodes[node].record.labels = labels.unwrap_or_default();
    }

    fn plan_start(&mut self) {
        let Scenario { nodes, seeds, warmup_s, measure_s, .. } = self.scenario;
        for seed in nodes..nodes + seeds {
            self.plan(0, Task::Start(seed));
        }
        let starting_us = us(warmup_s * STARTING_SHARE);
        for node in 0..nodes {
            self.plan(starting_us * node as u64 / nodes as u64, Task::Start(node));
        }
        self.plan(starting_us, Task::Write);
        self.plan(starting_us, Task::Burst);
        if self.strong.is_some() {
            self.plan(us(warmup_s * STRONG_SHARE), Task::Strong(Turn::Make));
        }
        self.plan(self.begin_us, Task::Begin);
        self.plan(self.begin_us + us(measure_s), Task::End);
    }

    pub(crate) fn plan(&mut self, at_us: u64, task: Task) {
        self.tasks_planned += 1;
        self.tasks.insert(self.tasks_planned, task);
        self.world.plan(at_us, self.tasks_planned);
    }

    pub(crate) fn plan_in(&mut self, seconds: f64, task: Task) {
        self.plan(self.world.now_us() + us(seconds), task);
    }

    /// Whether faults and writes still happen.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self.phase, Phase::WarmUp | Phase::Measured)
    }

    /// Goes on to the next task, and does it; `false`: the run is over.
    pub fn step(&mut self) -> bool {
        if self.phase == Phase::Over {
            return false;
        }
        let deadline_us = self.begin_us + us(self.scenario.measure_s + self.scenario.settle_s);
        let Some(number) = self.world.advance(deadline_us) else {
            self.phase = Phase::Over;
            return false;
        };
        if number == HEARD {
            self.with_strong(Strong::listen);
        } else if let Some(task) = self.tasks.remove(&number) {
            self.perform(task);
        }
        let has_settled =
            self.phase == Phase::Settling && !self.healings.are_under_way() && self.is_settled();
        // Where a strong keyspace is may just have been written.
        if has_settled && (self.strong.is_none() || are_equal(&self.world)) {
            self.phase = Phase::Over;
        }
        self.phase != Phase::Over
    }

    /// Runs to the end, and reports. `watch` is told once per virtual second.
    pub fn run(mut self, mut watch: impl FnMut(Progress)) -> Run {
        let began = std::time::Instant::now();
        let mut told_us = 0;
        while self.step() {
            if self.world.now_us() >= told_us {
                told_us = self.world.now_us() + 1_000_000;
                watch(self.progress());
            }
        }
        let outcome = Outcome::of(&self.world);
        finish::run(self, outcome, began.elapsed())
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let world = &self.world;
        Progress {
            virtual_s: world.now_us() as f64 / 1e6,
            of_s: self.scenario.warmup_s + self.scenario.measure_s,
            events: world.events(),
            live: world.nodes.iter().filter(|node| node.is_up()).count(),
            previous: world.nodes.iter().filter(|n| n.is_up() && n.release == Release::Previous).count(),
            open: world.recorder.writes.open(),
        }
    }

    fn perform(&mut self, task: Task) {
        match task {
            Task::Start(node) => {
                self.world.put_old_copy_back(node);
                self.world.start(node);
                if self.phase == Phase::Measured {
                    self.begin_session(node);
                }
            }
            Task::Session(node) => self.begin_session(node),
            Task::Replace(node) => self.replace(node),
            Task::Write => self.write(),
            Task::Burst => self.burst(),
            Task::Begin => self.begin(),
            Task::Second => self.second(),
            Task::End => self.end(),
            Task::Check => self.check(),
            Task::Heals(what) => self.heals(what),
            Task::Strong(turn) => self.with_strong(|strong, world| strong.turn(world, turn)),
            Task::User(number) => self.user(number),
            Task::EndDouble(node) => self.end_double(node),
            Task::EndDoubles(since_us) => self.end_doubles(since_us),
            Task::EndRevoked => self.world.end_revoked(),
            task => self.perform_fault(task),
        }
    }

    fn write(&mut self) {
        if let Some(pause_us) = self.clients.pause_us().filter(|_| self.is_active()) {
            self.clients.write(&mut self.world);
            self.plan(self.world.now_us() + pause_us, Task::Write);
        }
    }

    fn user(&mut self, number: usize) {
        let is_active = self.is_active();
        let Some(users) = &mut self.users else { return };
        if let Some(at_us) = users.turn(&mut self.world, number, is_active) {
            self.plan(at_us, Task::User(number));
        }
    }

    fn burst(&mut self) {
        if let Some(burst) = self.scenario.workload.burst.filter(|_| self.is_active()) {
            self.clients.burst(&mut self.world);
            self.plan_in(burst.every_s, Task::Burst);
        }
    }

    fn begin(&mut self) {
        self.phase = Phase::Measured;
        self.with_strong(Strong::begin_measuring);
        self.world.recorder.begin(self.world.now_us());
        self.plan_in(0.0, Task::Second);
        for (index, step) in self.scenario.step.clone().into_iter().enumerate() {
            self.plan_in(step.at_s, Task::Step(index));
        }
        self.begin_churn();
        for user in 0..self.users.as_ref().map_or(0, Users::count) {
            self.plan_in(0.0, Task::User(user));
        }
    }

    fn second(&mut self) {
        if self.phase == Phase::Measured {
            let at_s = (self.world.now_us() - self.begin_us) as f64 / 1e6;
            self.timeline.add(at_s, &self.world);
            self.plan_in(1.0, Task::Second);
        }
    }

    /// No faults and no writes any more, and who was to come back comes back now.
    fn end(&mut self) {
        self.second();
        self.phase = Phase::Settling;
        self.world.recorder.end(self.world.now_us());
        self.world.recorder.writes.stop_measuring();
        self.world.mend(None);
        self.world.links = self.scenario.links.clone();
        self.world.end_stalls();
        self.world.speed_up();
        for (number, task) in std::mem::take(&mut self.tasks) {
            match task {
                Task::Start(node) => self.world.start(node),
                Task::Replace(node) => self.replace(node),
                task @ (Task::Strong(_) | Task::User(_)) => drop(self.tasks.insert(number, task)),
                _ => {}
            }
        }
        self.with_strong(Strong::end_faults);
        self.world.end_revoked();
        self.plan_in(0.0, Task::EndDoubles(self.world.now_us()));
        self.check_planned = false;
        self.heals("the end of writes and faults".into());
    }

    /// Lets those act who use the strong keyspace, and plans their next turns.
    pub(crate) fn with_strong(&mut self, act: impl FnOnce(&mut Strong, &mut World)) {
        let Some(mut strong) = self.strong.take() else { return };
        act(&mut strong, &mut self.world);
        for (at_us, turn) in strong.planned() {
            self.plan(at_us, Task::Strong(turn));
        }
        self.strong = Some(strong);
    }

    /// Whether no identity has two processes any more, and those who use the strong keyspace are done with it, if there is one.
    pub fn is_settled(&self) -> bool {
        self.world.pairs().next().is_none() && self.strong.as_ref().is_none_or(|strong| strong.is_settled())
    }

    /// A healing begins, and is looked at until it is over.
    pub(crate) fn heals(&mut self, what: String) {
        self.healings.begin(what, !self.is_active(), &self.world);
        self.plan_check();
    }

    fn check(&mut self) {
        self.check_planned = false;
        self.healings.check(&self.world);
        if self.healings.are_under_way() || self.phase == Phase::Settling {
            self.plan_check();
        }
    }

    fn plan_check(&mut self) {
        if !std::mem::replace(&mut self.check_planned, true) {
            let pause_us = CHECK_US * (self.world.nodes.len() as u64).div_ceil(CHECK_NODES);
            self.plan(self.world.now_us() + pause_us, Task::Check);
        }
    }

    /// A new node without data in the place of this one, which does not come back.
    fn replace(&mut self, node: usize) {
        let region = self.world.nodes[node].region;
        let new = self.add(region);
        self.world.start(new);
        self.begin_session(new);
    }
}
