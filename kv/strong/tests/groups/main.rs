//! Groups in virtual time, on machines that crash and a network that fails.

mod commits;
mod compaction;
mod divergence;
mod doubles;
mod elections;
mod faults;
mod leases;
mod members;
mod planted;
mod reads;
mod rollback;
mod steps;
mod world;
