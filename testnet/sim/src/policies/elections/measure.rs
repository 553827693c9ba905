//! Many runs of one scenario, and the failures that each protocol is known for.

use serde::Serialize;

use super::{Broken, Ending, Outcome, Protocol, Scenario};
use crate::Threads;
use crate::policies::Estimate;

/// Many runs of a protocol in one scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The protocol.
    pub protocol: Protocol,
    /// Runs.
    pub runs: u32,
    /// Messages sent; by a protocol with heartbeats, until all live nodes knew the leader.
    pub messages: Estimate,
    /// Bytes of these.
    pub bytes: Estimate,
    /// Until all live nodes knew the leader, milliseconds, over the runs in which they did.
    pub known_ms: Estimate,
    /// Runs that ended with each ending.
    pub endings: Endings,
    /// Runs in which two live nodes led at the same time.
    pub two_at_once: u32,
    /// Runs in which a term had two leaders.
    pub two_in_term: u32,
    /// Runs with messages still on their way at the end, heartbeats not counted.
    pub endless: u32,
    /// Runs that broke a promise of the protocol.
    pub broken: u32,
}

/// Runs by their ending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Endings {
    /// All know the best live node.
    pub best: u32,
    /// All know another live node.
    pub another: u32,
    /// One leads, and some do not know.
    pub left_out: u32,
    /// Nobody leads.
    pub nobody: u32,
    /// Two lead.
    pub two: u32,
}

/// Runs a scenario with `runs` seeds from `seed` on.
pub fn measure(threads: &Threads, protocol: Protocol, scenario: &Scenario, runs: u32, seed: u64) -> Summary {
    let outcomes = threads.map(0..runs, |run| protocol.run(scenario, seed.wrapping_add(run.into())));
    let over = |of: &dyn Fn(&Outcome) -> u64| Estimate::of(outcomes.iter().map(|o| of(o) as f64));
    let count = |of: &dyn Fn(&Outcome) -> bool| outcomes.iter().filter(|o| of(o)).count() as u32;
    let ended = |ending| count(&|outcome| outcome.ending == ending);
    let heartbeats = protocol.has_heartbeats();
    Summary {
        protocol,
        runs,
        messages: over(&|o| if heartbeats { o.messages_known } else { o.messages }),
        bytes: over(&|o| if heartbeats { o.bytes_known } else { o.bytes }),
        known_ms: Estimate::of(outcomes.iter().filter_map(|o| Some(o.known_us? as f64 / 1000.0))),
        endings: Endings {
            best: ended(Ending::Best),
            another: ended(Ending::Another),
            left_out: ended(Ending::LeftOut),
            nobody: ended(Ending::Nobody),
            two: ended(Ending::Two),
        },
        two_at_once: count(&|o| o.two_at_once),
        two_in_term: count(&|o| o.two_in_term),
        endless: count(&|o| o.broken(protocol).contains(&Broken::End)),
        broken: count(&|o| !o.broken(protocol).is_empty()),
    }
}

/// A failure that a protocol is known for: some seeds of a scenario show it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Failure {
    /// What happens.
    pub what: &'static str,
    /// To which protocol.
    pub protocol: Protocol,
    /// The name of the scenario.
    pub scenario: &'static str,
    /// The promise that it breaks.
    pub breaks: Broken,
}

/// The failures that the literature warns of, and the planted mistake.
pub const FAILURES: [Failure; 6] = [
    Failure {
        what: "the best node dies, and its rank circulates for ever",
        protocol: Protocol::Ring,
        scenario: "crash-best",
        breaks: Broken::End,
    },
    Failure {
        what: "a lost message ends the election with nobody",
        protocol: Protocol::Ring,
        scenario: "loss",
        breaks: Broken::Liveness,
    },
    Failure {
        what: "the best node answers too late, and two lead",
        protocol: Protocol::Bully,
        scenario: "slow",
        breaks: Broken::Safety,
    },
    Failure {
        what: "each side of a partition elects a leader",
        protocol: Protocol::ModifiedRing,
        scenario: "partition",
        breaks: Broken::Safety,
    },
    Failure {
        what: "proposers outbid each other for ever",
        protocol: Protocol::PaxosDuel,
        scenario: "many",
        breaks: Broken::Liveness,
    },
    Failure {
        what: "planted: the highest value instead of that of the highest ballot",
        protocol: Protocol::PaxosMistaken,
        scenario: "storm",
        breaks: Broken::Safety,
    },
];

/// The first seed from `seed` on, of `tries`, that shows a failure.
pub fn find(failure: &Failure, scenario: &Scenario, seed: u64, tries: u32) -> Option<u64> {
    let seeds = (0..u64::from(tries)).map(|run| seed.wrapping_add(run));
    seeds
        .into_iter()
        .find(|seed| failure.protocol.run(scenario, *seed).broken(failure.protocol).contains(&failure.breaks))
}
