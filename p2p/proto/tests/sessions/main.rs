//! Anti-entropy sessions between naive replicas: their results, their costs and their schedule.

mod costs;
mod losses;
mod model;
mod network;
mod schedule;
mod two_replicas;
