//! Users: clients that put and get in turn, through their home or, where that fails, through other nodes, to see how available
//! the network is to them.

use bytes::Bytes;
use starling_kv::{Batch, Op, Write};
use starling_report::Availabilities;

use crate::clients::KEYSPACE;
use crate::measure::{Became, Sending};
use crate::scenario::{Scenario, Users as Settings, homes};
use crate::simulation::us;
use crate::world::World;

/// Nodes that a user tries, its home among them.
pub const TRIED_MAX: usize = 3;
/// Names of operations at the home alone, and of those that fall back to other nodes.
const PUT: [&str; 2] = ["eventual put, one node", "eventual put, fallback"];
const GET: [&str; 2] = ["eventual get, one node", "eventual get, fallback"];

/// All users of one scenario.
#[derive(Debug)]
pub struct Users {
    settings: Settings,
    replicas: usize,
    each: Vec<User>,
    availabilities: Availabilities,
}

#[derive(Clone, Copy, Debug, Default)]
struct User {
    /// Whether it goes to other nodes where its home fails.
    falls_back: bool,
    home: usize,
    operations: u64,
    asking: Option<Asking>,
}

/// An operation that is under way.
#[derive(Clone, Copy, Debug)]
struct Asking {
    began_us: u64,
    /// Nodes that have failed so far.
    failed: usize,
    state: State,
}

/// What an operation waits for.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Its turn to ask a node.
    Next,
    /// The answer to this write until then, microseconds.
    Write(u32, u64),
    /// The end of the time of a node that answers nothing.
    Silence,
}

