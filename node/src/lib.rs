//! The `starling` program: its command line, its configuration, and a node with its servers as a process.

pub mod cli;
pub mod config;
mod process;
