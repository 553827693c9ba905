//! Runs one scenario file in virtual time and prints its report: what a new build directory shows within minutes,
//! because it compiles a third of the crates of `testnet`. `testnet sim` has options, seeds and pages.

use std::io::{Write, stdout};
use std::path::Path;
use std::process::ExitCode;

use starling_sim::Simulation;
use starling_sim::scenario;

fn main() -> ExitCode {
    let Some(file) = std::env::args_os().nth(1) else {
        eprintln!("usage: simulate SCENARIO.toml (testnet/scenarios has some)");
        return ExitCode::from(2);
    };
    match scenario::load(Path::new(&file), &[]).and_then(Simulation::new) {
        Ok(simulation) => {
            let run = simulation.run(|_| {});
            // A closed standard output is not an error of the run.
            let _ = writeln!(stdout().lock(), "{}", starling_report::text(&[run]));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
