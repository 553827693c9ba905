//! The report of one run, simulated or real: its data, what fills it, and its forms for people and
//! programs: a terminal's table, JSON, one self-contained HTML page, and several runs side by side.

mod availability;
mod compare;
mod distribution;
mod figures;
mod file;
mod format;
mod graph;
mod html;
mod measurement;
mod model;
mod stats;
mod table;
mod text;
mod topology;
mod verdict;

pub use availability::{Availabilities, Availability, EVERY_OPERATION};
pub use file::{ReadError, json, read};
pub use format::{bytes, number, thousands};
pub use graph::Overlay;
pub use html::html;
pub use measurement::{Curve, Curves, Report, SideBySide};
pub use model::*;
pub use stats::*;
pub use text::text;
