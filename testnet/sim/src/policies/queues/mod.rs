//! Orders of a work queue: which item an idle worker gets, by the product's own function ([`starling_strong::queue::rank`]),
//! on stated distributions of arrivals and costs, beside what theory says where its assumptions hold.
//!
//! Requests take no time here: a worker that ends an item begins the next one in the same moment.

mod theory;

#[cfg(test)]
mod tests;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use starling_strong::api::queue::{Order, Rules};
use starling_strong::queue::{Asker, Job, WINDOW, rank};

use super::Estimate;
use crate::Threads;

/// The mean cost of an item, milliseconds.
const MEAN_MS: f64 = 1000.0;
/// Shape of the heavy-tailed costs: the mean exists, and the variance does not (bounded Pareto).
const PARETO_SHAPE: f64 = 1.5;
/// The longest heavy-tailed cost, in multiples of the shortest one.
const PARETO_SPAN: f64 = 1000.0;
/// What the clock shows when the first item may be pushed, milliseconds.
const BEGIN_MS: f64 = 1e6;

/// How long the work on items takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Costs {
    /// Exponential.
    Exponential,
    /// From 0 to twice the mean, all alike.
    Uniform,
    /// Bounded Pareto: a few items take most of the time.
    HeavyTailed,
}

impl Costs {
    /// A cost, milliseconds; at least 1.
    fn draw(self, rng: &mut ChaCha8Rng) -> u64 {
        let share: f64 = rng.random();
        let ms = match self {
            Self::Exponential => -MEAN_MS * (1.0 - share).ln(),
            Self::Uniform => 2.0 * MEAN_MS * share,
            Self::HeavyTailed => {
                let floor = MEAN_MS / pareto_mean();
                let tail = PARETO_SPAN.powf(-PARETO_SHAPE);
                floor * (1.0 - share * (1.0 - tail)).powf(-1.0 / PARETO_SHAPE)
            }
        };
        (ms.round() as u64).max(1)
    }
}

/// The mean of the bounded Pareto distribution from 1 on.
fn pareto_mean() -> f64 {
    let (a, h) = (PARETO_SHAPE, PARETO_SPAN);
    a / (a - 1.0) * (1.0 - h.powf(1.0 - a)) / (1.0 - h.powf(-a))
}

/// What there is to do, and who does it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it is, for people.
    pub about: &'static str,
    /// Items.
    pub jobs: usize,
    /// How long the work takes.
    pub costs: Costs,
    /// The share of the workers' time that arrivals take; `None`: all items are there at once.
    pub load: Option<f64>,
    /// The stated cost is the true one times e to a normal deviate with this deviation.
    pub error: f64,
    /// The speed of each worker.
    pub speeds: Vec<f64>,
    /// The share of the items that belongs to the tenant `many`, whose items come first; the rest is of the tenant `few`.
    pub many: f64,
}

impl Scenario {
    /// Those that are measured.
    pub fn named() -> Vec<Self> {
        let together = Self {
            name: "together",
            about: "200 items at once, exponential costs, one worker: theory holds exactly",
            jobs: 200,
            costs: Costs::Exponential,
            load: None,
            error: 0.0,
            speeds: vec![1.0],
            many: 0.0,
        };
        let queue = Self {
            name: "queue",
            about: "5,000 items, Poisson arrivals, exponential costs, one worker, 0.8 of its time",
            jobs: 5000,
            load: Some(0.8),
            ..together.clone()
        };
        vec![
            Self {
                name: "identical",
                about: "64 items at once, heavy-tailed costs, eight identical workers",
                jobs: 64,
                costs: Costs::HeavyTailed,
                speeds: vec![1.0; 8],
                ..together.clone()
            },
            Self {
                name: "speeds",
                about: "64 items at once, uniform costs, workers of speed 4, 2, 1 and 1",
                jobs: 64,
                costs: Costs::Uniform,
                speeds: vec![4.0, 2.0, 1.0, 1.0],
                ..together.clone()
            },
            Self {
                name: "queue-four",
                about: "5,000 items, Poisson arrivals, exponential costs, four workers, 0.8 of their time",
                speeds: vec![1.0; 4],
                ..queue.clone()
            },
            Self {
                name: "queue-heavy",
                about: "5,000 items, Poisson arrivals, heavy-tailed costs, four workers, 0.8 of their time",
                costs: Costs::HeavyTailed,
                speeds: vec![1.0; 4],
                ..queue.clone()
            },
            Self {
                name: "misjudged",
                about: "as `queue`, with stated costs that are wrong by a factor of e in either direction",
                error: 1.0,
                ..queue.clone()
            },
            Self {
                name: "tenants",
                about: "190 items of one tenant, then 10 of another, at once, one worker",
                many: 0.95,
                ..together.clone()
            },
            together,
            queue,
        ]
    }

