//! Churn: when sessions end, and how long nodes are away.

use std::f64::consts::TAU;
use std::path::Path;

use rand::{Rng, RngExt};

use crate::scenario::{Away, Error, Return};

/// A time with a mean of 1 and without memory.
pub fn exponential(rng: &mut impl Rng) -> f64 {
    -(1.0 - rng.random::<f64>()).ln()
}

/// A Weibull distributed time with a scale of 1.
pub fn weibull(shape: f64, rng: &mut impl Rng) -> f64 {
    exponential(rng).powf(1.0 / shape)
}

/// What is left of a Weibull distributed time with a scale of 1 that somebody meets at a random moment:
/// long ones are met more often. A time that is met has `x^shape` distributed as gamma(1 + 1 / shape),
/// and the moment is uniform in it (renewal theory: the equilibrium distribution).
pub fn weibull_left(shape: f64, rng: &mut impl Rng) -> f64 {
    gamma(1.0 + 1.0 / shape, rng).powf(1.0 / shape) * rng.random::<f64>()
}

/// Gamma with a shape of 1 or more and a scale of 1 (Marsaglia and Tsang, "A simple method for
/// generating gamma variables", 2000).
fn gamma(shape: f64, rng: &mut impl Rng) -> f64 {
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let normal = (2.0 * exponential(rng)).sqrt() * (TAU * rng.random::<f64>()).cos();
        let v = (1.0 + c * normal).powi(3);
        if v > 0.0 && -exponential(rng) < 0.5 * normal * normal + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Killed.
    Kill,
    /// Stopped for the time away.
    Stop,
    /// A goodbye.
    Leave,
}

/// How a node comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comeback {
    /// With its disk.
    Restart,
    /// A new node in its place.
    Wipe,
    /// Not at all.
    Never,
}

fn pick<T: Copy>(choices: [(f64, T); 3], rng: &mut impl Rng) -> T {
    let mut left = rng.random::<f64>() * choices.iter().map(|(weight, _)| weight).sum::<f64>();
    for (weight, choice) in choices {
        if left < weight {
            return choice;
        }
        left -= weight;
    }
    choices[0].1
}

/// Draws how a session ends.
pub fn end(away: &Away, rng: &mut impl Rng) -> End {
    pick([(away.kill, End::Kill), (away.stop, End::Stop), (away.leave, End::Leave)], rng)
}

/// Draws how a node comes back.
pub fn comeback(back: &Return, rng: &mut impl Rng) -> Comeback {
    pick([(back.restart, Comeback::Restart), (back.wipe, Comeback::Wipe), (back.never, Comeback::Never)], rng)
}

/// What a trace file has happen to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traced {
    /// The process is killed.
    Kill,
    /// The machine loses power.
    PowerOff,
    /// The node says goodbye.
    Leave,
    /// The node starts again.
    Restart,
    /// A new node takes its place.
    Wipe,
}

/// Reads a trace: time in milliseconds, node, what happens.
pub fn read_trace(file: &Path, nodes: usize) -> Result<Vec<(u64, usize, Traced)>, Error> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Error::Unreadable { path: file.to_path_buf(), error })?;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let parse = |line: &str| -> Result<(u64, usize, Traced), String> {
        let [at, node, event] = line
            .split(',')
            .map(str::trim)
            .collect::<Vec<_>>()
            .try_into()
            .map_err(|_| "wants at_ms,node,event")?;
        let at = at.parse().map_err(|_| format!("`{at}` is no time in milliseconds"))?;
        let node: usize = node.parse().map_err(|_| format!("`{node}` is no node's number"))?;
        if node >= nodes {
            return Err(format!("there are nodes 0 to {} only, not {node}", nodes - 1));
        }
        let event = match event {
            "kill" => Traced::Kill,
            "power_off" => Traced::PowerOff,
            "leave" => Traced::Leave,
            "restart" => Traced::Restart,
            "wipe" => Traced::Wipe,
            other => return Err(format!("`{other}` is none of kill, power_off, leave, restart, wipe")),
        };
        Ok((at, node, event))
    };
    lines
        .filter(|(number, line)| !(*number == 1 && line.starts_with("at_ms")))
        .map(|(number, line)| {
            parse(line).map_err(|what| Error::Malformed(format!("{} line {number}: {what}", file.display())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Mean of a sample and its standard error.
    fn mean(sample: impl Fn(&mut ChaCha8Rng) -> f64) -> (f64, f64) {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let count = 200_000;
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..count {
            let x = sample(&mut rng);
            sum += x;
            squares += x * x;
        }
        let mean = sum / f64::from(count);
        (mean, ((squares / f64::from(count) - mean * mean) / f64::from(count)).sqrt())
    }

    fn assert_mean(what: &str, expected: f64, sample: impl Fn(&mut ChaCha8Rng) -> f64) {
        let (mean, error) = mean(sample);
        assert!((mean - expected).abs() < 4.0 * error, "{what}: {mean} +- {error}, not {expected}");
    }

    #[test]
    fn times_have_the_means_of_their_distributions() {
        assert_mean("exponential", 1.0, exponential);
        // gamma(1 + 1 / k) for k = 0.5 is 2!; for k = 1 it is 1.
        assert_mean("Weibull 0.5", 2.0, |rng| weibull(0.5, rng));
        assert_mean("Weibull 1", 1.0, |rng| weibull(1.0, rng));
        assert_mean("gamma 3", 3.0, |rng| gamma(3.0, rng));
        // E[x^2] / (2 E[x]) = gamma(1 + 2 / k) / (2 gamma(1 + 1 / k)): 24 / 4 for k = 0.5.
        assert_mean("left of Weibull 0.5", 6.0, |rng| weibull_left(0.5, rng));
        assert_mean("left of Weibull 1", 1.0, |rng| weibull_left(1.0, rng));
    }

    #[test]
    fn weights_are_kept() {
        let back = Return { restart: 6.0, wipe: 3.0, never: 1.0 };
        let share = |what| move |rng: &mut ChaCha8Rng| f64::from(u8::from(comeback(&back, rng) == what));
        assert_mean("restart", 0.6, share(Comeback::Restart));
        assert_mean("wipe", 0.3, share(Comeback::Wipe));
        assert_mean("never", 0.1, share(Comeback::Never));
    }
}
