//! The epidemics of Demers et al.

use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;
use starling_report::Report;
use starling_sim::Threads;
use starling_sim::policies::mongering::{Direction, Interest, Judgement, Variant};
use starling_sim::policies::tables::{Measured, OTHER_READINGS, Published, SITES, TABLES, Table, measure};

use super::{nodes, show};
use crate::Common;

/// How often each epidemic is repeated.
#[derive(Debug, clap::Args)]
pub struct Trials {
    /// Epidemics of each kind; standard errors shrink with the root of their number
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    trials: u32,
}

/// Tables of the paper.
#[derive(Debug, clap::Args)]
pub struct TablesOptions {
    #[command(flatten)]
    trials: Trials,
}

/// One kind of rumor mongering.
#[derive(Debug, clap::Args)]
pub struct RumorOptions {
    /// Which way a rumor travels over a call
    #[arg(long, value_enum, default_value_t = Way::Push)]
    direction: Way,
    /// Lose interest whether or not the other knew the rumor
    #[arg(long)]
    blind: bool,
    /// Lose interest with probability 1/k instead of after k useless cycles in a row
    #[arg(long)]
    coin: bool,
    /// Rows of the table: k = 1 to this
    #[arg(long, default_value_t = 5, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=100))]
    k_max: u32,
    /// Of two sites that both knew, only the one with the smaller counter counts (push-pull)
    #[arg(long, conflicts_with = "coin")]
    minimization: bool,
    /// Calls that a site answers per cycle [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    connections: Option<u32>,
    /// Further sites that a rejected caller tries
    #[arg(long, default_value_t = 0, value_name = "N", requires = "connections",
        value_parser = clap::value_parser!(u32).range(..=1000))]
    hunts: u32,
    #[command(flatten)]
    trials: Trials,
}

/// Connection limits.
#[derive(Debug, clap::Args)]
pub struct LimitsOptions {
    #[command(flatten)]
    trials: Trials,
}

/// Anti-entropy.
#[derive(Debug, clap::Args)]
pub struct AntiEntropyOptions {
    #[command(flatten)]
    trials: Trials,
}

/// A direction, as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    Push,
    Pull,
    PushPull,
}

impl From<Way> for Direction {
    fn from(way: Way) -> Self {
        match way {
            Way::Push => Self::Push,
            Way::Pull => Self::Pull,
            Way::PushPull => Self::PushPull,
        }
    }
}

/// One row of a table of the paper.
#[derive(Debug, Serialize)]
struct Row {
    k: u32,
    published: Published,
    measured: Measured,
    agrees: [bool; 4],
}

impl TablesOptions {
    /// The three tables, at the paper's size.
    pub fn run(&self, common: &Common, threads: &Threads) -> Report {
        let trials = self.trials.trials;
        let rows = TABLES.iter().flat_map(|table| table.rows.iter().zip(1..).map(move |row| (table, row)));
        let rows = threads.map(rows, |(table, (published, k))| {
            let measured = measure(SITES, &(table.variant)(k), trials, common.seed);
            Row { k, published: *published, measured, agrees: measured.agrees(published, trials) }
        });
        let mut rows = rows.into_iter();
        let mut of = |table: &Table| (table.title, rows.by_ref().take(table.rows.len()).collect());
        let tables: Vec<(&str, Vec<Row>)> = TABLES.iter().map(&mut of).collect();
        let title = format!("Demers et al. 1987: {SITES} sites, {trials} trials");
        let mut report =
            Report::new(title, &json!({ "trials": trials, "seed": common.seed, "tables": tables }));
        for (title, rows) in &tables {
            report = report.line(*title).table(PAPER_HEADER, rows.iter().map(Row::cells));
        }
        report
            .line(
                "Each pair: published, ours with its standard error; ≠ where the published figure cannot be a mean\n\
                 of these epidemics. s: share of sites left out; m: rumors sent per site; delays in cycles.",
            )
            .line("Other readings of the paper")
            .table(["", "row", "s", "with this reading"], self.other_readings(common.seed, threads))
    }

    /// What the paper's figures would be if its open points were read in other ways.
    fn other_readings(&self, seed: u64, threads: &Threads) -> Vec<[String; 4]> {
        let trials = self.trials.trials;
        threads.map(OTHER_READINGS, |(reading, table, k, what)| {
            let Table { title, variant, rows } = TABLES[table];
            let measured = measure(SITES, &Variant { reading, ..variant(k) }, trials, seed);
            let published = rows[k as usize - 1].residue;
            [what.into(), format!("{title}, k = {k}"), published.to_string(), show(measured.residue)]
        })
    }
}

/// The head of a table beside the paper's.
const PAPER_HEADER: [&str; 9] = ["k", "s", "ours", "m", "ours", "t_ave", "ours", "t_last", "ours"];

impl Row {
    fn cells(&self) -> [String; 9] {
        let Self { published, measured, agrees, .. } = self;
        let ours = [measured.residue, measured.traffic, measured.delay_mean, measured.delay_last];
        let [s, m, mean, last] = std::array::from_fn(|column| {
            let mark = if agrees[column] { " " } else { "≠" };
            format!("{mark} {}", show(ours[column]))
        });
        let theirs = [published.residue, published.traffic, published.delay_mean, published.delay_last];
        let [s0, m0, mean0, last0] =
            theirs.map(|figure| if figure < 1e-3 { format!("{figure:.1e}") } else { figure.to_string() });
        [self.k.to_string(), s0, s, m0, m, mean0, mean, last0, last]
    }
}

