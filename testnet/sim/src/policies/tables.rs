//! The tables of Demers et al. (PODC 1987, section 1.4), measured again.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::Estimate;
use super::mongering::{Direction, Epidemic, Interest, Judgement, Reading, Variant, spread};

/// Sites in the paper's tables.
pub const SITES: usize = 1000;

/// What a table of the paper says about an epidemic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Published {
    /// s.
    pub residue: f64,
    /// m.
    pub traffic: f64,
    /// `t_ave`, cycles.
    pub delay_mean: f64,
    /// `t_last`, cycles.
    pub delay_last: f64,
    /// Units of the last digit printed, in the same order.
    pub digits: [f64; 4],
}

/// One of the paper's tables.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its caption, shortened.
    pub title: &'static str,
    /// The algorithm for each k.
    pub variant: fn(u32) -> Variant,
    /// Its rows, from k = 1.
    pub rows: &'static [Published],
}

const fn row(residue: (f64, f64), traffic: (f64, f64), mean: (f64, f64), last: (f64, f64)) -> Published {
    Published {
        residue: residue.0,
        traffic: traffic.0,
        delay_mean: mean.0,
        delay_last: last.0,
        digits: [residue.1, traffic.1, mean.1, last.1],
    }
}

/// Tables 1 to 3 of the paper; each figure with the unit of its last digit.
pub const TABLES: [Table; 3] = [
    Table {
        title: "Table 1: push, feedback, counter",
        variant: |k| Variant::new(Direction::Push, Interest::Counter(k)),
        rows: &[
            row((0.18, 0.01), (1.7, 0.1), (11.0, 0.1), (16.8, 0.1)),
            row((0.037, 0.001), (3.3, 0.1), (12.1, 0.1), (16.9, 0.1)),
            row((0.011, 0.001), (4.5, 0.1), (12.5, 0.1), (17.4, 0.1)),
            row((0.0036, 0.0001), (5.6, 0.1), (12.7, 0.1), (17.5, 0.1)),
            row((0.0012, 0.0001), (6.7, 0.1), (12.8, 0.1), (17.7, 0.1)),
        ],
    },
    Table {
        title: "Table 2: push, blind, coin",
        variant: |k| Variant {
            judgement: Judgement::Blind,
            ..Variant::new(Direction::Push, Interest::Coin(k))
        },
        rows: &[
            row((0.96, 0.01), (0.04, 0.01), (19.0, 1.0), (38.0, 1.0)),
            row((0.20, 0.01), (1.6, 0.1), (17.0, 1.0), (33.0, 1.0)),
            row((0.060, 0.001), (2.8, 0.1), (15.0, 1.0), (32.0, 1.0)),
            row((0.021, 0.001), (3.9, 0.1), (14.1, 0.1), (32.0, 1.0)),
            row((0.008, 0.001), (4.9, 0.1), (13.8, 0.1), (32.0, 1.0)),
        ],
    },
    Table {
        title: "Table 3: pull, feedback, counter",
        variant: |k| Variant::new(Direction::Pull, Interest::Counter(k)),
        rows: &[
            row((3.1e-2, 1e-3), (2.7, 0.1), (9.97, 0.01), (17.6, 0.1)),
            row((5.8e-4, 1e-5), (4.5, 0.1), (10.07, 0.01), (15.4, 0.1)),
            row((4.0e-6, 1e-7), (6.1, 0.1), (10.08, 0.01), (14.0, 0.1)),
        ],
    },
];

/// Other readings of the paper, each with a row of a table that it does not give: index of the table,
/// k, and what differs.
pub const OTHER_READINGS: [(Reading, usize, u32, &str); 3] = [
    (Reading::InTurn, 0, 1, "contacts judged one after the other within a cycle"),
    (Reading::NoReset, 0, 2, "no reset of the counter by a needed contact"),
    (Reading::PerContact, 2, 1, "every useless contact counts, not every useless cycle"),
];

/// What an epidemic does, over many trials.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// s.
    pub residue: Estimate,
    /// m.
    pub traffic: Estimate,
    /// Mean cycle of learning the rumor, over the sites that did.
    pub delay_mean: Estimate,
    /// Cycle of the last site that learned it.
    pub delay_last: Estimate,
    /// Calls rejected per site.
    pub rejected: Estimate,
}

/// Repeats an epidemic. The same arguments give the same figures.
pub fn measure(sites: usize, variant: &Variant, trials: u32, seed: u64) -> Measured {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let epidemics: Vec<Epidemic> = (0..trials).map(|_| spread(sites, variant, &mut rng)).collect();
    let estimate = |of: fn(&Epidemic) -> f64| Estimate::of(epidemics.iter().map(of));
    let rejected = epidemics.iter().map(|epidemic| epidemic.rejected as f64 / sites as f64);
    Measured {
        residue: estimate(Epidemic::residue),
        traffic: estimate(Epidemic::traffic),
        delay_mean: estimate(Epidemic::delay_mean),
        delay_last: estimate(Epidemic::delay_last),
        rejected: Estimate::of(rejected),
    }
}