    /// Arrivals per millisecond.
    fn rate(&self) -> Option<f64> {
        let speed: f64 = self.speeds.iter().sum();
        self.load.map(|load| load * speed / MEAN_MS)
    }

    fn draw(&self, seed: u64) -> Vec<Item> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut now_ms = BEGIN_MS;
        let many = (self.jobs as f64 * self.many).round() as usize;
        let item = |at: usize| {
            let cost_ms = self.costs.draw(&mut rng);
            let [a, b]: [f64; 2] = [rng.random(), rng.random()];
            // Box and Muller 1958.
            let normal = (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos();
            let stated_ms = ((cost_ms as f64 * (self.error * normal).exp()).round() as u64).max(1);
            if let Some(rate) = self.rate() {
                now_ms -= (1.0 - rng.random::<f64>()).ln() / rate;
            }
            let tenant = if at < many { "many" } else { "few" };
            Item { number: format!("{at:06}"), cost_ms, stated_ms, pushed_ms: now_ms, tenant }
        };
        (0..self.jobs).map(item).collect()
    }
}

/// An item to do.
#[derive(Clone, Debug, PartialEq)]
struct Item {
    number: String,
    cost_ms: u64,
    stated_ms: u64,
    pushed_ms: f64,
    tenant: &'static str,
}

impl Item {
    fn job(&self) -> Job<'_> {
        Job {
            priority: 1000,
            number: &self.number,
            cost_ms: self.stated_ms,
            pushed_ms: self.pushed_ms as u64,
            tenant: self.tenant,
        }
    }
}

/// One item as it was done, times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Done {
    pushed_ms: f64,
    began_ms: f64,
    ended_ms: f64,
    cost_ms: u64,
    tenant: &'static str,
}

/// Does all items with these workers. They are done in the order of their beginnings.
fn simulate(items: Vec<Item>, speeds: &[f64], rules: &Rules) -> Vec<Done> {
    let fastest = speeds.iter().copied().fold(0.0, f64::max);
    // Of idle workers the fastest asks first.
    let mut free_at: Vec<(f64, f64)> = speeds.iter().map(|speed| (BEGIN_MS, *speed)).collect();
    let (mut waiting, mut turn) = (Vec::<Item>::new(), None);
    let mut arrivals = items.into_iter().peekable();
    let mut done = Vec::new();
    loop {
        free_at.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        let (mut now_ms, speed) = free_at[0];
        while let Some(item) = arrivals.next_if(|item| item.pushed_ms <= now_ms) {
            waiting.push(item);
        }
        if waiting.is_empty() {
            let Some(item) = arrivals.next() else { return done };
            // All idle workers are there when it comes.
            now_ms = item.pushed_ms;
            for worker in &mut free_at {
                worker.0 = worker.0.max(now_ms);
            }
            waiting.push(item);
            continue;
        }
        let asker = Asker { turn, speed: speed / fastest };
        let jobs: Vec<Job<'_>> = match rules.order {
            // Each tenant is looked at from its first item on.
            Order::Tenants => waiting.iter().map(Item::job).collect(),
            _ => waiting.iter().take(WINDOW).map(Item::job).collect(),
        };
        let item = waiting.remove(rank(rules, asker, &jobs)[0]);
        turn = Some(item.tenant);
        let ended_ms = now_ms + item.cost_ms as f64 / speed;
        free_at[0].0 = ended_ms;
        let Item { cost_ms, pushed_ms, tenant, .. } = item;
        done.push(Done { pushed_ms, began_ms: now_ms, ended_ms, cost_ms, tenant });
    }
}

