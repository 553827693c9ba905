//! The rows of the comparison.

use starling_load::Report;
use starling_report::{SideBySide, bytes, median, number, thousands};

use super::loads::{Figure, LOADS};
use super::{Memory, Outcome};

/// What each of the two did, load by load.
pub fn rows(outcome: &Outcome) -> Vec<SideBySide> {
    let mut rows = Vec::new();
    for (load, measured) in LOADS.iter().zip(&outcome.loads) {
        for (figure, at_least) in load.figures {
            let [one, other] = [&measured.starling, &measured.etcd].map(|rounds| figure.of(rounds));
            rows.push(SideBySide {
                load: format!("{}{}", load.name, figure.what()),
                did: [one, other].map(|value| value.map(|value| figure.show(value))),
                ratio: figure.ratio(one, other),
                at_least: *at_least,
            });
        }
    }
    let memory = |load: String, of: fn(&Memory) -> u64| {
        let [one, other] = outcome.memory.map(|memory| memory.map(|memory| of(&memory)));
        let ratio = one.zip(other).map(|(one, other)| other as f64 / one.max(1) as f64);
        SideBySide { load, did: [one, other].map(|it| it.map(bytes)), ratio, at_least: None }
    };
    rows.push(memory("resident memory of a server, idle".into(), |memory| memory.idle_bytes));
    let filled = format!("the same with {} keys", thousands(outcome.keys));
    rows.push(memory(filled, |memory| memory.loaded_bytes));
    rows
}

impl Figure {
    /// The median of the rounds; none where there were none.
    fn of(self, rounds: &[Report]) -> Option<f64> {
        let one = |report: &Report| match self {
            Self::PerSecond => report.per_second,
            Self::P50 => report.p50_us as f64 / 1000.0,
            Self::Cpu => report.server_cpu_us,
        };
        (!rounds.is_empty()).then(|| median(rounds.iter().map(one)))
    }

    fn what(self) -> &'static str {
        match self {
            Self::PerSecond => "",
            Self::P50 => ": p50",
            Self::Cpu => ": servers' CPU for each",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond => format!("{}/s", number(value)),
            Self::P50 => format!("{} ms", number(value)),
            Self::Cpu => format!("{} us", number(value)),
        }
    }

    /// How many times better the one is than the other.
    fn ratio(self, one: Option<f64>, other: Option<f64>) -> Option<f64> {
        let (more, less) = match self {
            Self::PerSecond => (one?, other?),
            Self::P50 | Self::Cpu => (other?, one?),
        };
        (less > 0.0).then(|| more / less)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Measured;
    use super::*;

    fn outcome(etcd: bool) -> Outcome {
        let round = |per_second, server_cpu_us| Report { per_second, server_cpu_us, ..Report::default() };
        let measured = |name| Measured {
            name,
            starling: vec![round(900.0, 10.0), round(1_000.0, 20.0), round(9_000.0, 30.0)],
            etcd: if etcd { vec![round(100.0, 50.0)] } else { Vec::new() },
        };
        let memory = Memory { idle_bytes: 10_000_000, loaded_bytes: 20_000_000 };
        Outcome {
            etcd_version: etcd.then(|| "3.4".into()),
            rounds: 3,
            seconds: 1.0,
            keys: 100_000,
            memory: [Some(memory), etcd.then_some(memory)],
            loads: LOADS.iter().map(|load| measured(load.name)).collect(),
            synced_write_ms: vec![1.0],
        }
    }

    #[test]
    fn more_requests_and_less_cpu_are_better() {
        let rows = rows(&outcome(true));
        let ratio = |load: &str| rows.iter().find(|row| row.load == load).and_then(|row| row.ratio);
        assert!(ratio("put, 64 clients").is_some_and(|ratio| (ratio - 10.0).abs() < 1e-9));
        assert!(ratio("put, 64 clients: servers' CPU for each").is_some_and(|it| (it - 2.5).abs() < 1e-9));
        assert!(ratio("the same with 100,000 keys").is_some_and(|ratio| (ratio - 1.0).abs() < 1e-9));
        // Nothing was measured: no ratio, and no division by nothing.
        assert_eq!(ratio("put, 1 client: p50"), None);
    }

    #[test]
    fn without_etcd_there_is_nothing_to_compare_with() {
        let rows = rows(&outcome(false));
        assert!(rows.iter().all(|row| row.ratio.is_none() && row.did[1].is_none() && row.did[0].is_some()));
    }
}
