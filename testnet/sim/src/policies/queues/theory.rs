//! What theory says of the mean wait, where its assumptions hold.

use starling_strong::api::queue::{Order, Rules};

use super::{Costs, Item, MEAN_MS, Scenario};

/// Steps of the integration over costs, and its end in multiples of the mean.
const STEPS: u32 = 20_000;
const END: f64 = 40.0;

/// The mean wait of an item, seconds; `None`: an assumption does not hold.
pub(super) fn wait_s(scenario: &Scenario, rules: &Rules, items: &[Item]) -> Option<f64> {
    let is_exact = scenario.error == 0.0;
    let [speed] = scenario.speeds[..] else { return erlang_c_s(scenario, rules) };
    match (scenario.rate(), rules.order) {
        _ if (speed - 1.0).abs() > f64::EPSILON => None,
        (None, Order::Arrival) => Some(one_after_another_s(items.iter().map(|it| it.cost_ms))),
        // With items that came at once, a wait outweighs nothing.
        (None, Order::Shortest) if is_exact => {
            let mut costs: Vec<u64> = items.iter().map(|it| it.cost_ms).collect();
            costs.sort_unstable();
            Some(one_after_another_s(costs.into_iter()))
        }
        (Some(rate), Order::Arrival) if scenario.costs == Costs::Exponential => {
            // M/M/1.
            let load = rate * MEAN_MS;
            Some(load / (1.0 - load) * MEAN_MS / 1000.0)
        }
        (Some(rate), Order::Shortest)
            if is_exact && rules.ageing == 0.0 && scenario.costs == Costs::Exponential =>
        {
            Some(shortest_s(rate))
        }
        _ => None,
    }
}

/// The mean wait on one worker that does these items in this order: item i waits for all before it. No order has a smaller
/// one than that of the costs (Smith 1956).
fn one_after_another_s(costs_ms: impl Iterator<Item = u64>) -> f64 {
    let (mut begun_ms, mut waits_ms, mut count) = (0, 0.0, 0.0);
    for cost_ms in costs_ms {
        waits_ms += begun_ms as f64;
        begun_ms += cost_ms;
        count += 1.0;
    }
    waits_ms / count / 1000.0
}

/// The mean wait of M/M/1 with the shortest job first, which is not interrupted: an item of cost x waits for
/// λ E(S²) / 2 / (1 - ρ(x))², where ρ(x) is the load of shorter ones (Phipps 1956).
fn shortest_s(rate: f64) -> f64 {
    let residual_ms = rate * 2.0 * MEAN_MS * MEAN_MS / 2.0;
    let step = END / f64::from(STEPS);
    let mean = |at: u32| {
        let x = (f64::from(at) + 0.5) * step;
        let density = (-x).exp();
        let shorter = rate * MEAN_MS * (1.0 - (1.0 + x) * density);
        density * step / (1.0 - shorter).powi(2)
    };
    residual_ms * (0..STEPS).map(mean).sum::<f64>() / 1000.0
}

/// The mean wait of M/M/m in the order of arrival (Erlang 1917).
fn erlang_c_s(scenario: &Scenario, rules: &Rules) -> Option<f64> {
    let is_identical = scenario.speeds.iter().all(|speed| (speed - 1.0).abs() < f64::EPSILON);
    let fits = is_identical && rules.order == Order::Arrival && scenario.costs == Costs::Exponential;
    let offered = scenario.rate().filter(|_| fits)? * MEAN_MS;
    let workers = scenario.speeds.len() as f64;
    let (mut term, mut sum) = (1.0, 1.0);
    for busy in 1..scenario.speeds.len() {
        term *= offered / busy as f64;
        sum += term;
    }
    let all = term * offered / workers / (1.0 - offered / workers);
    Some(all / (sum + all) * MEAN_MS / (workers - offered) / 1000.0)
}
