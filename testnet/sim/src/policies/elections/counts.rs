//! What the textbooks count without faults, beside what the machines of this module send.

use serde::Serialize;

use super::{Begins, Order, Protocol, Scenario};

/// One count.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Count {
    /// The protocol.
    pub protocol: Protocol,
    /// The case, with what a text's count assumes.
    pub case: &'static str,
    /// The count of messages, as a formula in n.
    pub formula: &'static str,
    /// What the formula yields.
    pub expected: u64,
    /// Messages sent.
    pub messages: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Message times that it takes, as a formula in n.
    pub turnaround: &'static str,
    /// What the formula yields.
    pub expected_turnaround: u64,
    /// Message times from the beginning until the last message has arrived.
    pub took: u64,
}

/// One case.
struct Case {
    protocol: Protocol,
    text: &'static str,
    scenario: Scenario,
    messages: (&'static str, u64),
    turnaround: (&'static str, u64),
}

fn ring(n: u64) -> [Case; 4] {
    let one = Scenario::counted(n as usize);
    let all = Scenario { initiators: n as usize, ..one };
    let case = |text, scenario, messages, turnaround| Case {
        protocol: Protocol::Ring,
        text,
        scenario,
        messages,
        turnaround,
    };
    [
        case(
            "worst: the best is the anti-clockwise neighbour of the only initiator",
            Scenario { begins: Begins::AfterBest, ..one },
            ("3n - 1", 3 * n - 1),
            ("3n - 1", 3 * n - 1),
        ),
        case(
            "best: the best is the only initiator",
            Scenario { begins: Begins::Best, ..one },
            ("2n", 2 * n),
            ("2n", 2 * n),
        ),
        case(
            "all begin at once, ranks ascend clockwise",
            Scenario { order: Order::Ascending, ..all },
            ("3n - 1", 3 * n - 1),
            ("2n", 2 * n),
        ),
        case(
            "all begin at once, ranks descend clockwise",
            Scenario { order: Order::Descending, ..all },
            ("n(n+1)/2 + n", n * (n + 1) / 2 + n),
            ("2n", 2 * n),
        ),
    ]
}

fn modified_ring(n: u64) -> [Case; 3] {
    let one = Scenario::counted(n as usize);
    let all = Scenario { initiators: n as usize, ..one };
    let case = |text, scenario, messages| Case {
        protocol: Protocol::ModifiedRing,
        text,
        scenario,
        messages,
        turnaround: ("2n", 2 * n),
    };
    [
        case("one initiator, whichever", one, ("2n", 2 * n)),
        case(
            "all begin at once, ranks ascend clockwise, lower initiators are blocked",
            Scenario { order: Order::Ascending, ..all },
            ("3n - 1", 3 * n - 1),
        ),
        case(
            "all begin at once, ranks descend clockwise, lower initiators are blocked",
            Scenario { order: Order::Descending, ..all },
            ("n(n+1)/2 + n", n * (n + 1) / 2 + n),
        ),
    ]
}

fn paxos(n: u64) -> [Case; 2] {
    let scenario = Scenario::counted(n as usize);
    [
        Case {
            protocol: Protocol::Paxos,
            text: "one proposer, all nodes are acceptors and learners",
            scenario,
            messages: ("(n - 1)(n + 3)", (n - 1) * (n + 3)),
            turnaround: ("4", 4),
        },
        Case {
            protocol: Protocol::PaxosStable,
            text: "one proposer, which is the only learner and notifies the others",
            scenario,
            messages: ("5(n - 1)", 5 * (n - 1)),
            turnaround: ("5", 5),
        },
    ]
}

fn bully(n: u64) -> [Case; 3] {
    let asked = Scenario { old_leader: true, ..Scenario::counted(n as usize) };
    let known = Scenario { detect_ms: Some(0), ..asked };
    let case = |text, scenario, messages, turnaround| Case {
        protocol: Protocol::Bully,
        text,
        scenario,
        messages,
        turnaround,
    };
    [
        case(
            "best: the second highest begins, and knows that the highest is dead",
            Scenario { begins: Begins::Best, ..known },
            ("n - 2", n - 2),
            ("1", 1),
        ),
        case(
            "the same, but it asks the dead highest, and waits for a round trip",
            Scenario { begins: Begins::Best, ..asked },
            ("n - 1", n - 1),
            ("2 + 1", 3),
        ),
        case(
            "worst: the lowest begins, and all ask the dead highest",
            Scenario { begins: Begins::Lowest, ..asked },
            ("n^2 - n - 1", n * n - n - 1),
            ("1 + 2 + 1", 4),
        ),
    ]
}

/// The counts of all protocols with `nodes` nodes, 3 or more, a dead leader among them where a protocol has one.
pub fn counts(nodes: usize) -> Vec<Count> {
    let n = nodes as u64;
    cases(n).map(|case| count(&case)).collect()
}

fn cases(n: u64) -> impl Iterator<Item = Case> {
    ring(n).into_iter().chain(modified_ring(n)).chain(bully(n)).chain(paxos(n))
}

fn count(case: &Case) -> Count {
    // Any seed gives the same: nothing that counts is drawn.
    let outcome = case.protocol.run(&case.scenario, 1);
    Count {
        protocol: case.protocol,
        case: case.text,
        formula: case.messages.0,
        expected: case.messages.1,
        messages: outcome.messages,
        bytes: outcome.bytes,
        turnaround: case.turnaround.0,
        expected_turnaround: case.turnaround.1,
        took: outcome.quiet_us.unwrap_or(u64::MAX) / case.scenario.delay_us(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::elections::Ending;

    #[test]
    fn every_count_of_the_texts_comes_out() {
        for nodes in [3, 4, 5, 7, 16, 50] {
            for count in counts(nodes) {
                let got = (count.messages, count.took);
                assert_eq!(got, (count.expected, count.expected_turnaround), "{nodes} nodes: {count:?}");
            }
        }
    }

    #[test]
    fn counts_depend_on_no_seed_and_elect_the_best() {
        for case in cases(9) {
            let outcomes: Vec<_> = (1..20).map(|seed| case.protocol.run(&case.scenario, seed)).collect();
            let are_best = outcomes.iter().all(|outcome| outcome.ending == Ending::Best);
            let by_rank = !matches!(case.protocol, Protocol::Paxos | Protocol::PaxosStable);
            assert!(are_best || !by_rank, "{}", case.text);
            assert!(outcomes.iter().all(|o| o.messages == outcomes[0].messages), "{}", case.text);
        }
    }
}