/// Trials that a published figure is taken to be the mean of; the paper does not say. A guess.
const PUBLISHED_TRIALS: f64 = 100.0;

impl Measured {
    /// Whether each published figure can come from this epidemic: s, m, `t_ave`, `t_last`. It may be
    /// off by a unit of its last digit, by four standard errors of ours, and by two of a mean over
    /// as many trials as the paper's figures are taken to be of.
    pub fn agrees(&self, published: &Published, trials: u32) -> [bool; 4] {
        let errors = 4.0 + 2.0 * (f64::from(trials) / PUBLISHED_TRIALS).sqrt();
        // Where nobody was left out, the error is that of having seen one site fewer or more.
        let one_site = 1.0 / (SITES as f64 * f64::from(trials));
        let residue = Estimate { error: self.residue.error.max(one_site), ..self.residue };
        let ours = [residue, self.traffic, self.delay_mean, self.delay_last];
        let theirs = [published.residue, published.traffic, published.delay_mean, published.delay_last];
        std::array::from_fn(|column| {
            let (mean, error) = (ours[column].mean, ours[column].error);
            (mean - theirs[column]).abs() <= errors * error + published.digits[column]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIALS: u32 = 300;

    fn counter(direction: Direction, k: u32) -> Variant {
        Variant::new(direction, Interest::Counter(k))
    }

    #[test]
    fn the_papers_tables_come_out_but_for_the_mean_delays_of_push() {
        for table in TABLES {
            for (published, k) in table.rows.iter().zip(1..) {
                let variant = (table.variant)(k);
                let measured = measure(SITES, &variant, TRIALS, 1);
                let [s, m, mean, last] = measured.agrees(published, TRIALS);
                let pushes = variant.direction == Direction::Push;
                assert!(s && m && last && (mean || pushes), "{}, k = {k}: {measured:?}", table.title);
            }
        }
    }

    #[test]
    fn other_readings_of_the_paper_do_not_give_its_tables() {
        for (reading, table, k, what) in OTHER_READINGS {
            let variant = Variant { reading, ..(TABLES[table].variant)(k) };
            let measured = measure(SITES, &variant, TRIALS, 1);
            let [s, ..] = measured.agrees(&TABLES[table].rows[k as usize - 1], TRIALS);
            assert!(!s, "{what}: {measured:?}");
        }
    }

    #[test]
    fn another_counter_does_not_pass_for_the_papers() {
        let published = &TABLES[0].rows[1];
        let [s, m, ..] = measure(SITES, &counter(Direction::Push, 3), TRIALS, 1).agrees(published, TRIALS);
        assert!(!s && !m);
    }

    #[test]
    fn push_leaves_out_as_many_as_its_traffic_says() {
        for variant in [counter(Direction::Push, 1), counter(Direction::Push, 4), (TABLES[1].variant)(3)] {
            let Measured { residue, traffic, .. } = measure(SITES, &variant, TRIALS, 2);
            let law = (-traffic.mean).exp();
            let error = residue.error + law * traffic.error;
            // A site never calls itself: of order 1 / n.
            let slack = 4.0 * error + 10.0 * law / SITES as f64;
            assert!((residue.mean - law).abs() <= slack, "{residue:?}, e^-m = {law}");
        }
    }

    #[test]
    fn limits_help_push_hurt_pull_and_hunting_makes_them_equal() {
        let limited = |direction, hunts_max| {
            let variant = Variant { connections_max: Some(1), hunts_max, ..counter(direction, 2) };
            measure(SITES, &variant, TRIALS, 3)
        };
        let free = |direction| measure(SITES, &counter(direction, 2), TRIALS, 3);
        let apart = |more: Estimate, less: Estimate| more.mean - less.mean > 4.0 * (more.error + less.error);
        assert!(apart(free(Direction::Push).residue, limited(Direction::Push, 0).residue));
        assert!(apart(free(Direction::Push).traffic, limited(Direction::Push, 0).traffic));
        assert!(apart(limited(Direction::Pull, 0).residue, free(Direction::Pull).residue));
        let (push, pull) = (limited(Direction::Push, 100), limited(Direction::Pull, 100));
        for (push, pull) in [(push.residue, pull.residue), (push.traffic, pull.traffic)] {
            assert!(!apart(push, pull) && !apart(pull, push), "{push:?} {pull:?}");
        }
    }

    #[test]
    fn equal_seeds_give_equal_figures() {
        let run = |seed| measure(200, &counter(Direction::PushPull, 2), 10, seed);
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }
}
