//! The orders where theory is exact, and its bounds on all inputs of a size.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use starling_strong::api::queue::{Order, Rules};

use crate::Threads;

use super::{BEGIN_MS, Done, Item, RULES, Scenario, measure, simulate};

fn rules(order: Order, ageing: f64) -> Rules {
    Rules { order, ageing, ..Rules::default() }
}

fn at_once(costs_ms: &[u64]) -> Vec<Item> {
    let item = |(at, cost_ms): (usize, &u64)| Item {
        number: format!("{at:06}"),
        cost_ms: *cost_ms,
        stated_ms: *cost_ms,
        pushed_ms: BEGIN_MS,
        tenant: "few",
    };
    costs_ms.iter().enumerate().map(item).collect()
}

fn makespan_ms(done: &[Done]) -> u64 {
    (done.iter().map(|it| it.ended_ms).fold(0.0, f64::max) - BEGIN_MS).round() as u64
}

fn waits_ms(done: &[Done]) -> u64 {
    done.iter().map(|it| (it.began_ms - it.pushed_ms).round() as u64).sum()
}

/// The least sum of waits on one worker, over all orders of the items.
fn least_waits_ms(left: &mut Vec<u64>, begun_ms: u64) -> u64 {
    let mut least = if left.is_empty() { 0 } else { u64::MAX };
    for at in 0..left.len() {
        let cost_ms = left.remove(at);
        least = least.min(begun_ms + least_waits_ms(left, begun_ms + cost_ms));
        left.insert(at, cost_ms);
    }
    least
}

/// The least makespan, over all assignments of the items to identical workers.
fn least_makespan_ms(costs_ms: &[u64], busy_ms: &mut Vec<u64>) -> u64 {
    let Some((first, rest)) = costs_ms.split_first() else {
        return busy_ms.iter().copied().max().unwrap_or(0);
    };
    let mut least = u64::MAX;
    for at in 0..busy_ms.len() {
        busy_ms[at] += first;
        least = least.min(least_makespan_ms(rest, busy_ms));
        busy_ms[at] -= first;
    }
    least
}

fn costs(rng: &mut ChaCha8Rng, count: usize) -> Vec<u64> {
    (0..count).map(|_| rng.random_range(1..=100)).collect()
}

#[test]
fn the_shortest_first_has_the_least_mean_wait_of_all_orders() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..50 {
        let mut costs = costs(&mut rng, 6);
        let done = simulate(at_once(&costs), &[1.0], &rules(Order::Shortest, 0.1));
        assert_eq!(waits_ms(&done), least_waits_ms(&mut costs, 0), "{costs:?}");
    }
}

#[test]
fn the_longest_first_is_as_bad_as_graham_says_on_his_input_and_on_no_other() {
    // Graham 1969: 2m + 1 items of 2m - 1, 2m - 1, ..., m + 1, m + 1, m, m, m take 4m - 1 instead of 3m.
    for workers in 2..=6_u64 {
        let pairs = (workers + 1..2 * workers).rev().flat_map(|cost| [cost, cost]);
        let costs: Vec<u64> = pairs.chain([workers; 3]).collect();
        let speeds = vec![1.0; workers as usize];
        let done = simulate(at_once(&costs), &speeds, &rules(Order::Longest, 0.0));
        assert_eq!(makespan_ms(&done), 4 * workers - 1);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for workers in [2, 3] {
        for _ in 0..50 {
            let costs = costs(&mut rng, 8);
            let done = simulate(at_once(&costs), &vec![1.0; workers], &rules(Order::Longest, 0.0));
            let least = least_makespan_ms(&costs, &mut vec![0; workers]) as f64;
            let bound = (4.0 / 3.0 - 1.0 / (3.0 * workers as f64)) * least;
            assert!(makespan_ms(&done) as f64 <= bound + 1e-6, "{workers} workers, {costs:?}");
        }
    }
}

#[test]
fn means_agree_with_theory_where_it_holds() {
    let mut compared = 0;
    for scenario in Scenario::named() {
        for (name, rules) in RULES {
            let summary = measure(&Threads::new(None), &scenario, &rules, 60, 1);
            let Some(theory) = summary.theory_s else { continue };
            let off = (summary.wait_s.mean - theory.mean).abs();
            // Exact where all items are there at once; otherwise four standard errors.
            let allowed = if scenario.load.is_none() { 1e-6 } else { 4.0 * summary.wait_s.error };
            assert!(off <= allowed, "{} in {}: {summary:?}", name, scenario.name);
            compared += 1;
        }
    }
    assert!(compared >= 7, "{compared}");
}

#[test]
fn an_item_is_overtaken_only_by_those_that_come_within_its_cost_over_the_ageing() {
    let scenario = Scenario::named().into_iter().find(|it| it.name == "queue").expect("it is measured");
    let ageing = 0.1;
    let done = simulate(scenario.draw(7), &scenario.speeds, &rules(Order::Shortest, ageing));
    let mut overtaken = 0;
    for (at, first) in done.iter().enumerate() {
        for later in done[at + 1..].iter().filter(|later| later.pushed_ms < first.pushed_ms) {
            overtaken += 1;
            // Times of pushes are whole milliseconds for the order.
            let bound_ms = later.cost_ms as f64 / ageing + 1.0;
            assert!(first.pushed_ms - later.pushed_ms <= bound_ms, "{first:?} before {later:?}");
        }
    }
    assert!(overtaken > 100, "{overtaken}");
}

#[test]
fn the_tenant_with_few_items_waits_for_as_many_of_the_other() {
    let scenario = Scenario::named().into_iter().find(|it| it.name == "tenants").expect("it is measured");
    let done = simulate(scenario.draw(3), &scenario.speeds, &rules(Order::Tenants, 0.0));
    let last = done.iter().rposition(|it| it.tenant == "few").expect("it has items");
    assert_eq!(last, 18, "ten of each, in turn, `few` first");
}