/// The orders that are compared.
pub const RULES: [(&str, Rules); 5] = [
    ("arrival", Rules { order: Order::Arrival, ageing: 0.0, attempts: 0 }),
    ("shortest, no ageing", Rules { order: Order::Shortest, ageing: 0.0, attempts: 0 }),
    ("shortest, ageing 0.1", Rules { order: Order::Shortest, ageing: 0.1, attempts: 0 }),
    ("longest", Rules { order: Order::Longest, ageing: 0.0, attempts: 0 }),
    ("tenants", Rules { order: Order::Tenants, ageing: 0.0, attempts: 0 }),
];

/// Means over the runs of one order, times in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// From the first push to the end of the last item.
    pub makespan_s: Estimate,
    /// The same, divided by what no schedule can fall below: the work over all speeds, the longest item on the fastest.
    pub over_bound: Estimate,
    /// From the push of an item to the beginning of its work, on average.
    pub wait_s: Estimate,
    /// The same, of items of the tenant `few`.
    pub few_wait_s: Estimate,
    /// The longest wait of a run.
    pub longest_s: Estimate,
    /// The share of the workers' time that they worked until the last one ended.
    pub utilisation: Estimate,
    /// What theory says of the mean wait, of these very costs where it depends on them.
    pub theory_s: Option<Estimate>,
}

/// Runs a scenario with seeds from `seed` on.
pub fn measure(threads: &Threads, scenario: &Scenario, rules: &Rules, runs: u32, seed: u64) -> Summary {
    let run = |at: u32| {
        let items = scenario.draw(seed.wrapping_add(u64::from(at)));
        let theory = theory::wait_s(scenario, rules, &items);
        (Figures::of(&simulate(items, &scenario.speeds, rules), &scenario.speeds), theory)
    };
    let runs: Vec<(Figures, Option<f64>)> = threads.map(0..runs, run);
    let of = |figure: fn(&Figures) -> f64| Estimate::of(runs.iter().map(|(figures, _)| figure(figures)));
    let theory: Option<Vec<f64>> = runs.iter().map(|(_, theory)| *theory).collect();
    Summary {
        makespan_s: of(|it| it.makespan_s),
        over_bound: of(|it| it.over_bound),
        wait_s: of(|it| it.wait_s),
        few_wait_s: of(|it| it.few_wait_s),
        longest_s: of(|it| it.longest_s),
        utilisation: of(|it| it.utilisation),
        theory_s: theory.map(Estimate::of),
    }
}

/// What one run comes to.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    makespan_s: f64,
    over_bound: f64,
    wait_s: f64,
    few_wait_s: f64,
    longest_s: f64,
    utilisation: f64,
}

impl Figures {
    fn of(done: &[Done], speeds: &[f64]) -> Self {
        let begin_ms = done.iter().map(|it| it.pushed_ms).fold(f64::INFINITY, f64::min);
        let end_ms = done.iter().map(|it| it.ended_ms).fold(0.0, f64::max);
        let work_ms: f64 = done.iter().map(|it| it.cost_ms as f64).sum();
        let busy_ms: f64 = done.iter().map(|it| it.ended_ms - it.began_ms).sum();
        let longest_ms = done.iter().map(|it| it.cost_ms).max().unwrap_or(0) as f64;
        let fastest = speeds.iter().copied().fold(0.0, f64::max);
        let bound_ms = (work_ms / speeds.iter().sum::<f64>()).max(longest_ms / fastest);
        let wait_s = |it: &Done| (it.began_ms - it.pushed_ms) / 1000.0;
        let few = done.iter().filter(|it| it.tenant == "few");
        let makespan_ms = end_ms - begin_ms;
        Self {
            makespan_s: makespan_ms / 1000.0,
            over_bound: makespan_ms / bound_ms,
            wait_s: Estimate::of(done.iter().map(wait_s)).mean,
            few_wait_s: Estimate::of(few.map(wait_s)).mean,
            longest_s: done.iter().map(wait_s).fold(0.0, f64::max),
            utilisation: busy_ms / (makespan_ms * speeds.len() as f64),
        }
    }
}
