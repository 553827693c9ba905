//! A node as a process: logging, signals, servers, and what is printed.

mod banner;
mod descriptors;
mod error;
mod joining;
mod log_limit;
mod logging;
mod manager;
mod run;
mod run_file;
mod servers;
mod signals;

pub use run::run;