impl Users {
    /// Users of this scenario; `None`: it has none.
    pub fn new(scenario: &Scenario) -> Option<Self> {
        let settings = scenario.users?;
        let homes = homes(&scenario.places(), settings.count);
        let user = |number: usize| User {
            falls_back: number >= homes.len(),
            home: homes[number % homes.len()],
            ..User::default()
        };
        Some(Self {
            replicas: scenario.nodes,
            each: (0..2 * homes.len()).map(user).collect(),
            availabilities: Availabilities::default(),
            settings,
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.each.len()
    }

    /// What they saw.
    pub fn availabilities(&self) -> &Availabilities {
        &self.availabilities
    }

    /// It is a user's turn. Returns when it has its next one, microseconds; operations begin only while the run `is_active`.
    pub fn turn(&mut self, world: &mut World, number: usize, is_active: bool) -> Option<u64> {
        let began_us = world.now_us();
        let asking = match self.each[number].asking {
            Some(asking) => asking,
            None if !is_active => return None,
            None => Asking { began_us, failed: 0, state: State::Next },
        };
        Some(match asking.state {
            State::Next => self.ask(world, number, asking),
            State::Write(write, until_us) => self.look(world, number, asking, (write, until_us)),
            State::Silence => self.failed(world, number, asking),
        })
    }

    /// Nodes that a user asks.
    fn tries(&self, number: usize) -> usize {
        if self.each[number].falls_back { TRIED_MAX.min(self.replicas) } else { 1 }
    }

    /// Asks a node.
    fn ask(&mut self, world: &mut World, number: usize, asking: Asking) -> u64 {
        let user = self.each[number];
        let node = (user.home + asking.failed) % self.replicas;
        // One node may take as long as leaves time for the others.
        let until_us = world.now_us() + us(self.settings.patience_ms / 1e3 / self.tries(number) as f64);
        if !world.is_up(node) {
            return self.failed(world, number, asking);
        }
        if user.puts() {
            let write = self.put(world, number, node);
            return self.look(world, number, asking, (write, until_us));
        }
        let answers_us = world.handles_us(node);
        if answers_us > world.now_us() {
            // It is asked again when its stall ends, if that is in time.
            let in_time = answers_us <= until_us;
            let state = if in_time { State::Next } else { State::Silence };
            self.each[number].asking = Some(Asking { state, ..asking });
            return answers_us.min(until_us);
        }
        self.end(world, number, asking, (world.now_us(), true))
    }

    /// Sends a write; its number.
    fn put(&self, world: &mut World, number: usize, node: usize) -> u32 {
        let key = format!("user{number}").into_bytes();
        let value = Bytes::from(format!("{}.{number}", self.each[number].operations));
        let payload_bytes = (key.len() + value.len()) as u32;
        let write =
            Write { keyspace: KEYSPACE.into(), key, op: Op::Put { value }, ttl_ms: None, check: None };
        let sending = Sending { at_us: world.now_us(), payload_bytes, is_lasting: true };
        let sent = world.recorder.writes.send(sending);
        if !world.write(node, vec![(sent, Batch { writes: vec![write] })]) {
            world.recorder.writes.fail(sent);
        }
        sent
    }

    /// What became of a write that may take until then.
    fn look(&mut self, world: &World, number: usize, asking: Asking, (write, until_us): (u32, u64)) -> u64 {
        match world.recorder.writes.became(write) {
            Became::Acknowledged(at_us) if at_us <= until_us => {
                self.end(world, number, asking, (at_us, true))
            }
            Became::Open if world.now_us() < until_us => {
                self.each[number].asking = Some(Asking { state: State::Write(write, until_us), ..asking });
                until_us
            }
            _ => self.failed(world, number, asking),
        }
    }

    /// A node failed: the next one is asked at once, if the user asks another one.
    fn failed(&mut self, world: &World, number: usize, asking: Asking) -> u64 {
        let asking = Asking { failed: asking.failed + 1, state: State::Next, ..asking };
        if asking.failed >= self.tries(number) {
            return self.end(world, number, asking, (world.now_us(), false));
        }
        self.each[number].asking = Some(asking);
        world.now_us()
    }

    fn end(&mut self, world: &World, number: usize, asking: Asking, (end_us, succeeded): (u64, bool)) -> u64 {
        let user = &mut self.each[number];
        let names = if user.puts() { PUT } else { GET };
        self.availabilities.note(
            number,
            names[usize::from(user.falls_back)],
            [asking.began_us, end_us],
            succeeded,
        );
        user.asking = None;
        user.operations += 1;
        world.now_us() + us(self.settings.pause_ms / 1e3).max(1)
    }
}

impl User {
    /// Whether its operation is a put; otherwise it is a get.
    fn puts(&self) -> bool {
        self.operations.is_multiple_of(2)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use starling_report::Availability;

    use super::*;
    use crate::Simulation;
    use crate::scenario::{STRONG_KEYSPACE, parse};

    /// Six nodes in three zones; the home of the first user is killed for five seconds, that of the second one stalls.
    const SCENARIO: &str = r#"
nodes = 6
regions = ["eu", "us", "ap"]
zones = 1
warmup_s = 10
measure_s = 30

[workload]
writes_s = 1

[users]
count = 2
voters = 3
patience_ms = 1000

[[step]]
at_s = 5
do = "kill"
nodes = "node:5"
for_s = 5

[[step]]
at_s = 15
do = "stall"
nodes = "node:4"
for_s = 4
"#;

    #[test]
    fn users_of_one_node_see_its_outages_and_those_that_fall_back_do_not() {
        let mut simulation = Simulation::new(parse("users", SCENARIO, &[]).expect("sound")).expect("no file");
        while simulation.step() {}
        let users = simulation.users.as_ref().expect("there are users");
        let kinds = users.availabilities().kinds();
        let of = |name: &str| kinds.iter().find(|kind| kind.operation == name).expect("it was counted");
        let down_s = |kind: &Availability| kind.down_ms / 1e3;
        for [one, fallback] in [PUT, GET] {
            let (one, fallback) = (of(one), of(fallback));
            assert_eq!((one.clients, one.failures, one.open), (2, 2, 0), "{one:?}");
            // Five seconds dead, four seconds silent; and the pauses and the time of an operation beside them.
            assert!((7.0..13.0).contains(&down_s(one)), "{one:?}");
            assert_eq!((fallback.clients, fallback.failures), (2, 0), "{fallback:?}");
        }
        let strong = simulation.strong.as_ref().expect("there is a keyspace").availability();
        let names: Vec<&str> = strong.iter().map(|kind| kind.operation.as_str()).collect();
        assert_eq!(
            names,
            [
                "strong read, one node",
                "strong read, retried",
                "strong write, one node",
                "strong write, retried"
            ]
        );
        let (_, voters) = simulation.world.members(STRONG_KEYSPACE);
        let zones: BTreeSet<Option<String>> = voters.iter().map(|voter| simulation.zone(*voter)).collect();
        assert_eq!((voters.len(), zones.len()), (3, 3), "the node chose voters of three zones");
    }
}
