//! A failing scenario made small: fewer nodes, steps, writes and seconds, as long as it fails alike.

use super::run;
use crate::scenario::{Burst, Churn, Latency, Links, Mix, NodeSettings, Scenario, Workload};

/// Tries the simplifications again and again until none is left that still violates the same invariant,
/// or `runs_max` runs were made. `watch` is told of each that does.
pub fn shrink(scenario: Scenario, runs_max: usize, mut watch: impl FnMut(&Scenario)) -> Scenario {
    let violated = |scenario: &Scenario| Some(run(scenario).ok()?.violation?.invariant);
    let Some(invariant) = violated(&scenario) else { return scenario };
    let mut smallest = scenario;
    let mut runs = 1;
    loop {
        let mut is_smaller = false;
        let mut index = 0;
        while let Some(candidate) = simpler(&smallest).into_iter().nth(index) {
            if runs == runs_max {
                return smallest;
            }
            runs += 1;
            if violated(&candidate) == Some(invariant) {
                smallest = candidate;
                is_smaller = true;
                watch(&smallest);
            } else {
                index += 1;
            }
        }
        if !is_smaller {
            return smallest;
        }
    }
}

/// Scenarios that each are simpler in one respect, those that save most first.
fn simpler(scenario: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Scenario)| {
        let mut simpler = scenario.clone();
        change(&mut simpler);
        if simpler != *scenario {
            all.push(simpler);
        }
    };
    add(&|s| s.step.clear());
    for index in 0..scenario.step.len() {
        add(&|s| drop(s.step.remove(index)));
        add(&|s| s.step[index].repeat = None);
    }
    add(&|s| s.churn = Churn::default());
    add(&|s| s.strong = None);
    for number in 0..5 {
        add(&|s| {
            let Some(strong) = &mut s.strong else { return };
            let counts = [
                &mut strong.clients,
                &mut strong.lockers,
                &mut strong.queuers,
                &mut strong.workers,
                &mut strong.watchers,
            ];
            counts.into_iter().skip(number).take(1).for_each(|count| *count /= 2);
        });
    }
    add(&|s| s.nodes = (s.nodes / 2).max(2));
    add(&|s| s.nodes = (s.nodes - 1).max(2));
    add(&|s| s.measure_s = (s.measure_s / 2.0).round().max(1.0));
    add(&|s| s.warmup_s = (s.warmup_s / 2.0).round().max(1.0));
    add(&|s| s.links = Links { latency: Latency::ConstantMs(10.0), jitter_ms: 0.0, ..Links::default() });
    add(&|s| s.links = Links { latency: s.links.latency.clone(), ..Links::default() });
    add(&|s| s.links.latency = Latency::ConstantMs(10.0));
    add(&|s| s.links.clog = None);
    add(&|s| s.links.bandwidth_bytes_s = 0.0);
    add(&|s| s.links.loss = 0.0);
    add(&|s| s.links.drop = 0.0);
    add(&|s| s.links.duplicate = 0.0);
    add(&|s| s.links.reorder = 0.0);
    add(&|s| s.links.jitter_ms = 0.0);
    add(&|s| s.workload.burst = None);
    add(&|s| s.workload.burst = s.workload.burst.map(|b| Burst { writes: (b.writes / 2).max(1), ..b }));
    add(&|s| s.workload.writes_s = (s.workload.writes_s / 2.0).round().max(1.0));
    add(&|s| s.workload = Workload { writes_s: s.workload.writes_s, ..Workload::default() });
    add(&|s| s.workload.mix = Mix { put: s.workload.mix.put, ..Mix::default() });
    add(&|s| s.workload.mix.delete = 0.0);
    add(&|s| s.workload.mix.put_ttl = 0.0);
    add(&|s| s.workload.mix.incr = 0.0);
    add(&|s| s.workload.mix.set_add = 0.0);
    add(&|s| s.workload.mix.set_remove = 0.0);
    add(&|s| s.workload.mix.varied = 0.0);
    add(&|s| s.workload.value_bytes = s.workload.value_bytes.min(8));
    add(&|s| s.workload.keys = (s.workload.keys / 2).max(1));
    add(&|s| s.node = NodeSettings::default());
    add(&|s| s.seeds = 1);
    all
}