/// The head of a table of epidemics. The last column is λ in s = e^(-λm).
const HEADER: [&str; 7] = ["", "s", "m", "t_ave", "t_last", "rejected", "-ln s / m"];

fn cells(name: String, measured: &Measured) -> [String; 7] {
    let exponent = -measured.residue.mean.ln() / measured.traffic.mean;
    [
        name,
        show(measured.residue),
        show(measured.traffic),
        show(measured.delay_mean),
        show(measured.delay_last),
        show(measured.rejected),
        if exponent.is_finite() { format!("{exponent:.2}") } else { "-".into() },
    ]
}

impl RumorOptions {
    fn variant(&self, k: u32) -> Variant {
        let interest = if self.coin { Interest::Coin(k) } else { Interest::Counter(k) };
        Variant {
            judgement: if self.blind { Judgement::Blind } else { Judgement::Feedback },
            minimization: self.minimization,
            connections_max: self.connections,
            hunts_max: self.hunts,
            ..Variant::new(self.direction.into(), interest)
        }
    }

    /// A table over k.
    pub fn run(&self, common: &Common, threads: &Threads) -> Report {
        let nodes = nodes(common);
        let rows = threads.map(1..=self.k_max, |k| {
            let variant = self.variant(k);
            (variant, measure(nodes, &variant, self.trials.trials, common.seed))
        });
        let table = rows.iter().zip(1..).map(|((_, measured), k)| cells(format!("k = {k}"), measured));
        let kind =
            [if self.blind { "blind" } else { "feedback" }, if self.coin { "coin" } else { "counter" }];
        let title = format!("Rumor mongering, {:?}, {}: {nodes} sites", self.direction, kind.join(", "));
        Report::new(title, &rows).table(HEADER, table)
    }
}

impl LimitsOptions {
    /// Push and pull with feedback and counters, with and without limits.
    pub fn run(&self, common: &Common, threads: &Threads) -> Report {
        let nodes = nodes(common);
        let limits = [(None, 0), (Some(1), 0), (Some(1), 1), (Some(1), 4), (Some(1), 100), (Some(2), 0)];
        let rows = [Direction::Push, Direction::Pull]
            .into_iter()
            .flat_map(|direction| limits.map(|(connections, hunts)| (direction, connections, hunts)));
        let rows = threads.map(rows, |(direction, connections_max, hunts_max)| {
            let variant =
                Variant { connections_max, hunts_max, ..Variant::new(direction, Interest::Counter(2)) };
            (variant, measure(nodes, &variant, self.trials.trials, common.seed))
        });
        let name = |variant: &Variant| {
            let limit = variant.connections_max.map_or("no limit".into(), |max| format!("limit {max}"));
            let hunts = match variant.hunts_max {
                0 => String::new(),
                hunts => format!(", hunt limit {hunts}"),
            };
            format!("{:?}, {limit}{hunts}", variant.direction)
        };
        let table = rows.iter().map(|(variant, measured)| cells(name(variant), measured));
        let title = format!("Connection limits: feedback, counter k = 2, {nodes} sites");
        let limited = 1.0 / (1.0 - (-1.0_f64).exp());
        Report::new(title, &rows).table(HEADER, table).line(format!(
            "The paper expects s = e^(-λm): λ = 1 for push, 1/(1 - 1/e) = {limited:.2} for push with a limit of one\n\
             (a rejected call costs no rumor), more than 1 for pull, which limits make worse; and no difference\n\
             between the two with a limit of one and much hunting."
        ))
    }
}

impl AntiEntropyOptions {
    /// Cycles until everybody knows.
    pub fn run(&self, common: &Common, threads: &Threads) -> Report {
        let nodes = nodes(common);
        let log = (nodes as f64).ln();
        let ways = [
            // Pittel, "On spreading a rumor" (SIAM J. Appl. Math. 1987).
            (Direction::Push, "log2 n + ln n", log / 2_f64.ln() + log),
            // Demers et al., section 1.3: doubling, then p_(i+1) = p_i^2.
            (Direction::Pull, "log2 n + log2 ln n", log / 2_f64.ln() + log.ln() / 2_f64.ln()),
            // Karp et al., "Randomized rumor spreading" (FOCS 2000): log3 n + O(log log n).
            (Direction::PushPull, "log3 n + log2 ln n", log / 3_f64.ln() + log.ln() / 2_f64.ln()),
        ];
        let rows = threads.map(ways, |(direction, formula, theory)| {
            let variant = Variant::new(direction, Interest::Forever);
            (direction, formula, theory, measure(nodes, &variant, self.trials.trials, common.seed))
        });
        let table = rows.iter().map(|(direction, formula, theory, measured)| {
            [
                format!("{direction:?}"),
                show(measured.delay_last),
                format!("{theory:.1}"),
                (*formula).to_string(),
                show(measured.delay_mean),
                show(measured.traffic),
            ]
        });
        let header = ["", "cycles to all", "theory", "", "mean cycle", "rumors sent per site"];
        Report::new(format!("Anti-entropy: {nodes} sites"), &rows)
            .table(header, table)
            .line("Theory is the leading terms; a constant is missing from each.")
    }
}
