//! Which item is reserved next: the order of a queue as a function of what is known of its items.

use std::collections::BTreeMap;

use starling_types::strong::queue::{Order, Rules};

/// What the order of an item depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job<'a> {
    /// Lower ones are first, in every order.
    pub priority: u16,
    /// The order of its push.
    pub number: &'a str,
    /// How long the work is expected to take, milliseconds.
    pub cost_ms: u64,
    /// When it was pushed, by its client's clock, milliseconds since 1970.
    pub pushed_ms: u64,
    /// The tenant that it belongs to.
    pub tenant: &'a str,
}

/// What else an order depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asker<'a> {
    /// The tenant that was served last.
    pub turn: Option<&'a str>,
    /// How fast the worker is, as a share of the fastest one's rate: above 0, up to 1.
    pub speed: f64,
}

impl Default for Asker<'_> {
    fn default() -> Self {
        Self { turn: None, speed: 1.0 }
    }
}

/// The items in the order in which this worker reserves them, by their indices.
pub fn rank(rules: &Rules, asker: Asker<'_>, jobs: &[Job<'_>]) -> Vec<usize> {
    let mut ranked: Vec<usize> = (0..jobs.len()).collect();
    let arrival = |at: &usize| (jobs[*at].priority, jobs[*at].number);
    match rules.order {
        Order::Arrival => ranked.sort_by_key(arrival),
        Order::Shortest => {
            // A wait counts the same for all, so the order of two items never changes: the present time is not needed.
            let weight = |at: &usize| jobs[*at].cost_ms as f64 + rules.ageing * jobs[*at].pushed_ms as f64;
            ranked.sort_by(|a, b| {
                let by_weight = weight(a).total_cmp(&weight(b));
                jobs[*a].priority.cmp(&jobs[*b].priority).then(by_weight).then(arrival(a).cmp(&arrival(b)))
            });
        }
        Order::Longest => {
            let mut longest: BTreeMap<u16, u64> = BTreeMap::new();
            for job in jobs {
                let known = longest.entry(job.priority).or_default();
                *known = job.cost_ms.max(*known);
            }
            ranked.sort_by_key(|at| {
                let Job { priority, cost_ms, .. } = jobs[*at];
                let fits = cost_ms as f64 <= asker.speed * longest[&priority] as f64;
                let cost = i128::from(cost_ms);
                // Of those that are too long for this worker the shortest is first.
                (priority, !fits, if fits { -cost } else { cost }, jobs[*at].number)
            });
        }
        Order::Tenants => ranked.sort_by_key(|at| {
            let tenant = jobs[*at].tenant;
            (asker.turn.is_some_and(|turn| tenant <= turn), tenant, arrival(at))
        }),
    }
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: [&str; 5] = ["0", "1", "2", "3", "4"];

    fn jobs(costs_ms: &[u64]) -> Vec<Job<'static>> {
        let job = |(at, cost_ms): (usize, &u64)| Job {
            priority: 1000,
            number: NUMBERS[at],
            cost_ms: *cost_ms,
            pushed_ms: 1_000_000,
            tenant: "",
        };
        costs_ms.iter().enumerate().map(job).collect()
    }

    fn rules(order: Order, ageing: f64) -> Rules {
        Rules { order, ageing, ..Rules::default() }
    }

    #[test]
    fn a_priority_is_before_every_order() {
        for order in [Order::Arrival, Order::Shortest, Order::Longest] {
            let mut jobs = jobs(&[3, 1, 2]);
            jobs[2].priority = 1;
            assert_eq!(rank(&rules(order, 0.1), Asker::default(), &jobs)[0], 2, "{order:?}");
        }
    }

    #[test]
    fn the_shortest_is_first_until_another_has_waited_long_enough() {
        let mut jobs = jobs(&[500, 100, 300, 100]);
        let ranked = |jobs: &[Job<'_>], ageing| rank(&rules(Order::Shortest, ageing), Asker::default(), jobs);
        assert_eq!(ranked(&jobs, 0.1), [1, 3, 2, 0]);
        // 400 ms of cost are outweighed by 4 s.
        jobs[0].pushed_ms -= 3_900;
        assert_eq!(ranked(&jobs, 0.1), [1, 3, 0, 2]);
        jobs[0].pushed_ms -= 200;
        assert_eq!(ranked(&jobs, 0.1), [0, 1, 3, 2]);
        assert_eq!(ranked(&jobs, 0.0), [1, 3, 2, 0], "without ageing it waits for ever");
    }

    #[test]
    fn the_fastest_worker_gets_the_longest_and_a_slow_one_what_it_ends_in_time() {
        let jobs = jobs(&[100, 400, 250, 200]);
        let ranked = |speed| rank(&rules(Order::Longest, 0.0), Asker { speed, ..Asker::default() }, &jobs);
        assert_eq!(ranked(1.0), [1, 2, 3, 0]);
        assert_eq!(ranked(0.5), [3, 0, 2, 1]);
        assert_eq!(ranked(0.1), [0, 3, 2, 1], "nothing is short enough: the shortest");
    }

    #[test]
    fn tenants_have_their_turn_whatever_the_others_have_pushed() {
        let mut jobs = jobs(&[0; 5]);
        for (job, tenant) in jobs.iter_mut().zip(["ann", "ann", "ann", "bob", "eve"]) {
            job.tenant = tenant;
        }
        let next = |turn| rank(&rules(Order::Tenants, 0.0), Asker { turn, speed: 1.0 }, &jobs)[0];
        assert_eq!([None, Some("ann"), Some("bob"), Some("eve"), Some("carl")].map(next), [0, 3, 4, 0, 4]);
    }
}
