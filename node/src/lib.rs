//! A Starling node: the daemon, its command line, its HTTP API, its configuration and metrics.

mod advice;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod http;
